import { expect, test } from 'vitest'
import { testUse } from '../../test/used.ts'
import { importCatalogDefinition } from '../catalog/registry.ts'

const billing = testUse(await importCatalogDefinition('examples/ops-center/billing.config.ts'))

test('OC-4 585 of 500 credits: none remain, 85 are overage, which costs 0.17 at 2.00 per 1000', async () => {
  const id = await billing.customer('professional')
  await billing.use(id, 'inference', 500)
  await billing.use(id, 'tts', 85)
  const { status, body } = await billing.ask('GET', '/api/v1/billing/usage', undefined, id)
  expect(status).toBe(200)
  expect(body).toMatchObject({
    usage: {
      today: { inference: 500, embedding: 0, tts: 85, stt: 0 },
      month: { inference: 500, embedding: 0, tts: 85, stt: 0 },
    },
    credits: {
      tier: 'professional',
      included_credits: 500,
      used: 585,
      remaining: 0,
      overage: 85,
      overage_cost: 0.17,
      price_per_1k: 2,
    },
    tier: 'professional',
  })
})

test('CB-6 the same answer has each balance with its limit and its period', async () => {
  const id = await billing.customer('professional')
  await billing.use(id, 'stt', 20)
  const { body } = await billing.ask('GET', '/api/v1/billing/usage', undefined, id)
  expect(body['balances']).toMatchObject([
    { balance: 'credits', used: 20, limit: 500, remaining: 480, overage: 0, overage_cost: 0 },
  ])
})

test('OC-10 without a subscription it is the basic tier', async () => {
  const id = await billing.createOrganization('basic')
  const { body } = await billing.ask('GET', '/api/v1/billing/usage', undefined, id)
  expect(body).toMatchObject({ tier: 'basic', credits: { included_credits: 100, used: 0, overage_cost: 0, price_per_1k: null } })
})
