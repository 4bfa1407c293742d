import { beforeAll, expect, test } from 'vitest'
import { testUse } from '../../test/used.ts'
import { createCatalogRegistry, storeCatalogVersion } from '../catalog/registry.ts'
import type { CatalogDefinition } from '../catalog/schema.ts'
import type { BillingContext } from '../stripe/context.ts'
import { pushCatalog } from '../stripe/push/push.ts'
import { previewMigration, runDueMoves, startMigration } from './actions.ts'

/** Plans with ten calls; what more of them cost, and what one plan costs that is no longer sold to others. */
const catalogOf = (
  overage: number | null,
  pro: number,
  hidden: { amountMinor: number; purchasable: boolean },
): CatalogDefinition => {
  const priced = { limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: overage ?? 0 } } as const
  const calls = { amount: 10, ...(overage === null ? {} : priced) }
  return {
    meters: { calls: {} },
    plans: {
      free: { name: 'Free', allowances: {} },
      pro: { name: 'Pro', prices: { monthly: { amountMinor: pro } }, allowances: { calls } },
      hidden: {
        name: 'Hidden',
        purchasable: hidden.purchasable,
        prices: { monthly: { amountMinor: hidden.amountMinor } },
        allowances: { calls: { amount: 10 } },
      },
    },
    defaultPlan: 'free',
  }
}

const billing = testUse(catalogOf(7, 2000, { amountMinor: 1500, purchasable: true }))
const asker = { actor: 'operator:test', requestId: 'req_test' }
/** Who bought under the first catalog, by what becomes of them. */
const customers = { now: '', later: '', unpriced: '', shown: '', overtaken: '', unpushed: '', same: '', sameLater: '' }
let same: BillingContext
let dearer: BillingContext
let latest: BillingContext
let unpriced: BillingContext

async function contextOf(catalog: CatalogDefinition): Promise<BillingContext> {
  const { database, context } = billing
  const stored = await storeCatalogVersion(database.db, catalog, context.clock.now())
  return billing.with({ catalogs: createCatalogRegistry(database.db, stored) })
}

beforeAll(async () => {
  for (const name of ['now', 'later', 'unpriced', 'unpushed'] as const) customers[name] = await billing.customer('pro')
  for (const name of ['shown', 'overtaken', 'same', 'sameLater'] as const) customers[name] = await billing.customer('hidden')
  same = await contextOf(catalogOf(9, 2000, { amountMinor: 1500, purchasable: true }))
  dearer = await contextOf(catalogOf(9, 2000, { amountMinor: 1700, purchasable: false }))
  latest = await contextOf(catalogOf(9, 2600, { amountMinor: 1900, purchasable: false }))
  unpriced = await contextOf(catalogOf(null, 2000, { amountMinor: 1700, purchasable: false }))
})

async function start(context: BillingContext, organizationId: string, at: 'now' | 'period_end') {
  const filter = { planKey: null, fromVersion: null, organizationIds: [organizationId] }
  const preview = await previewMigration(context, filter)
  const { id } = await startMigration(context, { filter, at, reason: null }, asker)
  return { id, preview }
}

async function run(context: BillingContext): Promise<void> {
  while ((await runDueMoves(context)) > 0);
}

async function stateOf(id: string) {
  const { rows } = await billing.database.db.query<{ state: string; detail: string | null }>(
    'select state, detail from plan_migration_moves where migration_id = $1',
    [id],
  )
  return rows[0]
}

const renew = async (id: string): Promise<void> => {
  await billing.advance(id, '31d')
  await billing.advance(id, '2h')
}
/** Oldest first. */
const duesOf = async (id: string): Promise<number[]> =>
  (await billing.invoicesOf(id)).map(({ amount_due_minor: due }) => due).toReversed()

test('terms under which a customer pays the same come at once, or with the next period, as it is asked', async () => {
  const [now, later] = [await start(same, customers.same, 'now'), await start(same, customers.sameLater, 'period_end')]
  await run(same)
  expect([await stateOf(now.id), await stateOf(later.id)]).toMatchObject([{ state: 'done' }, { state: 'scheduled' }])
  await renew(customers.sameLater)
  await run(same)
  expect(await stateOf(later.id)).toMatchObject({ state: 'done' })
})

test('now: what was used costs what it did, and what is used from then on what the new terms say, though the plan costs the same', async () => {
  const id = customers.now
  await billing.use(id, 'calls', 15)
  await pushCatalog(dearer, { variables: {} })
  const { preview } = await start(dearer, id, 'now')
  expect(preview.groups).toMatchObject([{ planKey: 'pro', repriced: [{ balanceKey: 'calls' }] }])
  await billing.advance(id, '1h')
  await run(dearer)
  await billing.advance(id, '1h')
  await billing.use(id, 'calls', 5)
  await renew(id)
  expect(await duesOf(id)).toEqual([2000, 2000 + 5 * 7 + 5 * 9])
})

test('at the period’s end: the period before costs what it did, and the next what the new terms say; other seats do not put it off', async () => {
  const id = customers.later
  const move = await start(dearer, id, 'period_end')
  await run(dearer)
  expect(await stateOf(move.id)).toMatchObject({ state: 'scheduled' })
  expect((await billing.post(id, 'upgrade/undo')).status).toBe(409)
  await billing.use(id, 'calls', 15)
  await billing.succeed(id, 'downgrade', { new_tier: 'pro', quantity: 2, at: 'period_end' })
  await billing.succeed(id, 'downgrade/undo')
  await run(dearer)
  await renew(id)
  await run(dearer)
  expect(await stateOf(move.id)).toMatchObject({ state: 'done' })
  await billing.use(id, 'calls', 15)
  await renew(id)
  expect(await duesOf(id)).toEqual([2000, 2000 + 5 * 7, 2000 + 5 * 9])
})

test('terms that price use no more end its price', async () => {
  const id = customers.unpriced
  await pushCatalog(unpriced, { variables: {} })
  await start(unpriced, id, 'now')
  await billing.advance(id, '1h')
  await run(unpriced)
  const { rows } = await billing.database.db.query(
    `select usage_type from stripe_subscription_items where organization_id = $1 and usage_type = 'metered'`,
    [id],
  )
  expect(rows).toEqual([])
})

test('a plan that nobody else can buy any more is moved to its price as the preview says', async () => {
  const id = customers.shown
  await pushCatalog(dearer, { variables: {} })
  const { id: migration, preview } = await start(dearer, id, 'now')
  expect(preview.moves).toMatchObject([{ amountMinor: 1500, toAmountMinor: 1700 }])
  await run(dearer)
  expect(await stateOf(migration)).toMatchObject({ state: 'done' })
  expect(await billing.subscriptionOf(id)).toMatchObject({ amount_minor: 1700 })
})

test('a move brings the prices and the terms that were previewed, also where the catalog has changed again meanwhile', async () => {
  const id = customers.overtaken
  await pushCatalog(dearer, { variables: {} })
  const { id: migration } = await start(dearer, id, 'period_end')
  await pushCatalog(latest, { variables: {} })
  await run(latest)
  await renew(id)
  await run(latest)
  expect(await stateOf(migration)).toMatchObject({ state: 'done', detail: null })
  expect(await billing.subscriptionOf(id)).toMatchObject({ amount_minor: 1700 })
  const { rows } = await billing.database.db.query('select catalog_version from accounts where organization_id = $1', [id])
  expect(rows).toEqual([{ catalog_version: dearer.catalogs.current.version }])
})

test('terms whose price of use is not at Stripe yet bring nothing, and the row says why', async () => {
  const id = customers.unpushed
  const unknown = await contextOf(catalogOf(11, 2000, { amountMinor: 1900, purchasable: false }))
  const { id: migration } = await start(unknown, id, 'now')
  await run(unknown)
  expect(await stateOf(migration)).toEqual({
    state: 'failed',
    detail: 'What use of "calls" costs is not at Stripe yet: run "tollgate push".',
  })
})

test('who has a default plan that is gone is moved to the one of today, with what it includes', async () => {
  const id = await billing.createOrganization('unpaid')
  const { free: _gone, ...plans } = catalogOf(9, 2000, { amountMinor: 1700, purchasable: false }).plans
  const hobby = { name: 'Hobby', allowances: { calls: { amount: 3 } } }
  const renamed = await contextOf({ meters: { calls: {} }, plans: { hobby, ...plans }, defaultPlan: 'hobby' })
  const { id: migration, preview } = await start(renamed, id, 'now')
  const allowances = [{ balanceKey: 'calls', to: 3_000_000n }]
  expect(preview).toMatchObject({ unmovable: [], groups: [{ planKey: 'free', organizations: 1, allowances }] })
  await run(renamed)
  expect(await stateOf(migration)).toMatchObject({ state: 'done' })
  const { rows } = await billing.database.db.query('select plan_key, catalog_version from accounts where organization_id = $1', [
    id,
  ])
  expect(rows).toEqual([{ plan_key: 'hobby', catalog_version: renamed.catalogs.current.version }])
})
