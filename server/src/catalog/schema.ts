import { z } from 'zod'

const key = z
  .string()
  .regex(/^[a-z][a-z0-9_]{0,62}$/, 'a name is lower-case letters, digits and _, beginning with a letter, at most 63 long')
const decimal = z.union([z.number(), z.string()])
/** What an add-on adds is a bare quantity: the period and the limit are the plan's. */
const addedQuantity = z.union(
  [z.number(), z.string()],
  'a quantity is expected, such as 500; period and limit are those of the plan’s allowance',
)
const minor = z.int('an amount is a whole number of minor units').nonnegative()
const variable = z.string().regex(/^[A-Z][A-Z0-9_]*$/, 'the name of an environment variable is expected')

const priceSchema = z.strictObject({ amountMinor: minor, priceVariable: variable.optional() })
const pricesSchema = z.strictObject({ monthly: priceSchema.optional(), yearly: priceSchema.optional() })

const tierSchema = z.strictObject({ upTo: decimal, unitAmountMinor: decimal.optional(), flatAmountMinor: minor.optional() })

const usagePriceSchema = z.discriminatedUnion('model', [
  z.strictObject({ model: z.literal('per_unit'), unitAmountMinor: decimal }),
  z.strictObject({ model: z.literal('package'), size: decimal, amountMinor: minor }),
  z.strictObject({ model: z.literal('graduated'), tiers: z.array(tierSchema).min(1).readonly() }),
  z.strictObject({ model: z.literal('volume'), tiers: z.array(tierSchema).min(1).readonly() }),
])

const allowanceSchema = z.strictObject({
  amount: decimal,
  period: z.enum(['billing_cycle', 'calendar_month', 'day', 'year', 'lifetime']).optional(),
  limit: z.enum(['hard', 'soft']).optional(),
  overage: usagePriceSchema.optional(),
  spendLimitMinor: minor.optional(),
  rollover: z.strictObject({ max: decimal.optional(), periods: z.int().min(1).max(120).optional() }).optional(),
  thresholds: z.array(z.int('a threshold is a whole percent').min(1).max(1000)).max(10).readonly().optional(),
})

const meterSchema = z.strictObject({
  name: z.string().optional(),
  unit: z.string().optional(),
  aggregation: z.enum(['count', 'sum', 'max', 'latest', 'unique']).optional(),
  uniqueBy: z.string().optional(),
  groupBy: z.array(z.string().min(1).max(63)).max(5).readonly().optional(),
  filter: z.record(z.string().min(1).max(63), z.array(z.string()).min(1).readonly()).optional(),
})

const featureSchema = z.strictObject({
  name: z.string().min(1).optional(),
  type: z.enum(['boolean', 'number', 'choice']).optional(),
  unit: z.string().min(1).optional(),
  values: z.array(z.string().min(1).max(63)).min(1).max(50).readonly().optional(),
})
const featuresSchema = z.record(key, z.union([z.boolean(), z.number(), z.string()]))

const planSchema = z.strictObject({
  name: z.string().min(1),
  tier: z
    .string()
    .regex(/^[A-Za-z][A-Za-z0-9_ -]{0,62}$/, 'a tier is a word')
    .optional(),
  description: z.string().optional(),
  prices: pricesSchema.optional(),
  purchasable: z.boolean().optional(),
  allowances: z.record(key, allowanceSchema),
  rateLimits: z.record(key, z.strictObject({ limit: decimal, per: z.enum(['second', 'minute', 'hour', 'day']) })).optional(),
  features: featuresSchema.optional(),
})

const topUpSchema = z.strictObject({
  name: z.string().min(1),
  balance: z.string(),
  amount: decimal,
  priceMinor: minor.positive(),
  priceVariable: variable.optional(),
  expiresAfterDays: z.int().min(1).max(3660).optional(),
})

const addOnSchema = z.strictObject({
  name: z.string().min(1),
  prices: pricesSchema,
  allowances: z.record(key, addedQuantity).optional(),
  features: featuresSchema.optional(),
  maxQuantity: z.int().min(1).max(1_000_000).optional(),
})

/** The form of a billing.config.ts; what refers to what is checked by `normalizeCatalog`. */
export const catalogDefinitionSchema = z.strictObject({
  currency: z
    .string()
    .regex(/^[a-z]{3}$/, 'a currency is a lower-case ISO 4217 code such as usd')
    .optional(),
  timeZone: z.string().refine(isTimeZone, 'an IANA time zone such as Europe/Berlin is expected').optional(),
  meters: z.record(key, meterSchema),
  credits: z
    .record(key, z.strictObject({ name: z.string().optional(), unit: z.string().optional(), costs: z.record(key, decimal) }))
    .optional(),
  features: z.record(key, featureSchema).optional(),
  plans: z.record(key, planSchema),
  topUps: z.record(key, topUpSchema).optional(),
  addOns: z.record(key, addOnSchema).optional(),
  defaultPlan: z.string(),
})

/** A catalog definition as data, before its names have been checked against each other. */
export type CatalogDefinition = z.infer<typeof catalogDefinitionSchema>

function isTimeZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions().timeZone !== '' && !/^[+-]/.test(name)
  } catch {
    return false
  }
}
