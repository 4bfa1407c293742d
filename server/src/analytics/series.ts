import { roundHalfUp, roundToSum } from '../lib/apportion.ts'
import type { Instant } from '../lib/clock.ts'
import { minorDigits } from '../lib/money.ts'
import { MICRO } from '../lib/quantity.ts'
import type { MovementSum, Standing } from './reports-store.ts'
import { MOVEMENT_KINDS, type MovementKind } from './rules.ts'

/** What moved in a span; amounts are exact parts, contraction and churn negative. */
export type Span = {
  readonly start: Instant
  readonly end: Instant
  readonly opening: bigint
  readonly closing: bigint
  readonly customersOpening: number
  readonly customersClosing: number
  /** How many of the customers of the beginning left, each once, whether or not they came back. */
  readonly leavers: number
  readonly amounts: Readonly<Record<MovementKind, bigint>>
  readonly counts: Readonly<Record<MovementKind, number>>
}

export type Series = {
  readonly currency: string
  /** How many parts make a minor unit. */
  readonly unit: bigint
  readonly spans: readonly Span[]
}

/** The revenue of each currency over the spans between boundaries. Pure. */
export function seriesOf(standing: readonly Standing[], sums: readonly MovementSum[], boundaries: readonly Instant[]): Series[] {
  const currencies = [...new Set([...standing, ...sums].map(({ currency }) => currency))].sort()
  return currencies.map((currency) => {
    const opening = standing.find((one) => one.currency === currency)
    const own = sums.filter((sum) => sum.currency === currency)
    return { currency, unit: MICRO, spans: spansOf(opening?.mrr ?? 0n, opening?.customers ?? 0, own, boundaries) }
  })
}

function spansOf(mrr: bigint, customers: number, sums: readonly MovementSum[], boundaries: readonly Instant[]): Span[] {
  const spans: Span[] = []
  let [opening, customersOpening] = [mrr, customers]
  for (const [bucket, start] of boundaries.slice(0, -1).entries()) {
    const own = sums.filter((sum) => sum.bucket === bucket)
    const amounts = byKind((kind) => own.find((sum) => sum.kind === kind)?.amount ?? 0n)
    const counts = byKind((kind) => own.find((sum) => sum.kind === kind)?.count ?? 0)
    const closing = MOVEMENT_KINDS.reduce((sum, kind) => sum + amounts[kind], opening)
    const customersClosing = customersOpening + counts.new + counts.reactivation - counts.churn
    const leavers = own.find((sum) => sum.kind === 'churn')?.leavers ?? 0
    const end = boundaries[bucket + 1]!
    spans.push({ start, end, opening, closing, customersOpening, customersClosing, leavers, amounts, counts })
    opening = closing
    customersOpening = customersClosing
  }
  return spans
}

function byKind<Value>(valueOf: (kind: MovementKind) => Value): Record<MovementKind, Value> {
  return Object.fromEntries(MOVEMENT_KINDS.map((kind) => [kind, valueOf(kind)])) as Record<MovementKind, Value>
}

/** One currency into which the others are converted, and what a major unit of each is worth in it, in millionths. */
export type RateTable = { readonly currency: string; readonly rates: ReadonlyMap<string, bigint> }

/**
 * All currencies as one, by the table; currencies that it does not have are left out and named. Nothing is rounded, so what adds up
 * in each adds up in the sum. Pure.
 */
export function convertSeries(
  all: readonly Series[],
  table: RateTable,
): { readonly series: Series; readonly left: readonly string[] } {
  const rateOf = (currency: string): bigint | undefined => (currency === table.currency ? MICRO : table.rates.get(currency))
  const known = all.filter(({ currency }) => rateOf(currency) !== undefined)
  const factors = known.map(({ currency }) => {
    // Currencies have 0 to 3 decimal places: three more than needed keep every factor whole.
    const shift = 3 + minorDigits(table.currency) - minorDigits(currency)
    return rateOf(currency)! * 10n ** BigInt(shift)
  })
  const first = known[0]?.spans ?? []
  const spans = first.map((span, index) => {
    const own = known.map(({ spans }) => spans[index]!)
    const sum = (pick: (one: Span) => bigint): bigint => own.reduce((total, one, i) => total + pick(one) * factors[i]!, 0n)
    const add = (pick: (one: Span) => number): number => own.reduce((total, one) => total + pick(one), 0)
    return {
      start: span.start,
      end: span.end,
      opening: sum((one) => one.opening),
      closing: sum((one) => one.closing),
      customersOpening: add((one) => one.customersOpening),
      customersClosing: add((one) => one.customersClosing),
      leavers: add((one) => one.leavers),
      amounts: byKind((kind) => sum((one) => one.amounts[kind])),
      counts: byKind((kind) => add((one) => one.counts[kind])),
    }
  })
  const left = all.filter((one) => !known.includes(one)).map(({ currency }) => currency)
  return { series: { currency: table.currency, unit: MICRO * MICRO * 1000n, spans }, left }
}

/** A span in whole minor units that still add up: opening + new + expansion + reactivation − contraction − churn = closing. Pure. */
export function roundSpan(span: Span, unit: bigint) {
  const opening = roundHalfUp(span.opening, unit)
  const closing = roundHalfUp(span.closing, unit)
  const rounded = roundToSum(
    MOVEMENT_KINDS.map((kind) => span.amounts[kind]),
    unit,
    closing - opening,
  )
  const amounts = byKind((kind) => Number(rounded[MOVEMENT_KINDS.indexOf(kind)]!))
  return { openingMinor: Number(opening), closingMinor: Number(closing), amounts }
}

/** A share to six places, 0.05 for 5 %; null where there is nothing to share. Pure. */
export function ratioOf(part: bigint, whole: bigint): number | null {
  return whole <= 0n ? null : Number(roundHalfUp(part * MICRO, whole)) / 1_000_000
}
