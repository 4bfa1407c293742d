import { expect, test } from 'vitest'
import { startTestSandbox } from '../../test/contract.ts'

async function withPrice() {
  const started = await startTestSandbox()
  const product = await started.stripe.products.create({
    name: 'Gold',
    default_price_data: { currency: 'usd', unit_amount: 500 },
  })
  return { ...started, product, priceId: product.default_price as string }
}

test('an id is expanded to its object, several levels deep', async () => {
  const { stripe, product, priceId } = await withPrice()
  const price = await stripe.prices.retrieve(priceId, { expand: ['product.default_price.product'] })
  expect(price.product).toMatchObject({ id: product.id, default_price: { id: priceId, product: { id: product.id } } })
})

test('members of a list are expanded', async () => {
  const { stripe, product } = await withPrice()
  const prices = await stripe.prices.list({ expand: ['data.product'] })
  expect(prices.data[0]?.product).toMatchObject({ id: product.id, name: 'Gold' })
})

test('fields that are left out unless asked for appear', async () => {
  const { stripe, priceId } = await withPrice()
  expect(await stripe.prices.retrieve(priceId)).not.toHaveProperty('currency_options')
  const price = await stripe.prices.retrieve(priceId, { expand: ['currency_options'] })
  expect(price.currency_options?.['usd']).toMatchObject({ unit_amount: 500 })
})

test('more than four levels and what cannot be expanded are refused', async () => {
  const { stripe, priceId } = await withPrice()
  const retrieve = (path: string) => stripe.prices.retrieve(priceId, { expand: [path] })
  await expect(retrieve('product.default_price.product.default_price.product')).rejects.toMatchObject({ statusCode: 400 })
  const inList = stripe.subscriptions.list({ expand: ['data.items.data.price.product'] })
  await expect(inList).rejects.toMatchObject({ statusCode: 400, param: 'expand' })
  await stripe.subscriptions.list({ expand: ['data.items.data.price'] })
  await expect(retrieve('nonsense')).rejects.toMatchObject({ message: 'This property cannot be expanded (nonsense).' })
  await expect(retrieve('currency')).rejects.toMatchObject({ statusCode: 400 })
  await expect(stripe.prices.list({ expand: ['product'] })).rejects.toMatchObject({
    message: "This property cannot be expanded (product). You may want to try expanding 'data.product' instead.",
  })
})

test('a failed expansion undoes the operation', async () => {
  const { stripe, sandbox } = await startTestSandbox()
  await expect(stripe.customers.create({ expand: ['nonsense'] })).rejects.toMatchObject({ statusCode: 400 })
  expect(sandbox.all('customer')).toEqual([])
})
