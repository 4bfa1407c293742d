import { expect, it } from 'vitest'
import { startTestSandbox } from '../../../test/contract.ts'
import { refusal } from '../../../test/refusal.ts'

const monthly = { currency: 'usd', recurring: { interval: 'month' }, unit_amount: 900 } as const

it('a recurring price is a plan too: announced before it, changed with it, listed and found by its id', async () => {
  const { stripe, events, eventTypes } = await startTestSandbox()
  const price = await stripe.prices.create({ ...monthly, product_data: { name: 'Gold' } })
  expect(eventTypes()).toEqual(['product.created', 'plan.created', 'price.created'])
  expect(await stripe.plans.retrieve(price.id)).toMatchObject({ amount: 900, interval: 'month', product: price.product })
  await stripe.prices.update(price.id, { nickname: 'Old' })
  const told = events().find(({ type }) => type === 'plan.updated')
  expect(told?.data).toMatchObject({ object: { id: price.id, nickname: 'Old' }, previous_attributes: { nickname: null } })
  await stripe.prices.update(price.id, { lookup_key: 'gold' })
  expect(eventTypes(3)).toEqual(['price.updated', 'plan.updated', 'price.updated'])
  expect((await stripe.plans.list()).data).toMatchObject([{ id: price.id, nickname: 'Old' }])
})

it('a price that is paid once is no plan', async () => {
  const { stripe, eventTypes } = await startTestSandbox()
  const once = await stripe.prices.create({ currency: 'usd', product_data: { name: 'Setup' }, unit_amount: 5000 })
  expect(eventTypes()).toEqual(['product.created', 'price.created'])
  expect((await stripe.plans.list()).data).toEqual([])
  expect(await refusal(stripe.plans.retrieve(once.id))).toMatchObject({ code: 'resource_missing' })
})

it('announces the currency that the first invoice binds a customer to, once and alone', async () => {
  const { stripe, events } = await startTestSandbox()
  const customer = await stripe.customers.create({
    payment_method: 'pm_card_visa',
    invoice_settings: { default_payment_method: 'pm_card_visa' },
  })
  const price = await stripe.prices.create({ ...monthly, product_data: { name: 'Gold' } })
  await stripe.subscriptions.create({ customer: customer.id, items: [{ price: price.id }] })
  await stripe.subscriptions.create({ customer: customer.id, items: [{ price: price.id }] })
  const told = events().filter(({ type }) => type === 'customer.updated')
  expect(told.map(({ data }) => data.previous_attributes)).toEqual([{ currency: null }])
})

it('has no warnings of fraud to list', async () => {
  const { stripe } = await startTestSandbox()
  expect((await stripe.radar.earlyFraudWarnings.list()).data).toEqual([])
})
