import { afterAll, beforeAll } from 'vitest'
import { startSandbox, type Sandbox, type SandboxOptions } from '../../sandbox/src/index.ts'
import { createCatalogRegistry, importCatalogDefinition, storeCatalogVersion } from '../src/catalog/registry.ts'
import { reconcilePlanGrants } from '../src/grants/actions.ts'
import { systemClock, type Clock } from '../src/lib/clock.ts'
import { createStripeClient } from '../src/stripe/client.ts'
import type { BillingContext, BillingPolicy } from '../src/stripe/context.ts'
import type { Log } from '../src/stripe/log.ts'
import { testDatabase, type TestDatabase } from './database.ts'

export type TestBilling = {
  readonly database: TestDatabase
  readonly sandbox: Sandbox
  readonly context: BillingContext
  /** What was logged, newest last. */
  readonly logged: { level: string; fields: Record<string, unknown>; message: string }[]
  /** A new organization without a customer; answers its id. */
  createOrganization(id: string): Promise<string>
  /** The same context with some of its parts replaced. */
  with(parts: Partial<BillingContext>): BillingContext
}

export type TestBillingOptions = {
  readonly sandbox?: SandboxOptions
  readonly policy?: Partial<BillingPolicy>
  readonly clock?: Clock
  readonly catalog?: string
}

const EPISODIC_MEMORY = 'examples/episodic-memory/billing.config.ts'

export const TEST_POLICY: BillingPolicy = {
  graceDays: 3,
  webhookSecrets: ['whsec_test'],
  trialDays: 14,
  trialEndBehavior: 'cancel',
  downgradeAt: 'now',
  successUrl: 'http://localhost:3000/paid',
  cancelUrl: 'http://localhost:3000/back',
  portalReturnUrl: 'http://localhost:3000/account',
  defaultPriceId: null,
  redirectOrigins: [],
  allowLoopbackRedirects: true,
}

/** Billing on a real database and a Stripe sandbox of the calling test file's own. Call it once at the top. */
export function testBilling(options: TestBillingOptions = {}): TestBilling {
  const database = testDatabase()
  const clock = options.clock ?? systemClock
  const logged: TestBilling['logged'] = []
  const logAs = (level: string) => (fields: Record<string, unknown>, message: string) =>
    void logged.push({ level, fields, message })
  const log: Log = { info: logAs('info'), warn: logAs('warn'), error: logAs('error') }
  let sandbox: Sandbox | null = null
  let context: BillingContext | null = null

  beforeAll(async () => {
    sandbox = await startSandbox({ seed: 'billing', ...options.sandbox })
    const definition = await importCatalogDefinition(options.catalog ?? EPISODIC_MEMORY)
    const catalogs = createCatalogRegistry(database.db, await storeCatalogVersion(database.db, definition, clock.now()))
    context = {
      db: database.db,
      clock,
      catalogs,
      gateway: createStripeClient({
        apiKey: 'sk_test_tollgate',
        endpoint: { host: sandbox.host, port: sandbox.port, protocol: sandbox.protocol },
        callsPerSecond: 1_000,
        log,
      }),
      policy: { ...TEST_POLICY, ...options.policy },
      log,
      onAccountDerived: async (tx, { organizationId }) => {
        await reconcilePlanGrants(tx, { catalogs, clock, graceDays: TEST_POLICY.graceDays }, organizationId)
      },
    }
  })
  afterAll(() => sandbox?.stop())

  const ready = <Part>(part: Part | null): Part => {
    if (part === null) throw new Error('testBilling is used inside of tests and hooks')
    return part
  }
  return {
    database,
    logged,
    get sandbox() {
      return ready(sandbox)
    },
    get context() {
      return ready(context)
    },
    with: (parts) => ({ ...ready(context), ...parts }),
    async createOrganization(id) {
      await database.db.query('insert into organizations (id, name, email, created_at) values ($1, $1, $2, $3)', [
        id,
        `${id.toLowerCase()}@example.com`,
        clock.now(),
      ])
      return id
    },
  }
}
