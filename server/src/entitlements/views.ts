import { z } from '@hono/zod-openapi'
import type { FeatureValue } from '../catalog/catalog.ts'
import { STOPPED_IN_WORDS } from '../standing/rules.ts'
import type { EntitlementReading } from './actions.ts'
import { refusalOf, valueToJson, type Entitlement, type EntitlementRefusal } from './rules.ts'

/** What there is of a feature, as answers show it. */
export const featureValueSchema = z.union([z.boolean(), z.number(), z.string()])

/** What a plan or an add-on has of features, as answers show it. */
export const featureValuesSchema = z.record(z.string(), featureValueSchema)

/** As every answer shows an entitlement. */
export const entitlementSchema = z
  .object({
    feature: z.string(),
    name: z.string(),
    type: z.enum(['boolean', 'number', 'choice']),
    unit: z.string().nullable().meta({ description: 'Of a number.' }),
    allowed: z.boolean().meta({ description: 'Whether it may be used right now.' }),
    code: z.enum(['not_included', 'suspended', 'paused']).nullable().meta({ description: 'Why not.' }),
    reason: z.string().nullable().meta({ description: 'The same in a sentence.' }),
    value: featureValueSchema.meta({
      description:
        'What there is of it, also of who is suspended: true or false, a number or `unlimited`, one of the values of a choice. Nothing is false.',
    }),
    source: z.enum(['plan', 'add_on', 'override']).nullable().meta({ description: 'What gives it.' }),
    plan: z.string(),
    override_expires_at: z.iso.datetime().nullable().meta({ description: 'When an operator’s word ends.' }),
  })
  .openapi('Entitlement')

/** What an operator set, as operators see it. */
export const featureOverrideSchema = z.object({
  feature: z.string(),
  value: featureValueSchema,
  has_effect: z.boolean().meta({ description: 'false: there is no such feature, or value of it, any more.' }),
  expires_at: z.iso.datetime().nullable(),
  set_by: z.string(),
  set_at: z.iso.datetime(),
  reason: z.string(),
})

export function showEntitlements(reading: EntitlementReading): z.infer<typeof entitlementSchema>[] {
  return reading.entitlements.map((entitlement) => showEntitlement(reading, entitlement))
}

export function showEntitlement({ terms }: EntitlementReading, entitlement: Entitlement): z.infer<typeof entitlementSchema> {
  const { feature, source, overrideEndsAt } = entitlement
  const code = refusalOf(entitlement, terms)
  const { planKey } = terms.standing
  return {
    feature: feature.key,
    name: feature.name,
    type: feature.type,
    unit: feature.unit,
    allowed: code === null,
    code,
    reason: reasonOf(code, entitlement, planKey),
    value: valueToJson(entitlement.value),
    source,
    plan: planKey,
    override_expires_at: overrideEndsAt?.toISOString() ?? null,
  }
}

function reasonOf(code: EntitlementRefusal | null, { feature, source }: Entitlement, planKey: string): string | null {
  if (code === null) return null
  if (code !== 'not_included') return STOPPED_IN_WORDS[code]
  // The plan may well include what an operator took away.
  if (source === 'override') return `${feature.name} has been switched off for this organization.`
  return `The plan ${planKey} does not include ${feature.name}.`
}

/** What operators set that has not ended, also of features or values that there are no more. */
export function showFeatureOverrides({ overrides, entitlements }: EntitlementReading): z.infer<typeof featureOverrideSchema>[] {
  const heard = new Set(entitlements.flatMap(({ feature, source }) => (source === 'override' ? [feature.key] : [])))
  return overrides.map(({ featureKey, value, endsAt, setBy, setAt, reason }) => ({
    feature: featureKey,
    value,
    has_effect: heard.has(featureKey),
    expires_at: endsAt?.toISOString() ?? null,
    set_by: setBy,
    set_at: setAt.toISOString(),
    reason,
  }))
}

export function showFeatureValues(features: ReadonlyMap<string, FeatureValue>): z.infer<typeof featureValuesSchema> {
  return Object.fromEntries([...features].map(([key, value]) => [key, valueToJson(value)]))
}
