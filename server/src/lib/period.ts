import type { Instant } from './clock.ts'
import { DomainError } from './errors.ts'

/** A span of time: from `start` inclusive to `end` exclusive. */
export type Period = { readonly start: Instant; readonly end: Instant }

export const SECOND_MS = 1_000
export const MINUTE_MS = 60 * SECOND_MS
export const HOUR_MS = 60 * MINUTE_MS
export const DAY_MS = 24 * HOUR_MS

/** The calendar month in UTC that holds `now` (CB-3: usage starts again on the first). */
export function calendarMonthOf(now: Instant): Period {
  const year = now.getUTCFullYear()
  const month = now.getUTCMonth()
  return { start: new Date(Date.UTC(year, month, 1)), end: new Date(Date.UTC(year, month + 1, 1)) }
}

/** The calendar day in UTC that holds `now`. */
export function calendarDayOf(now: Instant): Period {
  const start = Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate())
  return { start: new Date(start), end: new Date(start + DAY_MS) }
}

/** The calendar year in UTC that holds `now`. */
export function calendarYearOf(now: Instant): Period {
  const year = now.getUTCFullYear()
  return { start: new Date(Date.UTC(year, 0, 1)), end: new Date(Date.UTC(year + 1, 0, 1)) }
}

/** The start of the hour in UTC that holds `now`. */
export function hourOf(now: Instant): Instant {
  return new Date(Math.floor(now.getTime() / HOUR_MS) * HOUR_MS)
}

/**
 * `anchor` moved by whole months, clamped to the month's last day and never drifting:
 * Jan 31 + 1 month is Feb 28 (or 29), + 2 months is Mar 31 (Stripe's billing-cycle anchor, UTC).
 */
export function addMonths(anchor: Instant, months: number): Instant {
  const lastDay = new Date(Date.UTC(anchor.getUTCFullYear(), anchor.getUTCMonth() + months + 1, 0)).getUTCDate()
  return new Date(
    Date.UTC(
      anchor.getUTCFullYear(),
      anchor.getUTCMonth() + months,
      Math.min(anchor.getUTCDate(), lastDay),
      anchor.getUTCHours(),
      anchor.getUTCMinutes(),
      anchor.getUTCSeconds(),
      anchor.getUTCMilliseconds(),
    ),
  )
}

/** The month counted from `anchor` (not from the first) that holds `now`; `now` may lie before the anchor. */
export function anchoredMonthOf(anchor: Instant, now: Instant): Period {
  let months = (now.getUTCFullYear() - anchor.getUTCFullYear()) * 12 + now.getUTCMonth() - anchor.getUTCMonth()
  if (addMonths(anchor, months) > now) months -= 1
  return { start: addMonths(anchor, months), end: addMonths(anchor, months + 1) }
}

const DURATION = /^(\d{1,6})(s|m|h|d|w)$/
const UNIT_MS = { s: SECOND_MS, m: MINUTE_MS, h: HOUR_MS, d: DAY_MS, w: 7 * DAY_MS } as const

/**
 * Reads a duration such as `31d`, `12h`, `90m`; answers milliseconds.
 * @throws DomainError `invalid_request` for anything else
 */
export function parseDuration(text: string): number {
  const match = DURATION.exec(text)
  if (!match) throw new DomainError('invalid_request', `"${text}" is not a duration; write for example 31d, 12h or 90m.`)
  return Number(match[1]) * UNIT_MS[match[2] as keyof typeof UNIT_MS]
}
