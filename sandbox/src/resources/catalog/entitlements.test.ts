import { expect, test } from 'vitest'
import { startTestSandbox } from '../../../test/contract.ts'

test('features are attached to products once, listed, and detached', async () => {
  const { stripe } = await startTestSandbox()
  const feature = await stripe.entitlements.features.create({ lookup_key: 'sso', name: 'Single sign-on' })
  await expect(stripe.entitlements.features.create({ lookup_key: 'sso', name: 'again' })).rejects.toMatchObject({
    param: 'lookup_key',
  })
  const product = await stripe.products.create({ name: 'Gold' })
  const attached = await stripe.products.createFeature(product.id, { entitlement_feature: feature.id })
  expect(attached.entitlement_feature).toMatchObject({ lookup_key: 'sso' })
  await expect(stripe.products.createFeature(product.id, { entitlement_feature: feature.id })).rejects.toMatchObject({
    statusCode: 400,
  })
  expect((await stripe.products.listFeatures(product.id)).data.map(({ id }) => id)).toEqual([attached.id])
  await stripe.products.deleteFeature(product.id, attached.id)
  expect((await stripe.products.listFeatures(product.id)).data).toEqual([])
})

test('a subscription entitles to its products’ features, and its end takes them away', async () => {
  const { stripe, events } = await startTestSandbox()
  const feature = await stripe.entitlements.features.create({ lookup_key: 'sso', name: 'Single sign-on' })
  const product = await stripe.products.create({
    name: 'Gold',
    default_price_data: { currency: 'usd', unit_amount: 0, recurring: { interval: 'month' } },
  })
  await stripe.products.createFeature(product.id, { entitlement_feature: feature.id })
  const customer = await stripe.customers.create()
  const active = async () =>
    (await stripe.entitlements.activeEntitlements.list({ customer: customer.id })).data.map((each) => each.lookup_key)
  expect(await active()).toEqual([])
  const subscription = await stripe.subscriptions.create({
    customer: customer.id,
    items: [{ price: product.default_price as string }],
  })
  expect(await active()).toEqual(['sso'])
  await stripe.subscriptions.cancel(subscription.id)
  expect(await active()).toEqual([])
  const summaries = events().filter((event) => event.type === 'entitlements.active_entitlement_summary.updated')
  expect(summaries).toHaveLength(2)
  expect(summaries[0]?.data.object).toMatchObject({ customer: customer.id, entitlements: { data: [{ lookup_key: 'sso' }] } })
})
