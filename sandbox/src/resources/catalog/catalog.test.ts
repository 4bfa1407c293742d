import { expect, test } from 'vitest'
import { startTestSandbox } from '../../../test/contract.ts'

async function withProduct() {
  const started = await startTestSandbox()
  const product = await started.stripe.products.create({ name: 'Gold' })
  return { ...started, product }
}

test('a product with a default price announces both, and the price before the link to it', async () => {
  const { stripe, eventTypes } = await startTestSandbox()
  const product = await stripe.products.create({
    id: 'gold',
    name: 'Gold',
    default_price_data: { currency: 'USD', unit_amount: 500 },
  })
  expect(product).toMatchObject({ id: 'gold', default_price: expect.stringMatching(/^price_\w{24}$/) as string })
  expect(eventTypes()).toEqual(['product.created', 'price.created', 'product.updated'])
  await expect(stripe.products.create({ id: 'gold', name: 'again' })).rejects.toMatchObject({
    code: 'resource_already_exists',
    param: 'id',
  })
})

test('a product with prices is kept, one without can be deleted', async () => {
  const { stripe, product } = await withProduct()
  await stripe.prices.create({ currency: 'usd', unit_amount: 1, product: product.id })
  await expect(stripe.products.del(product.id)).rejects.toMatchObject({ statusCode: 400 })
  const other = await stripe.products.create({ name: 'Silver' })
  expect(await stripe.products.del(other.id)).toMatchObject({ id: other.id, deleted: true })
  await expect(stripe.products.retrieve(other.id)).rejects.toMatchObject({ statusCode: 404 })
})

test('a cleared field is null, an absent one stays', async () => {
  const { stripe, product } = await withProduct()
  await stripe.products.update(product.id, { description: 'shiny', url: 'https://example.com', metadata: { a: '1' } })
  expect(await stripe.products.update(product.id, { description: '' })).toMatchObject({
    description: null,
    url: 'https://example.com',
    metadata: { a: '1' },
  })
})

test('the default price must be of the product and cannot be archived', async () => {
  const { stripe, product } = await withProduct()
  const other = await stripe.prices.create({ currency: 'usd', unit_amount: 1, product_data: { name: 'Other' } })
  const own = await stripe.prices.create({ currency: 'usd', unit_amount: 1, product: product.id })
  await expect(stripe.products.update(product.id, { default_price: other.id })).rejects.toMatchObject({ param: 'default_price' })
  await stripe.products.update(product.id, { default_price: own.id })
  await expect(stripe.prices.update(own.id, { active: false })).rejects.toMatchObject({ statusCode: 400 })
  expect(await stripe.prices.update(other.id, { active: false })).toMatchObject({ active: false })
})

test('decimal amounts keep twelve places; whole ones fill both fields', async () => {
  const { stripe, product } = await withProduct()
  const create = (decimal: string) =>
    stripe.prices.create({ currency: 'usd', unit_amount_decimal: decimal as never, product: product.id })
  expect(await create('0.000000000001')).toMatchObject({ unit_amount: null })
  expect((await create('0.050')).unit_amount_decimal?.toString()).toBe('0.05')
  expect(await create('12.00')).toMatchObject({ unit_amount: 12 })
  await expect(create('0.0000000000001')).rejects.toMatchObject({ statusCode: 400 })
  await expect(create('-1')).rejects.toMatchObject({ statusCode: 400 })
})

test.each([
  ['no amount', {}, 'unit_amount'],
  ['two amounts', { unit_amount: 1, unit_amount_decimal: '1' }, 'unit_amount_decimal'],
  ['a negative amount', { unit_amount: -1 }, 'unit_amount'],
  ['tiers without tiered', { unit_amount: 1, tiers: [{ up_to: 'inf', unit_amount: 1 }] }, 'tiers'],
  ['tiered without tiers', { billing_scheme: 'tiered', tiers_mode: 'volume' }, 'tiers'],
  ['tiered without mode', { billing_scheme: 'tiered', tiers: [{ up_to: 'inf', unit_amount: 1 }] }, 'tiers_mode'],
  [
    'tiers that do not ascend',
    {
      billing_scheme: 'tiered',
      tiers_mode: 'volume',
      tiers: [
        { up_to: 5, unit_amount: 1 },
        { up_to: 5, unit_amount: 1 },
        { up_to: 'inf', unit_amount: 1 },
      ],
    },
    'tiers[1][up_to]',
  ],
  [
    'a last tier with an end',
    { billing_scheme: 'tiered', tiers_mode: 'volume', tiers: [{ up_to: 5, unit_amount: 1 }] },
    'tiers[0][up_to]',
  ],
  [
    'an interval of more than three years',
    { unit_amount: 1, recurring: { interval: 'month', interval_count: 37 } },
    'recurring[interval_count]',
  ],
  ['metered without a meter', { unit_amount: 1, recurring: { interval: 'month', usage_type: 'metered' } }, 'recurring[meter]'],
  ['an unknown currency', { unit_amount: 1, currency: 'dollars' }, 'currency'],
])('a price with %s is refused', async (_name, params, param) => {
  const { stripe, product, sandbox } = await withProduct()
  await expect(stripe.prices.create({ currency: 'usd', product: product.id, ...params } as never)).rejects.toMatchObject({
    statusCode: 400,
    param,
  })
  expect(sandbox.all('price')).toEqual([])
})

test('tiers and currency options are shown when asked for', async () => {
  const { stripe, product } = await withProduct()
  const { id } = await stripe.prices.create({
    currency: 'usd',
    product: product.id,
    billing_scheme: 'tiered',
    tiers_mode: 'graduated',
    recurring: { interval: 'month' },
    tiers: [
      { up_to: 5, unit_amount: 700, flat_amount: 100 },
      { up_to: 'inf', unit_amount: 600 },
    ],
    currency_options: { eur: { tiers: [{ up_to: 'inf', unit_amount: 500 }] } },
  })
  const price = await stripe.prices.retrieve(id, { expand: ['tiers', 'currency_options', 'currency_options.eur.tiers'] })
  expect(price.tiers).toMatchObject([
    { up_to: 5, unit_amount: 700, flat_amount: 100 },
    { up_to: null, unit_amount: 600, flat_amount: null },
  ])
  expect(price.currency_options?.['eur']).toMatchObject({ unit_amount: null })
})

test('a lookup key belongs to one price and moves only when told to', async () => {
  const { stripe, product, eventTypes } = await withProduct()
  const first = await stripe.prices.create({ currency: 'usd', unit_amount: 1, product: product.id, lookup_key: 'gold' })
  const again = { currency: 'usd', unit_amount: 2, product: product.id, lookup_key: 'gold' }
  await expect(stripe.prices.create(again)).rejects.toMatchObject({ param: 'lookup_key' })
  const second = await stripe.prices.create({ ...again, transfer_lookup_key: true })
  expect((await stripe.prices.list({ lookup_keys: ['gold'] })).data.map(({ id }) => id)).toEqual([second.id])
  expect(await stripe.prices.retrieve(first.id)).toMatchObject({ lookup_key: null })
  expect(eventTypes(2)).toEqual(['price.updated', 'price.created'])
})

test('lists filter by product, activity, currency, kind and recurrence', async () => {
  const { stripe, product } = await withProduct()
  const yearly = await stripe.prices.create({
    currency: 'eur',
    unit_amount: 1,
    product: product.id,
    recurring: { interval: 'year' },
  })
  const once = await stripe.prices.create({ currency: 'usd', unit_amount: 1, product: product.id, active: false })
  await stripe.prices.create({ currency: 'usd', unit_amount: 1, product_data: { name: 'Other' } })
  const ids = async (params: object) => (await stripe.prices.list({ product: product.id, ...params })).data.map(({ id }) => id)
  expect(await ids({})).toEqual([once.id, yearly.id])
  expect(await ids({ active: true })).toEqual([yearly.id])
  expect(await ids({ currency: 'usd' })).toEqual([once.id])
  expect(await ids({ type: 'recurring' })).toEqual([yearly.id])
  expect(await ids({ recurring: { interval: 'month' } })).toEqual([])
})

test('metadata keeps to its limits', async () => {
  const { stripe } = await startTestSandbox()
  const create = (metadata: Record<string, string>) => stripe.products.create({ name: 'x', metadata })
  await expect(create({ ['k'.repeat(41)]: 'v' })).rejects.toMatchObject({ statusCode: 400 })
  await expect(create({ k: 'v'.repeat(501) })).rejects.toMatchObject({ param: 'metadata[k]' })
  const many = Object.fromEntries(Array.from({ length: 51 }, (_, index) => [`k${index}`, 'v']))
  await expect(create(many)).rejects.toMatchObject({ param: 'metadata' })
  expect(await create({ ['k'.repeat(40)]: 'v'.repeat(500) })).toBeDefined()
})

test('tax rates are kept, changed and listed', async () => {
  const { stripe } = await startTestSandbox()
  const rate = await stripe.taxRates.create({ display_name: 'VAT', inclusive: false, percentage: 19, country: 'DE' })
  expect(await stripe.taxRates.update(rate.id, { active: false })).toMatchObject({ active: false, percentage: 19 })
  expect((await stripe.taxRates.list({ active: true })).data).toEqual([])
  await expect(stripe.taxRates.create({ display_name: 'VAT', inclusive: false, percentage: 101 })).rejects.toMatchObject({
    param: 'percentage',
  })
})
