import type { Instant } from '../lib/clock.ts'
import { addMonths, calendarPeriodOf, HOUR_MS, type CalendarUnit, type Period } from '../lib/period.ts'

/** What one row of a report spans; `total` is all of it. */
export const GRAINS = ['total', 'hour', 'day', 'month', 'billing_cycle'] as const
export type Grain = (typeof GRAINS)[number]

/** The periods by which a report can be asked for. */
export const REPORT_PERIODS = ['day', 'calendar_month', 'year', 'billing_cycle'] as const
export type ReportPeriod = (typeof REPORT_PERIODS)[number]

const UNITS = { day: 'day', calendar_month: 'month', year: 'year' } as const satisfies Partial<Record<ReportPeriod, CalendarUnit>>

/** What an organization's time is divided by. */
export type Calendar = {
  readonly timeZone: string
  /** The beginnings of its billing cycles, ascending: those that are known, and the end of the last. */
  readonly cycles: readonly Instant[]
}

/** The calendar period or the billing cycle that holds `at`. */
export function periodAt(period: ReportPeriod, { timeZone, cycles }: Calendar, at: Instant): Period {
  return period === 'billing_cycle' ? cycleAt(cycles, at) : calendarPeriodOf(UNITS[period], timeZone, at)
}

/**
 * The billing cycle that holds `at`: between two that are known; before the first and after the last, months counted from it.
 */
export function cycleAt(cycles: readonly Instant[], at: Instant): Period {
  const next = cycles.findIndex((start) => start > at)
  if (next > 0) return { start: cycles[next - 1]!, end: cycles[next]! }
  const from = next === 0 ? cycles[0]! : cycles.at(-1)!
  let months = (at.getUTCFullYear() - from.getUTCFullYear()) * 12 + at.getUTCMonth() - from.getUTCMonth()
  if (addMonths(from, months) > at) months -= 1
  return { start: addMonths(from, months), end: addMonths(from, months + 1) }
}

/** The beginnings of the billing cycles that a span touches, ascending. */
export function cyclesWithin(cycles: readonly Instant[], { start, end }: Period): readonly Instant[] {
  const starts: Instant[] = []
  for (let at = start; at < end; at = cycleAt(cycles, at).end) starts.push(cycleAt(cycles, at).start)
  return starts
}

/** What a row that begins at `start` spans. */
export function spanOfRow(grain: Grain, calendar: Calendar, start: Instant, whole: Period): Period {
  switch (grain) {
    case 'total':
      return whole
    case 'hour': {
      const dayEnd = calendarPeriodOf('day', calendar.timeZone, start).end
      const end = new Date(start.getTime() + HOUR_MS)
      // A day of the zone may not be a whole number of hours: the last is a shorter one.
      return { start, end: end > dayEnd ? dayEnd : end }
    }
    case 'day':
    case 'month':
      return { start, end: calendarPeriodOf(grain, calendar.timeZone, start).end }
    case 'billing_cycle':
      return cycleAt(calendar.cycles, start)
  }
}

/** The first hour of the clock that begins at or after a moment. */
export function hourFrom(timeZone: string, at: Instant): Instant {
  const day = calendarPeriodOf('day', timeZone, at)
  const intoHourMs = (at.getTime() - day.start.getTime()) % HOUR_MS
  if (intoHourMs === 0) return at
  const next = new Date(at.getTime() - intoHourMs + HOUR_MS)
  return next > day.end ? day.end : next
}

/** Whether a span begins and ends with days: then sums by the day tell it as well as sums by the hour. */
export function isMadeOfDays({ timeZone }: Calendar, { start, end }: Period): boolean {
  const begins = (at: Instant): boolean => calendarPeriodOf('day', timeZone, at).start.getTime() === at.getTime()
  return begins(start) && begins(end)
}
