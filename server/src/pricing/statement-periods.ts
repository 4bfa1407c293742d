import type { Instant } from '../lib/clock.ts'
import { calendarMonthOf, type Period } from '../lib/period.ts'

/**
 * The period of the statement that holds a time. Pure; whatever cycles there are, each moment is in exactly one period.
 * One begins where any cycle begins, so that the shortest cycle makes it: use is billed monthly, also beside a yearly base fee. It ends
 * with the next one, or with its cycle. A cycle that was left before its end (its anchor was moved) ends where the next begins. Where
 * there is no cycle, calendar months are the periods, as far as there is none.
 * @param cycles the periods of Stripe's that spans lie in, of all subscriptions
 */
export function statementPeriodOf(cycles: readonly Period[], at: Instant): Period {
  const left = cycles.filter(({ start, end }) => cycles.some((next) => start < next.start && next.start < end && end < next.end))
  const bounds = cycles.flatMap((cycle) => (left.includes(cycle) ? [cycle.start] : [cycle.start, cycle.end]))
  const isBilled = cycles.some(({ start, end }) => start <= at && at < end)
  if (!isBilled) {
    const month = calendarMonthOf(at)
    bounds.push(month.start, month.end)
  }
  return {
    start: bounds.filter((bound) => bound <= at).reduce((latest, bound) => (bound > latest ? bound : latest)),
    end: bounds.filter((bound) => bound > at).reduce((first, bound) => (bound < first ? bound : first)),
  }
}
