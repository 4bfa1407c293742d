import type { Meter } from '../catalog/catalog.ts'
import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import { roundToSum } from '../lib/apportion.ts'
import { DomainError } from '../lib/errors.ts'
import { calendarPeriodOf, type Period } from '../lib/period.ts'
import { MICRO, quantityToJson, type Quantity } from '../lib/quantity.ts'
import { readBalances, type OrganizationReading } from '../metering/reads.ts'
import { baseLines, costAhead, costOfLine, isWithin, usageLines, type UsageLine } from './lines.ts'
import { priceIn, type PricingContext } from './overview.ts'
import { freeReasonOf } from './rules.ts'
import { listSpans } from './span-store.ts'
import { isSettled, listBilledBalances, listSettledUse, sumToldLate, sumUse, type MeterUse } from './use-store.ts'

/** What a tenant used in a time, by usage type, and what it costs (KF-8). */
export type UseSummary = {
  readonly tenant_id: string
  readonly period_start: string
  readonly period_end: string
  readonly currency: string
  readonly usage: Readonly<
    Record<string, { readonly quantity: number | string; readonly cost_cents: number; readonly unit: string }>
  >
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

/** The usage type of the base fee (KF-1): its quantity is how many were charged, or reported where that is more. */
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
  const spans = await listSpans(billing.db, organizationId, period)
  const base = baseLines(spans, period)
  const used = await usageLines(billing.db, { organizationId, now }, spans)
  const summing = { reading, period, sums, billed: await listBilledBalances(billing.db, organizationId) }
  const costs = new Map<string, number>()
  for (const balanceKey of new Set(meters.map((meter) => meter.balanceKey))) {
    const own = meters.filter((meter) => meter.balanceKey === balanceKey)
    const lines = used.filter((line) => line.balanceKey === balanceKey)
    for (const [key, cost] of await costsOf(billing.db, summing, { meters: own, lines })) costs.set(key, cost)
  }
  const lines = meters.map((meter) => {
    const quantity = quantityToJson(sums.get(meter.key)?.quantity ?? 0n)
    return [meter.key, { quantity, cost_cents: costs.get(meter.key)!, unit: meter.unit }] as const
  })
  const types = Object.fromEntries(lines)
  const charged = BigInt(base.reduce((sum, { quantity }) => sum + quantity, 0)) * MICRO
  const reported = sums.get(BASE_FEE)?.quantity ?? 0n
  types[BASE_FEE] = {
    quantity: quantityToJson(reported > charged ? reported : charged),
    cost_cents: base.reduce((sum, { amountMinor }) => sum + amountMinor, costs.get(BASE_FEE) ?? 0),
    unit: 'month',
  }
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
  readonly reading: OrganizationReading
  readonly period: Period
  readonly sums: ReadonlyMap<string, MeterUse>
  /** The balances that a line ever billed. */
  readonly billed: ReadonlySet<string>
}

/** What each meter of one balance costs in a time: its share of what the lines cost, by what they bill of it. */
async function costsOf(
  db: Queryable,
  summing: Summing,
  { meters, lines }: { readonly meters: readonly Meter[]; readonly lines: readonly UsageLine[] },
): Promise<ReadonlyMap<string, number>> {
  const { reading, sums, billed } = summing
  const { balanceKey } = meters[0]!
  const reports = lines.at(-1)?.reports ?? 'overage'
  const parts = meters.map(({ key }) => billableOf(sums.get(key), reports))
  let cost = 0
  if (billed.has(balanceKey)) {
    const late = lines.filter(({ lateOf, period }) => lateOf !== null && isBegunIn(period, summing.period))
    cost = late.reduce((sum, line) => sum + costOfLine(line, 'all'), 0)
    const metered = lines.filter(({ lateOf }) => lateOf === null)
    for (const run of runsOf(metered)) cost += await costOfRun(db, summing, { meters, run })
  } else {
    const overage = parts.reduce((sum, part) => sum + part, 0n)
    const unpriced = { freeOverage: 0n, pricedOverage: 0n, pricedMinor: 0n }
    cost = costAhead(priceIn(reading, balanceKey), freeReasonOf(reading.account), { overage, ...unpriced })
  }
  const shares = sharesOf(cost, parts)
  return new Map(meters.map(({ key }, index) => [key, shares[index]!]))
}

function billableOf(use: MeterUse | undefined, reports: UsageLine['reports']): Quantity {
  return (reports === 'use' ? use?.drawn : use?.overage) ?? 0n
}

/** Lines of one balance that follow one another without a gap: a plan that changed within a cycle, one cycle after another. */
function runsOf(lines: readonly UsageLine[]): readonly (readonly UsageLine[])[] {
  const runs: UsageLine[][] = []
  for (const line of [...lines].sort((a, b) => a.period.start.getTime() - b.period.start.getTime())) {
    const run = runs.at(-1)
    const before = run?.at(-1)
    if (before?.period.end.getTime() === line.period.start.getTime() && before.reports === line.reports) run!.push(line)
    else runs.push([line])
  }
  return runs
}

/**
 * What the lines of a run cost in the time summed up. Sums are kept by the hour, and a plan changes within one: what is on the lines that
 * lie in the time is known without them, so a line that reaches beyond it has what they leave of all that was counted, and never more than it bills.
 */
async function costOfRun(
  db: Queryable,
  summing: Summing,
  { meters, run }: { readonly meters: readonly Meter[]; readonly run: readonly UsageLine[] },
): Promise<number> {
  const { reading, period } = summing
  const whole = run.filter((line) => isWithin(line, period, reading.now))
  const cut = run.filter((line) => !whole.includes(line))
  let cost = whole.reduce((sum, line) => sum + costOfLine(line, 'all'), 0)
  if (cut.length === 0) return cost
  const countedOn = (lines: readonly UsageLine[]): Promise<Quantity> => sumBillable(db, summing, { meters, lines })
  const told = await sumToldLate(
    db,
    reading.account.organizationId,
    run.map(({ id }) => id),
  )
  let left = (await countedOn(run)) - whole.reduce((sum, line) => sum + ownOf(line) + (told.get(line.id) ?? 0n), 0n)
  for (const line of cut) {
    const there = line === cut.at(-1) ? left : await countedOn([line])
    const counted = there < ownOf(line) ? there : ownOf(line)
    cost += costOfLine(line, { counted })
    left -= counted + (told.get(line.id) ?? 0n)
  }
  return cost
}

/** Whether a line begins in the time summed up: what was told late is on the statement of the period in which it was told. */
function isBegunIn({ start }: Period, time: Period): boolean {
  return time.start <= start && start < time.end
}

/** What a line bills of its own time, less what was taken back of it. */
function ownOf({ quantity, lateQuantity, creditedQuantity }: UsageLine): Quantity {
  return quantity - lateQuantity - creditedQuantity
}

/** What was counted of what lines that follow one another bill, in the part of their time that lies in the time summed up. */
async function sumBillable(
  db: Queryable,
  { reading, period }: Summing,
  { meters, lines }: { readonly meters: readonly Meter[]; readonly lines: readonly UsageLine[] },
): Promise<Quantity> {
  const [first, last] = [lines[0]!, lines.at(-1)!]
  const start = first.period.start > period.start ? first.period.start : period.start
  const end = last.period.end < period.end ? last.period.end : period.end
  const use = await sumUse(db, { organizationId: reading.account.organizationId, start, end }, meters)
  return use.reduce((sum, each) => sum + billableOf(each, first.reports), 0n)
}

/** Splits a cost by parts, the first has what none of them made; the shares add up to the cost. */
function sharesOf(cost: number, parts: readonly Quantity[]): readonly number[] {
  const whole = parts.reduce((sum, part) => sum + part, 0n)
  if (whole <= 0n) return parts.map((_, index) => (index === 0 ? cost : 0))
  const exact = parts.map((part) => part * BigInt(cost))
  return roundToSum(exact, whole, BigInt(cost)).map(Number)
}
