import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DAY_MS } from '../lib/period.ts'
import { deriveStanding, shownPlan, SUBSCRIPTION_STATUSES, type StandingFacts, type StandingOverride } from './rules.ts'
import { reasonInWords } from './words.ts'

const policy = { defaultPlanKey: 'free', graceDays: 3 }
const now = new Date('2026-03-10T12:00:00Z')
const daysFromNow = (days: number) => new Date(now.getTime() + days * DAY_MS)

const subscribed: StandingFacts = {
  planKey: 'pro',
  subscriptionStatus: 'active',
  trialEndsAt: null,
  currentPeriodEnd: daysFromNow(20),
  paymentFailedAt: null,
  endedAt: null,
  override: null,
}
const noOverride: StandingOverride = { planKey: null, status: null, trialEndsAt: null, expiresAt: null, endsAt: null }

describe('without an override', () => {
  test('an organization without a subscription is on the default plan', () => {
    expect(deriveStanding({ ...subscribed, subscriptionStatus: null }, policy, now)).toMatchObject({
      state: 'free',
      planKey: 'free',
      mayUse: true,
      reason: 'no_subscription',
    })
  })

  test('a subscription whose first payment is pending gives nothing of its plan yet', () => {
    expect(deriveStanding({ ...subscribed, subscriptionStatus: 'incomplete' }, policy, now)).toMatchObject({
      state: 'free',
      planKey: 'free',
      reason: 'payment_pending',
    })
  })

  test('a subscription that ended before its period is free since then, before and after that period’s end', () => {
    const ended = { ...subscribed, subscriptionStatus: 'canceled' as const, endedAt: daysFromNow(-2) }
    const standing = { state: 'free', planKey: 'free', reason: 'subscription_ended', since: daysFromNow(-2) }
    expect(deriveStanding(ended, policy, now)).toMatchObject(standing)
    expect(deriveStanding(ended, policy, daysFromNow(40))).toMatchObject(standing)
  })

  test('a subscription whose first payment was never made has not ended: it never began', () => {
    const expired = { ...subscribed, subscriptionStatus: 'incomplete_expired' as const, endedAt: daysFromNow(-1) }
    expect(deriveStanding(expired, policy, now)).toMatchObject({
      state: 'free',
      planKey: 'free',
      reason: 'never_paid',
      since: null,
    })
    expect(reasonInWords({ reason: 'never_paid' })).toMatch(/^The first payment was never made/)
  })

  test('EM-7 a failed payment leaves use allowed for the days of grace, to the millisecond', () => {
    const failed = { ...subscribed, subscriptionStatus: 'past_due' as const, paymentFailedAt: daysFromNow(-3) }
    const graceEnd = now
    expect(deriveStanding(failed, policy, new Date(graceEnd.getTime() - 1))).toMatchObject({
      state: 'grace',
      mayUse: true,
      since: failed.paymentFailedAt,
      until: graceEnd,
    })
    expect(deriveStanding(failed, policy, graceEnd)).toMatchObject({ state: 'suspended', mayUse: false, since: graceEnd })
  })

  test('EM-7 an active subscription with an open failed invoice is in grace too: active does not mean that all is paid', () => {
    expect(deriveStanding({ ...subscribed, paymentFailedAt: daysFromNow(-1) }, policy, now).state).toBe('grace')
  })

  test('a subscription that Stripe has given up collecting is suspended', () => {
    expect(deriveStanding({ ...subscribed, subscriptionStatus: 'unpaid' }, policy, now).mayUse).toBe(false)
  })

  test('past_due without an attempted open invoice is not held against the customer', () => {
    expect(deriveStanding({ ...subscribed, subscriptionStatus: 'past_due' }, policy, now).state).toBe('active')
  })

  test('a trial that ended without a payment method says so', () => {
    const paused = { ...subscribed, subscriptionStatus: 'paused' as const, trialEndsAt: daysFromNow(-1) }
    const stopped = { ...paused, currentPeriodEnd: daysFromNow(-1) }
    expect(deriveStanding(stopped, policy, now)).toMatchObject({ state: 'paused', mayUse: false, reason: 'trial_ended' })
    // Paid for since, and paused by somebody.
    expect(deriveStanding(paused, policy, now)).toMatchObject({ state: 'paused', mayUse: false, reason: 'collection_paused' })
  })

  test('a trial that is over by our clock goes on until Stripe says what came of it', () => {
    const facts = { ...subscribed, subscriptionStatus: 'trialing' as const, trialEndsAt: daysFromNow(-0.01) }
    expect(deriveStanding(facts, policy, now)).toMatchObject({ state: 'trialing', mayUse: true })
  })
})

describe('MR-6 an operator overrides', () => {
  test('only the plan: the standing stays what Stripe says', () => {
    const override = { ...noOverride, planKey: 'enterprise' }
    expect(deriveStanding({ ...subscribed, override }, policy, now)).toMatchObject({
      state: 'active',
      planKey: 'enterprise',
      reason: 'paid',
    })
    expect(deriveStanding({ ...subscribed, subscriptionStatus: null, override }, policy, now).planKey).toBe('enterprise')
  })

  test('a status of past_due stops use at once, without grace', () => {
    const override = { ...noOverride, status: 'past_due' as const }
    expect(deriveStanding({ ...subscribed, override }, policy, now)).toMatchObject({
      state: 'suspended',
      mayUse: false,
      reason: 'override',
    })
  })

  test('a status of active waives an unpaid invoice', () => {
    const override = { ...noOverride, status: 'active' as const }
    expect(deriveStanding({ ...subscribed, paymentFailedAt: daysFromNow(-30), override }, policy, now)).toMatchObject({
      state: 'active',
      mayUse: true,
    })
  })

  test('only the end of a trial: it ends then, although Stripe’s goes on', () => {
    const facts = { ...subscribed, subscriptionStatus: 'trialing' as const, trialEndsAt: daysFromNow(10) }
    const override = { ...noOverride, trialEndsAt: now }
    expect(deriveStanding({ ...facts, override }, policy, new Date(now.getTime() - 1)).state).toBe('trialing')
    expect(deriveStanding({ ...facts, override }, policy, now)).toMatchObject({ state: 'free', reason: 'trial_ended' })
  })

  test('a trial ends on the minute that the operator named', () => {
    const override = { ...noOverride, status: 'trialing' as const, trialEndsAt: now }
    expect(deriveStanding({ ...subscribed, override }, policy, new Date(now.getTime() - 1)).state).toBe('trialing')
    expect(deriveStanding({ ...subscribed, override }, policy, now)).toMatchObject({
      state: 'free',
      planKey: 'free',
      reason: 'trial_ended',
    })
  })

  test('an expiry ends everything that was given by hand', () => {
    const override = { ...noOverride, planKey: 'pro', status: 'active' as const, expiresAt: now }
    expect(deriveStanding({ ...subscribed, override }, policy, now)).toMatchObject({
      state: 'free',
      planKey: 'free',
      reason: 'subscription_ended',
    })
  })

  test('MR-6 one that has ended is as if it had not been, and until then says when it ends', () => {
    const override = { ...noOverride, status: 'past_due' as const, endsAt: now }
    const before = new Date(now.getTime() - 1)
    expect(deriveStanding({ ...subscribed, override }, policy, before)).toMatchObject({ state: 'suspended', until: now })
    expect(deriveStanding({ ...subscribed, override }, policy, now)).toEqual(deriveStanding(subscribed, policy, now))
  })

  test('MR-6 a plan lent for a time ends nothing but itself', () => {
    const override = { ...noOverride, planKey: 'enterprise', endsAt: daysFromNow(1) }
    expect(deriveStanding({ ...subscribed, override }, policy, now)).toMatchObject({
      state: 'active',
      planKey: 'enterprise',
      until: subscribed.currentPeriodEnd,
    })
    expect(deriveStanding({ ...subscribed, override }, policy, daysFromNow(1)).planKey).toBe('pro')
  })

  test('MR-6 an expiry that comes with the override’s own end comes to nothing: what goes on then ends when that does', () => {
    const end = daysFromNow(1)
    const override = { ...noOverride, status: 'active' as const, expiresAt: end, endsAt: end }
    const { currentPeriodEnd: until } = subscribed
    expect(deriveStanding({ ...subscribed, override }, policy, now)).toMatchObject({ state: 'active', until })
    expect(deriveStanding({ ...subscribed, override }, policy, end)).toMatchObject({ state: 'active', until })
    const sooner = { ...override, expiresAt: new Date(end.getTime() - 1) }
    expect(deriveStanding({ ...subscribed, override: sooner }, policy, now)).toMatchObject({ until: sooner.expiresAt })
  })

  test('an expiry set on a paying customer does not hide a failed payment before it', () => {
    const override = { ...noOverride, expiresAt: daysFromNow(10) }
    expect(deriveStanding({ ...subscribed, paymentFailedAt: daysFromNow(-4), override }, policy, now).state).toBe('suspended')
  })
})

const statuses = [null, ...SUBSCRIPTION_STATUSES]
const instant = fc.date({ min: daysFromNow(-60), max: daysFromNow(60), noInvalidDate: true })
const maybeInstant = fc.option(instant)
const facts: fc.Arbitrary<StandingFacts> = fc.record({
  planKey: fc.constantFrom('pro', 'starter'),
  subscriptionStatus: fc.constantFrom(...statuses),
  trialEndsAt: maybeInstant,
  currentPeriodEnd: maybeInstant,
  paymentFailedAt: maybeInstant,
  endedAt: maybeInstant,
  override: fc.option(
    fc.record({
      planKey: fc.option(fc.constantFrom('pro', 'enterprise')),
      status: fc.constantFrom(...statuses),
      trialEndsAt: maybeInstant,
      expiresAt: maybeInstant,
      endsAt: maybeInstant,
    }),
  ),
})

test('lists show an operator’s plan while it counts, by the organization’s own clock', () => {
  const row = { planKey: 'starter', overridePlanKey: 'pro', overrideEndsAt: now, testClockNow: null }
  expect(shownPlan(row, daysFromNow(-1))).toBe('pro')
  expect(shownPlan(row, now)).toBe('starter')
  expect(shownPlan({ ...row, testClockNow: daysFromNow(-1) }, now)).toBe('pro')
  expect(shownPlan({ ...row, testClockNow: daysFromNow(1) }, daysFromNow(-1))).toBe('starter')
  expect(shownPlan({ ...row, overrideEndsAt: null }, now)).toBe('pro')
})

describe('for all facts and times', () => {
  test('use is refused exactly when suspended or paused', () => {
    fc.assert(
      fc.property(facts, instant, (given, at) => {
        const { state, mayUse } = deriveStanding(given, policy, at)
        expect(mayUse).toBe(state !== 'suspended' && state !== 'paused')
      }),
    )
  })

  test('a standing holds until the time it names, and is another one from then on, where Stripe has nothing to say to it', () => {
    fc.assert(
      fc.property(facts, instant, (given, at) => {
        const standing = deriveStanding(given, policy, at)
        if (standing.until === null || standing.until <= at || !['grace', 'override'].includes(reasonKind(standing.reason)))
          return
        const before = deriveStanding(given, policy, new Date(standing.until.getTime() - 1))
        // While an override ends, plan and reason may change within a state.
        const { state, mayUse, until } = standing
        expect(before).toMatchObject((given.override?.endsAt ?? null) === null ? standing : { state, mayUse, until })
        expect(deriveStanding(given, policy, standing.until).state).not.toBe(standing.state)
      }),
    )
  })

  test('MR-6 an override of the plan alone says no more than which plan it is', () => {
    fc.assert(
      fc.property(facts, instant, (given, at) => {
        const { planKey, ...said } = deriveStanding({ ...given, override: { ...noOverride, planKey: 'enterprise' } }, policy, at)
        const { planKey: _planKey, ...stripes } = deriveStanding({ ...given, override: null }, policy, at)
        expect([planKey, said]).toEqual(['enterprise', stripes])
      }),
    )
  })

  test('MR-6 an override counts for nothing from its end on', () => {
    fc.assert(
      fc.property(facts, instant, (given, at) => {
        const override = { ...noOverride, ...given.override, endsAt: at }
        expect(deriveStanding({ ...given, override }, policy, at)).toEqual(
          deriveStanding({ ...given, override: null }, policy, at),
        )
      }),
    )
  })

  test('grace ends with the operator’s expiry when that comes first', () => {
    const failed = new Date('2026-01-09T12:00:00.000Z')
    const expires = new Date('2026-01-10T12:00:00.000Z')
    const given = {
      planKey: 'pro',
      subscriptionStatus: 'past_due',
      trialEndsAt: null,
      currentPeriodEnd: null,
      paymentFailedAt: failed,
      endedAt: null,
      override: { ...noOverride, expiresAt: expires },
    } as const
    expect(deriveStanding(given, policy, failed)).toMatchObject({ state: 'grace', until: expires })
    expect(deriveStanding(given, policy, expires)).toMatchObject({ state: 'free', reason: 'subscription_ended' })
  })

  test('paying everything never takes use away', () => {
    fc.assert(
      fc.property(facts, instant, (given, at) => {
        const owing = deriveStanding(given, policy, at)
        const paid = deriveStanding({ ...given, paymentFailedAt: null }, policy, at)
        expect(!owing.mayUse || paid.mayUse || given.subscriptionStatus === 'unpaid').toBe(true)
      }),
    )
  })
})

function reasonKind(reason: string): string {
  return reason === 'payment_failed_in_grace' ? 'grace' : reason
}
