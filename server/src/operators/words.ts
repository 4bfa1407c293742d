import type { Instant } from '../lib/clock.ts'
import type { Standing } from '../standing/rules.ts'
import { reasonInWords } from '../standing/words.ts'
import type { AccountSubscription } from '../subscriptions/store.ts'

/** What a subscription will become at a time that is set already. */
export type Scheduled = Pick<AccountSubscription, 'cancelAt' | 'scheduledAt' | 'scheduledPlanKey' | 'scheduledInterval'>

/**
 * Why an organization stands where it stands, on which plan, since when and until when, and what is scheduled, for people. Pure.
 * @param scheduled null where nothing is subscribed
 */
export function describeStanding(standing: Standing, scheduled: Scheduled | null): string {
  const since = standing.since === null ? '' : ` since ${minuteOf(standing.since)}`
  const until = standing.until === null ? '' : ` until ${minuteOf(standing.until)}`
  const state = `State: ${standing.state}${since}${until}, plan ${standing.planKey}.`
  return [reasonInWords(standing), state, ...(scheduled === null ? [] : describeScheduled(scheduled))].join(' ')
}

function describeScheduled({ cancelAt, scheduledAt, scheduledPlanKey, scheduledInterval }: Scheduled): string[] {
  const sentences: string[] = []
  if (scheduledAt !== null && scheduledPlanKey !== null) {
    const interval = scheduledInterval === null ? '' : `, ${scheduledInterval}`
    sentences.push(`It changes to plan ${scheduledPlanKey}${interval}, on ${minuteOf(scheduledAt)}.`)
  }
  if (cancelAt !== null) sentences.push(`It is cancelled: the subscription ends on ${minuteOf(cancelAt)}.`)
  return sentences
}

function minuteOf(at: Instant): string {
  return `${at.toISOString().slice(0, 16).replace('T', ' ')} UTC`
}
