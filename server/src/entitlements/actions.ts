import { insertAuditEntry } from '../audit/store.ts'
import type { Catalog, Feature } from '../catalog/catalog.ts'
import { readFeatureValue, type FeatureValueInput } from '../catalog/rules.ts'
import type { Queryable } from '../db/database.ts'
import { termsOfAccounts, timeOf, type GrantsContext } from '../grants/actions.ts'
import type { PlanTerms } from '../grants/rules.ts'
import { findAccounts, insertMissingAccounts, lockAccount, type AccountRow } from '../grants/store.ts'
import type { Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import type { OverrideContext } from '../standing/overrides.ts'
import { deriveEntitlements, featuresFor, overridesAt, valueToJson, type Entitlement } from './rules.ts'
import { deleteFeatureOverride, listFeatureOverrides, upsertFeatureOverride, type StoredOverride } from './store.ts'

/** What an organization has of each feature now, with the terms and what operators set that say so. */
export type EntitlementReading = {
  readonly terms: PlanTerms
  readonly entitlements: readonly Entitlement[]
  readonly overrides: readonly StoredOverride[]
}

/** @throws DomainError `not_found` */
export async function readEntitlements(
  db: Queryable,
  context: GrantsContext,
  organizationId: string,
): Promise<EntitlementReading> {
  const { version, catalog } = context.catalogs.current
  const [account] = await findAccounts(db, [organizationId], { planKey: catalog.defaultPlanKey, catalogVersion: version })
  if (account === undefined) throw noOrganization()
  const now = context.clock.now()
  const terms = (await termsOfAccounts(context, [account], now)).get(organizationId)!
  return entitlementsOf(terms, catalog, await listFeatureOverrides(db, organizationId), timeOf(account, now))
}

function entitlementsOf(terms: PlanTerms, current: Catalog, stored: readonly StoredOverride[], now: Instant): EntitlementReading {
  const overrides = overridesAt(stored, now)
  return { terms, overrides, entitlements: deriveEntitlements(terms, current, overrides, now) }
}

/**
 * The same for who holds the account already, and nothing is asked where the catalogs have no features.
 * @param now the organization's own time
 */
export async function entitlementsOfAccount(
  tx: Queryable,
  { catalogs }: Pick<GrantsContext, 'catalogs'>,
  { account, terms, now }: { readonly account: AccountRow; readonly terms: PlanTerms; readonly now: Instant },
): Promise<readonly Entitlement[]> {
  const { catalog } = catalogs.current
  if (featuresFor(terms.catalog, catalog).size === 0) return []
  return deriveEntitlements(terms, catalog, await listFeatureOverrides(tx, account.organizationId), now)
}

/** One feature, by its key. @throws DomainError `unknown_feature` */
export function requireEntitlement({ entitlements }: EntitlementReading, featureKey: string): Entitlement {
  const found = entitlements.find(({ feature }) => feature.key === featureKey)
  if (found === undefined) throw unknownFeature(featureKey)
  return found
}

/** The same, and nothing of a feature that there is no more, of which an operator's word was taken back. */
export function leftOf(reading: EntitlementReading, featureKey: string): Entitlement {
  const feature: Feature = { key: featureKey, name: featureKey, type: 'boolean', unit: null, values: [] }
  const nothing = { feature, value: null, source: null, overrideEndsAt: null }
  return reading.entitlements.find(({ feature: { key } }) => key === featureKey) ?? nothing
}

/** What an operator sets: `value` null takes their word back, `false` is that there is none of it. */
export type FeatureOverrideRequest = {
  readonly organizationId: string
  readonly featureKey: string
  readonly value: FeatureValueInput | null
  readonly endsAt: Instant | null
  readonly reason: string
}

/**
 * Sets by hand what an organization has of a feature, for good or until a time. It counts at once; the audit log keeps who, what, before, after and why.
 * A word about a feature that no catalog has any more can be taken back.
 * @throws DomainError `not_found`, `unknown_feature`, `invalid_request` for a value that the feature does not have, or an end that has passed
 */
export async function overrideFeature(
  context: OverrideContext,
  { organizationId, featureKey, value, endsAt, reason }: FeatureOverrideRequest,
  asker: { readonly actor: string; readonly requestId: string },
): Promise<EntitlementReading> {
  const { catalog, version } = context.catalogs.current
  const machineNow = context.clock.now()
  const defaults = { planKey: catalog.defaultPlanKey, catalogVersion: version }
  if ((await findAccounts(context.db, [organizationId], defaults)).length === 0) throw noOrganization()
  return context.db.transaction(async (tx) => {
    await insertMissingAccounts(tx, [organizationId], { ...defaults, now: machineNow })
    const account = (await lockAccount(tx, organizationId))!
    const now = timeOf(account, machineNow)
    const terms = (await termsOfAccounts(context, [account], machineNow)).get(organizationId)!
    const stored = await listFeatureOverrides(tx, organizationId)
    checkOverride({ terms, current: catalog, stored, now }, { featureKey, value, endsAt })
    const before = entitlementsOf(terms, catalog, stored, now)
    if (value === null) await deleteFeatureOverride(tx, organizationId, featureKey)
    else {
      const note = { reason, setBy: asker.actor, setAt: machineNow }
      await upsertFeatureOverride(tx, { organizationId, featureKey, value, endsAt, ...note })
    }
    const after = entitlementsOf(terms, catalog, await listFeatureOverrides(tx, organizationId), now)
    await context.onAccountDerived(tx, { organizationId, now })
    await insertAuditEntry(tx, {
      organizationId,
      ...asker,
      action: 'feature.overridden',
      target: featureKey,
      before: toldOf(before, featureKey),
      after: { ...toldOf(after, featureKey), reason },
      at: machineNow,
    })
    return after
  })
}

type Place = {
  readonly terms: PlanTerms
  readonly current: Catalog
  readonly stored: readonly StoredOverride[]
  readonly now: Instant
}

function checkOverride(
  { terms, current, stored, now }: Place,
  { featureKey, value, endsAt }: Pick<FeatureOverrideRequest, 'featureKey' | 'value' | 'endsAt'>,
): void {
  const feature = featuresFor(terms.catalog, current).get(featureKey)
  const isTakenBack = value === null && stored.some((override) => override.featureKey === featureKey)
  if (feature === undefined && !isTakenBack) throw unknownFeature(featureKey)
  if (endsAt !== null && (value === null || endsAt <= now)) {
    const sentence = value === null ? 'What is taken back has no end.' : 'An override ends in the future.'
    throw new DomainError('invalid_request', sentence, { field: 'expires_at' })
  }
  if (feature === undefined || value === null) return
  const read = readFeatureValue(feature, value, 'value')
  if ('problem' in read) throw new DomainError('invalid_request', read.problem, { field: 'value' })
}

function toldOf(reading: EntitlementReading, featureKey: string): Record<string, unknown> {
  const { value, source, overrideEndsAt } = leftOf(reading, featureKey)
  const override = reading.overrides.find((each) => each.featureKey === featureKey)
  // What was said to no effect would be in no other field.
  const unheard = override === undefined || source === 'override' ? {} : { override: override.value }
  return { value: valueToJson(value), source, override_ends_at: overrideEndsAt, ...unheard }
}

function noOrganization(): DomainError {
  return new DomainError('not_found', 'There is no such organization.')
}

function unknownFeature(featureKey: string): DomainError {
  return new DomainError('unknown_feature', `There is no feature "${featureKey}".`, { feature: featureKey })
}
