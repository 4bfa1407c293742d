import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { at, coded, compute, nobody, now, offers, policy, subscribed, subscription } from '../../test/plan-changes.ts'
import type { CurrentSubscription, Discount, PlanChangeRequest } from './plan-change.ts'
import { computePlanChange, discounted, trialEndOf } from './rules.ts'

const subscribe: Extract<PlanChangeRequest, { kind: 'subscribe' }> = {
  kind: 'subscribe',
  planKey: 'pro',
  interval: null,
  quantity: 1,
  paymentMethodId: null,
  trialDays: null,
  byOperator: false,
  discount: null,
}
describe('subscribe (EM-9)', () => {
  test('without a payment method starts a trial of the policy’s days', () => {
    expect(compute(nobody, subscribe)).toMatchObject({
      kind: 'start',
      trialDays: 14,
      offer: { planKey: 'pro', interval: 'monthly' },
    })
  })

  test('with a payment method starts at once, or with the trial that is asked for', () => {
    expect(compute(nobody, { ...subscribe, paymentMethodId: 'pm_1' })).toMatchObject({ trialDays: null, paymentMethodId: 'pm_1' })
    expect(compute(nobody, { ...subscribe, paymentMethodId: 'pm_1', trialDays: 7 })).toMatchObject({ trialDays: 7 })
  })

  test('gives one trial: a second is refused, and without a payment method nothing starts', () => {
    const tried = { ...nobody, hadSubscription: true, hadTrial: true }
    expect(() => compute(tried, { ...subscribe, trialDays: 7 })).toThrow(coded('conflict'))
    expect(() => compute(tried, subscribe)).toThrow(coded('payment_method_missing'))
    expect(compute(tried, { ...subscribe, trialDays: 60, byOperator: true })).toMatchObject({ trialDays: 60 })
  })

  test('lets nobody help themselves to a longer trial, by a day', () => {
    expect(compute(nobody, { ...subscribe, trialDays: 14 })).toMatchObject({ trialDays: 14 })
    expect(() => compute(nobody, { ...subscribe, trialDays: 15 })).toThrow(coded('invalid_request'))
  })

  test('with a trial of no days is without one, also for whoever had theirs', () => {
    const none = { ...subscribe, paymentMethodId: 'pm_1', trialDays: 0 }
    expect(compute({ ...nobody, hadTrial: true }, none)).toMatchObject({ trialDays: null })
    expect(() => compute(nobody, { ...subscribe, trialDays: 0 })).toThrow(coded('payment_method_missing'))
    expect(compute(nobody, { ...subscribe, trialDays: 1 })).toMatchObject({ trialDays: 1 })
    const under = (trialDays: number) => computePlanChange(nobody, subscribe, { ...policy, trialDays }, now)
    expect(under(1)).toMatchObject({ trialDays: 1 })
    expect(() => under(0)).toThrow(coded('payment_method_missing'))
  })

  test('is refused to whoever owes an invoice, unless an operator says so', () => {
    const owing = { ...nobody, debt: { invoiceId: 'in_1', paymentUrl: 'https://pay.example' }, hasPaymentMethod: true }
    expect(() => compute(owing, { ...subscribe, paymentMethodId: 'pm_1' })).toThrow(
      expect.objectContaining({ code: 'payment_failed', details: { invoice_id: 'in_1', payment_url: 'https://pay.example' } }),
    )
    expect(compute(owing, { ...subscribe, byOperator: true })).toMatchObject({ kind: 'start' })
  })

  test('beside a paused subscription is refused, and takes the place of one that stopped with its trial', () => {
    const paused = { ...subscription, status: 'paused' as const }
    const asked = { ...subscribe, paymentMethodId: 'pm_1' }
    expect(() => compute({ ...subscribed, subscription: paused }, asked)).toThrow('paused: resume it')
    const stopped = { ...paused, trialEndsAt: paused.currentPeriodEnd }
    expect(compute({ ...subscribed, subscription: stopped }, asked)).toMatchObject({ kind: 'start', replaces: { id: 'sub_1' } })
    // Its trial ended with the period, and it was paid for: nothing makes room for another.
    const active = { ...stopped, status: 'active' as const }
    expect(() => compute({ ...subscribed, subscription: active }, asked)).toThrow(coded('subscription_exists'))
  })

  test('charges the payment method that is there, once the first subscription is over', () => {
    expect(compute({ ...subscribed, subscription: null }, subscribe)).toMatchObject({ kind: 'start', trialDays: null })
  })

  test('is refused while a subscription stands, and takes the place of one that never came to life', () => {
    expect(() => compute(subscribed, subscribe)).toThrow(coded('subscription_exists'))
    const incomplete = { ...subscribed, subscription: { ...subscription, status: 'incomplete' as const } }
    expect(compute(incomplete, { ...subscribe, paymentMethodId: 'pm_1' })).toMatchObject({ replaces: { id: 'sub_1' } })
  })

  test.each([
    ['partner', null, 'plan_not_offered'],
    ['free', null, 'plan_not_offered'],
    ['nonsense', null, 'unknown_plan'],
    ['starter', 'yearly' as const, 'plan_not_offered'],
  ])('sells only what is offered: %s %s is %s', (planKey, interval, code) => {
    expect(() => compute(nobody, { ...subscribe, planKey, interval })).toThrow(coded(code))
  })

  test('that is not sold names the interval only where another is', () => {
    const yearly = (planKey: string) => () => compute(nobody, { ...subscribe, planKey, interval: 'yearly' })
    expect(yearly('starter')).toThrow('The plan "starter" cannot be bought yearly.')
    expect(yearly('partner')).toThrow('The plan "partner" cannot be bought.')
  })
})

describe('cancel (EM-11)', () => {
  test('at the period’s end, at once, and back', () => {
    expect(compute(subscribed, { kind: 'cancel', immediate: false })).toMatchObject({ kind: 'cancel_at_period_end', at: at(31) })
    expect(compute(subscribed, { kind: 'cancel', immediate: true }).kind).toBe('cancel_now')
    const leaving = { ...subscribed, subscription: { ...subscription, cancelAt: at(31) } }
    expect(compute(leaving, { kind: 'undo_cancel' }).kind).toBe('undo_cancel')
    expect(compute(leaving, { kind: 'cancel', immediate: true }).kind).toBe('cancel_now')
    expect(compute(leaving, { kind: 'cancel', immediate: false }).kind).toBe('none')
    expect(compute(subscribed, { kind: 'undo_cancel' }).kind).toBe('none')
  })

  test('of what was never paid is at once', () => {
    const incomplete = { ...subscribed, subscription: { ...subscription, status: 'incomplete' as const } }
    expect(compute(incomplete, { kind: 'cancel', immediate: false }).kind).toBe('cancel_now')
  })
})

describe('pause and resume', () => {
  test('only what is active can be paused, only what is paused resumed', () => {
    const paused = { ...subscribed, subscription: { ...subscription, status: 'paused' as const } }
    expect(compute(subscribed, { kind: 'pause' }).kind).toBe('pause')
    expect(compute(paused, { kind: 'pause' }).kind).toBe('none')
    expect(compute(paused, { kind: 'resume' }).kind).toBe('resume')
    expect(compute(subscribed, { kind: 'resume' }).kind).toBe('none')
    const owing = { ...subscribed, subscription: { ...subscription, status: 'past_due' as const } }
    expect(() => compute(owing, { kind: 'pause' })).toThrow('past_due cannot be paused. Pay what is open first')
    expect(() => compute(owing, { kind: 'pause' })).toThrow(coded('conflict'))
  })
})

describe('a paused subscription', () => {
  const paused = (over: Partial<CurrentSubscription>) => ({
    ...subscribed,
    subscription: { ...subscription, status: 'paused' as const, ...over },
  })

  test('goes on with the period that was paid, as long as that lasts', () => {
    const resume = (over: Partial<CurrentSubscription>) => compute(paused(over), { kind: 'resume' })
    expect(resume({})).toMatchObject({ keepsPeriod: true })
    expect(resume({ currentPeriodEnd: now })).toMatchObject({ keepsPeriod: false })
    expect(resume({ resumedUnpaid: true })).toMatchObject({ keepsPeriod: false })
  })

  test('is cancelled at the end of what was paid, or at once where that is over', () => {
    const cancel = (over: Partial<CurrentSubscription>) => compute(paused(over), { kind: 'cancel', immediate: false }).kind
    expect([cancel({}), cancel({ currentPeriodEnd: now })]).toEqual(['cancel_at_period_end', 'cancel_now'])
    expect(
      compute({ ...subscribed, subscription: { ...subscription, currentPeriodEnd: now } }, { kind: 'cancel', immediate: false })
        .kind,
    ).toBe('cancel_at_period_end')
  })
})

test('a discount takes off its part or its amount, a half rounded up, and never more than there is', () => {
  const none: Discount = { code: 'OFF', couponId: 'off', basisPointsOff: null, amountOffMinor: null }
  const less = (amountMinor: number, over: Partial<Discount>) => discounted(amountMinor, { ...none, ...over })
  expect(discounted(2900, null)).toBe(2900)
  expect(less(2900, { basisPointsOff: 1250 })).toBe(2900 - 363)
  expect(less(2900, { amountOffMinor: 900 })).toBe(2000)
  expect([less(2900, { amountOffMinor: 5000 }), less(2900, { basisPointsOff: 10_000 }), less(2900, {})]).toEqual([0, 0, 2900])
})

test('a trial ends its days after it began', () => {
  expect(trialEndOf(at(10), 14)).toEqual(at(24))
})

test('whatever is asked of whatever state, nothing is ever sold that is not offered', () => {
  const request: fc.Arbitrary<PlanChangeRequest> = fc.oneof(
    fc.record({
      kind: fc.constant('subscribe' as const),
      planKey: fc.constantFrom('free', 'starter', 'pro', 'enterprise', 'partner', 'nonsense'),
      interval: fc.constantFrom('monthly', 'yearly', null),
      quantity: fc.integer({ min: 1, max: 5 }),
      paymentMethodId: fc.option(fc.constant('pm_1')),
      trialDays: fc.option(fc.integer({ min: 0, max: 30 })),
      byOperator: fc.boolean(),
      discount: fc.constant(null),
    }),
    fc.record({
      kind: fc.constant('switch' as const),
      planKey: fc.constantFrom('free', 'starter', 'pro', 'enterprise', 'partner', 'nonsense'),
      interval: fc.constantFrom('monthly', 'yearly', null),
      quantity: fc.option(fc.integer({ min: 1, max: 5 })),
      at: fc.constantFrom('now', 'period_end', null),
    }),
  )
  const states = fc.record({
    subscription: fc.option(
      fc.record({
        status: fc.constantFrom(...(['active', 'trialing', 'past_due', 'unpaid', 'paused', 'incomplete'] as const)),
        cancelAt: fc.option(fc.constant(at(31))),
      }),
    ),
    hadTrial: fc.boolean(),
    hadSubscription: fc.boolean(),
    hasPaymentMethod: fc.boolean(),
  })
  const sold = new Set(offers.map(({ priceId }) => priceId))
  fc.assert(
    fc.property(states, request, (drawn, asked) => {
      const state = { ...nobody, ...drawn, subscription: drawn.subscription && { ...subscription, ...drawn.subscription } }
      const computed = outcomeOf(() => compute(state, asked))
      if (computed === null || !('offer' in computed)) return
      expect(sold).toContain(computed.offer.priceId)
      expect(computed.offer.planKey).toBe(asked.kind === 'subscribe' || asked.kind === 'switch' ? asked.planKey : null)
    }),
  )
})

function outcomeOf<Result>(work: () => Result): Result | null {
  try {
    return work()
  } catch {
    return null
  }
}
