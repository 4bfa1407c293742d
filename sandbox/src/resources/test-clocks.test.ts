import { expect, test } from 'vitest'
import { at, NOW, startBillingBench } from '../../test/billing.ts'

test('a clock is ready, advances, and is ready again at its target', async () => {
  const { stripe, sandbox, eventTypes } = await startBillingBench()
  const clock = await stripe.testHelpers.testClocks.create({ frozen_time: NOW, name: 'A year' })
  expect(clock).toMatchObject({ status: 'ready', frozen_time: NOW, name: 'A year', deletes_after: NOW + 30 * 86_400 })
  const moving = await stripe.testHelpers.testClocks.advance(clock.id, { frozen_time: NOW + 86_400 })
  expect(moving).toMatchObject({ status: 'advancing', status_details: { advancing: { target_frozen_time: NOW + 86_400 } } })
  await sandbox.settled()
  expect(await stripe.testHelpers.testClocks.retrieve(clock.id)).toMatchObject({ status: 'ready', frozen_time: NOW + 86_400 })
  expect(eventTypes()).toEqual([
    'test_helpers.test_clock.created',
    'test_helpers.test_clock.advancing',
    'test_helpers.test_clock.ready',
  ])
  await expect(stripe.testHelpers.testClocks.advance(clock.id, { frozen_time: NOW })).rejects.toMatchObject({
    param: 'frozen_time',
  })
})

test('a clock moves at most two intervals of the shortest subscription at a time', async () => {
  const { stripe, price, customer } = await startBillingBench()
  const pro = await price(1000)
  const { id, clock } = await customer()
  await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  await expect(stripe.testHelpers.testClocks.advance(clock, { frozen_time: at('2026-03-15T12:00:01Z') })).rejects.toMatchObject({
    statusCode: 400,
    param: 'frozen_time',
  })
  expect(await stripe.testHelpers.testClocks.advance(clock, { frozen_time: at('2026-03-15T12:00:00Z') })).toMatchObject({
    status: 'advancing',
  })
})

test('two renewals within one move happen one after the other', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const pro = await price(1000)
  const { id, clock } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  await advance(clock, at('2026-03-15T12:00:00Z'))
  const invoices = (await stripe.invoices.list({ subscription: subscription.id })).data
  expect(invoices.map((invoice) => [invoice.status, invoice.created])).toEqual([
    ['draft', at('2026-03-15T12:00:00Z')],
    ['paid', at('2026-02-15T12:00:00Z')],
    ['paid', NOW],
  ])
})

test('a clock takes at most three customers', async () => {
  const { stripe } = await startBillingBench()
  const clock = await stripe.testHelpers.testClocks.create({ frozen_time: NOW })
  for (let n = 0; n < 3; n += 1) await stripe.customers.create({ test_clock: clock.id })
  await expect(stripe.customers.create({ test_clock: clock.id })).rejects.toMatchObject({ statusCode: 400, param: 'test_clock' })
})

test('deleting a clock deletes its customers', async () => {
  const { stripe, price, customer } = await startBillingBench()
  const pro = await price(1000)
  const { id, clock } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  expect(await stripe.testHelpers.testClocks.del(clock)).toMatchObject({ deleted: true })
  expect(await stripe.customers.retrieve(id)).toMatchObject({ deleted: true })
  await expect(stripe.subscriptions.retrieve(subscription.id)).rejects.toMatchObject({ statusCode: 404 })
})
