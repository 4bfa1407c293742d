import { Stripe } from 'stripe'
import { expect, test } from 'vitest'
import { startReceiver, startTestSandbox } from '../../test/contract.ts'

const SECRET = 'whsec_test'

test('a delivery is tried again, freshly signed, until the receiver answers 2xx', async () => {
  const { url, received } = await startReceiver(SECRET, (_event, attempt) => (attempt < 3 ? 500 : 200))
  const { stripe, sandbox } = await startTestSandbox({
    webhooks: [{ url, secret: SECRET }],
    delivery: { retrySeconds: [0, 0, 0] },
  })
  await stripe.customers.create()
  await sandbox.settled()
  expect(received.map(({ event }) => event.type)).toEqual(['customer.created', 'customer.created', 'customer.created'])
  expect(new Set(received.map(({ event }) => event.id)).size).toBe(1)
  const { data } = await stripe.events.list()
  expect(data[0]).toMatchObject({ pending_webhooks: 0 })
})

test('only 2xx counts, and after the schedule the delivery has failed', async () => {
  const { url, received } = await startReceiver(SECRET, () => 302)
  const { stripe, sandbox } = await startTestSandbox({ webhooks: [{ url, secret: SECRET }], delivery: { retrySeconds: [0] } })
  await stripe.customers.create()
  await sandbox.settled()
  expect(received).toHaveLength(2)
  expect(sandbox.all('_delivery')).toMatchObject([{ state: 'failed', attempts: 2, lastResult: '302' }])
  expect((await stripe.events.list({ delivery_success: false })).data).toHaveLength(1)
})

test('a receiver that cannot be reached waits for its next try; settled does not wait for a far one', async () => {
  const { stripe, sandbox } = await startTestSandbox({
    webhooks: [{ url: 'http://127.0.0.1:1/', secret: SECRET }],
    delivery: { retrySeconds: [3600] },
  })
  await stripe.customers.create()
  await sandbox.settled()
  expect(sandbox.all('_delivery')).toMatchObject([{ state: 'pending', attempts: 1, lastResult: 'ECONNREFUSED' }])
})

test('each endpoint gets the events it asked for', async () => {
  const all = await startReceiver('whsec_all')
  const some = await startReceiver('whsec_some')
  const { stripe, sandbox } = await startTestSandbox()
  await stripe.webhookEndpoints.create({ url: all.url, enabled_events: ['*'] })
  const created = await stripe.webhookEndpoints.create({ url: some.url, enabled_events: ['product.created'] })
  expect(created.secret).toMatch(/^whsec_/)
  expect(await stripe.webhookEndpoints.retrieve(created.id)).not.toHaveProperty('secret')
  await Promise.all(
    sandbox.all('webhook_endpoint').map(async ({ id, url }) => {
      const secret = url === all.url ? 'whsec_all' : 'whsec_some'
      await fetch(`${sandbox.url}/_sandbox/webhook_endpoints/${id}/roll_secret`, {
        method: 'POST',
        body: JSON.stringify({ secret, overlap_seconds: 0 }),
      })
    }),
  )
  await stripe.products.create({ name: 'Gold' })
  await stripe.customers.create()
  await sandbox.settled()
  expect(all.received.map(({ event }) => event.type).sort()).toEqual(['customer.created', 'product.created'])
  expect(some.received.map(({ event }) => event.type)).toEqual(['product.created'])
})

test('while a secret rolls, both secrets sign', async () => {
  const { url, received } = await startReceiver('whsec_new')
  const { stripe, sandbox } = await startTestSandbox({ webhooks: [{ url, secret: 'whsec_old' }] })
  const [endpoint] = sandbox.all('webhook_endpoint')
  await fetch(`${sandbox.url}/_sandbox/webhook_endpoints/${endpoint?.id}/roll_secret`, {
    method: 'POST',
    body: JSON.stringify({ secret: 'whsec_new' }),
  })
  await stripe.customers.create()
  await sandbox.settled()
  const [delivery] = received
  expect(delivery?.signature.match(/v1=/g)).toHaveLength(2)
  const verifier = new Stripe('sk_test_x')
  expect(verifier.webhooks.constructEvent(delivery?.body ?? '', delivery?.signature ?? '', 'whsec_old').type).toBe(
    'customer.created',
  )
})

test('a disabled or deleted endpoint gets nothing more', async () => {
  const { url, received } = await startReceiver(SECRET)
  const { stripe, sandbox } = await startTestSandbox({ webhooks: [{ url, secret: SECRET }] })
  const [endpoint] = sandbox.all('webhook_endpoint')
  await stripe.webhookEndpoints.update(endpoint?.id ?? '', { disabled: true })
  await stripe.customers.create()
  await stripe.webhookEndpoints.del(endpoint?.id ?? '')
  await stripe.customers.create()
  await sandbox.settled()
  expect(received).toEqual([])
})

test('a thin event names its object and is fetched for the rest', async () => {
  const { url, received } = await startReceiver(SECRET, () => 200, { thin: true })
  const { stripe, sandbox } = await startTestSandbox()
  const destination = await stripe.v2.core.eventDestinations.create({
    name: 'thin',
    type: 'webhook_endpoint',
    event_payload: 'thin',
    enabled_events: ['v1.billing.meter.no_meter_found'],
    webhook_endpoint: { url },
    include: ['webhook_endpoint.signing_secret'],
  })
  await stripe.billing.meterEvents.create({ event_name: 'nothing', payload: { stripe_customer_id: 'cus_1', value: '1' } })
  await stripe.v2.core.eventDestinations.ping(destination.id)
  await sandbox.settled()
  const secret = destination.webhook_endpoint?.signing_secret ?? ''
  const notices = received.map(({ body, signature }) => stripe.parseEventNotification(body, signature, secret))
  expect(notices.map(({ type }) => type)).toEqual(['v1.billing.meter.no_meter_found', 'v2.core.event_destination.ping'])
  expect(JSON.parse(received[0]?.body ?? '{}')).not.toHaveProperty('data')
  expect(await notices[0]?.fetchEvent()).toMatchObject({ data: { reason: { error_count: 1 } } })
})
