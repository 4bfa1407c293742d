import type { Catalog, Feature, FeatureValue } from '../catalog/catalog.ts'
import { readFeatureValue, type FeatureValueInput } from '../catalog/rules.ts'
import { addOnOf, type PlanTerms } from '../grants/rules.ts'
import type { Instant } from '../lib/clock.ts'
import { quantityToJson } from '../lib/quantity.ts'

/** What an operator set by hand; `value` as it was given, `false` for nothing. `endsAt` is exclusive, null without end. */
export type FeatureOverride = {
  readonly featureKey: string
  readonly value: FeatureValueInput
  readonly endsAt: Instant | null
}

/** What an organization has of a feature; `value` null is nothing. */
export type Entitlement = {
  readonly feature: Feature
  readonly value: FeatureValue | null
  /** What decides the value; null where plan and add-ons give none and no operator has said anything. */
  readonly source: 'plan' | 'add_on' | 'override' | null
  /** When an operator's word ends. */
  readonly overrideEndsAt: Instant | null
}

type Terms = Pick<PlanTerms, 'catalog' | 'standing' | 'addOns' | 'otherAddOns'>

/**
 * The features that there are for an organization: those of the present catalog, then those that only its terms still have; each as its
 * terms declare it. A stored catalog has lost the order of its file.
 */
export function featuresFor(own: Pick<Catalog, 'features'>, current: Pick<Catalog, 'features'>): ReadonlyMap<string, Feature> {
  return new Map([...current.features, ...own.features])
}

/** Those that have not ended. */
export function overridesAt<Override extends FeatureOverride>(overrides: readonly Override[], now: Instant): readonly Override[] {
  return overrides.filter(({ endsAt }) => endsAt === null || now < endsAt)
}

/**
 * What an organization has of each feature, in the order of the present catalog. Pure.
 * @param now the organization's own time
 */
export function deriveEntitlements(
  terms: Terms,
  current: Pick<Catalog, 'features'>,
  overrides: readonly FeatureOverride[],
  now: Instant,
): readonly Entitlement[] {
  const standing = new Map(overridesAt(overrides, now).map((override) => [override.featureKey, override]))
  return [...featuresFor(terms.catalog, current).values()].map((feature) => {
    const sold = soldValue(feature, terms)
    const override = standing.get(feature.key)
    const said = override && readFeatureValue(feature, override.value, feature.key)
    // A word about values that there are no more says nothing.
    if (override === undefined || said === undefined || 'problem' in said) return { feature, ...sold, overrideEndsAt: null }
    return { feature, value: said.value, source: 'override', overrideEndsAt: override.endsAt }
  })
}

function soldValue(feature: Feature, terms: Terms): Pick<Entitlement, 'value' | 'source'> {
  const { catalog, standing, addOns = {} } = terms
  const ofPlan = catalog.plans.get(standing.planKey)?.features.get(feature.key) ?? null
  let value = ofPlan
  for (const [addOnKey, quantity] of Object.entries(addOns)) {
    const added = addOnOf(terms, addOnKey)?.features.get(feature.key)
    if (added !== undefined && quantity > 0 && isOf(feature, added)) value = together(feature, value, times(added, quantity))
  }
  if (value === null) return { value, source: null }
  return { value, source: value === ofPlan ? 'plan' : 'add_on' }
}

/** Whether a value of another catalog is one of the feature as these terms declare it. */
function isOf(feature: Feature, value: FeatureValue): boolean {
  return 'value' in readFeatureValue(feature, valueToJson(value), feature.key)
}

function times(value: FeatureValue, quantity: number): FeatureValue {
  return typeof value === 'bigint' ? value * BigInt(quantity) : value
}

/** Numbers add up, of choices the highest counts. */
function together({ values }: Feature, one: FeatureValue | null, other: FeatureValue): FeatureValue {
  if (one === null) return other
  if (typeof one === 'bigint' && typeof other === 'bigint') return one + other
  // Of a number, the one that is not a quantity is 'unlimited'.
  if (typeof one === 'bigint' || typeof other === 'bigint') return 'unlimited'
  if (one === true || other === true) return true
  return values.indexOf(one) >= values.indexOf(other) ? one : other
}

/** Why a feature may not be used now; null when it may. */
export type EntitlementRefusal = 'not_included' | 'suspended' | 'paused'

export function refusalOf({ value }: Entitlement, { standing }: Pick<PlanTerms, 'standing'>): EntitlementRefusal | null {
  if (!standing.mayUse) return standing.state === 'paused' ? 'paused' : 'suspended'
  return value === null ? 'not_included' : null
}

/** A value as it travels: true or false, a number or decimal, `'unlimited'`, one of a choice; nothing is false. */
export function valueToJson(value: FeatureValue | null): boolean | number | string {
  return typeof value === 'bigint' ? quantityToJson(value) : (value ?? false)
}

/** What is there, by feature, as it is told and compared. */
export function summaryOf(entitlements: readonly Entitlement[]): Record<string, boolean | number | string> {
  return Object.fromEntries(
    entitlements.flatMap(({ feature, value }) => (value === null ? [] : [[feature.key, valueToJson(value)]])),
  )
}
