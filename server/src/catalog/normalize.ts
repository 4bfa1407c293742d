import { isChargeable } from '../lib/money.ts'
import { parseQuantity, type Quantity } from '../lib/quantity.ts'
import type { AddOn, Allowance, Balance, Catalog, Feature, Meter, Plan, TopUp } from './catalog.ts'
import type { CatalogDefinition } from './schema.ts'
import { catalogDefinitionSchema } from './schema.ts'
import { normalizeFeatures, normalizeFeatureValues } from './normalize-features.ts'
import { normalizeAllowance, normalizePrices, normalizeRateLimits } from './normalize-plan.ts'
import { CatalogError, list, readPositive, readQuantity } from './problems.ts'

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
  const features = normalizeFeatures(definition.features, problems)
  const plans = new Map<string, Plan>()
  for (const [planKey, plan] of Object.entries(definition.plans))
    plans.set(planKey, normalizePlan(planKey, plan, { meters, balances, features }, problems))
  if (!plans.has(definition.defaultPlan)) {
    problems.push(`defaultPlan: no plan is called "${definition.defaultPlan}"; declared: ${list(plans.keys())}.`)
  }
  const topUps = normalizeTopUps(definition, balances, problems)
  const addOns = normalizeAddOns(definition, { balances, features }, problems)
  if (problems.length > 0) throw new CatalogError(problems)
  return {
    currency: definition.currency ?? 'usd',
    timeZone: definition.timeZone ?? 'UTC',
    meters,
    balances,
    features,
    plans,
    topUps,
    addOns,
    defaultPlanKey: definition.defaultPlan,
  }
}

/**
 * As `normalizeCatalog`, for a definition that is not stored yet: what Stripe would refuse each time it is bought is a problem too.
 * A stored version stays readable, whatever it says.
 * @throws CatalogError that lists every problem at once
 */
export function normalizeNewCatalog(input: unknown): Catalog {
  const catalog = normalizeCatalog(input)
  const problems = [...catalog.topUps.values()]
    .filter(({ priceMinor }) => !isChargeable({ amountMinor: priceMinor, currency: catalog.currency }))
    .map(({ key }) => `topUps.${key}.priceMinor: Stripe takes amounts in ${catalog.currency} only when they end in 0.`)
  if (problems.length > 0) throw new CatalogError(problems)
  return catalog
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
      groupBy: [...new Set(meter.groupBy)],
      filter: new Map(Object.entries(meter.filter ?? {}).map(([property, values]) => [property, new Set(values)])),
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

type Declared = {
  readonly meters: ReadonlyMap<string, Meter>
  readonly balances: ReadonlyMap<string, Balance>
  readonly features: ReadonlyMap<string, Feature>
}

function normalizePlan(
  planKey: string,
  plan: CatalogDefinition['plans'][string],
  { meters, balances, features }: Declared,
  problems: string[],
): Plan {
  const prices = normalizePrices(plan.prices)
  const allowances = new Map<string, Allowance>()
  for (const [balanceKey, allowance] of Object.entries(plan.allowances)) {
    const place = `plans.${planKey}.allowances.${balanceKey}`
    if (balances.has(balanceKey)) allowances.set(balanceKey, normalizeAllowance(balanceKey, allowance, place, problems))
    else problems.push(`${place}: nothing that can be used up is called "${balanceKey}"; declared: ${list(balances.keys())}.`)
  }
  if (plan.purchasable === true && prices.size === 0)
    problems.push(`plans.${planKey}: a plan without a price cannot be purchasable.`)
  return {
    key: planKey,
    name: plan.name,
    tier: plan.tier ?? planKey,
    description: plan.description ?? '',
    purchasable: plan.purchasable ?? prices.size > 0,
    prices,
    allowances,
    rateLimits: normalizeRateLimits(plan.rateLimits, meters, `plans.${planKey}.rateLimits`, problems),
    features: normalizeFeatureValues(plan.features, features, `plans.${planKey}.features`, problems),
  }
}

function normalizeTopUps(definition: CatalogDefinition, balances: Declared['balances'], problems: string[]): Map<string, TopUp> {
  const topUps = new Map<string, TopUp>()
  for (const [topUpKey, topUp] of Object.entries(definition.topUps ?? {})) {
    const place = `topUps.${topUpKey}`
    if (!balances.has(topUp.balance)) {
      problems.push(
        `${place}.balance: nothing that can be used up is called "${topUp.balance}"; declared: ${list(balances.keys())}.`,
      )
    }
    topUps.set(topUpKey, {
      key: topUpKey,
      name: topUp.name,
      balanceKey: topUp.balance,
      amount: readPositive(topUp.amount, `${place}.amount`, problems),
      priceMinor: topUp.priceMinor,
      priceVariable: topUp.priceVariable ?? null,
      expiresAfterDays: topUp.expiresAfterDays ?? null,
    })
  }
  return topUps
}

function normalizeAddOns(
  definition: CatalogDefinition,
  { balances, features }: Pick<Declared, 'balances' | 'features'>,
  problems: string[],
): Map<string, AddOn> {
  const addOns = new Map<string, AddOn>()
  for (const [addOnKey, addOn] of Object.entries(definition.addOns ?? {})) {
    const place = `addOns.${addOnKey}`
    const allowances = new Map<string, Quantity>()
    for (const [balanceKey, amount] of Object.entries(addOn.allowances ?? {})) {
      if (balances.has(balanceKey)) {
        allowances.set(balanceKey, readPositive(amount, `${place}.allowances.${balanceKey}`, problems))
      } else {
        problems.push(
          `${place}.allowances.${balanceKey}: nothing that can be used up is called so; declared: ${list(balances.keys())}.`,
        )
      }
    }
    const prices = normalizePrices(addOn.prices)
    if (prices.size === 0) problems.push(`${place}: an add-on without a price cannot be bought.`)
    if (definition.plans[addOnKey] !== undefined) problems.push(`${place}: a plan has the same name.`)
    addOns.set(addOnKey, {
      key: addOnKey,
      name: addOn.name,
      prices,
      allowances,
      features: normalizeFeatureValues(addOn.features, features, `${place}.features`, problems),
      maxQuantity: addOn.maxQuantity ?? 1000,
    })
  }
  return addOns
}
