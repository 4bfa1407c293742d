import type { Logger } from 'pino'
import type { AnalyticsContext } from './analytics/actions.ts'
import { rateTableOf } from './analytics/rates.ts'
import { createKeyVerifier, keyOfRequest, type Recognizer } from './auth/api-keys.ts'
import { startRevocationListener } from './auth/revocations.ts'
import { loadDigestSecret } from './auth/store.ts'
import { startBackground } from './background.ts'
import { createBillingContext, observingOf } from './billing-context.ts'
import { createCatalogRegistry, storeCatalogVersion, type CatalogRegistry } from './catalog/registry.ts'
import { openCounting } from './counting.ts'
import { openDatabase, type Db, SERVER_SILENT_MS } from './db/database.ts'
import { SYSTEM_ROLE } from './db/row-security.ts'
import { asSystem } from './db/scope.ts'
import type { ExportsContext } from './exports/actions.ts'
import { loadTypeface } from './exports/pdf-fonts.ts'
import type { GrantsContext } from './grants/actions.ts'
import { insertMissingAccounts } from './grants/store.ts'
import type { Metrics } from './http/metrics.ts'
import { openIdentity, type Identity } from './identity.ts'
import { systemClock, type Clock } from './lib/clock.ts'
import { randomBase62 } from './lib/ids.ts'
import { createUsageApi, type UsageApi, type UsageContext } from './metering/api.ts'
import type { Metering } from './metering/metering.ts'
import { observeAccount, type ObservingContext } from './notifications/observe.ts'
import { startNotifications, type Notifications } from './notifications/service.ts'
import type { TollgateOptions } from './options.ts'
import type { OrganizationsContext } from './organizations/actions.ts'
import { prepareDatabase } from './prepare-database.ts'
import type { BillingContext } from './stripe/context.ts'
import { pushCatalog } from './stripe/push/push.ts'
import { startTestClock } from './stripe/test-clock.ts'
import type { StripeWorkers } from './stripe/workers.ts'
import type { UsageReading } from './usage/reading.ts'

/** Everything that runs, put together. */
export type Services = {
  readonly db: Db
  /** Whether the statements of `db` run under row-level security. */
  readonly isSecured: boolean
  readonly catalogs: CatalogRegistry
  readonly authenticate: Identity['authenticate']
  /** The same where an API key decides that was verified lately; null asks `authenticate`. */
  readonly recognize: Recognizer
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
    silentMs: SERVER_SILENT_MS,
    ...(options.databaseConnections === undefined ? {} : { poolSize: options.databaseConnections }),
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
  const counting = openCounting({
    connectionString,
    isSecured,
    db,
    grants,
    usageWriters: options.policy?.usageWriters ?? 'tenants',
    revocations,
    log,
    metrics,
  })
  closers.push(() => counting.stop())
  const billing = createBillingContext(options, { db, clock, catalogs, log, grants, metrics, metering: counting.usage.metering })
  if (billing.gateway !== null && options.stripe?.pushAtStart === true) {
    const { changed, lines } = await pushCatalog(billing, { variables: options.variables ?? {} })
    if (changed > 0) log.info({ changes: lines }, 'catalog pushed')
  }
  const figures = { db, clock, log, rates: options.reporting === undefined ? null : rateTableOf(options.reporting) }
  const typeface = loadTypeface(options.pdfFonts ?? [])
  const background = startBackground(options, {
    billing,
    connections: counting.connections,
    metering: counting.usage.metering,
    figures: { ...figures, ...grants, typeface },
  })
  closers.push(() => background.stop())
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
    usage: counting.usage,
    billing,
    stripeWorkers: background.stripeWorkers,
    notifications,
    metering: counting.usage.metering,
    usageApi: createUsageApi(counting.usage),
    reading: counting.reading,
    figures,
    exportJobs: { ...grants, db, kick: () => background.kickExports() },
    organizations,
    authenticate: (request) => asSystem(() => identity.authenticate(request)),
    recognize: (headers) => {
      const key = keyOfRequest(headers)
      return key === null ? null : verifier.known(key)
    },
    identity: identity.context,
  }
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
