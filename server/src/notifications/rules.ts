import type { Instant } from '../lib/clock.ts'
import { DAY_MS } from '../lib/period.ts'

/** EM-6: three days before a trial ends; at once where it is shorter. */
const TRIAL_NOTICE_DAYS = 3
/** Before a card expires. */
const CARD_NOTICE_DAYS = [30, 7] as const
/** Before use stops. */
const LAST_WARNING_DAYS = 1

/** Something that is told at a time. `at` may have passed. */
export type Reminder<Step extends string | number = string | number> = { readonly step: Step; readonly at: Instant }

/** Of steps in the order of their times, the one that stands now: the latest that has come. What was missed before it is not made up for. */
export function currentStep<Step extends string | number>(steps: readonly Reminder<Step>[], now: Instant): Reminder<Step> | null {
  return steps.findLast(({ at }) => at <= now) ?? null
}

/** When a trial's end is announced. */
export function trialNoticeAt(endsAt: Instant): Instant {
  return before(endsAt, TRIAL_NOTICE_DAYS)
}

export type DunningStep = 'failed' | 'reminder' | 'last_warning' | 'suspended'

/**
 * What a customer is told while a payment is owed: at the failure, some days after it, a day before use stops, and when it does
 * (KF-13). A reminder that would come with the last warning or after it is left out.
 * @param reminderDays days after the failure
 */
export function dunningSteps(
  { failedAt, suspendsAt }: { failedAt: Instant; suspendsAt: Instant },
  reminderDays: readonly number[],
): readonly Reminder<DunningStep>[] {
  const lastWarningAt = before(suspendsAt, LAST_WARNING_DAYS)
  const reminders = [...new Set(reminderDays)]
    .sort((a, b) => a - b)
    .map((days) => ({ step: 'reminder' as const, at: new Date(failedAt.getTime() + days * DAY_MS) }))
    .filter(({ at }) => at > failedAt && at < lastWarningAt)
  const steps: Reminder<DunningStep>[] = [{ step: 'failed', at: failedAt }, ...reminders]
  if (lastWarningAt > failedAt) steps.push({ step: 'last_warning', at: lastWarningAt })
  return [...steps, { step: 'suspended', at: suspendsAt }]
}

/** A card is good until the end of its month, here in UTC. */
export function cardExpiresAt({ month, year }: { month: number; year: number }): Instant {
  return new Date(Date.UTC(year, month, 1))
}

/** When the owner of a card is told that it expires; `step` is the days that are left then. */
export function cardNotices(expiresAt: Instant): readonly Reminder<30 | 7>[] {
  return CARD_NOTICE_DAYS.map((step) => ({ step, at: before(expiresAt, step) }))
}

/** The earliest of the times that are still to come; null when there is none. */
export function nextLook(times: readonly (Instant | null)[], now: Instant): Instant | null {
  const ahead = times.filter((at) => at !== null && at > now) as Instant[]
  return ahead.length === 0 ? null : new Date(Math.min(...ahead.map((at) => at.getTime())))
}

function before(at: Instant, days: number): Instant {
  return new Date(at.getTime() - days * DAY_MS)
}
