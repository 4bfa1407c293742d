import type { Logger } from 'pino'
import type { AnalyticsContext } from './analytics/actions.ts'
import { analyticsJobs } from './analytics/jobs.ts'
import { recordRevenue } from './analytics/ledger.ts'
import { rateTableOf } from './analytics/rates.ts'
import { createKeyVerifier } from './auth/api-keys.ts'
import { startRevocationListener } from './auth/revocations.ts'
import { loadDigestSecret } from './auth/store.ts'
import type { Catalog } from './catalog/catalog.ts'
import { createCatalogRegistry, storeCatalogVersion, type CatalogRegistry } from './catalog/registry.ts'
import { tierOf } from './catalog/tiers.ts'
import { openDatabase, type Db } from './db/database.ts'
import { openIdentity, type Identity } from './identity.ts'
import { identityJobs } from './identity/jobs.ts'
import { SYSTEM_ROLE } from './db/row-security.ts'
import { asSystem } from './db/scope.ts'
import { reconcilePlanGrants, type GrantsContext } from './grants/actions.ts'
import { insertMissingAccounts } from './grants/store.ts'
import { startLoop } from './jobs/loop.ts'
import { startScheduler } from './jobs/scheduler.ts'
import type { ExportsContext } from './exports/actions.ts'
import { exportJobs, startExportWorker } from './exports/jobs.ts'
import type { Metrics } from './http/metrics.ts'
import { systemClock, type Clock } from './lib/clock.ts'
import { randomBase62 } from './lib/ids.ts'
import { createUsageApi, type UsageApi, type UsageContext } from './metering/api.ts'
import type { Outcome } from './metering/decision.ts'
import { endOverdueReservations } from './metering/expiring.ts'
import { createMetering, type Metering } from './metering/metering.ts'
import { meteringJobs } from './metering/jobs.ts'
import { openUsageConnections } from './metering/pipeline.ts'
import { notificationJobs } from './notifications/jobs.ts'
import { observeAccount, type ObservingContext } from './notifications/observe.ts'
import { startNotifications, type Notifications } from './notifications/service.ts'
import type { StripeOptions, TollgateOptions } from './options.ts'
import { prepareDatabase } from './prepare-database.ts'
import { openUsageReading, type UsageReading } from './usage/reading.ts'
import type { OrganizationsContext } from './organizations/actions.ts'
import { followBilling, reportNow } from './pricing/actions.ts'
import { noteMeterFaults } from './pricing/faults.ts'
import { pricingJobs } from './pricing/jobs.ts'
import type { BillingEvent } from './stripe/changes.ts'
import { createStripeClient } from './stripe/client.ts'
import type { BillingContext } from './stripe/context.ts'
import { STRIPE_EVENT_DAYS, stripeJobs } from './stripe/jobs.ts'
import { planMigrationJobs } from './plan-migrations/jobs.ts'
import { pushCatalog } from './stripe/push.ts'
import { createSinks, startSinks } from './sinks/start.ts'
import { subscriptionJobs } from './subscriptions/jobs.ts'
import { startTestClock } from './stripe/test-clock.ts'
import { startStripeWorkers, type StripeWorkers } from './stripe/workers.ts'
import { runAutoTopUps } from './top-ups/auto.ts'
import { settleTopUps } from './top-ups/settle.ts'

/** Everything that runs, put together. */
export type Services = {
  readonly db: Db
  /** Whether the statements of `db` run under row-level security. */
  readonly isSecured: boolean
  readonly catalogs: CatalogRegistry
  readonly authenticate: Identity['authenticate']
  readonly identity: Identity['context']
  readonly organizations: OrganizationsContext
  readonly usage: UsageContext
  readonly billing: BillingContext
  readonly stripeWorkers: StripeWorkers
  readonly notifications: Notifications
  readonly metering: Metering
  readonly usageApi: UsageApi
  readonly reading: UsageReading
  readonly figures: AnalyticsContext
  readonly exportJobs: ExportsContext
  /** Ends what runs, in the order in which it depends on each other. */
  close(): Promise<void>
}

const USAGE_CONNECTIONS = 4
const AUTO_TOP_UP_POLL_MS = 1_000

/** Opens everything: prepares the database, stores the catalog, starts listening for revocations. */
export async function openServices(options: TollgateOptions, log: Logger, metrics: Metrics): Promise<Services> {
  const closers: (() => Promise<void>)[] = []
  const close = async (): Promise<void> => {
    for (const closer of closers.splice(0).toReversed()) await closer()
  }
  try {
    // What works in the background is started in here, and so sees every organization; a request has a scope of its own.
    return { ...(await asSystem(() => open(options, { log, metrics, closers }))), close }
  } catch (error) {
    await close()
    throw error
  }
}

type Opening = { readonly log: Logger; readonly metrics: Metrics; readonly closers: (() => Promise<void>)[] }

async function open(options: TollgateOptions, { log, metrics, closers }: Opening): Promise<Omit<Services, 'close'>> {
  const clock = options.clock ?? systemClock
  const connectionString = options.databaseUrl
  const isSecured = await prepareDatabase(options, log)
  const db = openDatabase({
    connectionString,
    onError: (error) => log.warn({ err: error }, 'a database connection was lost'),
    ...(isSecured ? { scopeOutside: 'nobody' } : {}),
  })
  closers.push(() => db.close())
  const catalogs = createCatalogRegistry(db, await storeCatalogVersion(db, options.catalog, clock.now()))

  const keySecret = await loadDigestSecret(db, options.secret, () => randomBase62(43))
  const revocations = await startRevocationListener({
    connectionString,
    onError: (error) => log.warn({ err: error }, 'revocations cannot be heard; keys are looked up on each call'),
  })
  closers.push(() => revocations.stop())
  const verifier = createKeyVerifier({ db, secret: keySecret, clock, revocations, operatorKey: options.operatorKey })

  const grants: GrantsContext = { catalogs, clock, graceDays: options.policy?.graceDays ?? 3 }
  const connections = openUsageConnections({
    connectionString,
    size: USAGE_CONNECTIONS,
    ...(isSecured ? { role: SYSTEM_ROLE } : {}),
  })
  closers.push(() => connections.close())
  const reading = openUsageReading({
    connectionString,
    context: { ...grants, db },
    onRevoked: (listener) => revocations.onRevoked(listener),
    onError: (error) => log.warn({ err: error }, 'changes of usage cannot be told or read; live streams wait'),
  })
  closers.push(() => reading.stop())
  const metering = createMetering({
    ...grants,
    connections,
    onFault: (error) => log.error({ err: error }, 'a usage request failed'),
    onAnswers: (outcomes) => {
      countAnswers(metrics, catalogs.current.catalog, outcomes)
      reading.tellDecided(outcomes)
    },
  })
  closers.push(() => metering.stop())
  const usage: UsageContext = { ...grants, metering, db }
  const billing = createBillingContext(options, { db, clock, catalogs, log, grants, metrics })
  if (billing.gateway !== null && options.stripe?.pushAtStart === true) {
    const { changed, lines } = await pushCatalog(billing, { variables: options.variables ?? {} })
    if (changed > 0) log.info({ changes: lines }, 'catalog pushed')
  }
  const stripeWorkers = startStripeWorkers(billing)
  closers.push(() => stripeWorkers.stop())
  const autoTopUps = startLoop({
    run: () => runAutoTopUps(billing),
    pollMs: AUTO_TOP_UP_POLL_MS,
    onFailure: (error) => log.warn({ err: error }, 'buying by itself failed; it is tried again'),
  })
  closers.push(() => autoTopUps.stop())
  const onImbalance = (imbalances: readonly unknown[]): void => log.error({ imbalances }, 'balances do not add up')
  const figures = { db, clock, log, rates: options.reporting === undefined ? null : rateTableOf(options.reporting) }
  const exportWorker = startExportWorker(figures)
  closers.push(() => exportWorker.stop())
  const scheduler = startScheduler({
    db,
    clock,
    jobs: [
      ...meteringJobs({ ...grants, db, connections, onImbalance }),
      ...planMigrationJobs(billing),
      ...subscriptionJobs(billing),
      ...identityJobs({ db, clock }),
      ...analyticsJobs({ db, clock }),
      ...exportJobs(figures),
      ...pricingJobs(billing),
      ...notificationJobs({ db, clock }),
      ...stripeJobs({ db, clock, eventDays: options.policy?.stripeEventDays ?? STRIPE_EVENT_DAYS }),
    ],
    onFailure: ({ name }, error) => log.warn({ err: error, job: name }, 'a job failed; it runs again at its next time'),
  })
  closers.push(() => scheduler.stop())
  const sinks = startSinks({ db, clock, log }, createSinks(options.sinks ?? {}))
  closers.push(() => sinks.stop())
  const notifications = openNotifications(options, { db, clock, grants, secret: keySecret, log, metrics })
  closers.push(() => notifications.stop())
  const organizations = createOrganizationsContext(options, { billing, keySecret, observing: observingOf(options, grants) })
  const identity = openIdentity(options.identity ?? {}, {
    connectionString,
    ...(isSecured ? { role: SYSTEM_ROLE } : {}),
    keys: verifier,
    organizations,
    log,
  })
  closers.push(() => identity.close())
  return {
    db,
    isSecured,
    catalogs,
    usage,
    billing,
    stripeWorkers,
    notifications,
    metering,
    usageApi: createUsageApi(usage),
    reading,
    figures,
    exportJobs: { db, clock, kick: () => exportWorker.kick() },
    organizations,
    authenticate: (request) => asSystem(() => identity.authenticate(request)),
    identity: identity.context,
  }
}

function observingOf({ policy = {} }: TollgateOptions, grants: GrantsContext): ObservingContext {
  return { ...grants, dunningDays: policy.dunningDays ?? [1] }
}

/** The workers that hand events out, deliver webhooks and send mails. */
function openNotifications(
  options: TollgateOptions,
  parts: { db: Db; clock: Clock; grants: GrantsContext; secret: string; log: Logger; metrics: Metrics },
): Notifications {
  const { log, metrics, grants, ...rest } = parts
  return startNotifications({
    ...rest,
    observing: observingOf(options, grants),
    publicUrl: options.publicUrl,
    billingUrl: options.policy?.portalReturnUrl ?? `${options.publicUrl}/billing`,
    mailer: options.mailer ?? null,
    allowLoopback: options.stripe?.endpoint !== undefined,
    onFailure: (task, error) => log.warn({ err: error, task }, 'a task of notifications failed; it is tried again'),
    onDelivery: (outcome) => metrics.webhookDeliveries.inc({ outcome }),
    onMail: (outcome) => metrics.mails.inc({ outcome }),
    onDisabled(endpoint) {
      metrics.webhookEndpointsDisabled.inc()
      log.warn({ event: 'webhooks.endpoint_disabled', ...endpoint }, 'a webhook endpoint was disabled')
    },
  })
}

function createOrganizationsContext(
  options: TollgateOptions,
  { billing, keySecret, observing }: { billing: BillingContext; keySecret: string; observing: ObservingContext },
): OrganizationsContext {
  const { db, clock, catalogs } = billing
  return {
    db,
    clock,
    keySecret,
    tenantPrefix: options.tenantPrefix ?? 'org_',
    publicUrl: options.publicUrl,
    async onCreated(tx, { organizationId, now }) {
      const { catalog, version } = catalogs.current
      await insertMissingAccounts(tx, [organizationId], { planKey: catalog.defaultPlanKey, catalogVersion: version, now })
      await observeAccount(tx, observing, organizationId)
    },
    attachTestClock: billing.gateway === null ? null : (organizationId) => startTestClock(billing, organizationId),
  }
}

function createBillingContext(
  options: TollgateOptions,
  parts: { db: Db; clock: Clock; catalogs: CatalogRegistry; log: Logger; grants: GrantsContext; metrics: Metrics },
): BillingContext {
  const { publicUrl, stripe, policy = {} } = options
  const { grants, metrics, ...rest } = parts
  const observing = observingOf(options, grants)
  const billing: BillingContext = {
    ...rest,
    variables: options.variables ?? {},
    gateway: stripe === null ? null : createStripeClient({ apiKey: stripe.secretKey, log: parts.log, ...callingOf(stripe) }),
    policy: {
      webhookSecrets: stripe?.webhookSecrets ?? [],
      publishableKey: stripe?.publishableKey ?? null,
      trialDays: policy.trialDays ?? 14,
      graceDays: grants.graceDays,
      disputeCounts: policy.disputeCounts ?? 'lost',
      trialEndBehavior: 'cancel',
      downgradeAt: 'now',
      successUrl: policy.successUrl ?? `${publicUrl}/billing/success`,
      cancelUrl: policy.cancelUrl ?? `${publicUrl}/billing/cancelled`,
      portalReturnUrl: policy.portalReturnUrl ?? `${publicUrl}/billing`,
      defaultPriceId: policy.defaultPriceId ?? null,
      redirectOrigins: [new URL(publicUrl).origin],
      allowLoopbackRedirects: stripe?.endpoint !== undefined,
    },
    async onAccountDerived(tx, { organizationId, now }) {
      await endOverdueReservations(tx, grants, organizationId)
      // Before the grants take other terms: a line that ends says what was included until then.
      await followBilling(tx, billing, { organizationId, now })
      await reconcilePlanGrants(tx, grants, organizationId)
      await settleTopUps(tx, grants, { organizationId, now })
      await recordRevenue(tx, { organizationId, now, recordedAt: grants.clock.now() })
      await observeAccount(tx, observing, organizationId)
    },
    onClockMoving: (organizationId) => reportNow(billing, organizationId, { isStanding: true }),
    onMeterFaults: () => noteMeterFaults(billing),
    onBillingEvents: (events) => countPayments(metrics, events),
  }
  return billing
}

function callingOf({ endpoint, callsPerSecond }: StripeOptions) {
  // The sandbox has no rate limit of its own unless it is told to, and a move of a clock makes many calls at once.
  const rate = callsPerSecond ?? (endpoint === undefined ? undefined : 1_000)
  return { ...(endpoint === undefined ? {} : { endpoint }), ...(rate === undefined ? {} : { callsPerSecond: rate }) }
}

/** EM-13: payments. An invoice of nothing (a trial's) is no payment. */
function countPayments(metrics: Metrics, events: readonly BillingEvent[]): void {
  for (const { kind, data } of events) {
    if (kind === 'invoice.payment_failed') metrics.paymentsFailed.inc()
    if (kind === 'payment.refunded') metrics.paymentsRefunded.inc()
    if (kind === 'dispute.opened') metrics.disputesOpened.inc()
    if (kind === 'invoice.paid' && data['amount_paid_minor'] !== 0) metrics.paymentsSucceeded.inc()
  }
}

/** EM-13: credits by customer, refusals by tier. A repeat was counted when it was first answered. */
function countAnswers(metrics: Metrics, catalog: Catalog, outcomes: readonly Outcome[]): void {
  for (const outcome of outcomes) {
    if (outcome.kind === 'error' || outcome.answer.replayed) continue
    const { allowed, code, drawn, verb, organizationId, balance } = outcome.answer
    if (code === 'quota_exceeded') metrics.quotaExceeded.inc({ tier: tierOf(catalog, balance.planKey) })
    if (allowed && drawn > 0n && verb !== 'reserve' && verb !== 'check') {
      metrics.creditsUsed.inc({ customer_id: organizationId }, Number(drawn) / 1_000_000)
    }
  }
}
