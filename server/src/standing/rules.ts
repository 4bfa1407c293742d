import type { Instant } from '../lib/clock.ts'
import { DAY_MS } from '../lib/period.ts'

/** A subscription's status as Stripe names it. */
export type SubscriptionStatus =
  | 'incomplete'
  | 'incomplete_expired'
  | 'trialing'
  | 'active'
  | 'past_due'
  | 'unpaid'
  | 'canceled'
  | 'paused'

/** Everything that standing depends on: one `accounts` row, nothing else. */
export type StandingFacts = {
  readonly planKey: string
  readonly subscriptionStatus: SubscriptionStatus | null
  readonly trialEndsAt: Instant | null
  readonly currentPeriodEnd: Instant | null
  /** When the first attempt to collect the oldest open invoice failed; null when nothing is owed. */
  readonly paymentFailedAt: Instant | null
  readonly override: StandingOverride | null
}

/** What an operator set by hand (MR-6). A field that is null overrides nothing. */
export type StandingOverride = {
  readonly planKey: string | null
  readonly status: SubscriptionStatus | null
  readonly trialEndsAt: Instant | null
  readonly expiresAt: Instant | null
}

export type StandingPolicy = {
  /** The plan of an organization that pays for none. */
  readonly defaultPlanKey: string
  /** Days of use after a payment failed (EM-7: 3). */
  readonly graceDays: number
}

export type StandingState = 'free' | 'trialing' | 'active' | 'grace' | 'suspended' | 'paused'

export type StandingReason =
  | 'no_subscription'
  | 'subscription_ended'
  | 'payment_pending'
  | 'in_trial'
  | 'paid'
  | 'payment_failed_in_grace'
  | 'payment_failed'
  | 'collection_paused'
  | 'trial_ended'
  | 'override'

export type Standing = {
  readonly state: StandingState
  /** Whether metered use is allowed at all; quotas are another question. */
  readonly mayUse: boolean
  readonly reason: StandingReason
  /** The plan whose allowances count now: the default plan unless a subscription stands. */
  readonly planKey: string
  /** When this state began, where that is known. */
  readonly since: Instant | null
  /** When this state ends by itself, where that is known. */
  readonly until: Instant | null
}

/**
 * Says whether an organization may use the product, since when, until when and why. Pure: every gate, page and metric
 * reads this and nothing else. Rules: EM-6, EM-7, MR-13; statuses as on https://docs.stripe.com/billing/subscriptions/overview.
 */
export function deriveStanding(facts: StandingFacts, policy: StandingPolicy, now: Instant): Standing {
  const { override } = facts
  const status = override?.status ?? facts.subscriptionStatus
  const planKey = override?.planKey ?? facts.planKey
  const trialEndsAt = override?.trialEndsAt ?? facts.trialEndsAt
  const free = { state: 'free', mayUse: true, planKey: override?.planKey ?? policy.defaultPlanKey, since: null, until: null } as const

  if (override?.expiresAt && override.expiresAt <= now) {
    return { ...free, reason: 'subscription_ended', since: override.expiresAt }
  }
  switch (status) {
    case null:
      return { ...free, reason: 'no_subscription' }
    case 'canceled':
    case 'incomplete_expired':
      return { ...free, reason: 'subscription_ended', since: facts.currentPeriodEnd }
    case 'incomplete':
      // The first payment is not made yet: nothing of the plan is given, what was there before stays.
      return { ...free, reason: 'payment_pending' }
    case 'paused':
      return { state: 'paused', mayUse: false, reason: 'collection_paused', planKey, since: trialEndsAt, until: null }
    case 'trialing':
      return { state: 'trialing', mayUse: true, reason: 'in_trial', planKey, since: null, until: trialEndsAt }
    case 'active':
    case 'past_due':
    case 'unpaid':
      return derivePaidStanding(facts, planKey, policy, now)
  }
}

function derivePaidStanding(facts: StandingFacts, planKey: string, policy: StandingPolicy, now: Instant): Standing {
  const failedAt = facts.paymentFailedAt
  if (failedAt === null) {
    const owing = facts.subscriptionStatus === 'unpaid'
    return owing
      ? { state: 'suspended', mayUse: false, reason: 'payment_failed', planKey, since: null, until: null }
      : { state: 'active', mayUse: true, reason: 'paid', planKey, since: null, until: facts.currentPeriodEnd }
  }
  const graceEnd = new Date(failedAt.getTime() + policy.graceDays * DAY_MS)
  return now < graceEnd
    ? { state: 'grace', mayUse: true, reason: 'payment_failed_in_grace', planKey, since: failedAt, until: graceEnd }
    : { state: 'suspended', mayUse: false, reason: 'payment_failed', planKey, since: graceEnd, until: null }
}
