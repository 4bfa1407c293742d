import { describe, expect, test } from 'vitest'
import { testUse } from '../../test/used.ts'

const billing = testUse({
  meters: { call: {} },
  plans: {
    free: { name: 'Free', allowances: { call: { amount: 10 } } },
    pro: {
      name: 'Pro',
      prices: { monthly: { amountMinor: 2900 }, yearly: { amountMinor: 29_000 } },
      allowances: { call: { amount: 1000, period: 'billing_cycle' } },
    },
    enterprise: {
      name: 'Enterprise',
      prices: { monthly: { amountMinor: 19_900 } },
      allowances: { call: { amount: 10_000, period: 'billing_cycle' } },
    },
  },
  defaultPlan: 'free',
})
const { invoicesOf, post, subscriptionOf, succeed } = billing

/** What is left of 1,000 calls, in millionths. */
const remaining = async (id: string) => (await billing.use(id, 'call', 0)).balance.remaining

describe('a paused subscription', () => {
  test('resumed within the period that is paid goes on with it: no new quota, no charge, no credit', async () => {
    const id = await billing.customer('pro')
    const { current_period_end: end } = await subscriptionOf(id)
    await billing.use(id, 'call', 1000)
    for (let round = 0; round < 2; round += 1) {
      await post(id, 'pause')
      await billing.advance(id, '2d')
      expect((await post(id, 'resume/preview')).body).toMatchObject({ amount_due_now_minor: 0, next_invoice: { at: end } })
      expect((await post(id, 'resume')).body).toMatchObject({ status: 'active', billing_cycle_end: end })
      expect(await remaining(id)).toBe(0n)
    }
    expect(await invoicesOf(id)).toHaveLength(1)
    await billing.advance(id, '30d')
    expect(await remaining(id)).toBe(1_000_000_000n)
    expect((await invoicesOf(id))[0]).toMatchObject({ status: 'paid', amount_paid_minor: 2900 })
  })

  test('resumed within the period, credits what is left of it to a larger plan', async () => {
    const id = await billing.customer('pro')
    await post(id, 'pause')
    await post(id, 'resume')
    const preview = await post(id, 'upgrade/preview', { new_tier: 'enterprise' })
    expect(preview.body).toMatchObject({ amount_due_now_minor: 19_900 - 2900 })
    await post(id, 'upgrade', { new_tier: 'enterprise', proration_date: preview.body['proration_date'] })
    // Both are of the same moment, so in any order.
    const paid = (await invoicesOf(id)).map((invoice) => (invoice as { amount_paid_minor: number }).amount_paid_minor)
    expect(paid.toSorted((left, right) => left - right)).toEqual([2900, 19_900 - 2900])
  })

  test('resumed after it begins a new one, paid whole', async () => {
    const id = await billing.customer('pro')
    await billing.use(id, 'call', 1000)
    await post(id, 'pause')
    await billing.advance(id, '40d')
    expect((await post(id, 'resume/preview')).body).toMatchObject({ amount_due_now_minor: 2900 })
    await post(id, 'resume')
    expect((await invoicesOf(id))[0]).toMatchObject({ status: 'paid', amount_paid_minor: 2900 })
    expect(await remaining(id)).toBe(1_000_000_000n)
  })

  test('is not switched: a larger plan would come unpaid', async () => {
    const id = await billing.customer('pro')
    await post(id, 'pause')
    expect(await post(id, 'upgrade', { new_tier: 'enterprise' })).toMatchObject({ status: 409, body: { code: 'conflict' } })
  })

  test('has no change of plan ahead', async () => {
    const id = await billing.customer('enterprise')
    await post(id, 'downgrade', { new_tier: 'pro', at: 'period_end' })
    expect(await post(id, 'pause')).toMatchObject({ status: 200, body: { status: 'paused', scheduled_change: null } })
  })
})

describe('to and fro between intervals', () => {
  test('hands out no quota that was not paid', async () => {
    const id = await billing.customer('pro')
    await billing.use(id, 'call', 900)
    await billing.advance(id, '15d')
    await succeed(id, 'upgrade', { new_tier: 'pro', interval: 'yearly' })
    expect(await remaining(id)).toBe(100_000_000n)
    await succeed(id, 'upgrade', { new_tier: 'pro', interval: 'monthly' })
    expect(await remaining(id)).toBe(100_000_000n)
    await billing.advance(id, '20d')
    expect(await remaining(id)).toBe(1_000_000_000n)
  })
})
