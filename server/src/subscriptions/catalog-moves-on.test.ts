import { beforeAll, expect, test } from 'vitest'
import { testSubscriptions } from '../../test/subscriptions.ts'
import { createCatalogRegistry, storeCatalogVersion } from '../catalog/registry.ts'
import type { CatalogDefinition } from '../catalog/schema.ts'
import { parseUnitAmount } from '../lib/unit-amount.ts'
import type { BillingContext } from '../stripe/context.ts'
import { RECENT_SCOPE } from '../stripe/mirror/fetch.ts'
import { syncOrganization } from '../stripe/mirror/sync.ts'
import { pushCatalog } from '../stripe/push/push.ts'
import { advanceTestClock } from '../stripe/test-clock.ts'
import { changePlan, runExclusively } from './actions.ts'
import type { PlanChangeRequest } from './plan-change.ts'

/** A plan with seats, overage and an add-on, at a price of its year of the catalog. */
const catalogOf = (monthly: number, included: number, overage = 2): CatalogDefinition => ({
  meters: { calls: {} },
  plans: {
    free: { name: 'Free', allowances: { calls: { amount: 1 } } },
    pro: {
      name: 'Pro',
      prices: { monthly: { amountMinor: monthly }, yearly: { amountMinor: monthly * 10 } },
      allowances: { calls: { amount: included, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: overage } } },
    },
    big: { name: 'Big', prices: { monthly: { amountMinor: monthly * 3 } }, allowances: { calls: { amount: 10 * included } } },
  },
  addOns: { pack: { name: 'Pack', prices: { monthly: { amountMinor: 500 }, yearly: { amountMinor: 5_000 } } } },
  defaultPlan: 'free',
})

const billing = testSubscriptions({ catalog: catalogOf(3_000, 100) })
const { post, succeed } = billing
const BILLING = '/api/v1/billing'
const asker = { actor: 'test', requestId: 'req' }
let later: BillingContext
/** What plans cost stays; what they include, and what more of it costs, is another. */
let roomier: BillingContext

beforeAll(async () => {
  for (const id of ['seats', 'yearly', 'previewed', 'added', 'interval']) {
    await billing.createOrganization(id)
    await succeed(id, 'subscribe', { plan: 'pro', payment_method_id: 'pm_card_visa' })
  }
  await billing.createOrganization('unpaid')
  await billing.subscribed('planned', { plan: 'pro' })
  await succeed('planned', 'upgrade', { new_tier: 'pro', interval: 'yearly', at: 'period_end' })
  later = await contextOf(catalogOf(4_000, 500))
  const { free: _gone, ...plans } = catalogOf(3_000, 500, 5).plans
  const hobby = { name: 'Hobby', allowances: {} }
  roomier = await contextOf({ ...catalogOf(3_000, 500, 5), plans: { hobby, ...plans }, defaultPlan: 'hobby' })
})

async function contextOf(catalog: CatalogDefinition): Promise<BillingContext> {
  const { database, context } = billing
  const stored = await storeCatalogVersion(database.db, catalog, context.clock.now())
  return billing.with({ catalogs: createCatalogRegistry(database.db, stored) })
}

const change = (
  organizationId: string,
  over: Partial<Extract<PlanChangeRequest, { kind: 'switch' }>>,
  prorationAt: Date | null,
) =>
  changePlan(
    later,
    {
      organizationId,
      request: { kind: 'switch', planKey: 'pro', interval: null, quantity: null, at: null, ...over },
      prorationAt,
    },
    asker,
  )

async function termsOf(id: string) {
  const { rows } = await billing.database.db.query<{ version: number; priceMinor: bigint }>(
    `select account.catalog_version as version, item.unit_amount_minor as "priceMinor" from accounts account
     join stripe_subscription_items item on item.organization_id = account.organization_id and item.price_id = account.stripe_price_id
     where account.organization_id = $1`,
    [id],
  )
  return { version: rows[0]!.version, price: Number(rows[0]!.priceMinor) }
}

/** What more than is included costs a customer: as their terms say, and as Stripe bills it. */
async function overageOf(id: string) {
  const { db } = billing.database
  const { version } = await termsOf(id)
  const { rows } = await db.query<{ amount: string }>(
    `select price.terms ->> 'unitAmount' as amount from stripe_subscription_items item
     join usage_prices price on price.stripe_price_id = item.price_id where item.organization_id = $1`,
    [id],
  )
  const { overage } = (await billing.context.catalogs.get(version)).plans.get('pro')!.allowances.get('calls')!
  return { told: overage, billed: rows.map(({ amount }) => amount) }
}

const perUnit = (cents: string) => ({ model: 'per_unit', unitAmount: parseUnitAmount(cents, 'overage') })

test('another interval has today’s terms also where its price is what it was, and use costs what they say', async () => {
  await pushCatalog(roomier, { variables: {} })
  await changePlan(
    roomier,
    {
      organizationId: 'interval',
      request: { kind: 'switch', planKey: 'pro', interval: 'yearly', quantity: null, at: null },
      prorationAt: null,
    },
    asker,
  )
  expect(await termsOf('interval')).toEqual({ version: roomier.catalogs.current.version, price: 30_000 })
  expect(await overageOf('interval')).toEqual({ told: perUnit('5'), billed: ['5'] })
})

test('what was scheduled before the catalog changed comes with the terms of then, and use costs what they say', async () => {
  await advanceTestClock(roomier, 'planned', { by: '32d' })
  expect(await termsOf('planned')).toEqual({ version: 1, price: 30_000 })
  expect(await overageOf('planned')).toEqual({ told: perUnit('2'), billed: ['2'] })
})

test('who pays nothing keeps the default plan that they have, also where the catalog has another one now', async () => {
  await runExclusively(roomier, 'unpaid', (session) =>
    syncOrganization(roomier, session, 'unpaid', { scope: RECENT_SCOPE, priority: 'interactive' }),
  )
  const { rows } = await billing.database.db.query(
    `select plan_key, catalog_version from accounts where organization_id = 'unpaid'`,
  )
  expect(rows).toEqual([{ plan_key: 'free', catalog_version: 1 }])
})

test('what a subscription costs is the same on every page, with add-ons and without what use costs', async () => {
  await post('added', 'add-ons', { add_on: 'pack', quantity: 3 })
  const own = await billing.call('added', 'GET', `${BILLING}/subscription`)
  expect(own.body).toMatchObject({ amount_minor: 4_500, amount: 45 })
  const { body } = await billing.call('operator', 'GET', '/api/v1/admin/billing/subscriptions')
  const listed = (body['subscriptions'] as { id: string; amount: number; interval: string }[]).find(
    ({ id }) => id === own.body['subscription_id'],
  )
  expect(listed).toMatchObject({ amount: 45, interval: 'month' })
})

test('of a price that changed after its preview another preview is asked for', async () => {
  const previewedAt = new Date(billing.context.clock.now().getTime() - 10_000)
  await pushCatalog(later, { variables: {} })
  await expect(change('previewed', { planKey: 'big' }, previewedAt)).rejects.toMatchObject({
    code: 'conflict',
    details: { field: 'proration_date' },
  })
  expect(await termsOf('previewed')).toEqual({ version: 1, price: 3_000 })
  // A seat more costs what it did.
  await change('previewed', { quantity: 2 }, null)
  expect(await termsOf('previewed')).toEqual({ version: 1, price: 3_000 })
})

test('more seats cost what those cost that are there, under the same terms', async () => {
  await change('seats', { quantity: 3 }, null)
  expect(await termsOf('seats')).toEqual({ version: 1, price: 3_000 })
  const { body } = await billing.call('seats', 'GET', `${BILLING}/invoices`)
  // Two invoices of one second come in any order.
  const paid = (body as unknown as { amount_paid_minor: number }[]).map((invoice) => invoice.amount_paid_minor)
  expect(paid.toSorted((a, b) => a - b)).toEqual([3_000, 6_000])
})

test('another interval has today’s price, and with it today’s terms', async () => {
  await change('yearly', { interval: 'yearly' }, null)
  expect(await termsOf('yearly')).toEqual({ version: later.catalogs.current.version, price: 40_000 })
})
