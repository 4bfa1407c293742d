import type { AllowancePeriod } from '../catalog/define.ts'
import type { Instant } from '../lib/clock.ts'
import { anchoredMonthOf, calendarPeriodOf, DAY_MS, type CalendarUnit, type Period } from '../lib/period.ts'

/** The span for which an allowance stands; `end` is null for one that never starts again. */
export type AllowanceSpan = {
  /** Names the span among all of its kind: its start, of a calendar period the local date on which it begins. */
  readonly name: Instant
  readonly start: Instant
  readonly end: Instant | null
}

/**
 * What periods follow: `billing_cycle` the subscription's current period, or for want of one the day the organization came;
 * the calendar's the organization's time zone.
 */
export type BillingCycle = {
  readonly anchor: Instant
  readonly current: SubscriptionCycle | null
  readonly timeZone: string
}

/** A subscription's current period. `anchor` is the moment from which Stripe counts its periods; null where it is not known. */
export type SubscriptionCycle = Period & { readonly anchor: Instant | null }

// Stripe's months are 28 to 31 days; a period a little longer is still one month, a longer one (a year, a quarter) is cut into months.
const LONGEST_MONTH_MS = 32 * DAY_MS
const SHORTEST_MONTH_MS = 28 * DAY_MS

const CALENDAR_UNITS = { calendar_month: 'month', day: 'day', year: 'year' } as const satisfies Partial<
  Record<AllowancePeriod, CalendarUnit>
>

/**
 * The span of an allowance that holds `now`. Pure, and the only place where allowance periods are computed.
 * Calendar periods are the time zone's. They are named by their local date, so one that stands while the zone changes stays the
 * same period with another end: it is never handed out twice, and none is left out. A billing cycle longer than a month (a yearly
 * subscription) is cut into the months of Stripe's anchor, in which its use is billed, since an allowance is what a plan includes per
 * month: a day of the anchor that a month lacks is its last one, and comes back (docs.stripe.com/billing/subscriptions/billing-cycle).
 * When `now` lies past the last known cycle, the next one is taken to begin exactly at its end: the renewal's webhook, however late, then finds
 * the same span.
 */
export function allowanceSpanOf(period: AllowancePeriod, cycle: BillingCycle, now: Instant): AllowanceSpan {
  switch (period) {
    case 'calendar_month':
    case 'day':
    case 'year': {
      const { start, end, date } = calendarPeriodOf(CALENDAR_UNITS[period], cycle.timeZone, now)
      return { name: date, start, end }
    }
    case 'lifetime':
      return { name: cycle.anchor, start: cycle.anchor, end: null }
    case 'billing_cycle': {
      const { start, end } = cycle.current ? subscriptionSpanOf(cycle.current, now) : anchoredMonthOf(cycle.anchor, now)
      return { name: start, start, end }
    }
  }
}

/** The span before one, where the cycle that is known says so; what came before a subscription's present cycle is not known. */
export function spanBefore(period: AllowancePeriod, cycle: BillingCycle, { start }: AllowanceSpan): AllowanceSpan | null {
  if (period === 'lifetime') return null
  if (period === 'billing_cycle' && cycle.current !== null && start <= cycle.current.start) return null
  return allowanceSpanOf(period, cycle, new Date(start.getTime() - 1))
}

function subscriptionSpanOf(current: SubscriptionCycle, now: Instant): Period {
  const lengthMs = current.end.getTime() - current.start.getTime()
  if (now >= current.end) return spanAfter(current, now)
  // A clock that runs a little behind Stripe's sees a cycle that has not begun yet: it is the current one all the same.
  if (lengthMs <= LONGEST_MONTH_MS || now < current.start) {
    const { start, end } = current
    return lengthMs <= LONGEST_MONTH_MS ? { start, end } : anchoredMonthOf(monthAnchorOf(current, start), start)
  }
  return endingBy(current.end, anchoredMonthOf(monthAnchorOf(current, current.start), now))
}

/** From what months are counted: the anchor where one of its months begins at the boundary of a cycle, else that boundary. */
function monthAnchorOf({ anchor }: SubscriptionCycle, boundary: Instant): Instant {
  if (anchor === null) return boundary
  return anchoredMonthOf(anchor, boundary).start.getTime() === boundary.getTime() ? anchor : boundary
}

function spanAfter(current: SubscriptionCycle, now: Instant): Period {
  const { start, end } = current
  const lengthMs = end.getTime() - start.getTime()
  if (lengthMs >= SHORTEST_MONTH_MS) return anchoredMonthOf(monthAnchorOf(current, end), now)
  const passed = Math.floor((now.getTime() - end.getTime()) / lengthMs)
  const from = end.getTime() + passed * lengthMs
  return { start: new Date(from), end: new Date(from + lengthMs) }
}

/** A month that would reach past the cycle's end stops there: the next cycle begins a month of its own. */
function endingBy(end: Instant, span: Period): Period {
  return span.end > end ? { start: span.start, end } : span
}
