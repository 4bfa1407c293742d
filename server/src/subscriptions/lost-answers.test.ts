import { describe, expect, test } from 'vitest'
import { failing, KILLED } from '../../test/failing.ts'
import { OFFERED, testSubscriptions } from '../../test/subscriptions.ts'
import { MINUTE_MS } from '../lib/period.ts'
import { finishStrandedIntents } from '../stripe/intents/finish-intents.ts'
import { changePlan } from './actions.ts'

// Without webhooks, so that nothing but the repeat tells what became of the first request.
const billing = testSubscriptions({ catalog: OFFERED, webhooks: false })
const { advance, onClock, post, subscriptionOf } = billing

async function subscribed(id: string): Promise<string> {
  await billing.createOrganization(id)
  expect(await post(id, 'subscribe', { plan: 'pro', payment_method_id: 'pm_card_visa' })).toMatchObject({ status: 200 })
  return id
}

/** The answer of one route of Stripe's is lost after it has done what was asked. */
async function losing(route: string, work: () => Promise<{ status: number }>): Promise<void> {
  billing.sandbox.setChaos({ api: [{ route, lostResponse: 1 }] })
  expect((await work()).status).toBe(503)
  billing.sandbox.setChaos({})
}

async function told(id: string): Promise<object[]> {
  const { rows } = await billing.database.db.query<{ action: string; before: unknown; after: unknown }>(
    `select action, before, after from audit_log where organization_id = $1 and action <> 'subscription.started' order by id`,
    [id],
  )
  return rows
}

const CANCELED = {
  action: 'subscription.canceled',
  before: { plan: 'pro', interval: 'monthly', quantity: 1 },
  after: { kind: 'cancel_now' },
}

describe('a change whose answer was lost', () => {
  test('EM-11 is a success when a cancellation is repeated, and the audit log tells what was cancelled', async () => {
    const id = await subscribed('leaving')
    await losing('DELETE /v1/subscriptions/*', () => post(id, 'cancel', { immediate: true }))
    const repeated = await post(id, 'cancel', { immediate: true })
    expect(repeated).toMatchObject({ status: 200, body: { status: 'cancelled', tier: 'free' } })
    expect(await told(id)).toEqual([CANCELED, expect.objectContaining({ action: 'subscription.confirmed' })])
    expect(await post(id, 'cancel', { immediate: true })).toMatchObject({ status: 409, body: { code: 'subscription_missing' } })
  })

  test('is told in the audit log also when nobody comes back for it', async () => {
    const id = await subscribed('gone')
    await losing('DELETE /v1/subscriptions/*', () => post(id, 'cancel', { immediate: true }))
    const later = new Date(billing.context.clock.now().getTime() + 2 * 60_000)
    await finishStrandedIntents(billing.with({ clock: { now: () => later } }))
    expect(await told(id)).toEqual([CANCELED])
  })

  test('a subscription that was cancelled elsewhere in the meantime is cancelled', async () => {
    const id = await subscribed('elsewhere')
    const { subscription_id } = await subscriptionOf(id)
    await billing.context.gateway!.perform(
      'cancel_subscription',
      { subscriptionId: String(subscription_id), prorate: false, invoiceNow: false },
      { idempotencyKey: 'by hand', priority: 'interactive' },
    )
    expect(await post(id, 'cancel', { immediate: true })).toMatchObject({ status: 200, body: { tier: 'free' } })
    expect(await told(id)).toEqual([CANCELED])
  })

  test('of plan: the repeat answers 200, and the audit log tells from what to what', async () => {
    const id = await subscribed('growing')
    await losing('POST /v1/subscriptions/*', () => post(id, 'upgrade', { new_tier: 'max' }))
    expect(await post(id, 'upgrade', { new_tier: 'max' })).toMatchObject({ status: 200, body: { tier: 'max' } })
    expect(await told(id)).toMatchObject([
      { action: 'subscription.switched', before: { plan: 'pro' }, after: { plan: 'max', quantity: 1 } },
      { action: 'subscription.confirmed' },
    ])
  })

  test('of plan, by who had cancelled: the repeat finds that they stay', async () => {
    const id = await subscribed('staying')
    await post(id, 'cancel', { immediate: false })
    await losing('POST /v1/subscriptions/*', () => post(id, 'upgrade', { new_tier: 'max' }))
    expect(await post(id, 'upgrade', { new_tier: 'max' })).toMatchObject({ status: 200, body: { tier: 'max', cancel_at: null } })
    expect(await subscriptionOf(id)).toMatchObject({ cancel_at_period_end: false })
  })

  test('of a pause’s end, for which the bank asks the customer: the repeat answers the page of the same invoice', async () => {
    const id = await onClock('resting')
    await post(id, 'subscribe', { plan: 'pro', payment_method_id: 'pm_card_visa' })
    await post(id, 'payment-methods', { payment_method_id: 'pm_card_authenticationRequired' })
    await post(id, 'pause', {})
    await advance(id, '32d')
    await losing('POST /v1/subscriptions/*', () => post(id, 'resume', {}))
    expect(await post(id, 'resume', {})).toMatchObject({ status: 200, body: { status: 'paused', requires_action: true } })
    expect((await billing.call(id, 'GET', '/api/v1/billing/invoices')).body).toMatchObject([
      { status: 'open' },
      { status: 'paid' },
    ])
  })

  test('of an add-on: the repeat answers 200, once it is told, and it is paid once', async () => {
    const id = await subscribed('helped')
    await losing('POST /v1/subscriptions/*', () => post(id, 'add-ons', { add_on: 'support', quantity: 2 }))
    expect(await post(id, 'add-ons', { add_on: 'support', quantity: 2 })).toMatchObject({
      status: 200,
      body: { add_ons: [{ add_on: 'support', quantity: 2 }] },
    })
    expect(await told(id)).toEqual([{ action: 'add_on.changed', before: { quantity: 0 }, after: { quantity: 2 } }])
    expect(await post(id, 'add-ons', { add_on: 'support', quantity: 2 })).toMatchObject({ status: 409 })
  })

  test('of a payment method that was removed: the repeat answers the same', async () => {
    const id = await subscribed('tidy')
    const { rows } = await billing.database.db.query<{ id: string }>(
      `select id from stripe_payment_methods where organization_id = $1`,
      [id],
    )
    expect(await post(id, 'payment-methods', { payment_method_id: 'pm_card_mastercard' })).toMatchObject({ status: 200 })
    const remove = () => billing.call(id, 'DELETE', `/api/v1/billing/payment-methods/${rows[0]!.id}`)
    await losing('POST /v1/payment_methods/*', remove)
    expect((await remove()).status).toBeLessThan(300)
    expect(await told(id)).toContainEqual(expect.objectContaining({ action: 'payment_method.removed' }))
    expect((await remove()).status).toBe(404)
  })
})

test('a change for the period’s end whose server died once it had made a schedule is scheduled by its repeat', async () => {
  const id = await subscribed('half_scheduled')
  const wish = {
    organizationId: id,
    request: { kind: 'switch', planKey: 'max', interval: null, quantity: null, at: 'period_end' },
    prorationAt: null,
  } as const
  const asker = { actor: 'operator:test', requestId: 'req_half' }
  const dying = failing(billing.context, 'before', 'schedule_switch', KILLED)
  await expect(changePlan(dying, wish, asker)).rejects.toThrow('killed')
  // What was not made cannot come true any more.
  await changePlan(billing.later(5 * MINUTE_MS), wish, asker)
  expect(await subscriptionOf(id)).toMatchObject({ scheduled_change: { tier: 'max' } })
})
