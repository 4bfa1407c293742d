import { setTimeout as wait } from 'node:timers/promises'
import { importCatalogDefinition } from '../catalog/registry.ts'
import type { Config } from '../config.ts'
import { createLog } from '../http/log.ts'
import { requirePort, serve, type HttpServer } from '../http/serve.ts'
import { optionsOfConfig, stripeOfConfig } from '../options.ts'
import { createTollgate, type Tollgate } from '../tollgate.ts'
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
  const place = { host: config.TOLLGATE_HOST, port: config.PORT }
  await runUntilSignal(async () => {
    await requirePort(place)
    try {
      await tollgate.start()
      // Only now: a proxy sends nothing to who is not there, and whatever it sends to who is only starting is refused.
      const server = await serve({
        ...place,
        keepAliveMs: config.TOLLGATE_KEEP_ALIVE_SECONDS * 1_000,
        fetch: tollgate.fetch,
        preHandler: tollgate.preHandler,
        plainHandler: tollgate.plainHandler,
      })
      log.info({ host: place.host, port: server.port }, 'ready')
      if (config.STRIPE_SECRET_KEY === undefined) log.warn('no Stripe key is set: billing routes answer 503')
      return () => stop(tollgate, server, config.TOLLGATE_DRAIN_SECONDS * 1_000)
    } catch (error) {
      await tollgate.stop()
      throw error
    }
  }, output)
}

async function stop(tollgate: Tollgate, server: HttpServer, drainMs: number): Promise<void> {
  tollgate.drain()
  if (drainMs > 0) {
    server.drain()
    await wait(drainMs)
  }
  tollgate.endStreams()
  await server.stop()
  await tollgate.stop()
}
