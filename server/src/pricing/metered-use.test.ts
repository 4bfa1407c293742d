import { beforeAll, expect, test } from 'vitest'
import { testUse } from '../../test/used.ts'
import { pushCatalog } from '../stripe/push/push.ts'

// EM-3: a catalog without a price of overage, and a metered price that somebody made at Stripe.
const billing = testUse({
  meters: { ingestion: {}, search: {} },
  credits: { credits: { costs: { ingestion: 1, search: '0.1' } } },
  plans: {
    free: { name: 'Free', allowances: { credits: { amount: 10 } } },
    pro: { name: 'Pro', prices: { monthly: { amountMinor: 2900 } }, allowances: { credits: { amount: 1000 } } },
  },
  defaultPlan: 'free',
})

beforeAll(async () => {
  const { gateway } = billing.context
  const key = (name: string) => ({ idempotencyKey: name })
  const meter = await gateway!.perform(
    'create_meter',
    { name: 'Credits', eventName: 'credits_used', formula: 'sum' },
    key('meter'),
  )
  const product = await gateway!.perform('create_product', { name: 'Credits', description: '', metadata: {} }, key('product'))
  const price = await gateway!.perform(
    'create_usage_price',
    {
      productId: product.id,
      currency: 'usd',
      meterId: meter.id,
      terms: { scheme: 'per_unit', unitAmount: '1.5', packageSize: null },
      lookupKey: 'mine',
      metadata: {},
    },
    key('price'),
  )
  await pushCatalog(billing.context, {
    variables: { STRIPE_ENABLE_METERED_BILLING: 'true', STRIPE_METERED_PRICE_ID: price.id },
  })
})

test('EM-3 all use of the credits is reported to Stripe when metered billing is on', async () => {
  const id = await billing.customer('pro')
  await billing.use(id, 'ingestion', 20)
  await billing.use(id, 'search', 5)
  const statement = await billing.ask('GET', `/api/v1/billing/statement?organization_id=${id}`)
  expect(statement.body).toMatchObject({
    total_minor: 2900 + 31,
    usage: [{ balance: 'credits', quantity: 20.5, amount_minor: 31 }],
  })
  // KF-8: each type has its share of what is billed, which is all use here.
  expect((await billing.ask('GET', `/api/v1/billing/usage/tenant/${id}/summary`)).body).toMatchObject({
    usage: { ingestion: { cost_cents: 30 }, search: { cost_cents: 1 } },
    total_cost_cents: 2900 + 31,
  })
  await billing.advance(id, '32d')
  const invoices = (await billing.call(id, 'GET', '/api/v1/billing/invoices')).body as unknown as { amount_paid: number }[]
  expect(invoices[0]).toMatchObject({ amount_paid: 29.31 })
})
