import type { Instant } from '../lib/clock.ts'
import { DAY_MS } from '../lib/period.ts'

export const SUBSCRIPTION_STATUSES = [
  'incomplete',
  'incomplete_expired',
  'trialing',
  'active',
  'past_due',
  'unpaid',
  'canceled',
  'paused',
] as const

/** A subscription's status as Stripe names it. */
export type SubscriptionStatus = (typeof SUBSCRIPTION_STATUSES)[number]

/** Everything that standing depends on: one `accounts` row, nothing else. */
export type StandingFacts = {
  readonly planKey: string
  readonly subscriptionStatus: SubscriptionStatus | null
  readonly trialEndsAt: Instant | null
  readonly currentPeriodEnd: Instant | null
  /** When the first attempt to collect the oldest open invoice failed; null when nothing is owed. */
  readonly paymentFailedAt: Instant | null
  /** When the subscription ended: cancelled at once or by dunning, that is before its period does. */
  readonly endedAt: Instant | null
  readonly override: StandingOverride | null
}

/** What an operator set by hand (MR-6). A field that is null overrides nothing. */
export type StandingOverride = {
  readonly planKey: string | null
  readonly status: SubscriptionStatus | null
  readonly trialEndsAt: Instant | null
  /** When what was subscribed to ends. */
  readonly expiresAt: Instant | null
  /** When the override itself ends: from then on, all is as if it had not been. */
  readonly endsAt: Instant | null
}

/** A row that tells the plan of a subscription, or of none, and an operator's beside it. */
export type OverriddenPlan = {
  readonly planKey: string | null
  readonly overridePlanKey: string | null
  readonly overrideEndsAt: Instant | null
  readonly testClockNow: Instant | null
}

/** The plan that lists show: an operator's while it counts, else the subscription's. Pure. */
export function shownPlan(
  { planKey, overridePlanKey, overrideEndsAt, testClockNow }: OverriddenPlan,
  now: Instant,
): string | null {
  const counts = overrideEndsAt === null || overrideEndsAt > (testClockNow ?? now)
  return (counts ? overridePlanKey : null) ?? planKey
}

/** An override that stands at a time; null when it sets nothing, or has ended. Pure. */
export function overrideAt(override: StandingOverride | null, now: Instant): StandingOverride | null {
  if (override === null || (override.endsAt !== null && override.endsAt <= now)) return null
  const { planKey, status, trialEndsAt, expiresAt } = override
  return (planKey ?? status ?? trialEndsAt ?? expiresAt) === null ? null : override
}

export type StandingPolicy = {
  /** The plan of an organization that pays for none. */
  readonly defaultPlanKey: string
  /** Days of use after a payment failed (EM-7: 3). */
  readonly graceDays: number
}

export type StandingState = 'free' | 'trialing' | 'active' | 'grace' | 'suspended' | 'paused'

export const STANDING_REASONS = [
  'no_subscription',
  'subscription_ended',
  'payment_pending',
  'never_paid',
  'in_trial',
  'paid',
  'payment_failed_in_grace',
  'payment_failed',
  'collection_paused',
  'trial_ended',
  'override',
] as const

export type StandingReason = (typeof STANDING_REASONS)[number]

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
 * reads this and nothing else. Rules: EM-6, EM-7, MR-6, MR-13; statuses as on https://docs.stripe.com/billing/subscriptions/overview.
 *
 * Stripe's status is believed for as long as it is the last one heard: a trial or a period that has run out by our clock goes on
 * until Stripe says what came of it, so that an outage of Stripe shuts nobody out. What an operator set by hand ends on the minute.
 */
export function deriveStanding(facts: StandingFacts, policy: StandingPolicy, now: Instant): Standing {
  const override = overrideAt(facts.override, now)
  if (override === null)
    return deriveFromStripe(facts, { planKey: facts.planKey, freePlanKey: policy.defaultPlanKey }, policy, now)
  const standing = deriveBeside(facts, override, policy, now)
  const { endsAt } = override
  // What the override ends at the moment of its own end goes on: from then on it counts no more.
  if (endsAt === null || (standing.until !== null && standing.until < endsAt)) return standing
  const after = deriveStanding({ ...facts, override: null }, policy, endsAt)
  // Where the same state goes on without the override, it ends when that does.
  return { ...standing, until: after.state === standing.state ? after.until : endsAt }
}

function deriveBeside(facts: StandingFacts, override: StandingOverride, policy: StandingPolicy, now: Instant): Standing {
  if (overridesStanding(override)) return deriveOverridden(facts, override, policy, now)
  const planKey = override.planKey ?? facts.planKey
  return deriveFromStripe(facts, { planKey, freePlanKey: override.planKey ?? policy.defaultPlanKey }, policy, now)
}

/** Why nothing may be used, in one sentence, for people. */
export const STOPPED_IN_WORDS = {
  suspended: 'The account is suspended because a payment failed. Use is possible again once the open invoice is paid.',
  paused: 'The subscription is paused. Use is possible again once it is resumed.',
} as const

/**
 * Whether a paused subscription stopped with its trial, since there was nothing to charge: Stripe begins no period after it then.
 * Otherwise somebody paused it. https://docs.stripe.com/billing/subscriptions/trials/free-trials#create-free-trials-without-payment
 */
export function stoppedAfterTrial({
  trialEndsAt,
  currentPeriodEnd,
}: {
  readonly trialEndsAt: Instant | null
  readonly currentPeriodEnd: Instant | null
}): boolean {
  return trialEndsAt !== null && currentPeriodEnd !== null && currentPeriodEnd <= trialEndsAt
}

/** Whether the operator said more than which plan it is. */
function overridesStanding({ status, trialEndsAt, expiresAt }: StandingOverride): boolean {
  return status !== null || trialEndsAt !== null || expiresAt !== null
}

function deriveOverridden(facts: StandingFacts, override: StandingOverride, policy: StandingPolicy, now: Instant): Standing {
  const planKey = override.planKey ?? facts.planKey
  const ended = { state: 'free', mayUse: true, planKey: policy.defaultPlanKey, until: null } as const
  if (override.expiresAt !== null && override.expiresAt <= now) {
    return { ...ended, reason: 'subscription_ended', since: override.expiresAt }
  }
  const status = override.status ?? facts.subscriptionStatus
  const trialEndsAt = override.trialEndsAt ?? facts.trialEndsAt
  switch (status) {
    case null:
    case 'canceled':
    case 'incomplete_expired':
    case 'incomplete':
      return { ...ended, planKey: override.planKey ?? policy.defaultPlanKey, reason: 'override', since: null }
    case 'trialing':
      return trialEndsAt !== null && trialEndsAt <= now
        ? { ...ended, reason: 'trial_ended', since: trialEndsAt }
        : {
            state: 'trialing',
            mayUse: true,
            reason: 'override',
            planKey,
            since: null,
            until: earliest(trialEndsAt, override.expiresAt),
          }
    case 'active':
      return override.status === null
        ? endingAt(override.expiresAt, derivePaid(facts, planKey, policy, now))
        : { state: 'active', mayUse: true, reason: 'override', planKey, since: null, until: override.expiresAt }
    case 'past_due':
    case 'unpaid':
      return override.status === null
        ? endingAt(override.expiresAt, derivePaid(facts, planKey, policy, now))
        : { state: 'suspended', mayUse: false, reason: 'override', planKey, since: null, until: override.expiresAt }
    case 'paused':
      return { state: 'paused', mayUse: false, reason: 'override', planKey, since: null, until: override.expiresAt }
  }
}

/** The same standing, ended by the operator's expiry if that comes first. */
function endingAt(expiresAt: Instant | null, standing: Standing): Standing {
  return { ...standing, until: earliest(standing.until, expiresAt) }
}

type PlanKeys = { readonly planKey: string; readonly freePlanKey: string }

function deriveFromStripe(
  facts: StandingFacts,
  { planKey, freePlanKey }: PlanKeys,
  policy: StandingPolicy,
  now: Instant,
): Standing {
  const free = { state: 'free', mayUse: true, planKey: freePlanKey, since: null, until: null } as const
  switch (facts.subscriptionStatus) {
    case null:
      return { ...free, reason: 'no_subscription' }
    case 'canceled':
      return { ...free, reason: 'subscription_ended', since: facts.endedAt }
    case 'incomplete_expired':
      // Nothing of the plan was ever given: the organization is where it was before.
      return { ...free, reason: 'never_paid' }
    case 'incomplete':
      // The first payment is not made yet: nothing of the plan is given, what was there before stays.
      return { ...free, reason: 'payment_pending' }
    case 'paused': {
      const trialEnded = stoppedAfterTrial(facts)
      const reason = trialEnded ? 'trial_ended' : 'collection_paused'
      return { state: 'paused', mayUse: false, reason, planKey, since: trialEnded ? facts.trialEndsAt : null, until: null }
    }
    case 'trialing':
      return { state: 'trialing', mayUse: true, reason: 'in_trial', planKey, since: null, until: facts.trialEndsAt }
    case 'active':
    case 'past_due':
    case 'unpaid':
      return derivePaid(facts, planKey, policy, now)
  }
}

function derivePaid(facts: StandingFacts, planKey: string, policy: StandingPolicy, now: Instant): Standing {
  const failedAt = facts.paymentFailedAt
  if (failedAt === null) {
    // `unpaid` without an open invoice: Stripe has given up collecting, and later invoices stay drafts.
    return facts.subscriptionStatus === 'unpaid'
      ? { state: 'suspended', mayUse: false, reason: 'payment_failed', planKey, since: null, until: null }
      : { state: 'active', mayUse: true, reason: 'paid', planKey, since: null, until: facts.currentPeriodEnd }
  }
  const graceEnd = new Date(failedAt.getTime() + policy.graceDays * DAY_MS)
  return now < graceEnd
    ? { state: 'grace', mayUse: true, reason: 'payment_failed_in_grace', planKey, since: failedAt, until: graceEnd }
    : { state: 'suspended', mayUse: false, reason: 'payment_failed', planKey, since: graceEnd, until: null }
}

function earliest(a: Instant | null, b: Instant | null): Instant | null {
  if (a === null || b === null) return a ?? b
  return a < b ? a : b
}
