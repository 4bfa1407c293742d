/**
 * Billing periods: where they begin and end. Instants are Unix seconds, all arithmetic is in UTC.
 *
 * A subscription has one anchor. Its periods are the spans between the anchor's multiples, forwards and backwards, so
 * periods never overlap and leave no hole. A month end clamps and returns (31 January → 28 February → 31 March), because
 * every boundary is computed from the anchor and none from the boundary before it.
 * Source: docs.stripe.com/billing/subscriptions/billing-cycle.
 */

export type Interval = 'day' | 'week' | 'month' | 'year'

/** How often an item is billed. `count` is at least 1. */
export interface Recurrence {
  readonly interval: Interval
  readonly count: number
}

/** From `start` (inclusive) to `end` (exclusive). */
export interface Span {
  readonly start: number
  readonly end: number
}

/** The instant that periods are counted from; `dayOfMonth` is given when a day was asked for that the anchor's month lacks. */
export interface Anchor {
  readonly at: number
  readonly dayOfMonth?: number | undefined
}

export const DAY_SECONDS = 86_400
export const HOUR_SECONDS = 3_600

const INTERVAL_MONTHS = { month: 1, year: 12 } as const

/** Days in a month; `month` counts from 0 and may lie outside of 0–11. */
function daysInMonth(year: number, month: number): number {
  return new Date(Date.UTC(year, month + 1, 0)).getUTCDate()
}

/** Adds months to an instant, keeping the time of day and clamping the day to the month's last. */
export function addMonths(at: number, months: number, dayOfMonth?: number): number {
  const from = new Date(at * 1000)
  const month = from.getUTCMonth() + months
  const day = Math.min(dayOfMonth ?? from.getUTCDate(), daysInMonth(from.getUTCFullYear(), month))
  const secondsOfDay = from.getUTCHours() * HOUR_SECONDS + from.getUTCMinutes() * 60 + from.getUTCSeconds()
  return Date.UTC(from.getUTCFullYear(), month, day) / 1000 + secondsOfDay
}

/** Adds `times` recurrences to an instant (times may be negative). */
export function addRecurrence(at: number, recurrence: Recurrence, times = 1): number {
  return boundary({ at }, recurrence, times)
}

/** The n-th boundary from the anchor; the 0th is the anchor itself. */
export function boundary(anchor: Anchor, recurrence: Recurrence, n: number): number {
  const { interval, count } = recurrence
  if (interval === 'day') return anchor.at + n * count * DAY_SECONDS
  if (interval === 'week') return anchor.at + n * count * 7 * DAY_SECONDS
  return n === 0 ? anchor.at : addMonths(anchor.at, n * count * INTERVAL_MONTHS[interval], anchor.dayOfMonth)
}

/** The period that holds an instant: boundary(n) ≤ at < boundary(n + 1). */
export function periodContaining(anchor: Anchor, recurrence: Recurrence, at: number): Span {
  let n = Math.floor((at - anchor.at) / longestSeconds(recurrence))
  while (boundary(anchor, recurrence, n + 1) <= at) n += 1
  while (boundary(anchor, recurrence, n) > at) n -= 1
  return { start: boundary(anchor, recurrence, n), end: boundary(anchor, recurrence, n + 1) }
}

/** The period that begins at or after an instant: the one after `periodContaining` unless `at` is itself a boundary. */
export function firstBoundaryAfter(anchor: Anchor, recurrence: Recurrence, at: number): number {
  return periodContaining(anchor, recurrence, at).end
}

/** An upper bound of a recurrence's length, so that the search in `periodContaining` starts on the near side. */
function longestSeconds({ interval, count }: Recurrence): number {
  const days = { day: 1, week: 7, month: 31, year: 366 }[interval]
  return count * days * DAY_SECONDS
}

/** `billing_cycle_anchor_config` of a subscription. */
export interface AnchorConfig {
  readonly dayOfMonth: number
  readonly month?: number | undefined
  readonly hour?: number | undefined
  readonly minute?: number | undefined
  readonly second?: number | undefined
}

/**
 * The next instant that fits the configured day, at or after `start`. The time of day is that of `start` where it is not
 * configured; a day that a month lacks is its last day.
 * Source: docs.stripe.com/billing/subscriptions/billing-cycle (billing_cycle_anchor_config).
 */
export function anchorFromConfig(config: AnchorConfig, start: number): number {
  const from = new Date(start * 1000)
  const timeOfDay =
    (config.hour ?? from.getUTCHours()) * HOUR_SECONDS +
    (config.minute ?? (config.hour === undefined ? from.getUTCMinutes() : 0)) * 60 +
    (config.second ?? (config.hour === undefined ? from.getUTCSeconds() : 0))
  for (let ahead = 0; ahead <= 12; ahead += 1) {
    const month = from.getUTCMonth() + ahead
    const monthOfYear = (month % 12) + 1
    if (config.month !== undefined && config.month !== monthOfYear) continue
    const day = Math.min(config.dayOfMonth, daysInMonth(from.getUTCFullYear(), month))
    const candidate = Date.UTC(from.getUTCFullYear(), month, day) / 1000 + timeOfDay
    if (candidate >= start) return candidate
  }
  const day = Math.min(config.dayOfMonth, daysInMonth(from.getUTCFullYear() + 1, (config.month ?? 1) - 1))
  return Date.UTC(from.getUTCFullYear() + 1, (config.month ?? 1) - 1, day) / 1000 + timeOfDay
}

/** The shorter of two recurrences, by their average length. */
export function isShorter(a: Recurrence, b: Recurrence): boolean {
  return averageSeconds(a) < averageSeconds(b)
}

function averageSeconds({ interval, count }: Recurrence): number {
  return count * { day: 1, week: 7, month: 30.436875, year: 365.2425 }[interval]
}

/** Stripe's limit: a recurrence is at most three years long. Source: docs.stripe.com/api/prices/create. */
export function isWithinThreeYears({ interval, count }: Recurrence): boolean {
  return count >= 1 && count <= { day: 1095, week: 156, month: 36, year: 3 }[interval]
}
