import { describe, expect, test } from 'vitest'
import { at, coded, compute, nobody, now, offer, offers, policy, subscribed, subscription } from '../../test/plan-changes.ts'
import type { BillingState, CurrentSubscription, PlanChangeRequest } from './plan-change.ts'
import { computePlanChange } from './rules.ts'

const change: Extract<PlanChangeRequest, { kind: 'switch' }> = {
  kind: 'switch',
  planKey: 'enterprise',
  interval: null,
  quantity: null,
  at: null,
}

describe('a switch (EM-10)', () => {
  test('up happens now and is paid now', () => {
    expect(compute(subscribed, change)).toMatchObject({ kind: 'switch_now', direction: 'upgrade', invoiceNow: true })
  })

  test('down happens when the policy says, or the request', () => {
    const down = { ...change, planKey: 'starter' }
    expect(compute(subscribed, down)).toMatchObject({ kind: 'switch_now', direction: 'downgrade', invoiceNow: false })
    expect(compute(subscribed, { ...down, at: 'period_end' })).toMatchObject({ kind: 'switch_at_period_end', at: at(31) })
    const later = (state: BillingState, request: PlanChangeRequest) =>
      computePlanChange(state, request, { ...policy, downgradeAt: 'period_end' }, now).kind
    expect(later(subscribed, down)).toBe('switch_at_period_end')
    const yearly = { ...subscribed, subscription: { ...subscription, interval: 'yearly' as const, amountMinor: 29_000 } }
    expect(later(yearly, { ...change, planKey: 'pro', interval: 'monthly' })).toBe('switch_at_period_end')
    // More is had at once, whatever the policy says of less.
    expect(later(subscribed, change)).toBe('switch_now')
    expect(later(subscribed, { ...change, planKey: 'pro', interval: 'yearly' })).toBe('switch_now')
  })

  test('from a year to months of the same plan is no upgrade, though a month costs more per day', () => {
    const yearly = { ...subscribed, subscription: { ...subscription, interval: 'yearly' as const, amountMinor: 29_000 } }
    expect(compute(yearly, { ...change, planKey: 'pro', interval: 'monthly' })).toMatchObject({
      direction: 'interval',
      // Stripe invoices another interval at once.
      invoiceNow: true,
    })
    expect(compute(subscribed, { ...change, planKey: 'pro', interval: 'yearly' })).toMatchObject({
      kind: 'switch_now',
      direction: 'interval',
    })
    expect(compute(yearly, { ...change, planKey: 'starter' })).toMatchObject({
      direction: 'downgrade',
      to: { interval: 'monthly' },
    })
  })

  test('to another number of seats goes by what they cost', () => {
    const three = { ...subscribed, subscription: { ...subscription, quantity: 3 } }
    expect(compute(three, { ...change, planKey: 'pro', quantity: 5 })).toMatchObject({
      direction: 'upgrade',
      to: { quantity: 5 },
    })
    expect(compute(three, { ...change, planKey: 'pro', quantity: 2 })).toMatchObject({ direction: 'downgrade' })
    expect(compute(three, { ...change, planKey: 'starter' })).toMatchObject({ to: { quantity: 3 } })
  })

  test('to what is there already changes nothing', () => {
    expect(compute(subscribed, { ...change, planKey: 'pro' }).kind).toBe('none')
  })

  test('to the free plan is a cancellation', () => {
    expect(compute(subscribed, { ...change, planKey: 'free' })).toMatchObject({ kind: 'cancel_at_period_end', at: at(31) })
    const sold = { ...subscribed, offers: [...offers, offer('free', 'monthly', 0)] }
    expect(compute(sold, { ...change, planKey: 'free' })).toMatchObject({ kind: 'switch_now', direction: 'downgrade' })
    // What is not for sale is no way out.
    expect(() => compute(subscribed, { ...change, planKey: 'partner' })).toThrow(coded('plan_not_offered'))
  })

  test('takes back a cancellation, and a scheduled change that it replaces', () => {
    const leaving = { ...subscribed, subscription: { ...subscription, cancelAt: at(31), scheduleId: 'sub_sched_1' } }
    expect(compute(leaving, change)).toMatchObject({ undoesCancel: true, releasesScheduleId: 'sub_sched_1' })
  })

  test('during a trial never waits for its end', () => {
    const trying = { ...subscribed, subscription: { ...subscription, status: 'trialing' as const, trialEndsAt: at(20) } }
    expect(compute(trying, { ...change, planKey: 'starter', at: 'period_end' }).kind).toBe('switch_now')
  })

  test('of what was never paid, or is paused, is refused: what was paid so far is not paid for it', () => {
    const of = (status: 'incomplete' | 'paused') => ({ ...subscribed, subscription: { ...subscription, status } })
    expect(() => compute(of('incomplete'), change)).toThrow('The first payment of the subscription is still open')
    expect(() => compute(of('paused'), change)).toThrow('The subscription is paused; resume it first.')
  })

  test('goes by what a year costs: from a cheap year to dear months is up, to what costs the same too', () => {
    const cheap = { planKey: 'starter', interval: 'yearly' as const, amountMinor: 9000 }
    const yearly = { ...subscribed, subscription: { ...subscription, ...cheap } }
    expect(compute(yearly, { ...change, planKey: 'pro', interval: 'monthly' })).toMatchObject({ direction: 'upgrade' })
    const dear = { ...yearly, subscription: { ...yearly.subscription, amountMinor: 12 * 2900 } }
    expect(compute(dear, { ...change, planKey: 'pro', interval: 'monthly' })).toMatchObject({ direction: 'upgrade' })
    const dearer = { ...yearly, subscription: { ...yearly.subscription, amountMinor: 12 * 2900 + 1 } }
    expect(compute(dearer, { ...change, planKey: 'pro', interval: 'monthly' })).toMatchObject({ direction: 'downgrade' })
  })

  test('to more or fewer seats keeps the price that is paid, with its use; another plan or interval has the one of today', () => {
    const old = { priceId: 'price_old', amountMinor: 1900, usageItems: [{ itemId: 'si_2', priceId: 'price_old_use' }] }
    const before = { ...subscribed, subscription: { ...subscription, ...old } }
    expect(compute(before, { ...change, planKey: 'pro', quantity: 3 })).toMatchObject({
      offer: { priceId: 'price_old', amountMinor: 1900, usagePriceIds: ['price_old_use'] },
    })
    expect(compute(before, { ...change, planKey: 'pro', interval: 'yearly' })).toMatchObject({
      offer: { priceId: 'price_pro_yearly' },
    })
    expect(compute(before, change)).toMatchObject({ offer: { priceId: 'price_enterprise_monthly' } })
  })

  test('at the period’s end to other seats comes at the price that is scheduled for the plan, and at no other that is', () => {
    const later = (scheduledOffer: BillingState['scheduledOffer'], over: Partial<typeof change> = {}) =>
      compute({ ...subscribed, scheduledOffer }, { ...change, planKey: 'pro', quantity: 3, at: 'period_end', ...over })
    const repriced = { ...offer('pro', 'monthly', 3900), priceId: 'price_new' }
    expect(later(repriced)).toMatchObject({ kind: 'switch_at_period_end', offer: { priceId: 'price_new' } })
    for (const other of [null, offer('starter', 'monthly', 900), { ...offer('pro', 'yearly', 39_000), priceId: 'price_new' }])
      expect(later(other)).toMatchObject({ offer: { priceId: 'price_pro_monthly' } })
    expect(later(repriced, { planKey: 'starter' })).toMatchObject({ offer: { priceId: 'price_starter_monthly' } })
    expect(later(repriced, { interval: 'yearly' })).toMatchObject({ offer: { priceId: 'price_pro_yearly' } })
  })

  test('waits for no period that has ended', () => {
    const over = { ...subscribed, subscription: { ...subscription, currentPeriodEnd: now } }
    expect(compute(over, { ...change, planKey: 'starter', at: 'period_end' }).kind).toBe('switch_now')
  })

  test('needs a subscription', () => {
    expect(() => compute(nobody, change)).toThrow(coded('subscription_missing'))
  })
})

describe('a plan that is sold no more', () => {
  const gone = { ...subscribed, offers: [offer('starter', 'monthly', 900)], planKeys: new Set(['free', 'starter']) }
  const own = { priceId: 'price_pro_monthly', amountMinor: 2900, currency: 'usd' }

  test('is had in other seats by who has it, at their price', () => {
    const seats = { ...change, planKey: 'pro', quantity: 3 }
    expect(compute(gone, seats)).toMatchObject({ kind: 'switch_now', offer: own, to: { planKey: 'pro', quantity: 3 } })
    expect(compute(gone, { ...seats, at: 'period_end' })).toMatchObject({ kind: 'switch_at_period_end', offer: own })
    expect(() => compute(gone, { ...seats, interval: 'yearly' })).toThrow(coded('unknown_plan'))
    expect(() => compute({ ...gone, subscription: { ...subscription, planKey: 'starter' } }, seats)).toThrow(
      coded('unknown_plan'),
    )
  })

  test('keeps its interval where only the other one is sold now, and does not end where it has become what everybody has', () => {
    const yearly = { ...subscription, interval: 'yearly' as const, priceId: 'price_pro_yearly', amountMinor: 29_000 }
    const monthlyOnly = { ...subscribed, subscription: yearly, offers: [offer('pro', 'monthly', 2900)] }
    expect(compute(monthlyOnly, { ...change, planKey: 'pro', quantity: 2 })).toMatchObject({
      offer: { priceId: 'price_pro_yearly' },
    })
    const free = { ...gone, defaultPlanKey: 'pro', planKeys: new Set(['pro']) }
    expect(compute(free, { ...change, planKey: 'pro', quantity: 2 })).toMatchObject({ kind: 'switch_now', offer: own })
  })

  test('a plan in another currency cannot be switched to', () => {
    const euro = { ...subscribed, offers: [{ ...offer('starter', 'monthly', 900), currency: 'eur' }] }
    expect(() => compute(euro, { ...change, planKey: 'starter' })).toThrow(/sold in eur, and the subscription is paid in usd/)
  })
})

describe('an operator’s move to other prices', () => {
  const used = [{ itemId: 'si_use', priceId: 'price_use' }]
  const reprice = (over: Partial<CurrentSubscription>, when: 'now' | 'period_end' = 'now') =>
    compute(
      { ...subscribed, subscription: { ...subscription, priceId: 'price_old', amountMinor: 1900, usageItems: used, ...over } },
      { kind: 'reprice', at: when, priceId: 'price_pro_monthly', amountMinor: 2900, usagePriceIds: ['price_use'] },
    )

  test('charges nothing in the moment, and leaves who is leaving or changing as they are', () => {
    expect(reprice({})).toMatchObject({ kind: 'switch_now', direction: 'upgrade', invoiceNow: false, undoesCancel: false })
    expect(reprice({}, 'period_end')).toMatchObject({ kind: 'switch_at_period_end', at: at(31) })
    expect(reprice({ status: 'trialing' }, 'period_end').kind).toBe('switch_now')
    expect(reprice({ priceId: 'price_pro_monthly' }).kind).toBe('none')
    const before = [{ itemId: 'si_use', priceId: 'price_use_before' }]
    expect(reprice({ priceId: 'price_pro_monthly', usageItems: before })).toMatchObject({ kind: 'switch_now', invoiceNow: false })
    expect(reprice({ priceId: 'price_pro_monthly', usageItems: [] })).toMatchObject({ offer: { usagePriceIds: ['price_use'] } })
    expect(() => reprice({ scheduledAt: at(31) })).toThrow('Another change of the plan is scheduled.')
    expect(() => reprice({ cancelAt: at(31) })).toThrow('cancelled and ends')
    expect(() => reprice({ status: 'unpaid' })).toThrow('A subscription that is unpaid cannot be moved to another price.')
    expect(reprice({ status: 'past_due' }).kind).toBe('switch_now')
  })

  test('is no change of the customer’s that they could take back', () => {
    const scheduled = { planKey: 'pro', interval: 'monthly' as const, quantity: 1 }
    const undo = (over: Partial<CurrentSubscription>) => {
      const later = { ...subscription, scheduleId: 'sched_1', scheduledAt: at(31), scheduled, ...over }
      return compute({ ...subscribed, subscription: later }, { kind: 'undo_switch' })
    }
    expect(() => undo({})).toThrow('cannot be taken back')
    for (const other of [{ planKey: 'starter' }, { interval: 'yearly' as const }, { quantity: 2 }])
      expect(undo({ scheduled: { ...scheduled, ...other } })).toMatchObject({ kind: 'undo_switch', scheduleId: 'sched_1' })
    expect([undo({ scheduledAt: null }).kind, undo({ scheduleId: null }).kind]).toEqual(['none', 'none'])
  })
})
