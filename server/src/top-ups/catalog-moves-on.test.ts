import { beforeAll, expect, test } from 'vitest'
import { testSubscriptions } from '../../test/subscriptions.ts'
import { createCatalogRegistry, storeCatalogVersion } from '../catalog/registry.ts'
import type { CatalogDefinition } from '../catalog/schema.ts'
import type { BillingContext } from '../stripe/context.ts'
import { buyTopUp } from './actions.ts'
import { runAutoTopUps } from './auto.ts'

const before: CatalogDefinition = {
  meters: { calls: {} },
  plans: { free: { name: 'Free', allowances: { calls: { amount: 10 } } } },
  topUps: { pack: { name: 'Pack', balance: 'calls', amount: 50, priceMinor: 700 } },
  defaultPlan: 'free',
}
/** What calls draw from has become a pool, and the package fills that. */
const after: CatalogDefinition = {
  ...before,
  credits: { credits: { costs: { calls: 2 } } },
  plans: { free: { name: 'Free', allowances: { credits: { amount: 20 } } } },
  topUps: { pack: { name: 'Pack', balance: 'credits', amount: 100, priceMinor: 900 } },
}

const billing = testSubscriptions({ catalog: before })
const { call, post } = billing
let later: BillingContext

beforeAll(async () => {
  for (const id of ['automatic', 'buyer']) {
    await billing.createOrganization(id)
    await post(id, 'payment-methods', { payment_method_id: 'pm_card_visa' })
  }
  const { database, context } = billing
  const set = await call('automatic', 'PUT', '/api/v1/billing/auto-top-up', { top_up: 'pack', below: 20 })
  if (set.status !== 200) throw new Error(JSON.stringify(set.body))
  const catalogs = createCatalogRegistry(database.db, await storeCatalogVersion(database.db, after, context.clock.now()))
  later = billing.with({ catalogs })
})

const purchasesOf = async (id: string) =>
  (await call(id, 'GET', '/api/v1/billing/top-ups')).body['purchases'] as Record<string, unknown>[]

test('a package that has come to fill another balance is not bought by itself: it would be bought without end', async () => {
  for (let look = 0; look < 5; look += 1) await runAutoTopUps(later)
  expect(await purchasesOf('automatic')).toEqual([])
  const { body } = await call('automatic', 'GET', '/api/v1/billing/top-ups')
  expect(body['automatic']).toMatchObject([{ balance: 'calls', stopped: { code: 'invalid_request' } }])
  const { rows } = await billing.database.db.query(`select data->>'code' as code from events where type = 'auto_top_up.stopped'`)
  expect(rows).toEqual([{ code: 'invalid_request' }])
})

test('a package from which nothing that a customer may use is drawn under their terms is not sold to them', async () => {
  const request = {
    organizationId: 'buyer',
    topUpKey: 'pack',
    quantity: 1,
    idempotencyKey: 'once',
    payWith: 'saved',
    successUrl: undefined,
    cancelUrl: undefined,
  } as const
  await expect(buyTopUp(later, request, { actor: 'test', requestId: 'req' })).rejects.toMatchObject({
    code: 'invalid_request',
    details: { field: 'top_up' },
    message: 'The package "pack" adds to "credits", from which nothing is drawn under the terms of this organization.',
  })
  expect(await purchasesOf('buyer')).toEqual([])
})
