import { beforeAll, expect, test } from 'vitest'
import { testUse } from '../../test/used.ts'
import { DAY_MS } from '../lib/period.ts'
import { readStatement } from '../pricing/statement.ts'

// What a pause has billed so far waits at Stripe for the next invoice. It is told, and charged, once.

const billing = testUse({
  meters: { calls: {}, users: {} },
  plans: {
    free: { name: 'Free', allowances: {} },
    basic: { name: 'Basic', prices: { monthly: { amountMinor: 900 } }, allowances: {} },
    pro: {
      name: 'Pro',
      prices: { monthly: { amountMinor: 2900 }, yearly: { amountMinor: 29_000 } },
      allowances: {
        calls: { amount: 100, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: 7 } },
        users: {
          amount: 3,
          limit: 'soft',
          overage: { model: 'graduated', tiers: [{ upTo: 'infinity', unitAmountMinor: 100, flatAmountMinor: 500 }] },
        },
      },
    },
    max: { name: 'Max', prices: { yearly: { amountMinor: 99_000 } }, allowances: { calls: { amount: 'unlimited' } } },
  },
  defaultPlan: 'free',
})
const { invoicesOf, subscriptionOf, succeed } = billing

beforeAll(async () => {
  const half = { code: 'HALF', percent_off: 50, duration: 'repeating', duration_in_months: 2 }
  await billing.call('operator', 'POST', '/api/v1/billing/discounts', half)
})

const told = async (id: string) =>
  (await billing.call(id, 'GET', `/api/v1/billing/status/tenant/${id}`)).body['next_invoice_amount_cents'] as number

/** What the newest invoice asks for, in minor units. */
const newestDue = async (id: string) => (await invoicesOf(id))[0]!.amount_due_minor

const EVERYTHING_USED = 350 + 500

async function pausedAfterUse(interval: 'monthly' | 'yearly' = 'monthly'): Promise<string> {
  const id = await billing.customer('pro', interval)
  await billing.advance(id, '5d')
  await billing.use(id, 'calls', 150)
  await succeed(id, 'pause')
  await billing.advance(id, '1d')
  return id
}

test('of a paused subscription that ends with its period: told before, charged once, and the statement says the same', async () => {
  const id = await pausedAfterUse()
  const used = new Date((await billing.nowOf(id)).getTime() - 2 * DAY_MS)
  const preview = await succeed(id, 'cancel/preview', { immediate: false })
  expect(preview).toMatchObject({ next_invoice: { amount_minor: EVERYTHING_USED } })
  await succeed(id, 'cancel', { immediate: false })
  expect(await told(id)).toBe(EVERYTHING_USED)
  const { totalMinor } = await readStatement(billing.context, { organizationId: id, at: used })
  await billing.advance(id, '30d')
  expect(await newestDue(id)).toBe(EVERYTHING_USED)
  expect(totalMinor).toBe(2900 + EVERYTHING_USED)
})

test('of one that is cancelled at once: what the preview says is charged', async () => {
  const id = await pausedAfterUse()
  const { amount_due_now_minor: due } = await succeed(id, 'cancel/preview', { immediate: true })
  await succeed(id, 'cancel', { immediate: true })
  expect(due).toBe(EVERYTHING_USED)
  expect(await newestDue(id)).toBe(due)
})

test('of a yearly plan that was paused beyond the month: told for the end of the present month', async () => {
  const id = await pausedAfterUse('yearly')
  await billing.advance(id, '58d')
  const { next_invoice: next } = await succeed<{ next_invoice: { at: string } }>(id, 'resume/preview')
  await succeed(id, 'resume')
  expect(Date.parse(next.at)).toBeGreaterThan((await billing.nowOf(id)).getTime())
  // The month after the pause has a flat amount of its own.
  const amount = await told(id)
  expect(amount).toBe(EVERYTHING_USED + 500)
  expect(await succeed(id, 'cancel/preview', { immediate: true })).toMatchObject({ amount_due_now_minor: amount })
  await billing.advance(id, '31d')
  expect(await newestDue(id)).toBe(amount)
})

test('of a yearly plan that was paused: a larger plan is charged as its preview says', async () => {
  const id = await pausedAfterUse('yearly')
  await billing.advance(id, '58d')
  await succeed(id, 'resume')
  const body = { new_tier: 'max', interval: 'yearly' }
  const { proration_date, amount_due_now_minor: due } = await succeed(id, 'upgrade/preview', body)
  await succeed(id, 'upgrade', { ...body, proration_date })
  expect(await newestDue(id)).toBe(due)
})

test('KF-9 has what waits to be settled also where the subscription ends', async () => {
  const id = await billing.customer('pro')
  await billing.advance(id, '10d')
  await billing.use(id, 'calls', 600)
  await succeed(id, 'downgrade', { new_tier: 'basic', at: 'now' })
  await succeed(id, 'cancel', { immediate: false })
  const amount = await told(id)
  expect(amount).toBeGreaterThan(0)
  await billing.advance(id, '30d')
  expect(await newestDue(id)).toBe(amount)
})

test('what a customer owes from before is not due where no invoice comes', async () => {
  const id = await billing.customer('basic')
  const customer = (await subscriptionOf(id))['stripe_customer_id']
  await billing.stripe.customers.createBalanceTransaction(String(customer), { amount: 15, currency: 'usd' })
  await billing.call('operator', 'POST', `/api/v1/organizations/${id}/reconcile`)
  expect(await succeed(id, 'cancel/preview', { immediate: true })).toMatchObject({ amount_due_now_minor: 0 })
  expect(await succeed(id, 'cancel/preview', { immediate: false })).toMatchObject({ next_invoice: null })
  await succeed(id, 'cancel', { immediate: false })
  expect(await told(id)).toBe(0)
})

test('a code for two months is off the first month of use beside a year’s fee', async () => {
  const id = await billing.createOrganization('coupon')
  const body = { tier: 'pro', interval: 'yearly', discount_code: 'HALF' }
  await succeed(id, 'subscribe', { ...body, payment_method_id: 'pm_card_visa' })
  await succeed(id, 'cancel', { immediate: true })
  const { next_invoice: next } = await succeed(id, 'subscribe/preview', { ...body, plan: undefined })
  expect(next).toMatchObject({ amount_minor: 250 })
})

test.each([1, 2])('a code that is limited to its product comes off use that %i resumption(s) were to bill', async (times) => {
  const id = await pausedAfterUse()
  const only = (await billing.stripe.products.list()).data.find(({ name }) => name === 'calls')!.id
  const coupon = await billing.stripe.coupons.create({ percent_off: 50, duration: 'forever', applies_to: { products: [only] } })
  const subscription = String((await subscriptionOf(id))['subscription_id'])
  await billing.stripe.subscriptions.update(subscription, { discounts: [{ coupon: coupon.id }] })
  await succeed(id, 'payment-methods', { payment_method_id: 'pm_card_authenticationRequired' })
  await billing.advance(id, '32d')
  for (let time = 0; time < times; time += 1) {
    expect(await succeed(id, 'resume')).toMatchObject({ requires_action: true })
    expect(await succeed(id, 'cancel/preview', { immediate: true })).toMatchObject({ amount_due_now_minor: 175 + 500 })
    // Nobody answers the bank, and its page ends.
    await billing.advance(id, '1d')
  }
  await succeed(id, 'payment-methods', { payment_method_id: 'pm_card_visa' })
  await succeed(id, 'resume')
  expect(await newestDue(id)).toBe(2900 + 175 + 500)
})
