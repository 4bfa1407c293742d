import { beforeAll, expect, test } from 'vitest'
import { testSubscriptions } from '../../test/subscriptions.ts'
import { createCatalogRegistry, storeCatalogVersion } from '../catalog/registry.ts'
import type { CatalogDefinition } from '../catalog/schema.ts'
import type { BillingContext } from '../stripe/context.ts'
import { pushCatalog } from '../stripe/push/push.ts'
import { changePlan } from './actions.ts'
import type { PlanChangeRequest } from './plan-change.ts'

/** A plan with seats, overage and an add-on, at a price of its year of the catalog. */
const catalogOf = (monthly: number, included: number): CatalogDefinition => ({
  meters: { calls: {} },
  plans: {
    free: { name: 'Free', allowances: { calls: { amount: 1 } } },
    pro: {
      name: 'Pro',
      prices: { monthly: { amountMinor: monthly }, yearly: { amountMinor: monthly * 10 } },
      allowances: { calls: { amount: included, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: 2 } } },
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

beforeAll(async () => {
  for (const id of ['seats', 'yearly', 'previewed', 'added']) {
    await billing.createOrganization(id)
    await succeed(id, 'subscribe', { plan: 'pro', payment_method_id: 'pm_card_visa' })
  }
  const { database, context } = billing
  const catalogs = createCatalogRegistry(
    database.db,
    await storeCatalogVersion(database.db, catalogOf(4_000, 500), context.clock.now()),
  )
  later = billing.with({ catalogs })
})

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
  expect(await termsOf('yearly')).toEqual({ version: 2, price: 40_000 })
})
