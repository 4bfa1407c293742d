/**
 * When a failed automatic payment is tried again, and when it is not.
 * Source: docs.stripe.com/billing/revenue-recovery/smart-retries.
 */
import { smartRetryOffsets } from './inferred.ts'

/** Decline codes after which nothing is tried again until the customer gives another payment method. */
const HARD_DECLINES: ReadonlySet<string> = new Set([
  'incorrect_number',
  'lost_card',
  'pickup_card',
  'stolen_card',
  'revocation_of_authorization',
  'revocation_of_all_authorizations',
  'authentication_required',
  'highest_risk_level',
  'transaction_not_allowed',
])

/** Offsets of the retries from the first attempt, in seconds, ascending. Empty: no retries. */
export interface RetrySchedule {
  readonly offsets: readonly number[]
}

/** The default: eight tries within two weeks. */
export function smartRetries(): RetrySchedule {
  return { offsets: smartRetryOffsets() }
}

/** Whether a decline ends the retries: the issuer will not change its mind. */
export function isHardDecline(declineCode: string | null): boolean {
  return declineCode !== null && HARD_DECLINES.has(declineCode)
}

/**
 * The next automatic attempt, as Unix seconds; null when the schedule is used up.
 * @param attempts automatic attempts so far, the first one included; at least 1.
 */
export function nextRetryAt(schedule: RetrySchedule, firstAttemptAt: number, attempts: number): number | null {
  const offset = schedule.offsets[attempts - 1]
  return offset === undefined ? null : firstAttemptAt + offset
}
