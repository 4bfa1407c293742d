import type { Sandbox } from '@tollgate/stripe-sandbox'
import { importCatalogDefinition } from './catalog/registry.ts'
import type { Config } from './config.ts'
import { openDataDirectory, type DataDirectory } from './data-directory.ts'
import { startEmbeddedPostgres, type EmbeddedPostgres } from './db/embedded-postgres.ts'
import type { Connection } from './http/client-address.ts'
import { createLog } from './http/log.ts'
import { answerNotRunning } from './http/not-running.ts'
import { serve, type HttpServer } from './http/serve.ts'
import { optionsOfConfig, publicUrlOf, stripeOfConfig, type StripeOptions } from './options.ts'
import { openSandbox } from './sandbox.ts'
import { createTollgate, type Tollgate } from './tollgate.ts'

/** A host application that mounts Tollgate in its own process. */
export type Host = {
  fetch(request: Request, connection?: Connection): Response | Promise<Response>
  /** Called when no request is left and Tollgate still runs: what the host has gathered can be sent (KF-10). */
  stop?(): Promise<void>
}

/** What a host is made with besides Tollgate. */
export type HostOptions = { readonly operatorKey: string }

export type DevelopmentOptions = {
  readonly config: Config
  /** Default: the file that TOLLGATE_CATALOG names, seen from the working directory. */
  readonly catalogPath?: string
  /** Serves a host's app, which mounts Tollgate, instead of Tollgate alone. */
  readonly createHost?: (tollgate: Tollgate, options: HostOptions) => Host
}

export type Development = {
  readonly tollgate: Tollgate
  /** Where it listens, for programs of this machine. */
  readonly url: string
  /** Where people reach it, as mails and pages name it: a session begun at another name of this machine is not known there. */
  readonly publicUrl: string
  readonly operatorKey: string
  /** null while Stripe itself is used, or none. */
  readonly sandboxUrl: string | null
  readonly dataDirectory: string
  /** Whether PostgreSQL is the embedded one. */
  readonly embedded: boolean
  /** Answers what was accepted, then ends server, sandbox and PostgreSQL, in this order. */
  stop(): Promise<void>
}

/** What has been started, to be stopped in the order in which it is written here. */
type Parts = { server?: HttpServer; host?: Host; tollgate?: Tollgate; sandbox?: Sandbox; postgres?: EmbeddedPostgres }

/**
 * Starts everything on this machine: PostgreSQL unless DATABASE_URL is set, the Stripe sandbox unless a Stripe key is set or there is to be none,
 * and the server on PORT. Used by `tollgate dev` and by hosts that mount Tollgate.
 * @throws Error with a sentence for the user when something cannot start; whatever had started is stopped again
 */
export async function startDevelopment(options: DevelopmentOptions): Promise<Development> {
  const { config } = options
  const directory = openDataDirectory(config.TOLLGATE_DATA_DIR)
  const parts: Parts = {}
  const stop = async (): Promise<void> => {
    const { server, host, tollgate, sandbox, postgres } = parts
    directory.removeRuntime()
    tollgate?.endStreams()
    await server?.stop()
    await host?.stop?.()
    await tollgate?.stop()
    await sandbox?.stop()
    await postgres?.stop()
  }
  try {
    const started = await startParts(options, directory, parts)
    const { url, operatorKey, sandboxUrl } = started
    directory.writeRuntime({ url, operatorKey, sandboxUrl, pid: process.pid })
    return { ...started, dataDirectory: directory.path, embedded: config.DATABASE_URL === undefined, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function startParts(
  options: DevelopmentOptions,
  directory: DataDirectory,
  parts: Parts,
): Promise<Pick<Development, 'tollgate' | 'url' | 'publicUrl' | 'operatorKey' | 'sandboxUrl'>> {
  const { config } = options
  const operatorKey = config.TOLLGATE_OPERATOR_KEY ?? directory.secret('operator-key', 'tgop_')
  const log = createLog({ level: config.LOG_LEVEL, secrets: [operatorKey] })
  let app: Host | null = null
  // Listening comes first: a taken port is told before anything else is started, and port 0 becomes known.
  const server = await serve({
    host: config.TOLLGATE_HOST,
    port: config.PORT,
    fetch: (request, connection) => (app ?? starting).fetch(request, connection),
    // A host sees every request first.
    preHandler: (request, response) => (options.createHost ? false : (parts.tollgate?.preHandler(request, response) ?? false)),
    plainHandler: (request, send) => (options.createHost ? false : (parts.tollgate?.plainHandler(request, send) ?? false)),
  })
  parts.server = server
  const tell = (line: string): void => log.warn(line)
  const [databaseUrl, stripe, catalog] = await allOrNothing([
    startDatabase(config, { directory, parts, tell }),
    startStripe(config, { directory, parts, port: server.port }),
    importCatalogDefinition(options.catalogPath ?? config.TOLLGATE_CATALOG, config.variables),
  ])
  const publicUrl = publicUrlOf({ ...config, PORT: server.port })
  const tollgate = createTollgate({
    ...optionsOfConfig(config),
    publicUrl,
    databaseUrl,
    catalog,
    stripe,
    operatorKey,
    log,
    // Only this machine reaches it.
    metrics: { token: config.METRICS_TOKEN, open: config.METRICS_TOKEN === undefined && LOOPBACK.has(config.TOLLGATE_HOST) },
  })
  parts.tollgate = tollgate
  await tollgate.start()
  if (options.createHost) parts.host = options.createHost(tollgate, { operatorKey })
  app = parts.host ?? tollgate
  const url = localUrl(config.TOLLGATE_HOST, server.port)
  return { tollgate, operatorKey, url, publicUrl, sandboxUrl: parts.sandbox?.url ?? null }
}

const LOOPBACK: ReadonlySet<string> = new Set(['127.0.0.1', '::1', 'localhost'])

const starting: Host = {
  fetch: (request) => answerNotRunning(request, 'starting'),
}

type Starting = { readonly directory: DataDirectory; readonly parts: Parts }

async function startDatabase(
  config: Config,
  { directory, parts, tell }: Starting & { tell: (line: string) => void },
): Promise<string> {
  if (config.DATABASE_URL !== undefined) return config.DATABASE_URL
  parts.postgres = await startEmbeddedPostgres({ directory: directory.postgres, log: tell })
  return parts.postgres.url
}

async function startStripe(
  config: Config,
  { directory, parts, port }: Starting & { port: number },
): Promise<StripeOptions | null> {
  const configured = stripeOfConfig(config)
  // To see what the server does without Stripe, there must be none.
  if (configured || config.STRIPE_ENABLED === 'false') return configured
  const { sandbox, stripe } = await openSandbox({
    port: config.TOLLGATE_SANDBOX_PORT,
    file: directory.sandboxFile,
    webhook: {
      url: `${localUrl(config.TOLLGATE_HOST, port)}/api/v1/webhooks/stripe`,
      secret: directory.secret('webhook-secret', 'whsec_'),
    },
  })
  parts.sandbox = sandbox
  return stripe
}

function localUrl(host: string, port: number): string {
  return `http://${host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host}:${port}`
}

/** Like Promise.all, but waits for every one to settle: what started beside a failure is known, and can be stopped. */
async function allOrNothing<const Results extends readonly unknown[]>(promises: {
  readonly [Index in keyof Results]: Promise<Results[Index]>
}): Promise<Results> {
  await Promise.allSettled(promises)
  return Promise.all(promises) as Promise<unknown> as Promise<Results>
}
