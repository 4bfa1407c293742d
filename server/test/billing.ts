import { serve } from '@hono/node-server'
import { once } from 'node:events'
import type { AddressInfo, Server } from 'node:net'
import { pino } from 'pino'
import { Stripe } from 'stripe'
import { afterAll, beforeAll } from 'vitest'
import { startSandbox, type Sandbox, type SandboxOptions } from '../../sandbox/src/index.ts'
import { recordRevenue } from '../src/analytics/ledger.ts'
import { registerAnalyticsRoutes } from '../src/analytics/routes.ts'
import type { Principal } from '../src/auth/principal.ts'
import { registerBillingRoutes } from '../src/billing.ts'
import { createCatalogRegistry, importCatalogDefinition, storeCatalogVersion } from '../src/catalog/registry.ts'
import type { CatalogDefinition } from '../src/catalog/schema.ts'
import { openDatabase } from '../src/db/database.ts'
import { registerExportRoutes } from '../src/exports/routes.ts'
import { reconcilePlanGrants } from '../src/grants/actions.ts'
import { insertMissingAccounts } from '../src/grants/store.ts'
import { createApp, type App } from '../src/http/app.ts'
import { systemClock, type Clock } from '../src/lib/clock.ts'
import type { ApiKeyId, OrganizationId } from '../src/lib/ids.ts'
import { endOverdueReservations } from '../src/metering/expiring.ts'
import { observeAccount } from '../src/notifications/observe.ts'
import type { OrganizationsContext } from '../src/organizations/actions.ts'
import { followBilling, settleBeforeClockMoves } from '../src/pricing/actions.ts'
import { noteMeterFaults } from '../src/pricing/faults.ts'
import type { BillingContext, BillingPolicy } from '../src/stripe/context.ts'
import { createStripeClient } from '../src/stripe/gateway/client.ts'
import type { Log } from '../src/stripe/log.ts'
import { startStripeWorkers, type StripeWorkers } from '../src/stripe/workers.ts'
import { endUnmade, settleTopUps } from '../src/top-ups/settle.ts'
import { billingRequests, type BillingRequests } from './billing-requests.ts'
import { testDatabase, type TestDatabase } from './database.ts'

export type TestBilling = BillingRequests & {
  readonly database: TestDatabase
  readonly sandbox: Sandbox
  /** Stripe's own package on the sandbox: what is done there by its dashboard, its portal, its forms. */
  readonly stripe: Stripe
  readonly context: BillingContext
  /** The header with which Stripe signs an event; default: with the secret of this server. */
  readonly sign: (payload: string, secret?: string) => string
  /** What was logged, newest last. */
  readonly logged: { level: string; fields: Record<string, unknown>; message: string }[]
  /** A new organization on the default plan, without a customer; answers its id. */
  readonly createOrganization: (id: string) => Promise<string>
  /** The same context with some of its parts replaced. */
  readonly with: (parts: Partial<BillingContext>) => BillingContext
  /** The same context so much later. */
  readonly later: (ms: number) => BillingContext
  /** The price at Stripe of a plan by the month. */
  readonly priceOf: (planKey: string) => Promise<string>
}

export type TestBillingOptions = {
  /** Whether webhooks are delivered and handled; default true. */
  readonly webhooks?: boolean
  readonly sandbox?: SandboxOptions
  readonly policy?: Partial<BillingPolicy>
  readonly clock?: Clock
  /** Default: the catalog of the episodic-memory example. */
  readonly catalog?: CatalogDefinition
}

const API_KEY = 'sk_test_tollgate'
const WEBHOOK_SECRET = 'whsec_test'
const EPISODIC_MEMORY = 'examples/episodic-memory/billing.config.ts'

export const TEST_POLICY: BillingPolicy = {
  graceDays: 3,
  webhookSecrets: [WEBHOOK_SECRET],
  publishableKey: 'pk_test_tollgate',
  trialDays: 14,
  trialEndBehavior: 'cancel',
  downgradeAt: 'now',
  automaticTax: false,
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
  let stripe: Stripe | null = null
  let context: BillingContext | null = null
  let app: App | null = null
  let workers: StripeWorkers | null = null
  let server: Server | null = null

  beforeAll(async () => {
    // The address of the webhook must be known before the sandbox starts, and the sandbox before the client can be made.
    server = serve({ fetch: (request) => app!.fetch(request), port: 0, hostname: '127.0.0.1' })
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const webhooks = [{ url: `http://127.0.0.1:${port}/api/v1/billing/webhook`, secret: WEBHOOK_SECRET }]
    sandbox = await startSandbox({ seed: 'billing', webhooks: options.webhooks === false ? [] : webhooks, ...options.sandbox })
    stripe = clientOf(sandbox)
    context = await createContext({ database, sandbox, clock, log, options })
    workers = options.webhooks === false ? null : startStripeWorkers(context)
    app = createTestApp(context, () => workers?.kick())
  })
  afterAll(async () => {
    await workers?.stop()
    await context?.db.close()
    await sandbox?.stop()
    await new Promise((resolve) => {
      server?.close(resolve)
    })
  })

  const ready = <Part>(part: Part | null): Part => {
    if (part === null) throw new Error('testBilling is used inside of tests and hooks')
    return part
  }
  return {
    ...billingRequests(async (path, init) => ready(app).request(path, init)),
    database,
    logged,
    get sandbox() {
      return ready(sandbox)
    },
    get stripe() {
      return ready(stripe)
    },
    get context() {
      return ready(context)
    },
    sign: (payload, secret = WEBHOOK_SECRET) => ready(stripe).webhooks.generateTestHeaderString({ payload, secret }),
    with: (parts) => ({ ...ready(context), ...parts }),
    later: (ms) => ({ ...ready(context), clock: { now: () => new Date(clock.now().getTime() + ms) } }),
    async priceOf(planKey) {
      const { rows } = await database.db.query<{ id: string }>(
        `select stripe_price_id as id from plan_prices where plan_key = $1 and price_key = 'monthly' and superseded_at is null`,
        [planKey],
      )
      return rows[0]!.id
    },
    createOrganization: (id) => insertOrganization(database, ready(context), id),
  }
}

function clientOf({ host, port, protocol }: Sandbox): Stripe {
  return new Stripe(API_KEY, { host, port, protocol, telemetry: false })
}

async function insertOrganization({ db }: TestDatabase, context: BillingContext, id: string): Promise<string> {
  const { clock, catalogs, policy } = context
  await db.query('insert into organizations (id, name, email, created_at) values ($1, $1, $2, $3)', [
    id,
    `${id.toLowerCase()}@example.com`,
    clock.now(),
  ])
  const { version, catalog } = catalogs.current
  const terms = { planKey: catalog.defaultPlanKey, catalogVersion: version, now: clock.now() }
  await insertMissingAccounts(db, [id], terms)
  const observing = { ...context, graceDays: policy.graceDays, dunningDays: [1] }
  await db.transaction((tx) => observeAccount(tx, observing, id))
  return id
}

type Making = { database: TestDatabase; sandbox: Sandbox; clock: Clock; log: Log; options: TestBillingOptions }

async function createContext({ database, sandbox, clock, log, options }: Making): Promise<BillingContext> {
  const definition = options.catalog ?? (await importCatalogDefinition(EPISODIC_MEMORY))
  const catalogs = createCatalogRegistry(database.db, await storeCatalogVersion(database.db, definition, clock.now()))
  // Under row-level security as the server's: a route in its caller's scope, and what a test calls itself in the system's.
  const db = openDatabase({ connectionString: database.url, scopeOutside: 'system' })
  const policy = { ...TEST_POLICY, ...options.policy }
  const { host, port, protocol } = sandbox
  const context: BillingContext = {
    db,
    clock,
    catalogs,
    gateway: createStripeClient({ apiKey: API_KEY, endpoint: { host, port, protocol }, callsPerSecond: 1_000, log }),
    policy,
    log,
    onAccountDerived: async (tx, { organizationId, now }) => {
      await endOverdueReservations(tx, { clock }, organizationId)
      await followBilling(tx, context, { organizationId, now })
      await reconcilePlanGrants(tx, { catalogs, clock, graceDays: policy.graceDays }, organizationId)
      await settleTopUps(tx, { catalogs, clock, graceDays: policy.graceDays }, { organizationId, now })
      await recordRevenue(tx, { organizationId, now, recordedAt: clock.now() })
      await observeAccount(tx, { catalogs, clock, graceDays: policy.graceDays, dunningDays: [1] }, organizationId)
    },
    onClockMoving: (organizationId) => settleBeforeClockMoves(context, organizationId),
    onNotMade: endUnmade,
    onMeterFaults: () => noteMeterFaults(context),
  }
  return context
}

function createTestApp(context: BillingContext, kick: () => void): App {
  return createApp({
    log: pino({ level: 'error' }),
    authenticate: async (request) => principalOf(request.headers.get('x-caller') ?? 'nobody'),
    register: [
      (app) => registerBillingRoutes(app, context, { kick, organizations: organizationsOf(context) }),
      (app) => registerAnalyticsRoutes(app, { ...context, rates: null }),
      (app) => registerExportRoutes(app, { ...context, graceDays: 3, kick: () => undefined }),
    ],
  })
}

function organizationsOf({ db, clock, catalogs }: BillingContext): OrganizationsContext {
  const { version, catalog } = catalogs.current
  return {
    db,
    clock,
    keySecret: 'a secret of thirty-two characters',
    tenantPrefix: 'Jeturing_',
    publicUrl: 'http://localhost:3000',
    onCreated: (tx, { organizationId, now }) =>
      insertMissingAccounts(tx, [organizationId], { planKey: catalog.defaultPlanKey, catalogVersion: version, now }),
    attachTestClock: null,
  }
}

function principalOf(caller: string): Principal | null {
  if (caller === 'nobody') return null
  if (caller === 'operator') return { kind: 'operator', name: 'test' }
  const [id, scope = 'admin'] = caller.split(':')
  const scopes = [scope as 'read' | 'write' | 'admin']
  return { kind: 'api_key', keyId: `key_${id}` as ApiKeyId, organizationId: id as OrganizationId, scopes }
}
