import { describe, expect, test } from 'vitest'
import type { Answer } from '../../test/billing-requests.ts'
import { OFFERED, testSubscriptions } from '../../test/subscriptions.ts'
import { HOUR_MS } from '../lib/period.ts'
import { pruneRequests } from './jobs.ts'

// Without webhooks, so that nothing but the request and its repeat brings what Stripe holds.
const billing = testSubscriptions({ catalog: OFFERED, webhooks: false })
const { subscriptionOf } = billing
const BILLING = '/api/v1/billing'

type Send = (headers?: Record<string, string>) => Promise<Answer>

const post =
  (id: string, path: string, body: object = {}): Send =>
  (headers) =>
    billing.post(id, path, body, headers)

/** Stripe does what is asked, and is away when it is read afterwards. */
async function unread(send: () => Promise<Answer>): Promise<void> {
  billing.sandbox.setChaos({ api: [{ route: 'GET *', serverError: 1 }] })
  const { status } = await send()
  billing.sandbox.setChaos({})
  expect(status).toBeGreaterThanOrEqual(500)
}

/** How often the audit log tells of something. */
async function told(id: string, action: string): Promise<number> {
  const { rows } = await billing.database.db.query('select from audit_log where organization_id = $1 and action = $2', [
    id,
    action,
  ])
  return rows.length
}

const subscribe = (id: string) => post(id, 'subscribe', { plan: 'pro', payment_method_id: 'pm_card_visa' })

async function subscribed(id: string): Promise<string> {
  await billing.createOrganization(id)
  expect((await subscribe(id)()).status).toBe(200)
  return id
}

async function methodOf(id: string, is_default: boolean): Promise<string> {
  const methods = (await billing.call(id, 'GET', `${BILLING}/payment-methods`)).body as unknown as Record<string, unknown>[]
  return String(methods.find((method) => method['is_default'] === is_default)!['id'])
}

type Case = { readonly name: string; readonly action: string; readonly begin: (id: string) => Promise<Send> }

const CASES: readonly Case[] = [
  {
    name: 'a first subscription',
    action: 'subscription.started',
    async begin(id) {
      await billing.createOrganization(id)
      return subscribe(id)
    },
  },
  {
    name: 'a larger plan',
    action: 'subscription.switched',
    begin: async (id) => post(await subscribed(id), 'upgrade', { plan: 'max' }),
  },
  {
    name: 'a smaller plan at the period’s end',
    action: 'subscription.switch_scheduled',
    async begin(id) {
      await subscribed(id)
      await post(id, 'upgrade', { plan: 'max' })()
      return post(id, 'downgrade', { plan: 'pro', at: 'period_end' })
    },
  },
  {
    name: 'an add-on',
    action: 'add_on.changed',
    begin: async (id) => post(await subscribed(id), 'add-ons', { add_on: 'support', quantity: 2 }),
  },
  {
    name: 'a cancellation at once',
    action: 'subscription.canceled',
    begin: async (id) => post(await subscribed(id), 'cancel', { immediate: true }),
  },
  { name: 'a cancellation', action: 'subscription.cancel_scheduled', begin: async (id) => post(await subscribed(id), 'cancel') },
  { name: 'a pause', action: 'subscription.paused', begin: async (id) => post(await subscribed(id), 'pause') },
  {
    name: 'going on after a pause',
    action: 'subscription.resumed',
    async begin(id) {
      await post(await subscribed(id), 'pause')()
      return post(id, 'resume')
    },
  },
  {
    name: 'another card',
    action: 'payment_method.replaced',
    async begin(id) {
      await billing.createOrganization(id)
      await post(id, 'payment-methods', { payment_method_id: 'pm_card_visa' })()
      await subscribe(id)()
      const first = await methodOf(id, true)
      await post(id, 'payment-methods', { payment_method_id: 'pm_card_mastercard' })()
      return post(id, 'payment-methods', { payment_method_id: first })
    },
  },
  {
    name: 'a card that is removed',
    action: 'payment_method.removed',
    async begin(id) {
      await post(await subscribed(id), 'payment-methods', { payment_method_id: 'pm_card_mastercard' })()
      const old = await methodOf(id, false)
      return (headers) => billing.call(id, 'DELETE', `${BILLING}/payment-methods/${old}`, undefined, headers)
    },
  },
]

describe('a change that Stripe made and that could not be read back', () => {
  test.each(CASES)('is told once and answered when it is asked for again: $name', async ({ action, begin }) => {
    const id = `again_${CASES.findIndex((each) => each.action === action)}`
    const send = await begin(id)
    const before = await told(id, action)
    await unread(send)
    expect(await told(id, action)).toBe(before + 1)
    expect((await send()).status).toBeLessThan(300)
    expect(await told(id, action)).toBe(before + 1)
  })
})

describe('a key of the caller’s', () => {
  test.each(CASES)('answers a repeat as at first, without doing it again: $name', async ({ action, begin }) => {
    const id = `keyed_${CASES.findIndex((each) => each.action === action)}`
    const send = await begin(id)
    const first = await send(key)
    const after = await told(id, action)
    const second = await send(key)
    expect(first.status).toBeLessThan(300)
    expect({ status: second.status, body: second.body }).toEqual({ status: first.status, body: first.body })
    expect(await told(id, action)).toBe(after)
  })

  const key = { 'idempotency-key': 'k' }

  test('makes a change once, whatever was changed before its repeat', async () => {
    const id = await subscribed('moved_on')
    const up = post(id, 'upgrade', { plan: 'max' })
    await unread(() => up(key))
    expect((await post(id, 'downgrade', { plan: 'pro', at: 'now' })()).status).toBe(200)
    expect((await up(key)).body).toMatchObject({ tier: 'pro' })
    expect(await told(id, 'subscription.switched')).toBe(2)
  })

  test('knows a request that means the same: the moment of its proration in another zone', async () => {
    const id = await subscribed('spelled')
    const { body } = await billing.call(id, 'POST', '/api/v1/billing/upgrade/preview', { plan: 'max' })
    const moment = String(body['proration_date'])
    const elsewhere = new Date(Date.parse(moment) + 2 * HOUR_MS).toISOString().replace('Z', '+02:00')
    for (const proration_date of [moment, elsewhere])
      expect(await post(id, 'upgrade', { plan: 'max', proration_date })(key)).toMatchObject({ status: 200 })
    expect(await told(id, 'subscription.switched')).toBe(1)
  })

  test('knows a request that names the organization, as one that is meant anyway', async () => {
    const id = await subscribed('named')
    for (const body of [{ plan: 'max' }, { plan: 'max', organization_id: id }])
      expect(await post(id, 'upgrade', body)(key)).toMatchObject({ status: 200 })
    expect(await told(id, 'subscription.switched')).toBe(1)
  })

  test('makes one change of two calls at once', async () => {
    const id = await subscribed('twice_at_once')
    const up = post(id, 'upgrade', { plan: 'max' })
    const answers = await Promise.all([up(key), up(key)])
    expect(answers.map(({ status, body }) => [status, body['tier']])).toEqual([
      [200, 'max'],
      [200, 'max'],
    ])
    expect(await told(id, 'subscription.switched')).toBe(1)
  })

  test('is refused for another request, and says which field differs', async () => {
    const id = await subscribed('reused')
    expect((await post(id, 'upgrade', { plan: 'max' })(key)).status).toBe(200)
    const conflict = (field: string) => ({ status: 409, body: { code: 'idempotency_conflict', field } })
    expect(await post(id, 'upgrade', { plan: 'pro' })(key)).toMatchObject(conflict('plan'))
    expect(await post(id, 'cancel')(key)).toMatchObject(conflict('path'))
  })

  test('keeps no refusal: the repeat tries again', async () => {
    const id = await subscribed('declined_first')
    const pay = post(id, 'pause')
    await post(id, 'pause')()
    expect((await pay(key)).status).toBe(409)
    await post(id, 'resume')()
    expect(await pay(key)).toMatchObject({ status: 200, body: { status: 'paused' } })
  })

  test('is nobody else’s, and of no organization that does not exist', async () => {
    const [a, b] = [await subscribed('key_of_a'), await subscribed('key_of_b')]
    expect((await post(a, 'pause')(key)).status).toBe(200)
    expect((await post(b, 'upgrade', { plan: 'max' })(key)).status).toBe(200)
    expect((await billing.call('operator', 'POST', `${BILLING}/pause`, { organization_id: 'nobody' }, key)).status).toBe(404)
  })

  test('of an operator is another one for each organization', async () => {
    for (const id of ['operated_a', 'operated_b']) {
      await subscribed(id)
      const paused = await billing.call('operator', 'POST', `${BILLING}/pause`, { organization_id: id }, key)
      expect(paused).toMatchObject({ status: 200, body: { status: 'paused' } })
      expect(await told(id, 'subscription.paused')).toBe(1)
    }
  })

  test('is forgotten after 35 days', async () => {
    const id = await subscribed('long_ago')
    await post(id, 'pause')(key)
    const keys = async () =>
      (await billing.database.db.query('select from billing_requests where organization_id = $1', [id])).rows.length
    const inDays = (days: number) => ({ now: () => new Date(billing.context.clock.now().getTime() + days * 86_400_000) })
    await pruneRequests(billing.with({ clock: inDays(34) }))
    expect(await keys()).toBe(1)
    await pruneRequests(billing.with({ clock: inDays(36) }))
    expect(await keys()).toBe(0)
  })
})

test('a cancellation of which nobody heard, and that was undone at Stripe since, is made when it is asked for again', async () => {
  const id = await subscribed('undone_there')
  const cancel = post(id, 'cancel', { immediate: false })
  await unread(cancel)
  const { subscription_id: subscriptionId } = await subscriptionOf(id)
  const undo = { subscriptionId: String(subscriptionId), cancelAtPeriodEnd: false }
  await billing.context.gateway!.perform('update_subscription', undo, { idempotencyKey: 'in the portal' })
  expect(await cancel()).toMatchObject({ status: 200, body: { status: 'cancelled' } })
  const [subscription] = billing.sandbox.all('subscription').filter((one) => one.id === subscriptionId)
  expect(subscription!.cancel_at_period_end).toBe(true)
})
