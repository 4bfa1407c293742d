import { importCatalogDefinition } from '../catalog/registry.ts'
import type { Config } from '../config.ts'
import { createLog } from '../http/log.ts'
import { serve } from '../http/serve.ts'
import { optionsOfConfig, stripeOfConfig } from '../options.ts'
import { createTollgate } from '../tollgate.ts'
import { CliError } from './connection.ts'
import type { Output } from './print.ts'
import { runUntilSignal } from './signals.ts'

/**
 * `tollgate start`: the server alone, on the PostgreSQL of DATABASE_URL and the Stripe of STRIPE_SECRET_KEY.
 * @throws CliError when no database is named
 */
export async function runServer(config: Config, output: Output): Promise<void> {
  const databaseUrl = config.DATABASE_URL
  if (databaseUrl === undefined) {
    throw new CliError('DATABASE_URL is missing: "tollgate start" brings no PostgreSQL. "tollgate dev" brings its own.')
  }
  const operatorKey = config.TOLLGATE_OPERATOR_KEY ?? null
  const secrets = [operatorKey, config.TOLLGATE_SECRET].filter((value) => typeof value === 'string')
  const log = createLog({ level: config.LOG_LEVEL, secrets })
  const tollgate = createTollgate({
    ...optionsOfConfig(config),
    databaseUrl,
    catalog: await importCatalogDefinition(config.TOLLGATE_CATALOG, config.variables),
    stripe: stripeOfConfig(config),
    operatorKey,
    log,
  })
  await runUntilSignal(async () => {
    const server = await serve({
      host: config.TOLLGATE_HOST,
      port: config.PORT,
      fetch: tollgate.fetch,
      preHandler: tollgate.preHandler,
      plainHandler: tollgate.plainHandler,
    })
    const stop = async (): Promise<void> => {
      tollgate.endStreams()
      await server.stop()
      await tollgate.stop()
    }
    try {
      await tollgate.start()
    } catch (error) {
      await stop()
      throw error
    }
    log.info({ host: config.TOLLGATE_HOST, port: server.port }, 'ready')
    if (config.STRIPE_SECRET_KEY === undefined) log.warn('no Stripe key is set: billing routes answer 503')
    return stop
  }, output)
}
