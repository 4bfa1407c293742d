import type { Stripe } from 'stripe'
import { expect, test } from 'vitest'
import { USE_CATALOG } from '../../test/use-catalog.ts'
import { testUse } from '../../test/used.ts'
import { handleDueEvents } from '../stripe/inbox/inbox.ts'
import { receiveWebhook } from '../stripe/inbox/intake.ts'
import { reportNow } from './actions.ts'
import { noteMeterFaults } from './faults.ts'

const billing = testUse(USE_CATALOG)

/** An organization whose one report Stripe has taken and does not count. */
async function uncounted(): Promise<string> {
  const id = await billing.customer('starter')
  await billing.use(id, 'calls', 150)
  const { gateway } = billing.context
  const context = billing.with({
    gateway: {
      ...gateway!,
      sendMeterEvent: (event) => gateway!.sendMeterEvent({ ...event, customerId: 'cus_gone' }),
    },
  })
  await reportNow(context, id, { isStanding: true })
  return id
}

/** What Stripe sends to the webhook of its newest thin event: everything but the data. */
async function notification(): Promise<{ body: string; signature: string; id: string }> {
  const { data } = await billing.stripe.v2.core.events.list({ types: ['v1.billing.meter.error_report_triggered'] })
  const { data: _left, ...thin } = data[0] as Stripe.V2.Core.Event & { data: unknown }
  const body = JSON.stringify(thin)
  return { body, signature: billing.sign(body), id: thin.id }
}

const eventOf = async (id: string) =>
  (await billing.database.db.query('select outcome, last_error, source from stripe_events where event_id = $1', [id])).rows
const told = () => billing.logged.filter(({ fields }) => fields['event'] === 'billing.meter_error').length

test('a thin event is taken in, its data fetched, and what it tells stands in the standing and before operators', async () => {
  const id = await uncounted()
  const { body, signature, id: eventId } = await notification()
  await expect(receiveWebhook(billing.context, body, signature.replace(/v1=../, 'v1=00'))).rejects.toThrow('invalid signature')
  expect(await receiveWebhook(billing.context, body, signature)).toBe(true)
  expect(await receiveWebhook(billing.context, body, signature)).toBe(false)
  await handleDueEvents(billing.context)
  expect(await eventOf(eventId)).toEqual([{ outcome: 'applied', last_error: null, source: 'webhook' }])
  const notice = { code: 'use_not_reported', count: 1 }
  const subscription = await billing.call(id, 'GET', '/api/v1/billing/subscription')
  expect(subscription.body).toMatchObject({ standing: { state: 'active', may_use: true, notices: [notice] } })
  const snapshot = await billing.call(id, 'GET', '/api/v1/admin/billing')
  expect(snapshot.body).toMatchObject({ organizations: [{ standing: { notices: [notice] } }] })
  const state = await billing.call('operator', 'GET', `/api/v1/admin/organizations/${id}`)
  expect(state.body).toMatchObject({ subscription: { standing: { notices: [notice] } } })
  const before = told()
  await noteMeterFaults(billing.context)
  expect(told()).toBe(before)
  const { body: failed } = await billing.ask('GET', `/api/v1/admin/billing/failed-reports?organization_id=${id}`)
  const [{ identifier }] = failed['reports'] as [{ identifier: string }]
  await billing.ask('POST', `/api/v1/admin/billing/failed-reports/${identifier}/retry`)
  const mended = await billing.call(id, 'GET', '/api/v1/billing/subscription')
  expect(mended.body).toMatchObject({ standing: { notices: [] } })
})

test('while Stripe is away the event waits, and one that no webhook brought is found by asking', async () => {
  await uncounted()
  const { body, signature, id: eventId } = await notification()
  await receiveWebhook(billing.context, body, signature)
  const away = billing.with({ onMeterFaults: () => Promise.reject(new Error('Stripe is away')) })
  await handleDueEvents(away)
  expect(await eventOf(eventId)).toMatchObject([{ outcome: null, last_error: 'internal_error: Stripe is away' }])
  await noteMeterFaults(billing.context)
  expect(await eventOf(eventId)).toMatchObject([{ outcome: 'applied', last_error: null }])
  await uncounted()
  const { id: lost } = await notification()
  expect(lost).not.toBe(eventId)
  await noteMeterFaults(billing.context)
  expect(await eventOf(lost)).toEqual([{ outcome: 'applied', last_error: null, source: 'reconcile' }])
})

test('a body that only looks like a thin event is refused, and one of another kind is kept and left at that', async () => {
  const send = (event: object) => {
    const payload = JSON.stringify(event)
    return receiveWebhook(billing.context, payload, billing.sign(payload))
  }
  const thin = {
    id: 'evt_ping',
    object: 'v2.core.event',
    type: 'v2.core.event_destination.ping',
    livemode: false,
    created: '2026-01-01T00:00:00.000Z',
  }
  for (const wrong of [{ created: 'yesterday' }, { id: '' }, { livemode: 'no' }, { related_object: { id: 7 } }]) {
    await expect(send({ ...thin, ...wrong })).rejects.toThrow('not an event of Stripe')
  }
  expect(await send(thin)).toBe(true)
  await handleDueEvents(billing.context)
  expect(await eventOf('evt_ping')).toMatchObject([{ outcome: 'ignored' }])
})

test('an error that Stripe’s list shows later than its webhook is told all the same', async () => {
  await uncounted()
  const { body, signature, id: eventId } = await notification()
  const { gateway } = billing.context
  const lagging = billing.with({
    gateway: { ...gateway!, backgroundReads: { ...gateway!.backgroundReads, listMeterFaults: async () => [] } },
  })
  const before = told()
  await receiveWebhook(lagging, body, signature)
  await handleDueEvents({ ...lagging, onMeterFaults: () => noteMeterFaults(lagging) })
  expect(await eventOf(eventId)).toMatchObject([{ outcome: null }])
  await noteMeterFaults(billing.context)
  expect(await eventOf(eventId)).toMatchObject([{ outcome: 'applied' }])
  expect(told()).toBe(before + 1)
})
