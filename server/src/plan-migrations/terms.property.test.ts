import fc from 'fast-check'
import { expect, test } from 'vitest'
import { testBilling } from '../../test/billing.ts'
import { startClock } from '../../test/test-clocks.ts'
import type { UsagePrice } from '../catalog/catalog.ts'
import { createCatalogRegistry, storeCatalogVersion } from '../catalog/registry.ts'
import type { CatalogDefinition } from '../catalog/schema.ts'
import { DomainError } from '../lib/errors.ts'
import type { BillingContext } from '../stripe/context.ts'
import { pushCatalog } from '../stripe/push/push.ts'
import { advanceTestClock } from '../stripe/test-clock.ts'
import { changePlan } from '../subscriptions/actions.ts'
import { closeMeteredGaps } from '../subscriptions/metered-items.ts'
import type { PlanChangeRequest } from '../subscriptions/plan-change.ts'
import { runDueMoves, startMigration } from './actions.ts'

// Whatever becomes of the catalog, and whatever customers do meanwhile: each pays what the terms say that they have, for the plan and for use.

const planArbitrary = fc.record({
  // Mostly sold, at the price of before: what else is new has to come all the same.
  amountMinor: fc.constantFrom(1000, 1000, 2000),
  purchasable: fc.constantFrom(true, true, true, false),
  included: fc.constantFrom(10, 20),
  overage: fc.constantFrom(null, 3, 5),
})
type DrawnPlan = typeof planArbitrary extends fc.Arbitrary<infer P> ? P : never
const NAMES = ['basic', 'pro'] as const
const catalogArbitrary = fc.tuple(fc.option(planArbitrary, { freq: 8 }), fc.option(planArbitrary, { freq: 8 }))
type DrawnCatalog = typeof catalogArbitrary extends fc.Arbitrary<infer C> ? C : never

function planOf(name: string, { amountMinor, purchasable, included, overage }: DrawnPlan): CatalogDefinition['plans'][string] {
  const priced = { limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: overage ?? 0 } } as const
  return {
    name,
    purchasable,
    prices: { monthly: { amountMinor }, yearly: { amountMinor: amountMinor * 10 } },
    allowances: { calls: { amount: included, ...(overage === null ? {} : priced) } },
  }
}

function catalogOf(drawn: DrawnCatalog): CatalogDefinition {
  const plans = Object.fromEntries(
    drawn.flatMap((plan, index) => (plan === null ? [] : [[NAMES[index]!, planOf(NAMES[index]!, plan)]])),
  )
  return { meters: { calls: {} }, plans: { free: { name: 'Free', allowances: {} }, ...plans }, defaultPlan: 'free' }
}

const FIRST = { amountMinor: 1000, purchasable: true, included: 10, overage: 3 } as const
const billing = testBilling({ webhooks: false, catalog: catalogOf([FIRST, { ...FIRST, amountMinor: 2000 }]) })
const asker = { actor: 'operator:test', requestId: 'req_test' }

const at = fc.constantFrom('now' as const, 'period_end' as const)
const who = fc.nat({ max: 1 })
const request: fc.Arbitrary<PlanChangeRequest> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('switch' as const),
      planKey: fc.constantFrom(...NAMES),
      interval: fc.constantFrom(null, 'monthly' as const, 'yearly' as const),
      quantity: fc.constantFrom(null, 1, 3),
      at,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constantFrom('undo_cancel' as const, 'undo_switch' as const, 'pause' as const, 'resume' as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('cancel' as const), immediate: fc.constant(false) }) },
)
const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('change' as const), who, request }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('pass' as const), who, days: fc.constantFrom(3, 33) }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('migrate' as const), at }) },
)
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never

/** Another catalog each time, and what happens under it. */
const month = fc.record({ catalog: catalogArbitrary, steps: fc.array(step, { minLength: 2, maxLength: 4 }) })

async function sell(catalog: CatalogDefinition): Promise<BillingContext> {
  const { database, context } = billing
  const stored = await storeCatalogVersion(database.db, catalog, context.clock.now())
  const present = billing.with({ catalogs: createCatalogRegistry(database.db, stored) })
  await pushCatalog(present, { variables: {} })
  expect((await pushCatalog(present, { variables: {} })).changed).toBe(0)
  return present
}

/** What may be said no to is said no to in words, and changes nothing. */
async function unlessRefused(work: () => Promise<unknown>): Promise<void> {
  await work().catch((error: unknown) => {
    if (!(error instanceof DomainError)) throw error
    expect(['unknown_plan', 'plan_not_offered', 'nothing_to_change', 'conflict', 'subscription_missing']).toContain(error.code)
  })
}

async function take(present: BillingContext, customers: readonly string[], each: Step): Promise<void> {
  switch (each.kind) {
    case 'change': {
      const organizationId = customers[each.who]!
      return unlessRefused(() => changePlan(present, { organizationId, request: each.request, prorationAt: null }, asker))
    }
    case 'pass':
      return advanceTestClock(present, customers[each.who]!, { by: `${each.days}d` }).then(() => undefined)
    case 'migrate': {
      const filter = { planKey: null, fromVersion: null, organizationIds: customers }
      return unlessRefused(() => startMigration(present, { filter, at: each.at, reason: null }, asker))
    }
  }
}

type Paid = {
  readonly planKey: string
  readonly version: number
  readonly interval: string
  readonly amountMinor: bigint
  readonly use: UsagePrice[]
}

/** What a live subscription is paid at; null where there is none, or a move is not through yet. */
async function readPaid(organizationId: string): Promise<Paid | null> {
  const { rows } = await billing.database.db.query<Paid>(
    `select account.plan_key as "planKey", account.catalog_version as version, account.price_key as interval,
       item.unit_amount_minor as "amountMinor",
       array(select usage.terms from stripe_subscription_items used join usage_prices usage on usage.stripe_price_id = used.price_id
         where used.organization_id = account.organization_id and used.subscription_id = account.subscription_id) as use
     from accounts account
     join stripe_subscription_items item on item.organization_id = account.organization_id
       and item.subscription_id = account.subscription_id and item.price_id = account.stripe_price_id
     where account.organization_id = $1 and account.subscription_status in ('active', 'past_due')`,
    [organizationId],
  )
  return rows[0] ?? null
}

async function expectTerms(present: BillingContext, organizationId: string): Promise<void> {
  const paid = await readPaid(organizationId)
  if (paid === null) return
  const plan = (await present.catalogs.get(paid.version)).plans.get(paid.planKey)!
  const told = [...plan.allowances.values()].flatMap(({ overage }) =>
    overage?.model === 'per_unit' ? [{ model: 'per_unit', unitAmount: String(overage.unitAmount / 10n ** 12n) }] : [],
  )
  const fee = plan.prices.get(paid.interval === 'yearly' ? 'yearly' : 'monthly')!.amountMinor
  expect({ fee: Number(paid.amountMinor), use: paid.use }).toEqual({ fee, use: told })
}

let made = 0
async function begin(plan: string): Promise<string> {
  made += 1
  const id = await billing.createOrganization(`customer${made}`)
  await startClock(billing.context, id)
  await billing.succeed(id, 'subscribe', { tier: plan, payment_method_id: 'pm_card_visa' })
  return id
}

test('who has subscribed pays what their terms say, for the plan and for use, whatever becomes of the catalog', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(month, { minLength: 3, maxLength: 4 }), async (months) => {
      let present = await sell(catalogOf([FIRST, { ...FIRST, amountMinor: 2000 }]))
      const customers = [await begin('basic'), await begin('pro')]
      for (const { catalog, steps } of months) {
        present = await sell(catalogOf(catalog))
        for (const each of steps) {
          await take(present, customers, each)
          while ((await runDueMoves(present)) > 0);
          await closeMeteredGaps(present)
          for (const id of customers) await expectTerms(present, id)
        }
      }
    }),
    { numRuns: Number(process.env['TERMS_RUNS'] ?? 5), endOnFailure: true },
  )
}, 300_000)
