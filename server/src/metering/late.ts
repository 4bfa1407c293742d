import type { Instant } from '../lib/clock.ts'
import type { LateUse } from './usage.ts'

/** A time in which the use of a balance is billed; `closed` when its invoice is. */
export type BilledTime = {
  readonly balanceKey: string | null
  readonly startsAt: Instant
  readonly endsAt: Instant
  readonly state: 'open' | 'closing' | 'closed'
}

/** The time of an allowance; null never ends. */
type GrantTime = { readonly startsAt: Instant; readonly expiresAt: Instant | null }

/**
 * Which time bills what a grant counts: of those whose invoice is not closed the latest that the grant touches, else the first after
 * it; null while there is none. Pure, and the one place that says so: for the answer, the statement and what Stripe is told.
 * @param times of the grant's balance, in their order
 */
export function billingTimeOf<T extends Omit<BilledTime, 'balanceKey'>>(
  times: readonly T[],
  { startsAt, expiresAt }: GrantTime,
): { readonly time: T; readonly isLate: boolean } | null {
  const open = times.filter(({ state }) => state !== 'closed')
  const touched = open.findLast((time) => startsAt < time.endsAt && (expiresAt === null || time.startsAt < expiresAt))
  if (touched !== undefined) return { time: touched, isLate: false }
  const next = open.find((time) => expiresAt !== null && time.startsAt >= expiresAt)
  return next === undefined ? null : { time: next, isLate: true }
}

/** Whether anything billed a balance at a moment. */
export function isBilledAt(times: readonly BilledTime[], at: Instant): boolean {
  return times.some(({ startsAt, endsAt }) => startsAt <= at && at < endsAt)
}

/** What becomes of use of a moment in a period that is over. */
export function lateUseOf(times: readonly BilledTime[], grant: GrantTime, at: Instant): LateUse {
  if (!isBilledAt(times, at)) return 'free'
  const billing = billingTimeOf(times, grant)
  if (billing === null) return 'ended'
  return billing.isLate ? 'closed' : 'open'
}
