import type { Quantity } from '../lib/quantity.ts'
import { parseUnitAmount, type UnitAmount } from '../lib/unit-amount.ts'
import type { Allowance, Meter, PlanPrice, RateLimit, Rollover, Tier, UsagePrice } from './catalog.ts'
import type { PriceInterval, RateLimitDefinition } from './define.ts'
import { list, readPositive, readQuantity } from './problems.ts'
import type { CatalogDefinition } from './schema.ts'

type PlanInput = CatalogDefinition['plans'][string]
type AllowanceInput = PlanInput['allowances'][string]
type UsagePriceInput = NonNullable<AllowanceInput['overage']>

const DEFAULT_THRESHOLDS = [50, 80, 100]
const SECONDS: Readonly<Record<RateLimitDefinition['per'], number>> = { second: 1, minute: 60, hour: 3600, day: 86_400 }

export function normalizePrices(prices: PlanInput['prices']): Map<PriceInterval, PlanPrice> {
  const normalized = new Map<PriceInterval, PlanPrice>()
  for (const interval of ['monthly', 'yearly'] as const) {
    const price = prices?.[interval]
    if (price) normalized.set(interval, { interval, amountMinor: price.amountMinor, priceVariable: price.priceVariable ?? null })
  }
  return normalized
}

export function normalizeAllowance(balanceKey: string, input: AllowanceInput, place: string, problems: string[]): Allowance {
  const amount = input.amount === 'unlimited' ? null : readQuantity(input.amount, `${place}.amount`, problems)
  const period = input.period ?? 'billing_cycle'
  const limit = input.limit ?? 'hard'
  if (input.overage && (limit !== 'soft' || amount === null)) {
    problems.push(`${place}.overage: only what has a soft limit goes on beyond its amount and can be priced.`)
  }
  if (input.spendLimitMinor !== undefined && !input.overage) {
    problems.push(`${place}.spendLimitMinor: it limits the price of overage, and there is none.`)
  }
  if (input.rollover && (amount === null || period === 'lifetime')) {
    problems.push(`${place}.rollover: an allowance that never ends or has no limit leaves nothing over.`)
  }
  return {
    balanceKey,
    amount,
    period,
    limit,
    overage: input.overage ? normalizeUsagePrice(input.overage, `${place}.overage`, problems) : null,
    spendLimitMinor: input.spendLimitMinor ?? null,
    rollover: input.rollover ? normalizeRollover(input.rollover, `${place}.rollover`, problems) : null,
    thresholds: [...new Set(input.thresholds ?? DEFAULT_THRESHOLDS)].toSorted((a, b) => a - b),
  }
}

function normalizeRollover(
  { max, periods }: NonNullable<AllowanceInput['rollover']>,
  place: string,
  problems: string[],
): Rollover {
  return { max: max === undefined ? null : readPositive(max, `${place}.max`, problems), periods: periods ?? 1 }
}

function normalizeUsagePrice(price: UsagePriceInput, place: string, problems: string[]): UsagePrice {
  switch (price.model) {
    case 'per_unit':
      return { model: price.model, unitAmount: readUnitAmount(price.unitAmountMinor, `${place}.unitAmountMinor`, problems) }
    case 'package':
      return { model: price.model, size: readPositive(price.size, `${place}.size`, problems), amountMinor: price.amountMinor }
    case 'graduated':
    case 'volume':
      return { model: price.model, tiers: normalizeTiers(price.tiers, `${place}.tiers`, problems) }
  }
}

function normalizeTiers(
  tiers: Extract<UsagePriceInput, { model: 'graduated' | 'volume' }>['tiers'],
  place: string,
  problems: string[],
): Tier[] {
  let before: Quantity = 0n
  return tiers.map((tier, index) => {
    const at = `${place}.${index}`
    const isLast = index === tiers.length - 1
    if (isLast !== (tier.upTo === 'infinity')) problems.push(`${at}.upTo: the last step, and no other, is up to 'infinity'.`)
    const upTo = tier.upTo === 'infinity' ? null : readQuantity(tier.upTo, `${at}.upTo`, problems)
    if (upTo !== null && upTo <= before) problems.push(`${at}.upTo: each step ends after the one before.`)
    before = upTo ?? before
    return {
      upTo,
      unitAmount: readUnitAmount(tier.unitAmountMinor ?? 0, `${at}.unitAmountMinor`, problems),
      flatAmountMinor: tier.flatAmountMinor ?? 0,
    }
  })
}

export function normalizeRateLimits(
  input: PlanInput['rateLimits'],
  meters: ReadonlyMap<string, Meter>,
  place: string,
  problems: string[],
): Map<string, RateLimit> {
  const limits = new Map<string, RateLimit>()
  for (const [meterKey, { limit, per }] of Object.entries(input ?? {})) {
    if (!meters.has(meterKey)) {
      problems.push(`${place}.${meterKey}: no meter is called "${meterKey}"; declared: ${list(meters.keys())}.`)
    }
    limits.set(meterKey, { limit: readPositive(limit, `${place}.${meterKey}.limit`, problems), seconds: SECONDS[per] })
  }
  return limits
}

function readUnitAmount(input: number | string, place: string, problems: string[]): UnitAmount {
  try {
    return parseUnitAmount(input, place)
  } catch (error) {
    problems.push(error instanceof Error ? error.message : String(error))
    return 0n
  }
}
