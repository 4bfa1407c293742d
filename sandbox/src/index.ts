import { clockStateOf, realMsUntil, realTimeMs, type ClockSetting } from './engine/clock.ts'
import { Engine } from './engine/engine.ts'
import { openJournal } from './engine/journal.ts'
import { createRandom, freshSeed } from './engine/random.ts'
import { Chaos, type ChaosSettings } from './events/chaos.ts'
import { defaultDelivery, Deliverer, type DeliveryOptions } from './events/deliver.ts'
import { Api } from './http/api.ts'
import { createHttpServer, listen } from './http/server.ts'
import { modules } from './modules.ts'
import { createEndpoint, type EndpointSettings } from './resources/webhook-endpoints.ts'
import type { Stored, StoredName } from './model/index.ts'

export type { ClockSetting } from './engine/clock.ts'
export type { ChaosSettings, DeliveryChaos, RouteChaos } from './events/chaos.ts'
export type { EndpointSettings } from './resources/webhook-endpoints.ts'
export type { Stored, StoredName } from './model/index.ts'

export interface SandboxOptions {
  /** 0 (default) takes a free port. */
  readonly port?: number
  /** `127.0.0.1` unless told. */
  readonly host?: string
  /** How the sandbox's own clock runs; real time unless told. */
  readonly clock?: ClockSetting
  /** SQLite file that keeps the state; in memory without one. */
  readonly data?: string
  /** Decides ids, secrets and chaos; random unless given. */
  readonly seed?: number | string
  /** Webhook endpoints that are there from the start (one with the same URL that is there already is kept). */
  readonly webhooks?: readonly EndpointSettings[]
  readonly delivery?: Partial<DeliveryOptions>
  readonly chaos?: ChaosSettings
  /** Keys to accept; any test key when absent. */
  readonly apiKeys?: readonly string[]
  /** Told what fails in the background; printed to stderr unless given. */
  readonly onError?: (error: unknown) => void
}

export interface Sandbox {
  /** `http://127.0.0.1:12111` */
  readonly url: string
  readonly host: string
  readonly port: number
  readonly protocol: 'http'
  /** Unix seconds of the sandbox's own clock. */
  now(): number
  /** Moves the sandbox's own clock forward; what is due until then has happened when this returns. */
  advanceTo(unixSeconds: number): void
  /** Sets how the clock runs from now on. */
  setClock(setting: ClockSetting): void
  setChaos(settings: ChaosSettings): void
  /** Resolves when no clock moves, nothing is due, and every due delivery has come to an end or waits for a far retry. */
  settled(): Promise<void>
  /** Reads stored objects, for tests. */
  all<K extends StoredName>(name: K): Array<Stored<K>>
  /** Stops listening and sending, ends open connections, closes the data file. */
  stop(): Promise<void>
}

/** Starts a sandbox. Many can run in one process. */
export async function startSandbox(options: SandboxOptions = {}): Promise<Sandbox> {
  const seed = options.seed ?? freshSeed()
  const journal = options.data === undefined ? null : openJournal(options.data)
  const report = options.onError ?? ((error: unknown) => console.error(error))
  const engine = new Engine({
    modules,
    // A kept state must not meet the ids of its first run again.
    random: createRandom(journal === null ? seed : `${seed}:${journal.generation}`),
    clock: clockStateOf(options.clock ?? 'real', realTimeMs()),
    journal,
    report,
  })
  const chaos = new Chaos(options.chaos ?? {}, seed)
  const deliverer = new Deliverer(engine, chaos, { ...defaultDelivery, ...options.delivery })
  const api = new Api(engine, modules, { chaos, apiKeys: options.apiKeys ?? null })
  const host = options.host ?? '127.0.0.1'
  const server = createHttpServer(
    engine,
    api,
    modules.flatMap((module) => module.pages ?? []),
  )
  const port = await listen(server, host, options.port ?? 0)
  engine.baseUrl = `http://${host}:${port}`
  const ticker = startTicker(engine)
  engine.onCommit = () => {
    deliverer.wake()
    ticker.reset()
  }
  addEndpoints(engine, options.webhooks ?? [])
  ticker.reset()
  deliverer.wake()
  return {
    url: engine.baseUrl,
    host,
    port,
    protocol: 'http',
    now: () => engine.sandboxNow(),
    advanceTo: (unixSeconds) => engine.advanceTo(unixSeconds),
    setClock: (setting) => {
      engine.setClock(clockStateOf(setting, realTimeMs()))
      engine.timeline.catchUp()
    },
    setChaos: (settings) => chaos.set(settings),
    settled: () => settled(engine, deliverer),
    all: (name) => [...engine.store.all(name)],
    stop: async () => {
      ticker.stop()
      engine.timeline.stop()
      deliverer.stop()
      server.closeAllConnections()
      await new Promise<void>((done) => server.close(() => done()))
      await engine.timeline.idle()
      journal?.close()
    },
  }
}

function addEndpoints(engine: Engine, endpoints: readonly EndpointSettings[]): void {
  engine.transact({ request: null, task: null }, (ctx) => {
    const known = new Set([...ctx.store.all('webhook_endpoint')].map((endpoint) => endpoint.url))
    for (const settings of endpoints) if (!known.has(settings.url)) createEndpoint(ctx, settings)
  })
}

async function settled(engine: Engine, deliverer: Deliverer): Promise<void> {
  for (;;) {
    engine.timeline.catchUp()
    await engine.timeline.idle()
    if (deliverer.isIdle && !engine.timeline.isMoving) return
    await deliverer.progress()
  }
}

/** Runs what comes due on the sandbox's own clock, without being asked. */
function startTicker(engine: Engine): { reset(): void; stop(): void } {
  let timer: NodeJS.Timeout | null = null
  const cancel = () => {
    if (timer !== null) clearTimeout(timer)
    timer = null
  }
  const reset = () => {
    cancel()
    const due = engine.timeline.nextDue()
    const wait = due === null ? null : realMsUntil(engine.clock, due, realTimeMs())
    if (wait === null) return
    timer = setTimeout(
      () => {
        engine.timeline.catchUp()
        reset()
      },
      Math.min(wait, 2 ** 31 - 1),
    )
    timer.unref()
  }
  return { reset, stop: cancel }
}
