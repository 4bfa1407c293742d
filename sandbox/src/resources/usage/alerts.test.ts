import { expect, test } from 'vitest'
import { startTestSandbox } from '../../../test/contract.ts'

test('a usage alert fires once for each customer that reaches it', async () => {
  const { stripe, events } = await startTestSandbox()
  const meter = await stripe.billing.meters.create({
    display_name: 'Tokens',
    event_name: 'tokens',
    default_aggregation: { formula: 'sum' },
  })
  const [ada, bob] = [await stripe.customers.create(), await stripe.customers.create()]
  const alert = await stripe.billing.alerts.create({
    alert_type: 'usage_threshold',
    title: 'ten',
    usage_threshold: { gte: 10, meter: meter.id, recurrence: 'one_time' },
  })
  const use = (customer: string, value: string) =>
    stripe.billing.meterEvents.create({ event_name: 'tokens', payload: { stripe_customer_id: customer, value } })
  await use(ada.id, '9')
  await use(bob.id, '1')
  await use(ada.id, '1')
  await use(ada.id, '5')
  const fired = events().filter((event) => event.type === 'billing.alert.triggered')
  expect(fired.map((event) => event.data.object)).toMatchObject([{ customer: ada.id, value: 10, alert: { id: alert.id } }])
  await stripe.billing.alerts.deactivate(alert.id)
  await use(bob.id, '100')
  await stripe.billing.alerts.activate(alert.id)
  await use(bob.id, '1')
  expect(events().filter((event) => event.type === 'billing.alert.triggered')).toHaveLength(2)
})

test('an alert for one customer leaves the others alone', async () => {
  const { stripe, eventTypes } = await startTestSandbox()
  const meter = await stripe.billing.meters.create({
    display_name: 'Tokens',
    event_name: 'tokens',
    default_aggregation: { formula: 'count' },
  })
  const [ada, bob] = [await stripe.customers.create(), await stripe.customers.create()]
  const threshold = {
    gte: 1,
    meter: meter.id,
    recurrence: 'one_time' as const,
    filters: [{ type: 'customer' as const, customer: ada.id }],
  }
  await stripe.billing.alerts.create({ alert_type: 'usage_threshold', title: 'one', usage_threshold: threshold })
  await stripe.billing.meterEvents.create({ event_name: 'tokens', payload: { stripe_customer_id: bob.id } })
  expect(eventTypes()).not.toContain('billing.alert.triggered')
  await stripe.billing.meterEvents.create({ event_name: 'tokens', payload: { stripe_customer_id: ada.id } })
  expect(eventTypes()).toContain('billing.alert.triggered')
})
