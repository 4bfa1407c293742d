import { z } from 'zod'
import { parseQuantity, type Quantity } from '../lib/quantity.ts'
import type { Allowance, Balance, Catalog, Meter, Plan, PlanPrice } from './catalog.ts'

/** What is wrong with a billing.config.ts: one sentence per problem, each with its place. */
export class CatalogError extends Error {
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(
      `The catalog has ${problems.length === 1 ? 'a problem' : `${problems.length} problems`}:\n${problems.map((p) => `- ${p}`).join('\n')}`,
    )
    this.name = 'CatalogError'
    this.problems = problems
  }
}

const key = z
  .string()
  .regex(/^[a-z][a-z0-9_]{0,62}$/, 'a name is lower-case letters, digits and _, beginning with a letter, at most 63 long')
const decimal = z.union([z.number(), z.string()])

const priceSchema = z.strictObject({
  amountMinor: z.int('an amount is a whole number of minor units').nonnegative(),
  priceVariable: z
    .string()
    .regex(/^[A-Z][A-Z0-9_]*$/, 'the name of an environment variable is expected')
    .optional(),
})

const allowanceSchema = z.strictObject({
  amount: decimal,
  period: z.enum(['billing_cycle', 'calendar_month', 'day', 'year', 'lifetime']).optional(),
  limit: z.enum(['hard', 'soft']).optional(),
})

/** The form of a billing.config.ts; what refers to what is checked by `normalizeCatalog`. */
export const catalogDefinitionSchema = z.strictObject({
  currency: z
    .string()
    .regex(/^[a-z]{3}$/, 'a currency is a lower-case ISO 4217 code such as usd')
    .optional(),
  meters: z.record(
    key,
    z.strictObject({
      name: z.string().optional(),
      unit: z.string().optional(),
      aggregation: z.enum(['count', 'sum', 'max', 'latest', 'unique']).optional(),
      uniqueBy: z.string().optional(),
    }),
  ),
  credits: z
    .record(key, z.strictObject({ name: z.string().optional(), unit: z.string().optional(), costs: z.record(key, decimal) }))
    .optional(),
  plans: z.record(
    key,
    z.strictObject({
      name: z.string().min(1),
      description: z.string().optional(),
      prices: z.strictObject({ monthly: priceSchema.optional(), yearly: priceSchema.optional() }).optional(),
      purchasable: z.boolean().optional(),
      allowances: z.record(key, allowanceSchema),
    }),
  ),
  defaultPlan: z.string(),
})

/** A catalog definition as data, before its names have been checked against each other. */
export type CatalogDefinition = z.infer<typeof catalogDefinitionSchema>

/**
 * Checks a definition and fills in its defaults. Pure.
 * @throws CatalogError that lists every problem at once
 */
export function normalizeCatalog(input: unknown): Catalog {
  const parsed = catalogDefinitionSchema.safeParse(input)
  if (!parsed.success) {
    throw new CatalogError(parsed.error.issues.map((issue) => `${issue.path.join('.') || 'the definition'}: ${issue.message}.`))
  }
  const definition = parsed.data
  const problems: string[] = []
  const meters = normalizeMeters(definition, problems)
  const balances = normalizeBalances(definition, meters)
  const plans = new Map<string, Plan>()
  for (const [planKey, plan] of Object.entries(definition.plans))
    plans.set(planKey, normalizePlan(planKey, plan, balances, problems))
  if (!plans.has(definition.defaultPlan)) {
    problems.push(`defaultPlan: no plan is called "${definition.defaultPlan}"; declared: ${list(plans.keys())}.`)
  }
  if (problems.length > 0) throw new CatalogError(problems)
  return { currency: definition.currency ?? 'usd', meters, balances, plans, defaultPlanKey: definition.defaultPlan }
}

function normalizeMeters(definition: CatalogDefinition, problems: string[]): Map<string, Meter> {
  const meters = new Map<string, Meter>()
  for (const [meterKey, meter] of Object.entries(definition.meters)) {
    const aggregation = meter.aggregation ?? 'sum'
    if ((aggregation === 'unique') !== (meter.uniqueBy !== undefined)) {
      problems.push(
        `meters.${meterKey}: uniqueBy names the property that a "unique" meter counts, and goes with no other aggregation.`,
      )
    }
    meters.set(meterKey, {
      key: meterKey,
      name: meter.name ?? meterKey,
      unit: meter.unit ?? meterKey,
      aggregation,
      uniqueBy: meter.uniqueBy ?? null,
      balanceKey: meterKey,
      cost: parseQuantity(1),
    })
  }
  for (const [creditKey, credit] of Object.entries(definition.credits ?? {})) {
    if (meters.has(creditKey)) problems.push(`credits.${creditKey}: a meter has the same name.`)
    for (const [meterKey, cost] of Object.entries(credit.costs)) {
      drawFromCredit(
        { meters, creditKey, meterKey, cost: readQuantity(cost, `credits.${creditKey}.costs.${meterKey}`, problems) },
        problems,
      )
    }
  }
  return meters
}

type CreditCost = { meters: Map<string, Meter>; creditKey: string; meterKey: string; cost: Quantity }

function drawFromCredit({ meters, creditKey, meterKey, cost }: CreditCost, problems: string[]): void {
  const place = `credits.${creditKey}.costs.${meterKey}`
  const meter = meters.get(meterKey)
  if (!meter) {
    problems.push(`${place}: no meter is called "${meterKey}"; declared: ${list(meters.keys())}.`)
    return
  }
  if (meter.balanceKey !== meterKey) {
    problems.push(`${place}: the meter already draws from "${meter.balanceKey}"; a meter draws from one balance.`)
    return
  }
  meters.set(meterKey, { ...meter, balanceKey: creditKey, cost })
}

function normalizeBalances(definition: CatalogDefinition, meters: ReadonlyMap<string, Meter>): Map<string, Balance> {
  const balances = new Map<string, Balance>()
  for (const [creditKey, credit] of Object.entries(definition.credits ?? {})) {
    balances.set(creditKey, { key: creditKey, name: credit.name ?? creditKey, unit: credit.unit ?? 'credit' })
  }
  for (const meter of meters.values()) {
    if (meter.balanceKey === meter.key) balances.set(meter.key, { key: meter.key, name: meter.name, unit: meter.unit })
  }
  return balances
}

function normalizePlan(
  planKey: string,
  plan: CatalogDefinition['plans'][string],
  balances: ReadonlyMap<string, Balance>,
  problems: string[],
): Plan {
  const prices = new Map<PlanPrice['interval'], PlanPrice>()
  for (const interval of ['monthly', 'yearly'] as const) {
    const price = plan.prices?.[interval]
    if (price) prices.set(interval, { interval, amountMinor: price.amountMinor, priceVariable: price.priceVariable ?? null })
  }
  const allowances = new Map<string, Allowance>()
  for (const [balanceKey, allowance] of Object.entries(plan.allowances)) {
    const place = `plans.${planKey}.allowances.${balanceKey}`
    if (!balances.has(balanceKey)) {
      problems.push(`${place}: nothing that can be used up is called "${balanceKey}"; declared: ${list(balances.keys())}.`)
      continue
    }
    const amount = allowance.amount === 'unlimited' ? null : readQuantity(allowance.amount, `${place}.amount`, problems)
    allowances.set(balanceKey, {
      balanceKey,
      amount,
      period: allowance.period ?? 'billing_cycle',
      limit: allowance.limit ?? 'hard',
    })
  }
  if (plan.purchasable === true && prices.size === 0)
    problems.push(`plans.${planKey}: a plan without a price cannot be purchasable.`)
  return {
    key: planKey,
    name: plan.name,
    description: plan.description ?? '',
    purchasable: plan.purchasable ?? prices.size > 0,
    prices,
    allowances,
  }
}

function readQuantity(input: number | string, place: string, problems: string[]): Quantity {
  try {
    const quantity = parseQuantity(input, place)
    if (quantity < 0n) problems.push(`${place}: a negative amount means nothing here.`)
    return quantity
  } catch (error) {
    problems.push(error instanceof Error ? error.message : String(error))
    return 0n
  }
}

function list(names: Iterable<string>): string {
  return [...names].join(', ') || 'none'
}
