import type { Meter, UsagePrice } from '../catalog/catalog.ts'
import { tierOf } from '../catalog/tiers.ts'
import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import { roundToSum } from '../lib/apportion.ts'
import { DomainError } from '../lib/errors.ts'
import { minorDigits, toMajorNumber } from '../lib/money.ts'
import { calendarPeriodOf, type Period } from '../lib/period.ts'
import { formatQuantity, quantityToJson, type Quantity } from '../lib/quantity.ts'
import { formatUnitAmount } from '../lib/unit-amount.ts'
import type { UsageContext } from '../metering/api.ts'
import { readBalances, type BalanceReading, type OrganizationReading } from '../metering/reads.ts'
import type { BillingContext } from '../stripe/context.ts'
import { findUsagePrices } from '../stripe/push-usage-prices.ts'
import { freeReasonOf, overageCost, priceOf, type FreeReason } from './rules.ts'
import { listSpans } from './span-store.ts'
import { usageLines, type UsageLine } from './statement.ts'
import { isSettled, listSettledUse, sumUse, type MeterUse } from './use-store.ts'

export type PricingContext = { readonly billing: BillingContext; readonly usage: UsageContext }

type Figure = number | string

/** What an organization uses and what it costs, as OC-4 and CB-6 name it. */
export type UseOverview = {
  readonly usage: { readonly today: Readonly<Record<string, Figure>>; readonly month: Readonly<Record<string, Figure>> }
  readonly credits: {
    readonly tier: string
    /** The plan's allowance of the period; null is unlimited. */
    readonly included_credits: Figure | null
    /** Granted besides: top-ups, promotions, rollovers. included + extra − used + overage = remaining, but for what is held. */
    readonly extra_credits: Figure | null
    readonly used: Figure
    readonly remaining: Figure | null
    readonly overage: Figure
    /** What of the overage is billed costs, in major units. */
    readonly overage_cost: number
    readonly free_overage: Figure
    readonly free_because: FreeReason | null
    /** Major units; null where overage has no price per unit. */
    readonly price_per_1k: number | null
  }
  readonly tier: string
  readonly balances: readonly {
    readonly balance: string
    readonly name: string
    readonly used: Figure
    readonly limit: Figure | null
    readonly remaining: Figure | null
    readonly overage: Figure
    readonly overage_cost: number
    readonly free_overage: Figure
    readonly free_because: FreeReason | null
    readonly period_start: string
    readonly period_end: string | null
  }[]
}

/** Reads OC-4's figures: today and this month by meter, and the first credit pool of the plan (else its first balance). */
export async function readUseOverview({ billing, usage }: PricingContext, organizationId: string): Promise<UseOverview> {
  const reading = await readBalances(billing.db, usage, organizationId)
  const { terms, balances, now } = reading
  const zone = reading.account.timeZone ?? terms.catalog.timeZone
  const meters = [...terms.catalog.meters.values()]
  const figuresOf = async (period: Period): Promise<Record<string, Figure>> => {
    const sums = new Map(
      (await sumUse(billing.db, { organizationId, ...period }, meters)).map(({ meter, quantity }) => [meter, quantity]),
    )
    return Object.fromEntries(meters.map(({ key }) => [key, quantityToJson(sums.get(key) ?? 0n)]))
  }
  const [today, month] = await Promise.all([
    figuresOf(calendarPeriodOf('day', zone, now)),
    figuresOf(calendarPeriodOf('month', zone, now)),
  ])
  const tier = tierOf(terms.catalog, terms.standing.planKey)
  const pool = balances.find(({ balanceKey }) => !terms.catalog.meters.has(balanceKey)) ?? balances[0]
  const priceOfBalance = (key: string): UsagePrice | null => priceIn(reading, key)
  const { currency } = terms.catalog
  const isCharged = freeReasonOf(reading.account) === null
  const chargeOf = (balance: BalanceReading): Charge => {
    const free = freeOverageOf(reading, balance)
    const cost = isCharged ? costIn(currency, priceOfBalance(balance.balanceKey), balance) : 0
    return { overage_cost: cost, free_overage: quantityToJson(free.quantity), free_because: free.because }
  }
  return {
    usage: { today, month },
    tier,
    credits: {
      tier,
      included_credits: pool ? jsonOf(includedIn(pool)) : 0,
      extra_credits: pool ? jsonOf(pool.amount === null ? null : pool.amount - (includedIn(pool) ?? 0n)) : 0,
      used: quantityToJson(pool ? pool.used + pool.overage : 0n),
      remaining: pool ? jsonOf(pool.remaining) : 0,
      overage: quantityToJson(pool?.overage ?? 0n),
      ...(pool ? chargeOf(pool) : NOTHING_CHARGED),
      price_per_1k: pool ? perThousand(currency, priceOfBalance(pool.balanceKey)) : null,
    },
    balances: balances.map((balance) => ({
      balance: balance.balanceKey,
      name: balance.name,
      used: quantityToJson(balance.used + balance.overage),
      limit: jsonOf(balance.amount),
      remaining: jsonOf(balance.remaining),
      overage: quantityToJson(balance.overage),
      ...chargeOf(balance),
      period_start: balance.periodStart.toISOString(),
      period_end: balance.periodEnd?.toISOString() ?? null,
    })),
  }
}

type Charge = Pick<UseOverview['credits'], 'overage_cost' | 'free_overage' | 'free_because'>

const NOTHING_CHARGED: Charge = { overage_cost: 0, free_overage: 0, free_because: null }

/** What the plan's own allowance of the period is, whatever was granted besides (OC-4). */
function includedIn({ lines }: BalanceReading): Quantity | null {
  return lines.find(({ grant }) => grant.kind === 'plan')?.granted ?? null
}

/** What of a balance's overage is never billed, and why: all of it while nothing bills it, else what was used before that began. */
function freeOverageOf(
  { account }: OrganizationReading,
  { overage, lines }: BalanceReading,
): { readonly quantity: Quantity; readonly because: FreeReason | null } {
  const because = freeReasonOf(account)
  const quantity = because === null ? lines.reduce((sum, line) => sum + line.freeOverage, 0n) : overage
  return { quantity, because: quantity === 0n ? null : (because ?? 'unbilled_time') }
}

function jsonOf(quantity: Quantity | null): Figure | null {
  return quantity === null ? null : quantityToJson(quantity)
}

function priceIn({ terms }: OrganizationReading, balanceKey: string): UsagePrice | null {
  return terms.catalog.plans.get(terms.standing.planKey)?.allowances.get(balanceKey)?.overage ?? null
}

function costIn(currency: string, price: UsagePrice | null, { lines }: BalanceReading): number {
  const plan = lines.find(({ grant }) => grant.kind === 'plan')
  if (price === null || plan === undefined || plan.overage === 0n) return 0
  const { pricedOverage, pricedMinor } = plan.grant
  const { overage, freeOverage } = plan
  const amountMinor = overageCost(price, { overage, freeOverage, pricedOverage, pricedMinor })
  return toMajorNumber({ amountMinor, currency })
}

/** What a thousand units cost in major units, read off the decimal text: 0.2 cents a unit are 2.00 per thousand. */
function perThousand(currency: string, price: UsagePrice | null): number | null {
  if (price?.model === 'per_unit') return Number(`${formatUnitAmount(price.unitAmount)}e${3 - minorDigits(currency)}`)
  if (price?.model !== 'package') return null
  return Number(`${price.amountMinor}e${3 - minorDigits(currency)}`) / Number(formatQuantity(price.size))
}

/** What a tenant used in a time, by usage type, and what it costs (KF-8). */
export type UseSummary = {
  readonly tenant_id: string
  readonly period_start: string
  readonly period_end: string
  readonly currency: string
  readonly usage: Readonly<Record<string, { readonly quantity: Figure; readonly cost_cents: number; readonly unit: string }>>
  readonly total_cost_cents: number
  /** Whether all of the time is settled by paid invoices (KF-11), and by which. */
  readonly billed: boolean
  readonly invoices: readonly {
    readonly invoice_id: string
    readonly period_start: string
    readonly period_end: string
    readonly paid_at: string | null
  }[]
}

/** The usage type of the base fee (KF-1): its quantity is how many were charged. */
const BASE_FEE = 'platform_base'

/**
 * Sums up a time, by default the running billing period. A type costs what the lines of its use in that time cost; over billing periods that
 * is what their statements say.
 */
export async function readUseSummary(
  { billing, usage }: PricingContext,
  query: { readonly organizationId: string; readonly start: Instant | null; readonly end: Instant | null },
): Promise<UseSummary> {
  const { organizationId } = query
  const reading = await readBalances(billing.db, usage, organizationId)
  const { terms, account, now } = reading
  const running =
    account.currentPeriodStart !== null && account.currentPeriodEnd !== null
      ? { start: account.currentPeriodStart, end: account.currentPeriodEnd }
      : calendarPeriodOf('month', account.timeZone ?? terms.catalog.timeZone, now)
  const period = { start: query.start ?? running.start, end: query.end ?? running.end }
  if (period.start >= period.end) {
    const field = query.end === null ? 'period_start' : 'period_end'
    throw new DomainError('invalid_request', 'period_end does not lie after period_start.', { field })
  }
  const meters = [...terms.catalog.meters.values()]
  const sums = new Map((await sumUse(billing.db, { organizationId, ...period }, meters)).map((sum) => [sum.meter, sum]))
  const isCharged = freeReasonOf(account) === null
  const base = await sumBaseFees(billing, organizationId, period)
  const costs = await costsOfLines(billing, { organizationId, now, period, meters })
  const lines = meters.map((meter) => {
    const sum = sums.get(meter.key)
    const price = priceIn(reading, meter.balanceKey)
    // Before there is any line, the subscription says whether there will be one.
    const isLineAhead = isCharged && sum?.billed === null && sum.overage > 0n
    const own = meters.filter(({ balanceKey }) => balanceKey === meter.balanceKey)
    const ahead = isLineAhead && price !== null ? priceOf(price, sum.overage) : 0
    const cost = shareOf(meter, own, sums, costs.get(meter.balanceKey)) ?? ahead
    const line = { quantity: quantityToJson(sum?.quantity ?? 0n), cost_cents: cost, unit: meter.unit }
    return [meter.key, line] as const
  })
  const types = Object.fromEntries(lines)
  types[BASE_FEE] = { quantity: base.quantity, cost_cents: base.amountMinor, unit: 'month' }
  const settled = await listSettledUse(billing.db, organizationId, period)
  return {
    tenant_id: organizationId,
    period_start: period.start.toISOString(),
    period_end: period.end.toISOString(),
    currency: terms.catalog.currency,
    usage: types,
    total_cost_cents: Object.values(types).reduce((sum, { cost_cents: cost }) => sum + cost, 0),
    billed: await isSettled(billing.db, { organizationId, ...period }, meters),
    invoices: settled.map(({ invoiceId, period: own, paidAt }) => ({
      invoice_id: invoiceId,
      period_start: own.start.toISOString(),
      period_end: own.end.toISOString(),
      paid_at: paidAt?.toISOString() ?? null,
    })),
  }
}

type Summing = {
  readonly organizationId: string
  readonly now: Instant
  readonly period: Period
  readonly meters: readonly Meter[]
}

/**
 * What the lines of each balance cost in a time: as the statement has them, each at its own price and rounded by itself. Of a line that
 * reaches beyond the time, what was counted within it costs what it would alone.
 */
async function costsOfLines({ db }: BillingContext, summing: Summing): Promise<ReadonlyMap<string, number>> {
  const { organizationId, now, period } = summing
  const spans = (await listSpans(db, organizationId, period)).filter(({ kind }) => kind === 'usage')
  const costs = new Map<string, number>()
  for (const line of await usageLines(db, { organizationId, now }, spans)) {
    const { start, end } = line.period
    // What is still running has nothing beyond the present.
    const isWithin = start >= period.start && (end <= period.end || now <= period.end)
    const cost = isWithin ? line.amountMinor - line.creditedMinor : await costOfPart(db, summing, line)
    costs.set(line.balanceKey, (costs.get(line.balanceKey) ?? 0) + cost)
  }
  return costs
}

async function costOfPart(
  db: Queryable,
  { organizationId, period, meters }: Summing,
  { balanceKey, priceId, reports, period: own }: UsageLine,
): Promise<number> {
  const start = own.start > period.start ? own.start : period.start
  const end = own.end < period.end ? own.end : period.end
  const use = await sumUse(
    db,
    { organizationId, start, end },
    meters.filter((meter) => meter.balanceKey === balanceKey),
  )
  const billed = use.reduce((sum, { overage, drawn }) => sum + (reports === 'use' ? drawn : overage), 0n)
  const price = (await findUsagePrices(db, [priceId])).get(priceId)
  return price === undefined || billed <= 0n ? 0 : priceOf(price.price, billed)
}

/** A meter's share of what its balance costs, by its overage; null where the cost of the balance is not known as a whole. */
function shareOf(
  meter: { readonly key: string },
  own: readonly { readonly key: string }[],
  sums: ReadonlyMap<string, MeterUse>,
  cost: number | undefined,
): number | null {
  if (cost === undefined) return null
  const parts = own.map(({ key }) => sums.get(key)?.overage ?? 0n)
  const whole = parts.reduce((sum, part) => sum + part, 0n)
  const index = own.findIndex(({ key }) => key === meter.key)
  if (whole <= 0n) return index === 0 ? cost : 0
  return Number(
    roundToSum(
      parts.map((part) => part * BigInt(cost)),
      whole,
      BigInt(cost),
    )[index],
  )
}

async function sumBaseFees(
  { db }: BillingContext,
  organizationId: string,
  period: Period,
): Promise<{ quantity: number; amountMinor: number }> {
  const spans = (await listSpans(db, organizationId, period)).filter(
    ({ kind, whole, startsAt }) => kind === 'base' && whole && startsAt >= period.start && startsAt < period.end,
  )
  return spans.reduce(
    (sum, { quantity, unitAmountMinor }) => ({
      quantity: sum.quantity + Number(quantity),
      amountMinor: sum.amountMinor + Number(quantity * unitAmountMinor),
    }),
    { quantity: 0, amountMinor: 0 },
  )
}
