import { beforeAll, expect, test } from 'vitest'
import { testSubscriptions } from '../../test/subscriptions.ts'
import { defineBilling } from '../catalog/define.ts'
import { createCatalogRegistry, storeCatalogVersion } from '../catalog/registry.ts'
import type { BillingContext } from '../stripe/context.ts'
import { pushCatalog } from '../stripe/push/push.ts'
import { runDueMoves, startMigration } from './actions.ts'

// An operator's migration finds customers whose own change waits for their bank.

const catalogWith = (amountMinor: number) =>
  defineBilling({
    meters: { calls: {} },
    plans: {
      free: { name: 'Free', allowances: {} },
      pro: { name: 'Pro', prices: { monthly: { amountMinor } }, allowances: {} },
      enterprise: { name: 'Enterprise', prices: { monthly: { amountMinor: 19_900 } }, allowances: {} },
    },
    defaultPlan: 'free',
  })

const billing = testSubscriptions({ catalog: catalogWith(2000) })
const { advance, invoicesOf, post, subscribed, succeed } = billing
let present: BillingContext

beforeAll(async () => {
  // At the old price, which nobody buys any more after the second push.
  for (const id of ['paying_now', 'paying_period_end', 'growing', 'silent_now', 'silent_period_end']) {
    await subscribed(id, { tier: 'pro' })
  }
  const { database, context } = billing
  const version = await storeCatalogVersion(database.db, catalogWith(2500), context.clock.now())
  present = billing.with({ catalogs: createCatalogRegistry(database.db, version) })
  await pushCatalog(present, { variables: {} })
})

const openOf = (id: string) => invoicesOf(id, '?status=open')

/** A customer whose own change waits for the bank, alone in a migration; answers the invoice. */
async function waiting(id: string, wish: object, at: 'now' | 'period_end'): Promise<string> {
  await post(id, 'payment-methods', { payment_method_id: 'pm_card_authenticationRequired' })
  expect((await post(id, 'upgrade', wish)).body).toMatchObject({ requires_action: true, plan: 'pro' })
  const [invoice] = await openOf(id)
  const filter = { planKey: null, fromVersion: null, organizationIds: [id] }
  await startMigration(present, { filter, at, reason: 'New prices' }, { actor: 'operator:test', requestId: 'r' })
  await runAll()
  return invoice!.id
}

async function runAll(): Promise<void> {
  while ((await runDueMoves(present)) > 0);
}

async function moveOf(id: string) {
  const { rows } = await billing.database.db.query<Record<string, unknown>>(
    `select move.state, move.detail, account.plan_key, account.catalog_version, item.unit_amount_minor, item.quantity
     from plan_migration_moves move
     join accounts account on account.organization_id = move.organization_id
     join stripe_subscription_items item
       on item.organization_id = account.organization_id and item.subscription_id = account.subscription_id
     where move.organization_id = $1`,
    [id],
  )
  return rows[0]
}

const UPGRADE = { new_tier: 'enterprise' }
const MORE_SEATS = { new_tier: 'pro', quantity: 3 }

test.each(['now', 'period_end'] as const)('an upgrade stays to be paid, and who paid it is not moved (%s)', async (at) => {
  const id = `paying_${at}`
  const invoice = await waiting(id, UPGRADE, at)
  expect(await moveOf(id)).toMatchObject({ state: 'scheduled', detail: expect.stringContaining('bank'), plan_key: 'pro' })
  expect(await openOf(id)).toMatchObject([{ id: invoice }])
  await succeed(id, `invoices/${invoice}/pay`, { payment_method_id: 'pm_card_visa' })
  await advance(id, '32d')
  await runAll()
  expect(await moveOf(id)).toMatchObject({ state: 'skipped', plan_key: 'enterprise', unit_amount_minor: 19_900n })
})

test('seats that are paid come at the old price, and are moved after that', async () => {
  const invoice = await waiting('growing', MORE_SEATS, 'now')
  await succeed('growing', `invoices/${invoice}/pay`, { payment_method_id: 'pm_card_visa' })
  await runAll()
  expect(await moveOf('growing')).toMatchObject({ state: 'done', detail: null, unit_amount_minor: 2500n, quantity: 3n })
})

test.each([
  ['now', { state: 'done', unit_amount_minor: 2500n }],
  ['period_end', { state: 'scheduled', unit_amount_minor: 2000n }],
] as const)('who never pays is moved once the change is off (%s)', async (at, moved) => {
  const id = `silent_${at}`
  await waiting(id, UPGRADE, at)
  await advance(id, '24h')
  expect(await openOf(id)).toEqual([])
  await runAll()
  expect(await moveOf(id)).toMatchObject({ ...moved, detail: null })
  await post(id, 'payment-methods', { payment_method_id: 'pm_card_visa' })
  await advance(id, '32d')
  await runAll()
  expect(await moveOf(id)).toMatchObject({ state: 'done', plan_key: 'pro', catalog_version: 2, unit_amount_minor: 2500n })
})
