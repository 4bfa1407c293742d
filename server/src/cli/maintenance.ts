import { join } from 'node:path'
import { importCatalogDefinition } from '../catalog/registry.ts'
import type { Config } from '../config.ts'
import { openDataDirectory } from '../data-directory.ts'
import { checkAddress } from '../db/address.ts'
import { openDatabase } from '../db/database.ts'
import { findRunningPostgres, startEmbeddedPostgres } from '../db/embedded-postgres.ts'
import { migrate } from '../db/migrate.ts'
import { asSystem } from '../db/scope.ts'
import { createLog } from '../http/log.ts'
import { createMetrics } from '../http/metrics.ts'
import { optionsOfConfig, publicUrlOf, stripeOfConfig, type StripeOptions } from '../options.ts'
import { readRuntime } from '../runtime-file.ts'
import { openSandbox, stripeAt } from '../sandbox.ts'
import { openServices } from '../services.ts'
import { createStripeClient } from '../stripe/gateway/client.ts'
import { pushCatalog, type PushReport } from '../stripe/push/push.ts'
import { listMeteredGaps } from '../subscriptions/metered-items.ts'
import { guardLive } from './live-guard.ts'
import { catalogOfStripe, type Pulled } from './pull.ts'

/** `tollgate migrate`: applies what is missing and answers the names. */
export async function runMigrations(config: Config): Promise<readonly string[]> {
  return withDatabase(config, async (connectionString) => {
    await checkAddress(connectionString)
    const db = openDatabase({ connectionString, poolSize: 1 })
    try {
      return await migrate(db)
    } finally {
      await db.close()
    }
  })
}

/** `tollgate push`: prints the difference between catalog and Stripe, and carries it out unless it is only asked for. */
export async function runPush(
  config: Config,
  { dryRun, live, print }: { dryRun: boolean; live: boolean; print: (line: string) => void },
): Promise<PushReport> {
  guardLive(config, { live })
  const catalog = await importCatalogDefinition(config.TOLLGATE_CATALOG, config.variables)
  return withDatabase(config, (databaseUrl) =>
    withStripe(config, async (stripe) => {
      const log = createLog({ level: 'error', secrets: [] })
      const options = {
        ...optionsOfConfig(config),
        publicUrl: publicUrlOf(config),
        databaseUrl,
        catalog,
        stripe: { ...stripe, pushAtStart: false },
        operatorKey: null,
      }
      const services = await openServices(options, log, createMetrics({ processMetrics: false }))
      try {
        return await asSystem(async () => {
          const report = await pushCatalog(services.billing, { variables: config.variables, dryRun, print })
          const gaps = await listMeteredGaps(services.billing, GAPS_COUNTED)
          if (gaps.length > 0) print(describeGaps(gaps.length))
          return report
        })
      } finally {
        await services.close()
      }
    }),
  )
}

const GAPS_COUNTED = 1_000

function describeGaps(count: number): string {
  const how = count < GAPS_COUNTED ? String(count) : `${count} or more`
  return `~ ${how} subscriptions do not bill use that their plan prices: the server adds the prices within five minutes`
}

/** `tollgate pull`: the products and prices at Stripe as the text of a billing.config.ts. */
export async function runPull(config: Config, { live }: { live: boolean }): Promise<Pulled> {
  guardLive(config, { live })
  return withStripe(config, async ({ secretKey, endpoint }) => {
    const log = createLog({ level: 'error', secrets: [] })
    const gateway = createStripeClient({ apiKey: secretKey, log, ...(endpoint === undefined ? {} : { endpoint }) })
    return catalogOfStripe(await gateway.reads.listProducts(), await gateway.reads.listPrices())
  })
}

/** The configured database; else that of the data directory: the one that runs, or one started for the moment. */
export async function withDatabase<Result>(config: Config, work: (url: string) => Promise<Result>): Promise<Result> {
  if (config.DATABASE_URL !== undefined) return work(config.DATABASE_URL)
  const directory = join(config.TOLLGATE_DATA_DIR, 'postgres')
  const running = readRuntime(config.TOLLGATE_DATA_DIR) === null ? null : findRunningPostgres(directory)
  if (running !== null) return work(running)
  const postgres = await startEmbeddedPostgres({ directory: openDataDirectory(config.TOLLGATE_DATA_DIR).postgres })
  try {
    return await work(postgres.url)
  } finally {
    await postgres.stop()
  }
}

/** The configured Stripe; else the sandbox of the data directory: the one that runs, or one started for the moment. */
async function withStripe<Result>(config: Config, work: (stripe: StripeOptions) => Promise<Result>): Promise<Result> {
  const configured = stripeOfConfig(config)
  if (configured) return work(configured)
  const sandboxUrl = readRuntime(config.TOLLGATE_DATA_DIR)?.sandboxUrl ?? null
  if (sandboxUrl !== null) return work(stripeAt(sandboxUrl))
  const { sandboxFile } = openDataDirectory(config.TOLLGATE_DATA_DIR)
  const { sandbox, stripe } = await openSandbox({ port: 0, file: sandboxFile, webhook: null })
  try {
    return await work(stripe)
  } finally {
    await sandbox.stop()
  }
}
