import { expect, test } from 'vitest'
import { testBilling } from '../../test/billing.ts'
import { defineBilling } from '../catalog/define.ts'
import { createCatalogRegistry, storeCatalogVersion } from '../catalog/registry.ts'
import type { Queryable, Transaction } from '../db/database.ts'
import type { BillingContext } from '../stripe/context.ts'
import { previewMigration, startMigration } from './actions.ts'

const free = (amount: number) => ({ free: { name: 'Free', allowances: { calls: { amount } } } })
const retired = { retired: { name: 'Retired', prices: { monthly: { amountMinor: 500 } }, allowances: {} } }
const meters = { calls: {} }
const before = defineBilling({ meters, plans: { ...free(100), ...retired }, defaultPlan: 'free' })
const after = defineBilling({ meters, plans: free(50), defaultPlan: 'free' })

const billing = testBilling({ catalog: before, webhooks: false })

test('a preview and a migration of everybody read a thousand customers at a time, and tell and move each of them once', async () => {
  const filter = { planKey: null, fromVersion: null, organizationIds: null }
  const { db, clock } = billing.context
  const present = billing.with({ catalogs: createCatalogRegistry(db, await storeCatalogVersion(db, after, clock.now())) })
  await billing.database.db.query(
    `with made as (
       insert into organizations (id, name, email, created_at)
       select 'many_' || n, 'Many ' || n, n || '@example.com', now() from generate_series(1, 2500) n returning id
     )
     insert into accounts (organization_id, plan_key, catalog_version, updated_at)
     select id, case when id like '%7' then 'retired' else 'free' end, 1, now() from made`,
  )
  let most = 0
  const countRows = (client: Queryable) =>
    (async (text: string, values: unknown[]) => {
      const answer = await client.query(text, values)
      most = Math.max(most, answer.rows.length)
      return answer
    }) as Queryable['query']
  const context: BillingContext = {
    ...present,
    db: {
      ...db,
      query: countRows(db),
      transaction: (work) =>
        db.transaction((tx) => work(Object.assign(Object.create(tx) as Transaction, { query: countRows(tx) }))),
    },
  }
  const preview = await previewMigration(context, filter)
  expect(preview.organizations).toBe(2250)
  expect(preview.groups.reduce((sum, { organizations }) => sum + organizations, 0)).toBe(preview.organizations)
  expect(preview.moves).toHaveLength(1000)
  expect(preview.unmovable).toHaveLength(250)
  const asker = { actor: 'test', requestId: 'many' }
  const { id } = await startMigration(context, { filter: { ...filter, planKey: 'free' }, at: 'now', reason: 'All' }, asker)
  const { rows } = await billing.database.db.query<{ moved: number }>(
    `select count(*)::int as moved from plan_migration_moves where migration_id = $1 and organization_id like 'many%'`,
    [id],
  )
  expect(rows).toEqual([{ moved: 2250 }])
  expect(most).toBeLessThanOrEqual(1000)
  const again = startMigration(context, { filter: { ...filter, planKey: 'free' }, at: 'now', reason: 'Again' }, asker)
  await expect(again).rejects.toMatchObject({ code: 'nothing_to_change' })
})
