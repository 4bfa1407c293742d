import type { Stripe } from 'stripe'
import { beforeAll, describe, expect, test } from 'vitest'
import { testBilling } from '../../test/billing.ts'
import { testClocks } from '../../test/test-clocks.ts'
import { lockAccount } from '../grants/store.ts'
import { finishStrandedIntents } from '../stripe/intents/finish-intents.ts'
import { pushCatalog } from '../stripe/push/push.ts'
import { changePlan } from './actions.ts'
import { finishChanges } from './jobs.ts'

// A change at once, and what was scheduled before it.

const price = (amountMinor: number) => ({ monthly: { amountMinor }, yearly: { amountMinor: amountMinor * 10 } })
const billing = testBilling({
  catalog: {
    meters: { call: {} },
    plans: {
      free: { name: 'Free', allowances: {} },
      starter: {
        name: 'Starter',
        prices: price(900),
        allowances: { call: { amount: 100, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: 10 } } },
      },
      pro: { name: 'Pro', prices: price(2900), allowances: {} },
      enterprise: { name: 'Enterprise', prices: price(19_900), allowances: {} },
    },
    defaultPlan: 'free',
  },
})
const { onClock } = testClocks(billing)

beforeAll(async () => {
  await pushCatalog(billing.context, { variables: {} })
})

const post = (id: string, path: string, body: object = {}) => billing.call(id, 'POST', `/api/v1/billing/${path}`, body)
const subscriptionOf = async (id: string) => (await billing.call(id, 'GET', '/api/v1/billing/subscription')).body

/** Moves the customer's clock at Stripe alone, as time passes while no server of ours looks. */
async function passUnseen(id: string, to: number): Promise<void> {
  const { rows } = await billing.context.db.query<{ clock: string }>(
    'select stripe_test_clock_id as clock from organizations where id = $1',
    [id],
  )
  await billing.stripe.testHelpers.testClocks.advance(rows[0]!.clock, { frozen_time: to })
  const ready = async () => (await billing.stripe.testHelpers.testClocks.retrieve(rows[0]!.clock)).status
  await expect.poll(ready, { timeout: 10_000 }).toBe('ready')
}

/** Who goes down at the period's end, twenty hours before it; answers when that is, in seconds. */
async function goingDown(id: string): Promise<number> {
  await onClock(id)
  expect((await post(id, 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })).status).toBe(200)
  expect((await post(id, 'downgrade', { new_tier: 'starter', at: 'period_end' })).status).toBe(200)
  const end = Date.parse(String((await subscriptionOf(id))['current_period_end'])) / 1000
  const to = new Date((end - 20 * 3600) * 1000).toISOString()
  const moved = await billing.call('operator', 'POST', `/api/v1/organizations/${id}/clock/advance`, { to })
  expect(moved.status).toBe(200)
  return end
}

/** An upgrade that waits for the bank, also a minute before the period's end; answers its page. */
async function waiting(id: string, end: number, wish: object): Promise<string> {
  await post(id, 'payment-methods', { payment_method_id: 'pm_card_authenticationRequired' })
  const { body } = await post(id, 'upgrade', wish)
  expect(body).toMatchObject({ requires_action: true, plan: 'pro', scheduled_change: { tier: 'starter' } })
  await passUnseen(id, end - 60)
  return String(body['payment_url'])
}

async function pay(page: string): Promise<void> {
  const form = new URLSearchParams({ email: 'buyer@example.com', card_number: '4242424242424242', exp: '12/34', cvc: '123' })
  expect((await fetch(page, { method: 'POST', body: form, redirect: 'manual' })).status).toBe(303)
}

async function chargeable(id: string): Promise<void> {
  const { subscription_id: subscription, stripe_customer_id: customer } = await subscriptionOf(id)
  const { id: method } = await billing.stripe.paymentMethods.attach('pm_card_visa', { customer: String(customer) })
  const updated = await billing.stripe.subscriptions.update(String(subscription), { default_payment_method: method })
  // Its next phase would bring the old one back.
  await billing.stripe.subscriptionSchedules.update(updated.schedule as string, {
    default_settings: { default_payment_method: method },
  })
}

async function priceOf(plan: string): Promise<string> {
  const { rows } = await billing.context.db.query<{ id: string }>(
    `select stripe_price_id as id from plan_prices where plan_key = $1 and price_key = 'monthly'`,
    [plan],
  )
  return rows[0]!.id
}

/** The schedule's phase begins, as nobody of ours looks. */
async function overtaken(id: string, end: number): Promise<void> {
  await passUnseen(id, end + 60)
  await expect.poll(() => subscriptionOf(id), { timeout: 10_000 }).toMatchObject({ plan: 'starter', scheduled_change: null })
}

/** What a customer has paid, owes and has to their credit, in minor units. */
async function moneyOf(id: string) {
  const customer = String((await subscriptionOf(id))['stripe_customer_id'])
  const { data } = await billing.stripe.invoices.list({ customer, limit: 100 })
  const { balance } = (await billing.stripe.customers.retrieve(customer)) as Stripe.Customer
  const sum = (amounts: readonly number[]) => amounts.reduce((total, amount) => total + amount, 0)
  return {
    paid: sum(data.map((invoice) => invoice.amount_paid)),
    owed: sum(data.filter(({ status }) => status === 'open' || status === 'draft').map((invoice) => invoice.amount_due)),
    credit: 0 - balance,
  }
}

const UPGRADE = { new_tier: 'enterprise' }
/** From twenty hours before the end of a month of 31 days at 29.00: its rest back, that of the larger plan. */
const UPGRADED = -78 + 535
const BY_THE_YEAR = { new_tier: 'enterprise', interval: 'yearly' }

describe('an upgrade that is paid in the last minute of a period', () => {
  test('is had in the next one, which is paid as its renewal would be', async () => {
    const id = 'by_the_month'
    const end = await goingDown(id)
    await pay(await waiting(id, end, UPGRADE))
    await chargeable(id)
    await overtaken(id, end)
    await finishChanges(billing.context)
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'enterprise', status: 'active', scheduled_change: null })
    // The draft of the smaller plan's renewal and the difference to the larger one's make the price of that.
    expect(await moneyOf(id)).toEqual({ paid: 2900 + UPGRADED + 19_000, owed: 900, credit: 0 })
    await finishChanges(billing.context)
    expect(await moneyOf(id)).toEqual({ paid: 2900 + UPGRADED + 19_000, owed: 900, credit: 0 })
    const { rows } = await billing.context.db.query(
      `select after from audit_log where organization_id = $1 and actor = 'system:billing'`,
      [id],
    )
    expect(rows).toEqual([{ after: { plan: 'enterprise', interval: 'monthly', quantity: 1 } }])
  })

  test('is had, and past due, where the card of the renewal asks again', async () => {
    const id = 'asked_again'
    const end = await goingDown(id)
    await pay(await waiting(id, end, UPGRADE))
    await overtaken(id, end)
    await finishChanges(billing.context)
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'enterprise', status: 'past_due' })
    expect(await moneyOf(id)).toEqual({ paid: 2900 + UPGRADED, owed: 19_000 + 900, credit: 0 })
  })

  test('for a year is credited as the schedule begins, and the year begins anew', async () => {
    const id = 'by_the_year'
    const end = await goingDown(id)
    await pay(await waiting(id, end, BY_THE_YEAR))
    await chargeable(id)
    const { paid } = await moneyOf(id)
    await overtaken(id, end)
    // All but a minute of the year, less a month of the smaller plan.
    const { credit } = await moneyOf(id)
    expect(credit).toBeGreaterThan(paid - 2900 - 900 - 600)
    await finishChanges(billing.context)
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'enterprise', interval: 'year', status: 'active' })
    expect(await moneyOf(id)).toEqual({ paid: paid + 199_000 - 900 - credit, owed: 0, credit: 0 })
  })

  test('and for which the server did not live to release the schedule is had as well', async () => {
    const id = 'killed'
    const end = await goingDown(id)
    const gateway = billing.context.gateway!
    const dying = billing.with({
      gateway: {
        ...gateway,
        perform: async (kind, params, options) => {
          if (kind === 'release_schedule') throw new Error('killed')
          return gateway.perform(kind, params, options)
        },
      },
    })
    const request = { kind: 'switch', planKey: 'enterprise', interval: null, quantity: null, at: 'now' } as const
    const wish = { organizationId: id, request, prorationAt: null }
    await expect(changePlan(dying, wish, { actor: 'operator:test', requestId: 'r' })).rejects.toThrow('killed')
    await overtaken(id, end)
    const later = { now: () => new Date(billing.context.clock.now().getTime() + 5 * 60_000) }
    await finishStrandedIntents(billing.with({ clock: later }))
    await finishChanges(billing.with({ clock: later }))
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'enterprise', status: 'active' })
    expect(await moneyOf(id)).toEqual({ paid: 2900 + UPGRADED + 19_000, owed: 900, credit: 0 })
  })

  test('takes nothing away of what was used meanwhile, which the smaller plan has a price for', async () => {
    const id = 'used_meanwhile'
    const end = await goingDown(id)
    await pay(await waiting(id, end, UPGRADE))
    await chargeable(id)
    await overtaken(id, end)
    const now = new Date((end + 60) * 1000)
    const used = await billing.context.db.transaction(async (tx) => {
      await lockAccount(tx, id)
      await tx.query('update organizations set test_clock_now = $2 where id = $1', [id, now])
      return tx.query(
        `update grants set used = 100000000, overage = 50000000
         where organization_id = $1 and balance = 'call' and kind = 'plan' and starts_at <= $2 and expires_at > $2`,
        [id, now],
      )
    })
    expect(used.rowCount).toBe(1)
    await finishChanges(billing.context)
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'enterprise', status: 'active' })
    expect(await moneyOf(id)).toEqual({ paid: 2900 + UPGRADED + 19_000 + 500, owed: 900, credit: 0 })
  })

  test('is left at what was made of it in the dashboard since', async () => {
    const id = 'changed_since'
    const end = await goingDown(id)
    await pay(await waiting(id, end, UPGRADE))
    await chargeable(id)
    await overtaken(id, end)
    const { subscription_id: subscription } = await subscriptionOf(id)
    const { items } = await billing.stripe.subscriptions.retrieve(String(subscription))
    await billing.stripe.subscriptions.update(String(subscription), {
      items: [{ id: items.data[0]!.id, price: await priceOf('pro') }],
      proration_behavior: 'none',
    })
    await expect.poll(() => subscriptionOf(id), { timeout: 10_000 }).toMatchObject({ plan: 'pro' })
    const before = await moneyOf(id)
    await finishChanges(billing.context)
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'pro', status: 'active' })
    expect(await moneyOf(id)).toEqual(before)
  })

  test('is not had by who never paid: what was scheduled comes, and nothing is owed but that', async () => {
    const id = 'never_paid'
    const end = await goingDown(id)
    await waiting(id, end, UPGRADE)
    await overtaken(id, end)
    await finishChanges(billing.context)
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'starter', status: 'active' })
    expect(await moneyOf(id)).toEqual({ paid: 2900, owed: 900, credit: 0 })
  })
})

test('an upgrade beside a schedule refetches its customer once', async () => {
  const id = 'asked_once'
  await goingDown(id)
  const gateway = billing.context.gateway!
  const listed: string[] = []
  const counting = billing.with({
    gateway: {
      ...gateway,
      reads: {
        ...gateway.reads,
        listSubscriptions: (customer) => {
          listed.push(customer)
          return gateway.reads.listSubscriptions(customer)
        },
      },
    },
  })
  const request = { kind: 'switch', planKey: 'enterprise', interval: null, quantity: null, at: 'now' } as const
  const asker = { actor: 'operator:test', requestId: 'r' }
  await changePlan(counting, { organizationId: id, request, prorationAt: null }, asker)
  expect(listed).toHaveLength(1)
  expect(await subscriptionOf(id)).toMatchObject({ plan: 'enterprise', scheduled_change: null })
})

test('an upgrade that a schedule of the dashboard overtakes in the midst of a period, as it is made, is had', async () => {
  const id = 'in_the_midst'
  await onClock(id)
  const { body } = await post(id, 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })
  const { subscriptionSchedules: schedules } = billing.stripe
  const { id: schedule, phases } = await schedules.create({ from_subscription: String(body['subscription_id']) })
  const { start_date } = phases[0]!
  const end_date = start_date + 3 * 24 * 3600
  await schedules.update(schedule, {
    phases: [
      { start_date, end_date, items: [{ price: await priceOf('pro') }] },
      { items: [{ price: await priceOf('starter') }] },
    ],
  })
  const to = new Date((end_date - 1800) * 1000).toISOString()
  expect((await billing.call('operator', 'POST', `/api/v1/organizations/${id}/clock/advance`, { to })).status).toBe(200)
  const gateway = billing.context.gateway!
  let hasPassed = false
  const slow = billing.with({
    gateway: {
      ...gateway,
      perform: async (kind, params, options) => {
        const result = await gateway.perform(kind, params, options)
        if (kind === 'update_subscription' && !hasPassed) {
          hasPassed = true
          await passUnseen(id, end_date + 60)
        }
        return result
      },
    },
  })
  const request = { kind: 'switch', planKey: 'enterprise', interval: null, quantity: null, at: 'now' } as const
  await changePlan(slow, { organizationId: id, request, prorationAt: null }, { actor: 'operator:test', requestId: 'r' })
  expect(await subscriptionOf(id)).toMatchObject({ plan: 'enterprise', status: 'active', scheduled_change: null })
})
