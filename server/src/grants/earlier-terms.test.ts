import { expect, test } from 'vitest'
import { testBilling } from '../../test/billing.ts'
import { createCatalogRegistry, storeCatalogVersion } from '../catalog/registry.ts'
import type { CatalogDefinition } from '../catalog/schema.ts'
import type { Transaction } from '../db/database.ts'
import { parseQuantity } from '../lib/quantity.ts'
import { readBalances } from '../metering/reads.ts'
import { overrideStanding } from '../standing/overrides.ts'
import { reconcilePlanGrants } from './actions.ts'
import { giveGrant } from './giving.ts'

const before: CatalogDefinition = {
  meters: { calls: {} },
  plans: { free: { name: 'Free', allowances: { calls: { amount: 10 } } } },
  defaultPlan: 'free',
}
const after: CatalogDefinition = {
  meters: { calls: {}, tokens: {} },
  credits: { credits: { costs: { calls: 2, tokens: 1 } } },
  plans: {
    free: { name: 'Free', allowances: { credits: { amount: 20 } } },
    guest: { name: 'Guest', allowances: { credits: { amount: 70 } } },
  },
  defaultPlan: 'free',
}

const billing = testBilling({ catalog: before, webhooks: false })

async function laterContext() {
  const { database, context } = billing
  const stored = await storeCatalogVersion(database.db, after, context.clock.now())
  return { ...billing.with({ catalogs: createCatalogRegistry(database.db, stored) }), graceDays: 3 }
}

test('who has earlier terms is given what these draw from, also where the catalog has it no more', async () => {
  await billing.createOrganization('acme')
  const later = await laterContext()
  const give = (balanceKey: string, meters: readonly string[] | null) => {
    const id = `${balanceKey} ${meters?.join() ?? ''}`
    const terms = {
      kind: 'promotion',
      amount: parseQuantity(5),
    } as const
    return giveGrant(
      later,
      { organizationId: 'acme', id, balanceKey, meters, ...terms },
      { actor: 'operator:test', requestId: 'req' },
    )
  }
  expect(await give('calls', null)).toMatchObject({ given: true })
  expect(await give('calls', ['calls'])).toMatchObject({ given: true })
  expect(await give('credits', ['tokens'])).toMatchObject({ given: true })
  await expect(give('credits', ['calls'])).rejects.toMatchObject({ code: 'invalid_request', details: { field: 'meters' } })
  await expect(give('words', null)).rejects.toMatchObject({ code: 'invalid_request', details: { field: 'balance' } })
})

test('a plan that an operator gives, and that was declared after the terms, is what the catalog says of it, until it is taken back', async () => {
  await billing.createOrganization('guest')
  const later = await laterContext()
  const context = {
    ...later,
    onAccountDerived: async (tx: Transaction, { organizationId }: { organizationId: string }) => {
      await reconcilePlanGrants(tx, later, organizationId)
    },
  }
  const give = (planKey: string | null) =>
    overrideStanding(
      context,
      { organizationId: 'guest', change: { planKey }, reason: 'Guest' },
      { actor: 'operator:test', requestId: 'req' },
    )
  const balances = async () => {
    const { balances: all } = await readBalances(billing.database.db, later, 'guest')
    return all.map(({ balanceKey, planKey, amount }) => [balanceKey, planKey, amount])
  }
  await give('guest')
  expect(await balances()).toEqual([['credits', 'guest', parseQuantity(70)]])
  await give(null)
  expect(await balances()).toEqual([['calls', 'free', parseQuantity(10)]])
})
