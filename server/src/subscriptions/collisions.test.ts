import type { Stripe } from 'stripe'
import { describe, expect, test } from 'vitest'
import { failing, KILLED } from '../../test/failing.ts'
import { changeByOperator, payOn, switchTo } from '../../test/purchases.ts'
import { priced, testSubscriptions } from '../../test/subscriptions.ts'
import { replacePaymentMethod } from '../invoices/actions.ts'
import { StripeCallError } from '../stripe/gateway/errors.ts'
import type { MutationKind } from '../stripe/gateway/mutations.ts'
import { followChange, runExclusively } from './actions.ts'
import { finishChanges } from './jobs.ts'

// What happens when a customer asks for something else before what they asked for first is settled.

const billing = testSubscriptions({
  catalog: {
    meters: { call: {} },
    plans: {
      free: { name: 'Free', allowances: { call: { amount: 10 } } },
      starter: { name: 'Starter', prices: priced(900), allowances: { call: { amount: 100 } } },
      pro: { name: 'Pro', prices: priced(2900), allowances: { call: { amount: 1000 } } },
      enterprise: { name: 'Enterprise', prices: priced(19_900), allowances: { call: { amount: 10_000 } } },
    },
    addOns: { seats: { name: 'Seats', prices: { monthly: { amountMinor: 500 } }, allowances: { call: 50 } } },
    defaultPlan: 'free',
  },
})
const { advance, invoicesOf, onClock, post, subscribed, subscriptionOf, succeed } = billing
const ASKS = { payment_method_id: 'pm_card_authenticationRequired' }
const GOOD = { payment_method_id: 'pm_card_visa' }

const liveOf = (id: string) =>
  billing.context.db
    .query<{ id: string }>(
      `select id from stripe_subscriptions where organization_id = $1 and status not in ('canceled', 'incomplete_expired')`,
      [id],
    )
    .then(({ rows }) => rows.map((row) => row.id))

/** A subscription that is told to end: with its period, as we say it, or at a date, as Stripe's portal does. */
async function ended(id: string, ending: Stripe.SubscriptionUpdateParams): Promise<Record<string, unknown>> {
  await billing.stripe.subscriptions.update((await subscriptionOf(id))['subscription_id'] as string, ending)
  await expect.poll(async () => (await subscriptionOf(id))['cancel_at']).not.toBeNull()
  return subscriptionOf(id)
}

/** What Stripe refuses of one kind of call. */
const refusing = (kind: MutationKind) =>
  failing(billing.context, 'before', kind, new StripeCallError('stripe_failed', 'refused', 'refused'))

/** A server that dies when Stripe has carried one kind of call out. */
const dyingAfter = (kind: MutationKind) => failing(billing.context, 'after', kind, KILLED)

const pageOf = async (invoice: string) => (await billing.stripe.invoices.retrieve(invoice)).hosted_invoice_url!

describe('a change that Stripe refuses', () => {
  test.each([
    ['create_schedule', { cancel_at_period_end: true }],
    ['schedule_switch', { cancel_at_period_end: true }],
    ['schedule_switch', { cancel_at: 'max_period_end' }],
  ] as const)('after a cancellation leaves that as it was (%s, %o)', async (kind, ending) => {
    const id = await subscribed(`refused_${kind}_${Object.keys(ending).join()}`, { tier: 'pro' })
    const { cancel_at: cancelAt } = await ended(id, ending)
    await expect(changeByOperator(refusing(kind), id, switchTo('starter', 'period_end'))).rejects.toThrow('refused')
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'pro', cancel_at: cancelAt })
    // No schedule without a change is in the way of what is asked for next.
    await succeed(id, 'add-ons', { add_on: 'seats', quantity: 1 })
    await advance(id, '32d')
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'free', status: 'canceled' })
  })

  test.each([
    ['pause_subscription', { kind: 'pause' }],
    ['schedule_end', { kind: 'cancel', immediate: false }],
    ['cancel_subscription', { kind: 'cancel', immediate: true }],
  ] as const)('leaves what was scheduled before it (%s)', async (kind, request) => {
    const id = await subscribed(`refused_${kind}`, { tier: 'pro' })
    await succeed(id, 'downgrade', { new_tier: 'starter', at: 'period_end' })
    await expect(changeByOperator(refusing(kind), id, request)).rejects.toThrow('refused')
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'pro', cancel_at: null, scheduled_change: { tier: 'starter' } })
    await advance(id, '32d')
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'starter', status: 'active' })
  })
})

test('a schedule at Stripe that changes nothing is not in the way of add-ons', async () => {
  const id = await subscribed('empty_schedule', { tier: 'pro' })
  const from = (await subscriptionOf(id))['subscription_id'] as string
  await billing.stripe.subscriptionSchedules.create({ from_subscription: from })
  await runExclusively(billing.context, id, (session) => followChange(billing.context, session, id))
  expect((await post(id, 'add-ons', { add_on: 'seats', quantity: 1 })).status).toBe(200)
})

describe('a change while another is scheduled', () => {
  test('and that the card declines leaves what was scheduled', async () => {
    const id = await subscribed('scheduled_declined', { tier: 'pro' })
    await succeed(id, 'downgrade', { new_tier: 'starter', at: 'period_end' })
    await post(id, 'payment-methods', { payment_method_id: 'pm_card_chargeCustomerFail' })
    expect(await post(id, 'upgrade', { new_tier: 'enterprise' })).toMatchObject({ status: 402 })
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'pro', scheduled_change: { tier: 'starter' } })
    await post(id, 'payment-methods', GOOD)
    await advance(id, '32d')
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'starter', status: 'active', payment_failed: false })
  })

  /** Going down is scheduled, and going up waits for the bank; answers the invoice that it waits for. */
  async function wavering(id: string): Promise<string> {
    await subscribed(id, { tier: 'pro' })
    await succeed(id, 'downgrade', { new_tier: 'starter', at: 'period_end' })
    await post(id, 'payment-methods', ASKS)
    const asked = await post(id, 'upgrade', { new_tier: 'enterprise' })
    expect(asked.body).toMatchObject({ plan: 'pro', requires_action: true, scheduled_change: { tier: 'starter' } })
    return (await invoicesOf(id, '?status=open'))[0]!.id
  }

  test.each([
    ['is never answered', (id: string) => advance(id, '24h')],
    ['is called off at Stripe', async (_: string, invoice: string) => void (await billing.stripe.invoices.voidInvoice(invoice))],
    [
      'gives way to one that the card declines',
      async (id: string) => {
        await post(id, 'payment-methods', { payment_method_id: 'pm_card_chargeCustomerFail' })
        expect(await post(id, 'upgrade', { new_tier: 'enterprise' })).toMatchObject({ status: 402 })
      },
    ],
  ])('and that waits for the bank and %s leaves what was scheduled', async (how, giveUp) => {
    const id = `wavering ${how}`.replaceAll(' ', '_')
    await giveUp(id, await wavering(id))
    await expect.poll(async () => invoicesOf(id, '?status=open')).toEqual([])
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'pro', scheduled_change: { tier: 'starter' } })
    await post(id, 'payment-methods', GOOD)
    await advance(id, '32d')
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'starter', status: 'active', payment_failed: false })
  })

  test.each([
    ['here', async (id: string, invoice: string) => await succeed(id, `invoices/${invoice}/pay`, GOOD)],
    [
      'on its page',
      async (id: string, invoice: string) => {
        expect((await payOn(await pageOf(invoice))).status).toBe(303)
        await expect.poll(async () => (await subscriptionOf(id))['plan']).toBe('enterprise')
        await finishChanges(billing.context)
      },
    ],
  ])('and that waits for the bank takes its place once it is paid %s', async (where, settle) => {
    const id = `wavered ${where}`.replaceAll(' ', '_')
    await settle(id, await wavering(id))
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'enterprise', scheduled_change: null })
    await post(id, 'payment-methods', GOOD)
    await advance(id, '32d')
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'enterprise', status: 'active', payment_failed: false })
  })

  test('takes its place, also where the server dies between the two', async () => {
    const id = await subscribed('scheduled_killed', { tier: 'pro' })
    await succeed(id, 'downgrade', { new_tier: 'starter', at: 'period_end' })
    const dying = dyingAfter('update_subscription')
    await expect(changeByOperator(dying, id, switchTo('enterprise'))).rejects.toThrow('killed')
    await runExclusively(billing.context, id, async () => undefined)
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'enterprise', scheduled_change: null })
  })
})

test('a card that is replaced while a change is scheduled stays, also where the server dies before the schedule has it', async () => {
  const id = await subscribed('schedule_card', { tier: 'pro' })
  await succeed(id, 'downgrade', { new_tier: 'starter', at: 'period_end' })
  const request = { organizationId: id, paymentMethodId: 'pm_card_mastercard' }
  await expect(
    replacePaymentMethod(dyingAfter('update_subscription'), request, { actor: 'operator:test', requestId: 'r' }),
  ).rejects.toThrow('killed')
  await runExclusively(billing.context, id, async () => undefined)
  const [live] = await liveOf(id)
  const subscription = billing.sandbox.all('subscription').find((each) => each.id === live)!
  const schedule = billing.sandbox.all('subscription_schedule').find((each) => each.id === subscription.schedule)!
  expect(schedule.default_settings.default_payment_method).toBe(subscription.default_payment_method)
  await advance(id, '32d')
  const [newest] = await invoicesOf(id)
  expect(newest).toMatchObject({ status: 'paid' })
  const charged = billing.sandbox.all('charge').filter(({ customer }) => customer === subscription.customer)
  expect(charged.at(-1)!.payment_method).toBe(subscription.default_payment_method)
})

describe('a change while another waits for the bank', () => {
  test('calls the first off: only the later one can be paid, and nothing is owed for the first', async () => {
    const id = await subscribed('twice_asked', { tier: 'starter' })
    await post(id, 'payment-methods', ASKS)
    const first = await post(id, 'upgrade', { new_tier: 'pro' })
    const [waiting] = await invoicesOf(id, '?status=open')
    const second = await post(id, 'upgrade', { new_tier: 'enterprise' })
    expect(second.body).toMatchObject({ requires_action: true })
    expect(second.body['payment_url']).not.toBe(first.body['payment_url'])
    expect(await invoicesOf(id, '?status=open')).toHaveLength(1)
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'starter', standing: { state: 'active' }, payment_failed: false })
    expect((await post(id, `invoices/${waiting!.id}/pay`, GOOD)).status).toBeGreaterThanOrEqual(400)
    await advance(id, '4d')
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'starter', standing: { state: 'active', may_use: true } })
  })

  test('that is paid at once stands, and does not fall back', async () => {
    const id = await subscribed('paid_second', { tier: 'starter' })
    await post(id, 'payment-methods', ASKS)
    await post(id, 'upgrade', { new_tier: 'pro' })
    await post(id, 'payment-methods', GOOD)
    const changed = await post(id, 'upgrade', { new_tier: 'enterprise' })
    expect(changed.body).toMatchObject({ plan: 'enterprise', requires_action: false, payment_url: null })
    expect(await invoicesOf(id, '?status=open')).toEqual([])
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'enterprise', standing: { state: 'active' } })
  })

  test.each([
    ['pro', { cancel_at_period_end: true }],
    ['starter', { cancel_at_period_end: true }],
    ['starter', { cancel_at: 'max_period_end' }],
  ] as const)('takes a cancellation back once it is paid, and not before: %s by the year, %o', async (plan, ending) => {
    const id = await subscribed(`stays_asked_${plan}_${Object.keys(ending).join()}`, { tier: 'starter' })
    const { cancel_at: cancelAt } = await ended(id, ending)
    await post(id, 'payment-methods', ASKS)
    const wish = { new_tier: plan, interval: 'yearly' }
    const { amount_due_now_minor: due } = (await post(id, 'upgrade/preview', wish)).body
    expect(due).toBe((plan === 'pro' ? 29_000 : 9000) - 900)
    const first = await post(id, 'upgrade', wish)
    expect(first.body).toMatchObject({ requires_action: true, cancel_at: cancelAt, plan: 'starter', interval: 'monthly' })
    await advance(id, '24h')
    expect(await subscriptionOf(id)).toMatchObject({ cancel_at: cancelAt, plan: 'starter', interval: 'month' })
    expect(await invoicesOf(id, '?status=open')).toEqual([])
    await post(id, 'upgrade', wish)
    const [waiting] = await invoicesOf(id, '?status=open')
    await succeed(id, `invoices/${waiting!.id}/pay`, GOOD)
    expect(await subscriptionOf(id)).toMatchObject({ cancel_at: null, plan, interval: 'year', status: 'active' })
  })

  test('that is a cancellation leaves nothing to pay', async () => {
    const id = await subscribed('leaving_asked', { tier: 'starter' })
    await post(id, 'payment-methods', ASKS)
    await post(id, 'upgrade', { new_tier: 'pro' })
    await succeed(id, 'cancel', { immediate: true })
    expect(await invoicesOf(id, '?status=open')).toEqual([])
  })

  test('of an add-on says so, and a second one takes its place', async () => {
    const id = await subscribed('seats_asked', { tier: 'starter' })
    await post(id, 'payment-methods', ASKS)
    const first = await post(id, 'add-ons', { add_on: 'seats', quantity: 5 })
    expect(first).toMatchObject({ status: 200, body: { requires_action: true, add_ons: [{ quantity: 0 }] } })
    expect(first.body['payment_url']).toMatch(/^http/)
    await post(id, 'add-ons', { add_on: 'seats', quantity: 4 })
    const [open, ...more] = await invoicesOf(id, '?status=open')
    expect(more).toEqual([])
    await advance(id, '4h')
    expect((await subscriptionOf(id))['standing']).toMatchObject({ state: 'active' })
    await succeed(id, `invoices/${open!.id}/pay`, GOOD)
    expect((await billing.call(id, 'GET', '/api/v1/billing/add-ons')).body).toMatchObject({ add_ons: [{ quantity: 4 }] })
  })
})

describe('a purchase', () => {
  test('in place of one that was never paid leaves nothing of it to pay', async () => {
    const id = await onClock('second_try')
    expect((await post(id, 'subscribe', { tier: 'starter', ...ASKS })).body).toMatchObject({ status: 'incomplete' })
    expect((await post(id, 'subscribe', { tier: 'pro', ...GOOD })).body).toMatchObject({ status: 'active' })
    expect(await invoicesOf(id, '?status=open')).toEqual([])
    expect(await liveOf(id)).toHaveLength(1)
  })

  test('closes the page of a checkout that was opened before it', async () => {
    const id = await onClock('page_left_open')
    const { url } = (await post(id, 'checkout', { plan: 'starter' })).body as { url: string }
    await succeed(id, 'subscribe', { tier: 'starter', ...GOOD })
    expect((await payOn(url)).status).not.toBe(303)
    expect(await liveOf(id)).toHaveLength(1)
  })

  test('on a page calls off the first payment that waited for the bank', async () => {
    const id = await onClock('page_instead')
    await post(id, 'subscribe', { tier: 'starter', ...ASKS })
    const [waiting] = await invoicesOf(id, '?status=open')
    const { url } = (await post(id, 'checkout', { plan: 'pro' })).body as { url: string }
    expect((await post(id, `invoices/${waiting!.id}/pay`, GOOD)).status).toBeGreaterThanOrEqual(400)
    expect((await payOn(url)).status).toBe(303)
    await expect.poll(() => liveOf(id)).toHaveLength(1)
  })

  test('is refused when the page was paid in this very moment', async () => {
    const id = await onClock('page_just_paid')
    const { url } = (await post(id, 'checkout', { plan: 'starter' })).body as { url: string }
    expect((await payOn(url)).status).toBe(303)
    const answer = await post(id, 'subscribe', { tier: 'pro', ...GOOD })
    expect(answer).toMatchObject({ status: 409, body: { code: 'subscription_exists' } })
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'starter', status: 'active' })
  })

  test('waits until what an ended subscription owes is paid: it is delinquent as long (KF-9)', async () => {
    const id = await subscribed('in_debt', { tier: 'pro' })
    const delinquent = async () => {
      const status = await billing.call(id, 'GET', `/api/v1/billing/status/tenant/${id}`)
      const list = async (is: boolean) => {
        const { body } = await billing.call('operator', 'GET', `/api/v1/admin/organizations?search=${id}&delinquent=${is}`)
        return (body as { organizations: { delinquent: boolean }[] }).organizations.map((row) => row.delinquent)
      }
      return { status: status.body['is_delinquent'], listed: await list(true), others: await list(false) }
    }
    await post(id, 'payment-methods', { payment_method_id: 'pm_card_chargeCustomerFail' })
    await advance(id, '36d')
    expect((await subscriptionOf(id))['standing']).toMatchObject({ state: 'suspended' })
    await post(id, 'cancel', { immediate: true })
    const ended = await subscriptionOf(id)
    expect(ended['ended_at']).not.toBeNull()
    expect(ended['standing']).toMatchObject({ state: 'free', reason: 'subscription_ended', since: ended['ended_at'] })
    expect(await delinquent()).toEqual({ status: true, listed: [true], others: [] })
    const again = await post(id, 'subscribe', { tier: 'pro', ...GOOD })
    const [open] = await invoicesOf(id, '?status=open')
    expect(again).toMatchObject({ status: 402, body: { code: 'payment_failed', invoice_id: open!['id'] } })
    await succeed(id, `invoices/${open!.id}/pay`, GOOD)
    expect(await delinquent()).toEqual({ status: false, listed: [], others: [false] })
    await succeed(id, 'subscribe', { tier: 'pro', ...GOOD })
  })
})

describe('a second live subscription', () => {
  test('ends with the first', async () => {
    const id = await subscribed('doubled', { tier: 'starter' })
    const first = (await subscriptionOf(id))['subscription_id'] as string
    const { items } = await billing.stripe.subscriptions.retrieve(first)
    const customer = (await subscriptionOf(id))['stripe_customer_id'] as string
    await billing.stripe.subscriptions.create({ customer, items: [{ price: items.data[0]!.price.id }] })
    await expect.poll(() => liveOf(id)).toHaveLength(2)
    expect((await post(id, 'cancel', { immediate: true })).body).toMatchObject({ status: 'cancelled', tier: 'free' })
    expect(await liveOf(id)).toEqual([])
  })

  test('leaves with the one that counts at the period’s end, whatever was scheduled of either', async () => {
    const id = await subscribed('two_schedules', { tier: 'pro' })
    await succeed(id, 'downgrade', { new_tier: 'starter', at: 'period_end' })
    const { stripe_customer_id: customer } = await subscriptionOf(id)
    const price = await billing.priceOf('enterprise')
    await advance(id, '1d')
    await billing.stripe.subscriptions.create({ customer: String(customer), items: [{ price }] })
    // The newer one counts from now on.
    await expect.poll(() => subscriptionOf(id)).toMatchObject({ plan: 'enterprise', scheduled_change: null })
    await succeed(id, 'cancel', { immediate: false })
    await advance(id, '33d')
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'free', status: 'canceled' })
    expect(await liveOf(id)).toEqual([])
  })
})
