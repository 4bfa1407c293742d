import { expect, test } from 'vitest'
import { startTestSandbox, startReceiver, NOW } from '../../../test/contract.ts'

test('a created customer is found again and announced', async () => {
  const { stripe, eventTypes } = await startTestSandbox()
  const customer = await stripe.customers.create({
    email: 'ada@example.com',
    name: 'Ada',
    metadata: { tenant: 'acme' },
    address: { city: 'Turin' },
  })
  expect(customer.id).toMatch(/^cus_[A-Za-z0-9]{14}$/)
  expect(customer.created).toBe(NOW)
  expect(await stripe.customers.retrieve(customer.id)).toMatchObject({ email: 'ada@example.com', metadata: { tenant: 'acme' } })
  expect(eventTypes()).toEqual(['customer.created'])
})

test('an update announces only what changed', async () => {
  const { stripe, events } = await startTestSandbox()
  const { id } = await stripe.customers.create({ email: 'ada@example.com', metadata: { a: '1', b: '2' } })
  await stripe.customers.update(id, { metadata: { a: '', b: '3' }, name: 'Ada' })
  await stripe.customers.update(id, { name: 'Ada' })
  expect(events().map((event) => event.type)).toEqual(['customer.created', 'customer.updated'])
  expect(events()[1]?.data.previous_attributes).toEqual({ name: null, metadata: { a: '1', b: '2' } })
})

test('setting the balance records an adjustment', async () => {
  const { stripe } = await startTestSandbox()
  const { id } = await stripe.customers.create({ balance: -500 })
  expect((await stripe.customers.retrieve(id)) as { balance: number }).toMatchObject({ balance: -500, currency: 'usd' })
})

test('a deleted customer is answered as deleted, and unknown ones are not found', async () => {
  const { stripe } = await startTestSandbox()
  const { id } = await stripe.customers.create()
  expect(await stripe.customers.del(id)).toMatchObject({ id, deleted: true })
  expect(await stripe.customers.retrieve(id)).toMatchObject({ id, deleted: true })
  await expect(stripe.customers.update(id, { name: 'x' })).rejects.toMatchObject({
    statusCode: 404,
    code: 'resource_missing',
    param: 'id',
  })
})

test('webhooks arrive signed, and only for the events asked for', async () => {
  const { url, received } = await startReceiver('whsec_test')
  const { stripe, sandbox } = await startTestSandbox({
    webhooks: [{ url, secret: 'whsec_test', enabledEvents: ['customer.created'] }],
  })
  const { id } = await stripe.customers.create()
  await stripe.customers.update(id, { name: 'Ada' })
  await sandbox.settled()
  expect(received.map(({ event }) => event.type)).toEqual(['customer.created'])
})

test('lists page both ways, newest first', async () => {
  const { stripe } = await startTestSandbox()
  const ids: string[] = []
  for (let index = 0; index < 5; index++) ids.unshift((await stripe.customers.create({ name: String(index) })).id)
  const first = await stripe.customers.list({ limit: 2 })
  expect([first.data.map(({ id }) => id), first.has_more]).toEqual([ids.slice(0, 2), true])
  const second = await stripe.customers.list({ limit: 2, starting_after: ids[1] as string })
  expect(second.data.map(({ id }) => id)).toEqual(ids.slice(2, 4))
  const back = await stripe.customers.list({ limit: 2, ending_before: ids[3] as string })
  expect([back.data.map(({ id }) => id), back.has_more]).toEqual([ids.slice(1, 3), true])
  const all = await stripe.customers.list({ limit: 2 }).autoPagingToArray({ limit: 100 })
  expect(all.map(({ id }) => id)).toEqual(ids)
})

test('deleting a customer ends its subscriptions and frees its payment methods', async () => {
  const { stripe, eventTypes } = await startTestSandbox()
  const customer = await stripe.customers.create({
    payment_method: 'pm_card_visa',
    invoice_settings: { default_payment_method: 'pm_card_visa' },
  })
  const price = await stripe.prices.create({
    currency: 'usd',
    unit_amount: 900,
    recurring: { interval: 'month' },
    product_data: { name: 'x' },
  })
  const subscription = await stripe.subscriptions.create({ customer: customer.id, items: [{ price: price.id }] })
  const [method] = (await stripe.customers.listPaymentMethods(customer.id)).data
  await stripe.customers.del(customer.id)
  expect(await stripe.subscriptions.retrieve(subscription.id)).toMatchObject({ status: 'canceled', customer: customer.id })
  expect(await stripe.subscriptions.retrieve(subscription.id, { expand: ['customer'] })).toMatchObject({
    customer: { deleted: true },
  })
  expect(await stripe.paymentMethods.retrieve(method?.id ?? '')).toMatchObject({ customer: null })
  expect(eventTypes().slice(-1)).toEqual(['customer.deleted'])
  expect(eventTypes()).toContain('customer.subscription.deleted')
})

test('the default source is charged where there is no other default, and is none any more when it is detached', async () => {
  const { stripe } = await startTestSandbox()
  const customer = await stripe.customers.create({})
  const { id: card } = await stripe.paymentMethods.attach('pm_card_visa', { customer: customer.id })
  const refused = stripe.customers.update(customer.id, { default_source: 'pm_none' })
  await expect(refused).rejects.toMatchObject({ code: 'resource_missing', param: 'default_source' })
  expect(await stripe.customers.update(customer.id, { default_source: card })).toMatchObject({ default_source: card })
  const invoice = await stripe.invoices.create({ customer: customer.id, auto_advance: false })
  await stripe.invoiceItems.create({ customer: customer.id, invoice: invoice.id, amount: 900, currency: 'usd' })
  expect((await stripe.invoices.pay(invoice.id)).status).toBe('paid')
  await stripe.paymentMethods.detach(card)
  expect(await stripe.customers.retrieve(customer.id)).toMatchObject({ default_source: null })
})

test('a customer whose card is declined at creation is not created', async () => {
  const { stripe, sandbox } = await startTestSandbox()
  await expect(stripe.customers.create({ payment_method: 'pm_card_chargeDeclined' })).rejects.toMatchObject({ statusCode: 402 })
  expect(sandbox.all('customer')).toEqual([])
})

test('the balance is the sum of its transactions', async () => {
  const { stripe } = await startTestSandbox()
  const { id } = await stripe.customers.create({ balance: 300 })
  await stripe.customers.createBalanceTransaction(id, { amount: -1000, currency: 'usd', description: 'goodwill' })
  const second = await stripe.customers.createBalanceTransaction(id, { amount: 200, currency: 'usd' })
  const { data } = await stripe.customers.listBalanceTransactions(id)
  expect(data.map(({ amount, ending_balance }) => [amount, ending_balance])).toEqual([
    [200, -500],
    [-1000, -700],
    [300, 300],
  ])
  expect(await stripe.customers.retrieve(id)).toMatchObject({ balance: -500 })
  await expect(stripe.customers.createBalanceTransaction(id, { amount: 1, currency: 'eur' })).rejects.toMatchObject({
    param: 'currency',
  })
  expect(await stripe.customers.updateBalanceTransaction(id, second.id, { metadata: { a: 'b' } })).toMatchObject({
    metadata: { a: 'b' },
  })
})
