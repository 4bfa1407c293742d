import type { IncomingMessage, ServerResponse } from 'node:http'
import { registerAnalyticsRoutes } from './analytics/routes.ts'
import { countSubscriptionsByPlan, readRevenue } from './analytics/store.ts'
import { registerAuditRoutes } from './audit/routes.ts'
import { registerBillingRoutes } from './billing.ts'
import { byTier, tierOf } from './catalog/tiers.ts'
import { readMigrations, readSchemaState } from './db/migrate.ts'
import { asSystem } from './db/scope.ts'
import { registerEventRoutes } from './events/routes.ts'
import { registerExportRoutes } from './exports/routes.ts'
import { registerGrantRoutes } from './grants/routes.ts'
import { registerAccountPages } from './http/account-pages.ts'
import { createApp, type App, type AppOptions } from './http/app.ts'
import type { Connection } from './http/client-address.ts'
import { registerErrorsPage } from './http/errors-page.ts'
import { registerHealthRoutes, type ReadinessCheck } from './http/health.ts'
import { registerLandingPages } from './http/landing-pages.ts'
import { createLog } from './http/log.ts'
import { createMetrics, registerMetricsRoute, type Metrics, type MetricsReaders } from './http/metrics.ts'
import { answerNotRunning } from './http/not-running.ts'
import { registerOpenApiRoute } from './http/openapi.ts'
import type { PlainHandler } from './http/plain-connections.ts'
import { registerReferencePage } from './http/reference-page.ts'
import { createPathGroups, type RouteGroup } from './http/served-paths.ts'
import { AUTH_PATH } from './identity/better-auth.ts'
import { registerIdentityRoutes } from './identity/routes.ts'
import { registerUserRoutes } from './identity/users-routes.ts'
import { DomainError } from './lib/errors.ts'
import { VERSION } from './lib/version.ts'
import { registerMailRoutes } from './mail/routes.ts'
import type { UsageApi } from './metering/api.ts'
import { endOverdueReservations } from './metering/expiring.ts'
import { describeBalanceCheck } from './metering/jobs.ts'
import { createHotPath, type HotPath } from './metering/wire/hot-path.ts'
import { registerUsageRoutes } from './metering/wire/routes.ts'
import { registerNotificationRoutes } from './notifications/routes.ts'
import type { TollgateOptions } from './options.ts'
import { registerCustomerTokenRoutes } from './organizations/customer-token-routes.ts'
import { registerMemberRoutes } from './organizations/member-routes.ts'
import { registerOrganizationRoutes } from './organizations/routes.ts'
import { registerWorkspaceRoutes } from './organizations/workspace-routes.ts'
import { registerPricingRoutes } from './pricing/routes.ts'
import { openServices, type Services } from './services.ts'
import { createWebhookHotPath, type WebhookHotPath } from './stripe/inbox/webhook-hot-path.ts'
import { readFollowing } from './stripe/reconcile/following-store.ts'
import { registerUsageReadingRoutes } from './usage/routes.ts'
import { registerWebhookEndpointRoutes } from './webhooks/routes.ts'

export { mountAuth, mountBilling, type Host } from './mount.ts'
export { VERSION } from './lib/version.ts'
export type { TollgateOptions } from './options.ts'

/** The server without its own listener: to be mounted in any host, or served by `main.ts`. */
export type Tollgate = {
  /**
   * Answers a request of any route. 503 before `start` and after `stop`. `connection` (the second argument of a handler of
   * @hono/node-server) says from where the request comes; without it, limits of sign-ins count all callers as one.
   */
  fetch(this: void, request: Request, connection?: Connection): Promise<Response>
  /**
   * Answers the routes of use that are called all the time, on a `node:http` server, before `fetch` is asked; false for
   * every other request. Leaving it out changes nothing but the speed.
   */
  preHandler(this: void, request: IncomingMessage, response: ServerResponse): boolean
  /** The same before `node:http` is asked, for requests that `serve` of `http/serve.ts` reads where they arrive. */
  readonly plainHandler: PlainHandler
  /** Whether an address (absolute, or from the first slash on) is served here, and in which group; null before `start`. */
  groupOf(this: void, url: string): RouteGroup | null
  /** The verbs of metering without HTTP. */
  readonly api: { readonly usage: UsageApi }
  /** Migrates the database, stores the catalog, opens connections, starts background work; resolves when ready. */
  start(): Promise<void>
  /** Lets `/readyz` say from now on that it stops, while everything is answered still: a proxy that asks it sends nothing more. */
  drain(this: void): void
  /** Ends the streams that never end by themselves; called before the listener in front of it is stopped, which waits for them. */
  endStreams(this: void): void
  /** Finishes what was accepted and ends everything. The listener in front of it is stopped first. */
  stop(): Promise<void>
}

type Running = {
  readonly services: Services
  readonly app: App
  readonly hotPath: HotPath
  readonly webhooks: WebhookHotPath
  readonly groupOf: Tollgate['groupOf']
}

/**
 * Puts a server together. Nothing happens before `start`.
 * @example
 * const tollgate = createTollgate({ databaseUrl, catalog, stripe: null, operatorKey, publicUrl: 'http://localhost:3000' })
 * await tollgate.start()
 * mountAuth(app, tollgate)
 * mountBilling(app, tollgate)
 */
export function createTollgate(options: TollgateOptions): Tollgate {
  const log = options.log ?? createLog({ level: 'info', secrets: secretsOf(options) })
  let running: Running | null = null
  let stopping = false
  let draining = false
  const notRunning = () => (stopping ? 'stopping' : 'starting')

  return {
    async fetch(request, connection) {
      if (running !== null) return running.app.fetch(request, connection)
      return answerNotRunning(request, notRunning())
    },
    groupOf: (url) => running?.groupOf(url) ?? null,
    preHandler: (request, response) =>
      running !== null && (running.hotPath.preHandler(request, response) || running.webhooks.preHandler(request, response)),
    plainHandler: (request, send) =>
      running !== null && (running.hotPath.plainHandler(request, send) || running.webhooks.plainHandler(request, send)),
    get api() {
      if (running === null)
        throw new DomainError(
          notRunning(),
          stopping ? 'The server has stopped.' : 'The server is not running: call start() first.',
        )
      return { usage: running.services.usageApi }
    },
    async start() {
      const catalog = () => services.catalogs.current.catalog
      const metrics: Metrics = createMetrics({
        processMetrics: options.processMetrics ?? true,
        countSubscriptions: async () => byTier(catalog(), await asSystem(() => countSubscriptionsByPlan(services.db))),
        countOverdue: () => asSystem(() => services.notifications.countOverdue()),
        readFollowing: () => asSystem(() => readFollowing(services.db, services.billing.clock.now())),
        readRevenue: async () => {
          const rows = await asSystem(() => readRevenue(services.db))
          return rows.map((row) => ({ ...row, tier: tierOf(catalog(), row.tier) }))
        },
      })
      const services: Services = await openServices(options, log, metrics)
      const parts: Parts = { services, metrics, log, isStopping: () => stopping || draining, onAnswered: timeRequests(metrics) }
      const { authenticate, recognize, usage } = services
      const app = assemble(options, parts)
      running = {
        services,
        app,
        groupOf: createPathGroups(app.routes.flatMap(({ path }) => (path.includes('*') ? [] : [path]))),
        hotPath: createHotPath({ usage, authenticate, recognize, log, onAnswered: parts.onAnswered }),
        webhooks: createWebhookHotPath({
          context: services.billing,
          kick: () => services.stripeWorkers.kick(),
          log,
          onAnswered: parts.onAnswered,
        }),
      }
    },
    drain() {
      draining = true
    },
    endStreams() {
      running?.services.reading.streams.end()
    },
    async stop() {
      stopping = true
      await running?.services.close()
      running = null
    },
  }
}

type Parts = {
  readonly services: Services
  readonly metrics: Metrics
  readonly log: ReturnType<typeof createLog>
  readonly isStopping: () => boolean
  readonly onAnswered: NonNullable<AppOptions['onAnswered']>
}

function timeRequests({ requestSeconds }: Metrics): Parts['onAnswered'] {
  return ({ method, route, status, seconds }) => requestSeconds.observe({ method, route, status: String(status) }, seconds)
}

function assemble(options: TollgateOptions, { services, metrics, log, isStopping, onAnswered }: Parts): App {
  return createApp({
    log,
    authenticate: services.authenticate,
    onAnswered,
    openPrefix: `${AUTH_PATH}/`,
    origins: options.identity?.trustedOrigins ?? [],
    register: [
      (app) => registerHealthRoutes(app, readinessChecks(services), isStopping),
      (app) => registerMetricsRoute(app, metrics, metricsReadersOf(options, services)),
      (app) => registerOpenApiRoute(app, { version: VERSION, serverUrl: options.publicUrl }),
      registerReferencePage,
      registerErrorsPage,
      registerLandingPages,
      registerAccountPages,
      (app) => registerOrganizationRoutes(app, services.organizations),
      (app) => registerMemberRoutes(app, services.organizations),
      (app) => registerWorkspaceRoutes(app, services.organizations),
      (app) => registerCustomerTokenRoutes(app, services.organizations),
      (app) => registerIdentityRoutes(app, services.identity),
      (app) => registerUserRoutes(app, services.organizations),
      (app) => registerAuditRoutes(app, { db: services.db, exports: services.reading.exports }),
      (app) => registerMailRoutes(app, services.billing),
      (app) => registerAnalyticsRoutes(app, services.figures),
      (app) => registerExportRoutes(app, services.exportJobs),
      (app) => registerEventRoutes(app, services),
      (app) => registerNotificationRoutes(app, services.notifications.preferences),
      (app) => registerWebhookEndpointRoutes(app, services.notifications.webhooks),
      (app) => registerUsageRoutes(app, services.usage),
      (app) =>
        registerUsageReadingRoutes(app, {
          ...services.usage,
          ...services.reading,
          db: services.db,
          authenticate: services.authenticate,
        }),
      (app) =>
        registerGrantRoutes(app, {
          ...services.usage,
          db: services.db,
          endOverdueReservations: (tx, organizationId) => endOverdueReservations(tx, services.usage, organizationId),
        }),
      (app) => registerPricingRoutes(app, { billing: services.billing, usage: services.usage }),
      (app) =>
        registerBillingRoutes(app, services.billing, {
          kick: () => services.stripeWorkers.kick(),
          reconcile: () => services.stripeWorkers.reconcile(),
          organizations: services.organizations,
        }),
    ],
  })
}

function readinessChecks({ db, isSecured }: Services): readonly ReadinessCheck[] {
  const migrations = readMigrations()
  return [
    {
      name: 'database',
      async check() {
        await db.query('select 1')
        return 'ok'
      },
    },
    {
      name: 'migrations',
      async check() {
        // Beside a newer version this one would fail where the schema was changed, and leave out what that one keeps.
        const state = await asSystem(() => readSchemaState(db, migrations))
        if (state !== 'current') throw new Error(`The database is ${state}.`)
        return `${migrations.length} applied`
      },
    },
    { name: 'balances', check: () => asSystem(() => describeBalanceCheck(db)) },
    {
      name: 'row_security',
      check: async () => (isSecured ? 'on' : 'off: see tollgate doctor'),
    },
  ]
}

function metricsReadersOf({ metrics = {} }: TollgateOptions, { authenticate }: Services): MetricsReaders {
  return metrics.open === true ? 'open' : { token: metrics.token ?? null, authenticate }
}

function secretsOf({ operatorKey, secret }: TollgateOptions): readonly string[] {
  return [operatorKey, secret].filter((value) => typeof value === 'string')
}
