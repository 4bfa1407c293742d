import { afterAll, beforeAll } from 'vitest'
import type { CatalogDefinition } from '../src/catalog/schema.ts'
import { parseQuantity } from '../src/lib/quantity.ts'
import { carryLevels } from '../src/metering/levels.ts'
import { createMetering, type Metering } from '../src/metering/metering.ts'
import type { UsageAnswer } from '../src/metering/usage.ts'
import { openUsageConnections, type UsageConnections } from '../src/metering/write/pipeline.ts'
import { settleBeforeClockMoves } from '../src/pricing/actions.ts'
import { registerPricingRoutes } from '../src/pricing/routes.ts'
import { readOrganization } from '../src/stripe/organizations.ts'
import { pushCatalog } from '../src/stripe/push/push.ts'
import { advanceTestClock } from '../src/stripe/test-clock.ts'
import { registerExplainRoutes } from '../src/usage/explain-routes.ts'
import { testBilling, type TestBilling } from './billing.ts'
import { testRoutes } from './routes.ts'
import { START, startClock } from './test-clocks.ts'

/** Billing and metering over one database and one sandbox: what is used is counted here and billed there. */
export type TestUse = TestBilling & {
  /** A new organization on a test clock of its own, which starts at `startsAt`, with a card. */
  readonly customer: (planKey: string, interval?: 'monthly' | 'yearly', startsAt?: Date) => Promise<string>
  readonly use: (
    organizationId: string,
    meter: string,
    quantity: number | string,
    options?: { readonly key?: string; readonly occurredAt?: Date },
  ) => Promise<UsageAnswer>
  /** Holds for so many seconds. */
  readonly hold: (organizationId: string, meter: string, quantity: number, seconds: number) => Promise<UsageAnswer>
  readonly correct: (organizationId: string, key: string, quantity: number) => Promise<UsageAnswer>
  readonly advance: (organizationId: string, by: string) => Promise<void>
  readonly nowOf: (organizationId: string) => Promise<Date>
  /** A route of pricing, called by the operator or with an organization's key. */
  readonly ask: ReturnType<typeof testRoutes>
}

/** Call it once at the top of a test file. */
export function testUse(catalog: CatalogDefinition): TestUse {
  const billing = testBilling({ webhooks: false, catalog })
  let connections: UsageConnections
  let metering: Metering
  let count = 0

  beforeAll(async () => {
    await pushCatalog(billing.context, { variables: {} })
    connections = openUsageConnections({ connectionString: billing.database.url, size: 2 })
    metering = createMetering({ connections, catalogs: billing.context.catalogs, clock: billing.context.clock, graceDays: 3 })
  })
  afterAll(async () => {
    await metering.stop()
    await connections.close()
  })

  const ask = testRoutes((app) => {
    const { db, catalogs, clock } = billing.context
    const usage = { metering, db, catalogs, clock, graceDays: 3 }
    registerPricingRoutes(app, { billing: billing.context, usage })
    registerExplainRoutes(app, usage)
  })

  return Object.assign(Object.create(billing) as TestBilling, {
    ask,
    async customer(planKey: string, interval: 'monthly' | 'yearly' = 'monthly', startsAt: Date = START) {
      count += 1
      const id = await billing.createOrganization(`user${count}`)
      await startClock(billing.context, id, startsAt)
      const body = { tier: planKey, interval, payment_method_id: 'pm_card_visa' }
      const answer = await billing.call(id, 'POST', '/api/v1/billing/subscribe', body)
      if (answer.status !== 200) throw new Error(JSON.stringify(answer.body))
      return id
    },
    async use(
      organizationId: string,
      meter: string,
      quantity: number | string,
      { key, occurredAt }: { key?: string; occurredAt?: Date } = {},
    ) {
      count += 1
      return metering.ask({
        verb: 'track',
        organizationId,
        meter,
        quantity: parseQuantity(quantity),
        idempotencyKey: key ?? `use-${count}`,
        occurredAt: occurredAt ?? null,
        properties: null,
      })
    },
    async hold(organizationId: string, meter: string, quantity: number, seconds: number) {
      count += 1
      return metering.ask({
        verb: 'reserve',
        organizationId,
        meter,
        quantity: parseQuantity(quantity),
        idempotencyKey: `hold-${count}`,
        properties: null,
        ttlMs: seconds * 1_000,
      })
    },
    async correct(organizationId: string, corrects: string, quantity: number) {
      count += 1
      return metering.ask({
        verb: 'correct',
        organizationId,
        corrects,
        quantity: parseQuantity(quantity),
        idempotencyKey: `correct-${count}`,
        properties: null,
      })
    },
    async advance(organizationId: string, by: string) {
      const { db, clock, catalogs } = billing.context
      const context = billing.with({
        async onClockMoving(id) {
          await carryLevels({ db, clock, catalogs, metering }, id)
          await settleBeforeClockMoves(billing.context, id)
        },
      })
      await advanceTestClock(context, organizationId, { by })
    },
    async nowOf(organizationId: string) {
      return (await readOrganization(billing.database.db, organizationId)).testClockNow!
    },
  })
}
