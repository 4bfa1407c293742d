import type { Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import { addMonths, calendarDayOf, calendarMonthOf, DAY_MS } from '../lib/period.ts'

export type ReportInterval = 'day' | 'week' | 'month'

/** More than a decade of weeks; a request for more is a mistake. */
const MOST_BUCKETS = 600

/**
 * The spans of a report: from `from`, at each beginning of a day, week (Monday) or month in UTC, to `to`. Pure.
 * @returns the boundaries, one more than there are spans
 * @throws DomainError `invalid_request` when `from` is not before `to`, or there would be more than 600 spans
 */
export function splitPeriod(from: Instant, to: Instant, interval: ReportInterval): Instant[] {
  if (from >= to) throw new DomainError('invalid_request', 'from must lie before to.', { field: 'from' })
  const boundaries = [from]
  for (let next = nextBeginning(from, interval); next < to; next = nextBeginning(next, interval)) {
    boundaries.push(next)
    if (boundaries.length > MOST_BUCKETS) {
      throw new DomainError('invalid_request', `Between from and to lie more than ${MOST_BUCKETS} of the interval.`, {
        field: 'interval',
      })
    }
  }
  return [...boundaries, to]
}

function nextBeginning(at: Instant, interval: ReportInterval): Instant {
  switch (interval) {
    case 'day':
      return calendarDayOf(at).end
    case 'week': {
      const { start } = calendarDayOf(at)
      return new Date(start.getTime() + (7 - ((start.getUTCDay() + 6) % 7)) * DAY_MS)
    }
    case 'month':
      return calendarMonthOf(at).end
  }
}

/** How many whole calendar months lie between two beginnings of months. Pure. */
export function monthsBetween(from: Instant, to: Instant): number {
  return (to.getUTCFullYear() - from.getUTCFullYear()) * 12 + to.getUTCMonth() - from.getUTCMonth()
}

/** Twelve months back, to the beginning of a month: what a report shows unless it is told. Pure. */
export function yearBefore(to: Instant): Instant {
  return addMonths(calendarMonthOf(to).start, -11)
}
