import type { Stripe } from 'stripe'
import { describe, expect, test } from 'vitest'
import { failing, KILLED } from '../../test/failing.ts'
import { changeByOperator, payOn, switchTo } from '../../test/purchases.ts'
import { PLANS, testSubscriptions } from '../../test/subscriptions.ts'
import { lockAccount } from '../grants/store.ts'
import { MINUTE_MS } from '../lib/period.ts'
import { listTimeline } from '../operators/timeline-store.ts'
import { StripeCallError } from '../stripe/gateway/errors.ts'
import { finishStrandedIntents } from '../stripe/intents/finish-intents.ts'
import { finishChanges } from './jobs.ts'

// A change at once, and what was scheduled before it.

const overage = { model: 'per_unit', unitAmountMinor: 10 } as const
const starter = { ...PLANS.plans.starter, allowances: { call: { amount: 100, limit: 'soft' as const, overage } } }
const billing = testSubscriptions({ catalog: { ...PLANS, plans: { ...PLANS.plans, starter } } })
const { advance, post, priceOf, subscribed, subscriptionOf, succeed } = billing

/** Moves the customer's clock at Stripe alone, as time passes while no server of ours looks. */
async function passUnseen(id: string, to: number): Promise<void> {
  const { rows } = await billing.context.db.query<{ clock: string }>(
    'select stripe_test_clock_id as clock from organizations where id = $1',
    [id],
  )
  await billing.stripe.testHelpers.testClocks.advance(rows[0]!.clock, { frozen_time: to })
  const ready = async () => (await billing.stripe.testHelpers.testClocks.retrieve(rows[0]!.clock)).status
  await expect.poll(ready).toBe('ready')
}

/** Who goes down at the period's end, twenty hours before it; answers when that is, in seconds. */
async function goingDown(id: string): Promise<number> {
  await subscribed(id, { tier: 'pro' })
  await succeed(id, 'downgrade', { new_tier: 'starter', at: 'period_end' })
  const end = Date.parse(String((await subscriptionOf(id))['current_period_end'])) / 1000
  await advance(id, new Date((end - 20 * 3600) * 1000))
  return end
}

/** An upgrade that waits for the bank, also a minute before the period's end; answers its page. */
async function waiting(id: string, end: number, wish: object): Promise<string> {
  await post(id, 'payment-methods', { payment_method_id: 'pm_card_authenticationRequired' })
  const body = await succeed(id, 'upgrade', wish)
  expect(body).toMatchObject({ requires_action: true, plan: 'pro', scheduled_change: { tier: 'starter' } })
  await passUnseen(id, end - 60)
  return String(body['payment_url'])
}

const pay = async (page: string) => expect((await payOn(page)).status).toBe(303)

async function chargeable(id: string): Promise<void> {
  const { subscription_id: subscription, stripe_customer_id: customer } = await subscriptionOf(id)
  const { id: method } = await billing.stripe.paymentMethods.attach('pm_card_visa', { customer: String(customer) })
  const updated = await billing.stripe.subscriptions.update(String(subscription), { default_payment_method: method })
  // Its next phase would bring the old one back.
  await billing.stripe.subscriptionSchedules.update(updated.schedule as string, {
    default_settings: { default_payment_method: method },
  })
}

/** The schedule's phase begins, as nobody of ours looks. */
async function overtaken(id: string, end: number): Promise<void> {
  await passUnseen(id, end + 60)
  await expect.poll(() => subscriptionOf(id)).toMatchObject({ plan: 'starter', scheduled_change: null })
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
/** The draft of the smaller plan's renewal and the difference to the larger one's make the price of that. */
const RENEWED = { paid: 2900 + UPGRADED + 19_000, owed: 900, credit: 0 }
const BY_THE_YEAR = { new_tier: 'enterprise', interval: 'yearly' }

/** Who has paid the upgrade in the last minute before the schedule's phase, and can be charged again; answers when that began. */
async function paidAndOvertaken(id: string): Promise<number> {
  const end = await goingDown(id)
  await pay(await waiting(id, end, UPGRADE))
  await chargeable(id)
  await overtaken(id, end)
  return end
}

describe('an upgrade that is paid in the last minute of a period', () => {
  test('is had in the next one, which is paid as its renewal would be', async () => {
    const id = 'by_the_month'
    await paidAndOvertaken(id)
    await finishChanges(billing.context)
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'enterprise', status: 'active', scheduled_change: null })
    expect(await moneyOf(id)).toEqual(RENEWED)
    await finishChanges(billing.context)
    expect(await moneyOf(id)).toEqual(RENEWED)
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
    const dying = failing(billing.context, 'before', 'release_schedule', KILLED)
    await expect(changeByOperator(dying, id, switchTo('enterprise'))).rejects.toThrow('killed')
    await overtaken(id, end)
    const later = billing.later(5 * MINUTE_MS)
    await expect.poll(() => finishStrandedIntents(later)).toBe(0)
    await finishChanges(later)
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'enterprise', status: 'active' })
    expect(await moneyOf(id)).toEqual(RENEWED)
  })

  test('takes nothing away of what was used meanwhile, which the smaller plan has a price for', async () => {
    const id = 'used_meanwhile'
    const end = await paidAndOvertaken(id)
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
    expect(await moneyOf(id)).toEqual({ ...RENEWED, paid: RENEWED.paid + 500 })
  })

  test('is left at what was made of it in the dashboard since', async () => {
    const id = 'changed_since'
    await paidAndOvertaken(id)
    const { subscription_id: subscription } = await subscriptionOf(id)
    const { items } = await billing.stripe.subscriptions.retrieve(String(subscription))
    await billing.stripe.subscriptions.update(String(subscription), {
      items: [{ id: items.data[0]!.id, price: await priceOf('pro') }],
      proration_behavior: 'none',
    })
    await expect.poll(() => subscriptionOf(id)).toMatchObject({ plan: 'pro' })
    const before = await moneyOf(id)
    await finishChanges(billing.context)
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'pro', status: 'active' })
    expect(await moneyOf(id)).toEqual(before)
  })

  test.each(['is not sold any more', 'is refused by Stripe'])('and %s is left to operators, who are told once', async (how) => {
    const id = how.replaceAll(' ', '_').toLowerCase()
    await paidAndOvertaken(id)
    const { db } = billing.database
    const sell = (isSold: boolean) =>
      db.query(`update plan_prices set superseded_at = $1 where plan_key = 'enterprise' and price_key = 'monthly'`, [
        isSold ? null : billing.context.clock.now(),
      ])
    const refused = new StripeCallError('stripe_failed', 'refused', 'refused')
    const isRefused = how === 'is refused by Stripe'
    await sell(isRefused)
    await finishChanges(isRefused ? failing(billing.context, 'before', 'update_subscription', refused) : billing.context)
    await sell(true)
    await finishChanges(billing.context)
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'starter', status: 'active', scheduled_change: null })
    const { subscription_id: target } = await subscriptionOf(id)
    const { rows } = await db.query(`select target, after from audit_log where organization_id = $1 and action = $2`, [
      id,
      'paid_change.overtaken',
    ])
    const price_id = await priceOf('enterprise')
    expect(rows).toEqual([{ target, after: { subscription_id: target, price_id, quantity: 1 } }])
    const [entry] = await listTimeline(db, { organizationId: id, kinds: ['billing'], limit: 1, after: null })
    expect(entry!.data).toMatchObject({ type: 'paid_change.overtaken', price_id })
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
  await changeByOperator(counting, id, switchTo('enterprise'))
  expect(listed).toHaveLength(1)
  expect(await subscriptionOf(id)).toMatchObject({ plan: 'enterprise', scheduled_change: null })
})

test('an upgrade that a schedule of the dashboard overtakes in the midst of a period, as it is made, is had', async () => {
  const id = 'in_the_midst'
  await subscribed(id, { tier: 'pro' })
  const { subscription_id: from_subscription } = await subscriptionOf(id)
  const { subscriptionSchedules: schedules } = billing.stripe
  const { id: schedule, phases } = await schedules.create({ from_subscription: String(from_subscription) })
  const { start_date } = phases[0]!
  const end_date = start_date + 3 * 24 * 3600
  await schedules.update(schedule, {
    phases: [
      { start_date, end_date, items: [{ price: await priceOf('pro') }] },
      { items: [{ price: await priceOf('starter') }] },
    ],
  })
  await advance(id, new Date((end_date - 1800) * 1000))
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
  await changeByOperator(slow, id, switchTo('enterprise'))
  expect(await subscriptionOf(id)).toMatchObject({ plan: 'enterprise', status: 'active', scheduled_change: null })
})
