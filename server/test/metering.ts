import { afterAll, beforeAll } from 'vitest'
import { createCatalogRegistry, storeCatalogVersion, type CatalogRegistry } from '../src/catalog/registry.ts'
import type { CatalogDefinition } from '../src/catalog/schema.ts'
import { reconcilePlanGrants, type GrantsContext } from '../src/grants/actions.ts'
import type { TimeZoneContext } from '../src/grants/time-zone.ts'
import { ManualClock } from '../src/lib/clock.ts'
import { MICRO } from '../src/lib/quantity.ts'
import { endOverdueReservations } from '../src/metering/expiring.ts'
import { createMetering, type Metering } from '../src/metering/metering.ts'
import type { UsageAnswer } from '../src/metering/usage.ts'
import { openUsageConnections, type UsageConnections } from '../src/metering/write/pipeline.ts'
import { testDatabase, type TestDatabase } from './database.ts'

/** The credits of EM-1 and EM-2, and a meter that only `pro` includes. */
export const CATALOG: CatalogDefinition = {
  meters: { episode_ingestion: {}, episode_search: {}, tokens: {} },
  credits: { credits: { unit: 'credit', costs: { episode_ingestion: 1, episode_search: '0.1' } } },
  plans: {
    free: { name: 'Free', tier: 'FREE', allowances: { credits: { amount: 100, period: 'calendar_month' } } },
    starter: { name: 'Starter', tier: 'STARTER', allowances: { credits: { amount: 1000 } } },
    pro: { name: 'Pro', tier: 'PRO', allowances: { credits: { amount: 5000 }, tokens: { amount: 10 } } },
  },
  defaultPlan: 'free',
}

type TestContext = GrantsContext & Pick<TimeZoneContext, 'endOverdueReservations'>

export type TestMetering = {
  readonly database: TestDatabase
  readonly clock: ManualClock
  /** Ready inside of tests and hooks. */
  readonly catalogs: () => CatalogRegistry
  readonly connections: () => UsageConnections
  readonly metering: () => Metering
  readonly context: () => TestContext
  readonly newOrganization: () => Promise<string>
  /** Consumes so many credits, under a key of its own unless one is given. */
  readonly consumeCredits: (organizationId: string, credits: number, key?: string) => Promise<UsageAnswer>
  /** Puts an organization onto a plan with an active subscription, as the sync from Stripe does. */
  readonly subscribe: (organizationId: string, planKey: string, period: { start: Date; end: Date }) => Promise<void>
}

/** A database of the calling file's own with a catalog and a metering on it. Call it once at the top. */
export function testMetering(definition: CatalogDefinition = CATALOG): TestMetering {
  const database = testDatabase()
  const clock = new ManualClock(new Date('2026-03-10T12:00:00Z'))
  let catalogs: CatalogRegistry
  let connections: UsageConnections
  let metering: Metering
  let organizations = 0
  let keys = 0
  const context = (): TestContext => ({
    catalogs,
    clock,
    graceDays: 3,
    endOverdueReservations: (tx, organizationId) => endOverdueReservations(tx, { clock }, organizationId),
  })

  beforeAll(async () => {
    catalogs = createCatalogRegistry(database.db, await storeCatalogVersion(database.db, definition, clock.now()))
    connections = openUsageConnections({ connectionString: database.url, size: 4 })
    metering = createMetering({ connections, ...context() })
  })
  afterAll(async () => {
    await metering.stop()
    await connections.close()
  })

  return {
    database,
    clock,
    catalogs: () => catalogs,
    connections: () => connections,
    metering: () => metering,
    context,
    async newOrganization() {
      organizations += 1
      const id = `org_${organizations}`
      await database.db.query(`insert into organizations (id, name, email, created_at) values ($1, $1, 'a@example.com', $2)`, [
        id,
        clock.now(),
      ])
      return id
    },
    consumeCredits: (organizationId, credits, key = `credits ${(keys += 1)}`) =>
      metering.ask({
        verb: 'consume',
        organizationId,
        meter: 'episode_ingestion',
        quantity: BigInt(credits) * MICRO,
        idempotencyKey: key,
        occurredAt: null,
        properties: null,
      }),
    async subscribe(organizationId, planKey, { start, end }) {
      await database.db.transaction(async (tx) => {
        await tx.query(
          `insert into accounts (organization_id, plan_key, catalog_version, subscription_status, current_period_start,
             current_period_end, updated_at)
           values ($1, $2, $3, 'active', $4, $5, $4)
           on conflict (organization_id) do update
           set plan_key = $2, subscription_status = 'active', current_period_start = $4, current_period_end = $5`,
          [organizationId, planKey, catalogs.current.version, start, end],
        )
        await reconcilePlanGrants(tx, context(), organizationId)
      })
    },
  }
}
