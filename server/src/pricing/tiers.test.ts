import { expect, test } from 'vitest'
import { testUse } from '../../test/used.ts'
import { importCatalogDefinition } from '../catalog/registry.ts'

const billing = testUse(await importCatalogDefinition('examples/episodic-memory/billing.config.ts'))

test.each([
  ['FREE', 100, 0],
  ['STARTER', 10_000, 9],
  ['PRO', 100_000, 29],
  ['ENTERPRISE', null, 199],
])('EM-1 the tier %s has %s credits and costs $%s a month', async (tier, credits, price) => {
  // Free is what an organization has that bought nothing.
  const id = tier === 'FREE' ? await billing.createOrganization('free') : await billing.customer(tier)
  expect((await billing.call(id, 'GET', '/api/v1/billing/subscription')).body).toMatchObject({ tier, amount: price })
  expect((await billing.ask('GET', `/api/v1/billing/usage?organization_id=${id}`)).body).toMatchObject({
    credits: { tier, included_credits: credits },
  })
})
