import { describe, expect, test } from 'vitest'
import { failing } from '../../../test/failing.ts'
import { changeByOperator, switchTo } from '../../../test/purchases.ts'
import { OFFERED, testSubscriptions } from '../../../test/subscriptions.ts'
import { MINUTE_MS } from '../../lib/period.ts'
import type { BillingContext } from '../context.ts'
import { StripeCallError } from '../gateway/errors.ts'
import type { MutationKind } from '../gateway/mutations.ts'
import { isAsWished } from './asked-after.ts'
import { finishStrandedIntents } from './finish-intents.ts'
import { performIntent } from './intents.ts'

// What was asked for and told to have failed, or not to be known: nobody else's request makes it.

// Without webhooks, so that nothing but requests brings what Stripe holds.
const billing = testSubscriptions({ catalog: OFFERED, webhooks: false })
const { later, post, subscriptionOf } = billing

async function subscribed(id: string): Promise<string> {
  await billing.createOrganization(id)
  expect(await post(id, 'subscribe', { plan: 'pro', payment_method_id: 'pm_card_visa' })).toMatchObject({ status: 200 })
  return id
}

/** Stripe fails on every change, and makes none. */
async function inVain(work: () => Promise<{ status: number; body: Record<string, unknown> }>): Promise<void> {
  billing.sandbox.setChaos({ api: [{ route: 'POST *', serverError: 1 }] })
  const { status, body } = await work()
  billing.sandbox.setChaos({})
  expect(status).toBe(502)
  expect(body['detail']).toContain('what was not done is done only if you ask for it again')
}

async function customerOf(id: string): Promise<string> {
  const { rows } = await billing.database.db.query<{ customer: string }>(
    'select stripe_customer_id as customer from organizations where id = $1',
    [id],
  )
  return rows[0]!.customer
}

/** What was taken of an organization's card, in order. */
async function charged(id: string): Promise<number[]> {
  const customer = await customerOf(id)
  return billing.sandbox
    .all('charge')
    .filter((each) => each.customer === customer)
    .map(({ amount }) => amount)
}

async function statesOf(id: string, kind: MutationKind): Promise<string[]> {
  const { rows } = await billing.database.db.query<{ state: string }>(
    'select state from stripe_intents where organization_id = $1 and kind = $2 order by created_at, id',
    [id, kind],
  )
  return rows.map(({ state }) => state)
}

/** Stripe does not answer calls of one kind; `arrives` whether it carries them out all the same. */
const unanswered = (kind: MutationKind, arrives: boolean) =>
  failing(billing.context, arrives ? 'after' : 'before', kind, new StripeCallError('stripe_unavailable', 'lost', 'unanswered'))

const upgrade = (context: BillingContext, id: string) => changeByOperator(context, id, switchTo('max', null))
const cancel = (context: BillingContext, id: string) => changeByOperator(context, id, { kind: 'cancel', immediate: false })

describe('a change that Stripe failed on and did not make', () => {
  test('is not made by another request, and nothing is charged for it', async () => {
    const id = await subscribed('gave_up')
    await inVain(() => post(id, 'upgrade', { new_tier: 'max' }))
    expect(await post(id, 'cancel', { immediate: false })).toMatchObject({ status: 200, body: { tier: 'pro' } })
    expect(await charged(id)).toEqual([2000])
    expect(await statesOf(id, 'update_subscription')).toEqual(['abandoned', 'succeeded'])
  })

  test('is not made by the housekeeping', async () => {
    const id = await subscribed('left')
    await inVain(() => post(id, 'upgrade', { new_tier: 'max' }))
    await finishStrandedIntents(later(3 * MINUTE_MS))
    expect(await charged(id)).toEqual([2000])
    expect(await statesOf(id, 'update_subscription')).toEqual(['abandoned'])
  })

  test('is made once for who asks again', async () => {
    const id = await subscribed('again')
    await inVain(() => post(id, 'upgrade', { new_tier: 'max' }))
    expect(await post(id, 'upgrade', { new_tier: 'max' })).toMatchObject({ status: 200, body: { tier: 'max' } })
    expect(await post(id, 'upgrade', { new_tier: 'max' })).toMatchObject({ status: 409 })
    expect(await charged(id)).toHaveLength(2)
  })

  test.each(['cancel', 'pause'])('is no %s that takes place when something else is asked for', async (path) => {
    const id = await subscribed(`stays_${path}`)
    billing.sandbox.setChaos({
      api: [
        { route: 'DELETE *', serverError: 1 },
        { route: 'POST *', serverError: 1 },
      ],
    })
    expect(await post(id, path, path === 'cancel' ? { immediate: true } : {})).toMatchObject({ status: 502 })
    billing.sandbox.setChaos({})
    expect(await post(id, 'upgrade', { new_tier: 'max' })).toMatchObject({ status: 200, body: { tier: 'max', status: 'active' } })
  })

  test('is no payment of a package: it is not paid by another request, and once by its own repeat', async () => {
    const id = await subscribed('packs')
    const buy = () => post(id, 'top-ups', { top_up: 'pack' }, { 'Idempotency-Key': 'one-pack' })
    await inVain(buy)
    await post(id, 'cancel', { immediate: false })
    expect(await charged(id)).toEqual([2000])
    const listed = (await billing.call(id, 'GET', '/api/v1/billing/top-ups')).body['purchases']
    expect(listed).toMatchObject([{ status: 'failed', failure_code: 'not_carried_out' }])
    expect(await buy()).toMatchObject({ status: 201, body: { status: 'paid' } })
    expect((await buy()).body).toMatchObject({ status: 'paid' })
    expect(await charged(id)).toEqual([2000, 700])
  })
})

describe('a change that Stripe did not answer', () => {
  test('and has not made may still come true: until that is past, nothing else is changed', async () => {
    const id = await subscribed('doubt')
    await expect(upgrade(unanswered('update_subscription', false), id)).rejects.toMatchObject({ outcome: 'unanswered' })
    const refused = await post(id, 'cancel', { immediate: false })
    expect(refused).toMatchObject({ status: 503, body: { code: 'stripe_unavailable' } })
    const wait = Number(refused.headers.get('retry-after'))
    expect(wait).toBeGreaterThan(50)
    expect(wait).toBeLessThanOrEqual(60)
    await cancel(later(wait * 1000), id)
    expect(await statesOf(id, 'update_subscription')).toEqual(['abandoned', 'succeeded'])
    expect(await charged(id)).toEqual([2000])
  })

  test('and has made after all is found, told, and not made twice', async () => {
    const id = await subscribed('made')
    await expect(upgrade(unanswered('update_subscription', true), id)).rejects.toMatchObject({ outcome: 'unanswered' })
    await cancel(billing.context, id)
    expect(await charged(id)).toHaveLength(2)
    expect(await subscriptionOf(id)).toMatchObject({ tier: 'max' })
    const { rows } = await billing.database.db.query(
      `select action from audit_log where organization_id = $1 and action = 'subscription.switched'`,
      [id],
    )
    expect(rows).toHaveLength(1)
  })

  test('is found although its request was not the last: what the throttled repeat says is no end of it', async () => {
    const id = await subscribed('throttled')
    await expect(upgrade(unanswered('update_subscription', false), id)).rejects.toMatchObject({ outcome: 'unanswered' })
    await expect(upgrade(billing.context, id)).rejects.toMatchObject({ code: 'stripe_unavailable', outcome: 'later' })
    await upgrade(later(MINUTE_MS), id)
    expect(await charged(id)).toHaveLength(2)
  })
})

test('a declined payment whose answer was lost is a declined one: its purchase has failed', async () => {
  const id = await subscribed('declined')
  await post(id, 'payment-methods', { payment_method_id: 'pm_card_chargeCustomerFail' })
  billing.sandbox.setChaos({ api: [{ route: 'POST /v1/payment_intents', lostResponse: 1 }] })
  const buy = () => post(id, 'top-ups', { top_up: 'pack' }, { 'Idempotency-Key': 'declined' })
  expect(await buy()).toMatchObject({ status: 503 })
  billing.sandbox.setChaos({})
  expect(await buy()).toMatchObject({ status: 402, body: { code: 'payment_failed' } })
  expect(await statesOf(id, 'create_payment')).toEqual(['failed'])
})

test('one that cannot be found out keeps nobody else, and what a deleted customer left is over', async () => {
  const ids = ['erased', 'behind']
  for (const id of ids) {
    await subscribed(id)
    const params = {
      customerId: await customerOf(id),
      paymentMethodId: 'pm_card_visa',
      amountMinor: 100,
      currency: 'usd',
      description: 'x',
      metadata: {},
    }
    const call = performIntent(unanswered('create_payment', false), billing.database.db, {
      organizationId: id,
      kind: 'create_payment',
      params,
    })
    await expect(call).rejects.toMatchObject({ outcome: 'unanswered' })
  }
  await billing.stripe.customers.del(await customerOf('erased'))
  await finishStrandedIntents(later(3 * MINUTE_MS)).catch(() => undefined)
  for (const id of ids) expect(await statesOf(id, 'create_payment')).toEqual(['abandoned'])
})

describe('a subscription is as an update wished it', () => {
  const item = { id: 'si_1', priceId: 'price_1', quantity: 2 as number | null }
  const subscription = {
    items: [item],
    cancelAt: null,
    cancelAtPeriodEnd: false,
    defaultPaymentMethodId: 'pm_1',
    pendingUpdateExpiresAt: null,
  }
  type Items = Parameters<typeof isAsWished>[0]['items']
  const found = (parts: object) => ({ ...subscription, ...parts }) as unknown as Parameters<typeof isAsWished>[0]
  const wish = (parts: object) => ({ subscriptionId: 'sub_1', ...parts })
  const items = (...all: object[]) => all as unknown as Items

  test.each([
    ['its price and number', { items: [{ itemId: 'si_1', priceId: 'price_1', quantity: 2 }] }, {}, true],
    ['another number', { items: [{ itemId: 'si_1', priceId: 'price_1', quantity: 3 }] }, {}, false],
    ['another price', { items: [{ itemId: 'si_1', priceId: 'price_2', quantity: 2 }] }, {}, false],
    ['one item more', { items: [{ itemId: null, priceId: 'price_2', quantity: 1 }] }, {}, false],
    [
      'a metered item more, which is there',
      { items: [{ itemId: null, priceId: 'price_2', quantity: null }] },
      { items: items(item, { id: 'si_2', priceId: 'price_2', quantity: null }) },
      true,
    ],
    ['an item less', { items: [{ itemId: 'si_1', priceId: 'price_1', quantity: null, removed: true }] }, {}, false],
    ['an item less, which is gone', { items: [{ itemId: 'si_0', priceId: 'p', quantity: null, removed: true }] }, {}, true],
    ['to end', { cancelAtPeriodEnd: true }, {}, false],
    ['to go on', { clearCancelAt: true }, { cancelAt: new Date(0) }, false],
    ['another card', { defaultPaymentMethodId: 'pm_2' }, {}, false],
    [
      'what waits for the bank',
      { paymentBehavior: 'pending_if_incomplete', items: [{ itemId: 'si_1', priceId: 'price_2', quantity: 2 }] },
      { pendingUpdateExpiresAt: new Date(0) },
      true,
    ],
    [
      'what waits for the bank, and to go on after it',
      { paymentBehavior: 'pending_if_incomplete', cancelAtPeriodEnd: false },
      { pendingUpdateExpiresAt: new Date(0), cancelAtPeriodEnd: true },
      true,
    ],
  ] as const)('%s', (_, wished, parts, is) => {
    expect(isAsWished(found(parts), wish(wished))).toBe(is)
  })
})
