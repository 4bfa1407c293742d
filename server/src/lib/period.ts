import { Temporal } from 'temporal-polyfill'
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

export type CalendarUnit = 'day' | 'month' | 'year'

/**
 * A period of somebody's calendar. `date` is the local date on which it begins, written as midnight UTC: it names the period in
 * whatever zone it is looked at, so that "November" stays one and the same period when the zone changes.
 */
export type CalendarPeriod = Period & { readonly date: Instant }

const UTC_PERIODS = { day: calendarDayOf, month: calendarMonthOf, year: calendarYearOf } as const

// What is asked at every use: the polyfill takes some 50 µs for it, UTC alone half a microsecond. A period is asked for until it is over.
const lastPeriods = {
  day: new Map<string, CalendarPeriod>(),
  month: new Map<string, CalendarPeriod>(),
  year: new Map<string, CalendarPeriod>(),
}

/**
 * The calendar day, month or year of a time zone that holds `now`. Periods meet without gap or overlap: one begins with the first
 * moment of its first date. A date that the zone never had (Samoa's 2011-12-30) is no period, and where a clock is put back over
 * midnight the date does not begin twice.
 * @param timeZone an IANA name that `readTimeZone` has accepted
 */
export function calendarPeriodOf(unit: CalendarUnit, timeZone: string, now: Instant): CalendarPeriod {
  const time = now.getTime()
  const last = lastPeriods[unit].get(timeZone)
  if (last && last.start.getTime() <= time && time < last.end.getTime()) return last
  const period = timeZone === 'UTC' ? utcPeriodOf(unit, now) : zonedPeriodOf(unit, timeZone, now)
  lastPeriods[unit].set(timeZone, period)
  return period
}

function utcPeriodOf(unit: CalendarUnit, now: Instant): CalendarPeriod {
  const period = UTC_PERIODS[unit](now)
  return { ...period, date: period.start }
}

function zonedPeriodOf(unit: CalendarUnit, timeZone: string, now: Instant): CalendarPeriod {
  const local = Temporal.Instant.fromEpochMilliseconds(now.getTime()).toZonedDateTimeISO(timeZone).toPlainDate()
  let first = unit === 'day' ? local : unit === 'month' ? local.with({ day: 1 }) : local.with({ month: 1, day: 1 })
  for (;;) {
    const next = first.add({ [`${unit}s`]: 1 })
    const end = beginOf(next, timeZone)
    if (now < end) return { start: beginOf(first, timeZone), end, date: new Date(`${first.toString()}T00:00:00.000Z`) }
    // The clock was put back over midnight: the date that is read again was over already.
    first = next
  }
}

/**
 * The first moment of a date in a time zone; of one that the zone never had, that of the next.
 * @param date an ISO 8601 date, such as 2026-03-01
 * @param timeZone an IANA name that `readTimeZone` has accepted
 */
export function startOfDate(date: string, timeZone: string): Instant {
  return beginOf(Temporal.PlainDate.from(date), timeZone)
}

function beginOf(date: Temporal.PlainDate, timeZone: string): Instant {
  return new Date(date.toZonedDateTime(timeZone).epochMilliseconds)
}

const ALSO_UTC: ReadonlySet<string> = new Set([
  'Etc/UTC',
  'Etc/UCT',
  'Etc/GMT',
  'Etc/Zulu',
  'Etc/Universal',
  'GMT',
  'UCT',
  'Zulu',
  'Universal',
])

/**
 * The IANA name of a time zone in its usual spelling; one of several names of a zone stays the one it is.
 * @throws DomainError `invalid_request` for what is none, offsets such as +02:00 included: they know no summer time
 */
export function readTimeZone(text: string): string {
  try {
    if (/^[A-Za-z]/.test(text)) {
      const { timeZoneId } = Temporal.Instant.fromEpochMilliseconds(0).toZonedDateTimeISO(text)
      return ALSO_UTC.has(timeZoneId) ? 'UTC' : timeZoneId
    }
  } catch {
    // Said below, as for an offset.
  }
  throw new DomainError('invalid_request', `"${text}" is no time zone; write an IANA name such as Europe/Berlin.`, {
    field: 'time_zone',
  })
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
