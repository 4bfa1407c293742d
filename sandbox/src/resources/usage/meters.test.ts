import { Stripe } from 'stripe'
import { expect, test } from 'vitest'
import { clientFor, NOW, startTestSandbox } from '../../../test/contract.ts'

async function withMeter(formula: 'count' | 'last' | 'sum' = 'sum') {
  const started = await startTestSandbox()
  const { stripe } = started
  const meter = await stripe.billing.meters.create({
    display_name: 'Tokens',
    event_name: 'tokens',
    default_aggregation: { formula },
  })
  const customer = await stripe.customers.create()
  const send = (value: string, more: { identifier?: string; timestamp?: number; customer?: string } = {}) => {
    const { customer: who = customer.id, ...rest } = more
    return stripe.billing.meterEvents.create({ event_name: 'tokens', payload: { stripe_customer_id: who, value }, ...rest })
  }
  const total = async (from = NOW - 43_200, to = NOW + 43_200) => {
    const page = await stripe.billing.meters.listEventSummaries(meter.id, {
      customer: customer.id,
      start_time: from,
      end_time: to,
    })
    return page.data[0]?.aggregated_value
  }
  return { ...started, meter, customer, send, total }
}

test('a meter sums, counts, or keeps the last value', async () => {
  const expected = { sum: 1.3, count: 3, last: 0.2 }
  for (const formula of ['sum', 'count', 'last'] as const) {
    const { send, total } = await withMeter(formula)
    await send('1', { timestamp: NOW - 100 })
    await send('0.2', { timestamp: NOW })
    await send('0.1', { timestamp: NOW - 50 })
    expect(await total()).toBe(expected[formula])
  }
})

test('an identifier counts once within a day, and again after it', async () => {
  const { send, total, sandbox } = await withMeter()
  await send('5', { identifier: 'once', timestamp: NOW })
  await expect(send('5', { identifier: 'once' })).rejects.toMatchObject({ statusCode: 400 })
  expect(await total()).toBe(5)
  sandbox.advanceTo(NOW + 86_401)
  await send('5', { identifier: 'once', timestamp: NOW })
  expect(await total()).toBe(10)
})

test('a timestamp more than 35 days back or 5 minutes ahead is refused', async () => {
  const { send, total } = await withMeter()
  await expect(send('1', { timestamp: NOW - 35 * 86_400 - 1 })).rejects.toMatchObject({ code: 'timestamp_too_far_in_past' })
  await expect(send('1', { timestamp: NOW + 301 })).rejects.toMatchObject({ code: 'timestamp_in_future' })
  await send('1', { timestamp: NOW + 300 })
  expect(await total()).toBe(1)
})

test('an adjustment takes an event out again', async () => {
  const { stripe, send, total } = await withMeter()
  await send('5', { identifier: 'a' })
  await send('7', { identifier: 'b' })
  const cancel = () =>
    stripe.billing.meterEventAdjustments.create({ event_name: 'tokens', type: 'cancel', cancel: { identifier: 'a' } })
  expect(await cancel()).toMatchObject({ status: 'complete', cancel: { identifier: 'a' } })
  expect(await total()).toBe(7)
  await expect(cancel()).rejects.toMatchObject({ statusCode: 400 })
})

test('summaries group by the hour, newest first, and page', async () => {
  const { stripe, send, meter, customer } = await withMeter()
  for (const hours of [1, 2, 2, 4]) await send('1', { timestamp: NOW - hours * 3600 })
  const asked = { customer: customer.id, start_time: NOW - 10 * 3600, end_time: NOW, value_grouping_window: 'hour' as const }
  const summaries = await stripe.billing.meters
    .listEventSummaries(meter.id, { ...asked, limit: 2 })
    .autoPagingToArray({ limit: 10 })
  expect(summaries.map((summary) => [(NOW - summary.start_time) / 3600, summary.aggregated_value])).toEqual([
    [1, 1],
    [2, 2],
    [4, 1],
  ])
  await expect(
    stripe.billing.meters.listEventSummaries(meter.id, { customer: customer.id, start_time: NOW + 1, end_time: NOW + 60 }),
  ).rejects.toMatchObject({ param: 'start_time' })
})

test('usage of an unknown customer is told in a thin event, and counts for nobody', async () => {
  const { stripe, send, total, meter, sandbox } = await withMeter()
  await send('5', { customer: 'cus_nobody' })
  expect(await total()).toBe(0)
  const [thin] = sandbox.all('v2.core.event')
  const event = await stripe.v2.core.events.retrieve(thin?.id ?? '')
  expect(event).toMatchObject({
    type: 'v1.billing.meter.error_report_triggered',
    related_object: { id: meter.id },
    data: { reason: { error_count: 1, error_types: [{ code: 'meter_event_customer_not_found' }] } },
  })
})

test('the second API refuses at once, a stream tells afterwards', async () => {
  const { stripe, customer, total, sandbox } = await withMeter()
  const event = (who: string, identifier: string) => ({
    event_name: 'tokens',
    identifier,
    payload: { stripe_customer_id: who, value: '3' },
  })
  await expect(stripe.v2.billing.meterEvents.create(event('cus_nobody', 'x'))).rejects.toMatchObject({
    code: 'meter_event_customer_not_found',
  })
  await stripe.v2.billing.meterEvents.create(event(customer.id, 'y'))
  const session = await stripe.v2.billing.meterEventSession.create()
  const streaming = clientFor(sandbox, fetch, session.authentication_token)
  await streaming.v2.billing.meterEventStream.create({
    events: [event(customer.id, 'z'), event('cus_nobody', 'w'), event(customer.id, 'z')],
  })
  expect(await total()).toBe(6)
  expect(sandbox.all('v2.core.event')).toHaveLength(1)
  sandbox.advanceTo(NOW + 901)
  await expect(streaming.v2.billing.meterEventStream.create({ events: [] })).rejects.toBeInstanceOf(
    Stripe.errors.StripeAuthenticationError,
  )
})

test('a meter that is deactivated takes no usage, and its event name is free again', async () => {
  const { stripe, send, total, meter } = await withMeter()
  await expect(
    stripe.billing.meters.create({ display_name: 'x', event_name: 'tokens', default_aggregation: { formula: 'sum' } }),
  ).rejects.toMatchObject({ param: 'event_name' })
  await stripe.billing.meters.deactivate(meter.id)
  await send('5')
  expect(await total()).toBe(0)
  await stripe.billing.meters.reactivate(meter.id)
  await send('5')
  expect(await total()).toBe(5)
})
