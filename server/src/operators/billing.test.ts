import { beforeAll, describe, expect, test } from 'vitest'
import { priced, testSubscriptions } from '../../test/subscriptions.ts'
import { reconcileOrganization } from '../stripe/reconcile/reconcile.ts'
import { toStats } from './stats.ts'

const billing = testSubscriptions({
  webhooks: false,
  catalog: {
    meters: { call: {} },
    plans: {
      free: { name: 'Free', allowances: {} },
      team: { name: 'Team', prices: priced(1200), allowances: {} },
      company: { name: 'Company', prices: priced(4900), allowances: {} },
    },
    defaultPlan: 'free',
  },
})
const { post, succeed } = billing
const ADMIN = '/api/v1/admin/billing'
const read = async (path: string) => (await billing.call('operator', 'GET', `${ADMIN}/${path}`)).body

async function subscribe(id: string, body: Record<string, unknown>): Promise<void> {
  await billing.createOrganization(id)
  await succeed(id, 'subscribe', body)
}

beforeAll(async () => {
  const card = { payment_method_id: 'pm_card_visa' }
  await subscribe('one', { tier: 'company', ...card })
  await subscribe('two', { tier: 'team', quantity: 2, ...card })
  await subscribe('three', { tier: 'team', interval: 'yearly', ...card })
  await subscribe('four', { tier: 'company' })
  await billing.createOrganization('five')
  await post('two', 'cancel', { immediate: false })
})

describe('what operators see of all organizations', () => {
  test('OC-5 counts and what comes in a month: a year is twelve months, a trial nothing yet', async () => {
    expect(await read('stats')).toEqual({
      total_customers: 5,
      active_subscriptions: 3,
      trial_subscriptions: 1,
      // 49.00 + 2 × 12.00 + 120.00 / 12
      monthly_revenue: 83,
      currency: 'usd',
      tier_breakdown: { company: { count: 2, revenue: 49 }, team: { count: 2, revenue: 34 } },
      other_currencies: {},
    })
  })

  test('OC-6 customers, with the plan that they have', async () => {
    const { customers, total } = (await read('customers?limit=2')) as { customers: Record<string, unknown>[]; total: number }
    expect([customers.length, total]).toEqual([2, 5])
    const all = (await read('customers')) as { customers: { metadata: { user_id: string; tier: string } }[] }
    const tiers = new Map(all.customers.map(({ metadata }) => [metadata.user_id, metadata.tier]))
    expect(tiers).toEqual(
      new Map([
        ['one', 'company'],
        ['two', 'team'],
        ['three', 'team'],
        ['four', 'company'],
        ['five', 'free'],
      ]),
    )
  })

  test('OC-7 subscriptions by status, in major units', async () => {
    const active = (await read('subscriptions?status=active')) as { subscriptions: Record<string, unknown>[]; total: number }
    expect(active.total).toBe(3)
    expect(active.subscriptions).toContainEqual(
      expect.objectContaining({
        organization_id: 'two',
        tier: 'team',
        amount: 24,
        interval: 'month',
        cancel_at_period_end: true,
      }),
    )
    expect(await read('subscriptions?status=trialing')).toMatchObject({
      total: 1,
      subscriptions: [{ organization_id: 'four', amount: 49 }],
    })
    expect(await read('subscriptions')).toMatchObject({ total: 4 })
  })

  test('OC-8 charges, newest first', async () => {
    const { charges, total } = (await read('recent-charges?limit=2')) as { charges: Record<string, unknown>[]; total: number }
    expect([charges.length, total]).toEqual([2, 3])
    expect(charges[0]).toMatchObject({ paid: true, refunded: false, status: 'succeeded', currency: 'usd' })
  })

  test('CB-7 invoices of all, by status', async () => {
    const answer = await billing.call('operator', 'GET', '/api/billing/admin/invoices?status=paid&limit=2')
    const { invoices, total } = answer.body as { invoices: Record<string, unknown>[]; total: number }
    // Three purchases, and the trial's invoice of nothing.
    expect([invoices.length, total]).toEqual([2, 4])
    expect(invoices[0]).toMatchObject({ status: 'paid', organization_id: expect.any(String) as string })
    expect((await billing.call('one', 'GET', '/api/v1/billing/admin/invoices')).status).toBe(403)
  })

  test('OC-5 counts subscriptions as OC-7 lists them, also two of one customer', async () => {
    const product = await billing.stripe.products.create({ name: 'Support' })
    const recurring = { interval: 'month' } as const
    const { id: price } = await billing.stripe.prices.create({
      currency: 'usd',
      unit_amount: 500,
      recurring,
      product: product.id,
    })
    // Beside a subscription that is active, and beside one in trial.
    for (const id of ['one', 'four']) {
      const customer = String((await billing.subscriptionOf(id))['stripe_customer_id'])
      const method = await billing.stripe.paymentMethods.attach('pm_card_visa', { customer })
      await billing.stripe.subscriptions.create({ customer, items: [{ price }], default_payment_method: method.id })
      await reconcileOrganization(billing.context, id)
    }
    const { total: active } = await read('subscriptions?status=active')
    expect(active).toBe(5)
    expect(await read('stats')).toMatchObject({
      active_subscriptions: 5,
      trial_subscriptions: 1,
      monthly_revenue: 93,
      // Organizations by the plan that they have.
      tier_breakdown: { company: { count: 2 }, team: { count: 2 } },
    })
  })

  test('OC-11 and nobody else does', async () => {
    for (const path of ['stats', 'customers', 'subscriptions', 'recent-charges']) {
      expect((await billing.call('one', 'GET', `${ADMIN}/${path}`)).status).toBe(403)
      expect((await billing.call('nobody', 'GET', `${ADMIN}/${path}`)).status).toBe(401)
    }
  })
})

test('currencies are never added to each other', () => {
  const row = { planKey: 'pro', status: 'active', count: 1 }
  const plans = [
    { ...row, currency: 'usd', amount: 1_000_000_000n },
    { ...row, currency: 'jpy', amount: 1_000_000_000n },
  ]
  const stats = toStats({ plans, subscriptions: [], customers: 2 }, 'usd')
  expect(stats).toMatchObject({
    monthly_revenue: 10,
    other_currencies: { jpy: 1000 },
    tier_breakdown: { pro: { count: 2, revenue: 10 } },
  })
})

test('what plans bring adds up to the total, to the cent', () => {
  const third = { status: 'active', currency: 'usd', count: 1, amount: 3_333_333n }
  const plans = [
    { ...third, planKey: 'a' },
    { ...third, planKey: 'b' },
    { ...third, planKey: 'c', amount: 3_333_334n },
  ]
  const { monthly_revenue: total, tier_breakdown: tiers } = toStats({ plans, subscriptions: [], customers: 3 }, 'usd')
  expect([total, ...Object.values(tiers).map(({ revenue }) => revenue)]).toEqual([0.1, 0.03, 0.03, 0.04])
})
