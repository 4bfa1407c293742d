import { controlRoutes } from './control/routes.ts'
import { exportFixture, importFixture, type Fixture } from './control/fixtures.ts'
import { RequestLog } from './control/request-log.ts'
import { trigger, type Answer } from './control/trigger.ts'
import { clockStateOf, realMsUntil, realTimeMs, type ClockSetting } from './engine/clock.ts'
import { Engine } from './engine/engine.ts'
import { openJournal } from './engine/journal.ts'
import { createRandom, freshSeed } from './engine/random.ts'
import { Chaos, type ChaosSettings } from './events/chaos.ts'
import { defaultDelivery, Deliverer, type DeliveryOptions } from './events/deliver.ts'
import { Api } from './http/api.ts'
import { encodeForm } from './http/form.ts'
import { RateLimiter, type RateLimits } from './http/rate-limit.ts'
import { createHttpServer, listen } from './http/server.ts'
import type { Stored, StoredName } from './model/stored.ts'
import { modules } from './modules.ts'
import { type BillingSettings, changeBillingSettings } from './resources/billing-settings.ts'
import { homePages } from './pages/home.ts'
import { createEndpoint, type EndpointSettings } from './resources/webhook-endpoints.ts'

export interface SandboxOptions {
  /** 0 (default) takes a free port. */
  readonly port?: number
  /** `127.0.0.1` unless told. */
  readonly host?: string
  /** The address that pages and links name; `http://host:port` unless told. */
  readonly publicUrl?: string
  /** How the sandbox's own clock runs; real time unless told. A kept state keeps its clock. */
  readonly clock?: ClockSetting
  /** SQLite file that keeps the state; in memory without one. */
  readonly data?: string
  /** Decides ids, secrets and chaos; random unless given. */
  readonly seed?: number | string
  /** Webhook endpoints that are there from the start; one with a URL that is there already takes its secret and events from here. */
  readonly webhooks?: readonly EndpointSettings[]
  /** The account's billing settings: retry schedule, what follows it, notice of renewals, billing mode. */
  readonly billing?: Partial<BillingSettings>
  readonly delivery?: Partial<DeliveryOptions>
  readonly chaos?: ChaosSettings
  readonly rateLimits?: RateLimits
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
  setRateLimits(limits: RateLimits): void
  /** Resolves when no clock moves, nothing is due, and every due delivery has come to an end or waits for a far retry. */
  settled(): Promise<void>
  /** Makes the objects that lead to an event; resolves to the types of all events that came of it. */
  trigger(event: string): Promise<string[]>
  /** The whole state as a plain object; `importFixture` of another sandbox takes it. */
  exportFixture(): Fixture
  importFixture(fixture: unknown): number
  /** Reads stored objects, for tests. */
  all<K extends StoredName>(name: K): Array<Stored<K>>
  /** Stops listening and sending, ends open connections, closes the data file. */
  stop(): Promise<void>
}

/** Starts a sandbox. Many can run in one process. */
export async function startSandbox(options: SandboxOptions = {}): Promise<Sandbox> {
  const seed = options.seed ?? freshSeed()
  const journal = options.data === undefined ? null : openJournal(options.data)
  const engine = new Engine({
    modules,
    // A kept state must not meet the ids of its first run again.
    random: createRandom(journal === null ? seed : `${seed}:${journal.generation}`),
    clock: clockStateOf(options.clock ?? 'real', realTimeMs()),
    journal,
    report: options.onError ?? ((error: unknown) => console.error(error)),
  })
  const chaos = new Chaos(options.chaos ?? {}, seed)
  const limiter = new RateLimiter(options.rateLimits ?? {})
  const deliverer = new Deliverer(engine, chaos, { ...defaultDelivery, ...options.delivery })
  const log = new RequestLog()
  const api = new Api(engine, modules, { chaos, limiter, log, apiKeys: options.apiKeys ?? null })
  const host = options.host ?? '127.0.0.1'
  const parts: Parts = { engine, chaos, limiter, deliverer, api, log, key: options.apiKeys?.[0] ?? 'sk_test_sandbox' }
  const actions = actionsOf(parts)
  const controls = controlsOf(parts, actions)
  const pages = [...modules.flatMap((module) => module.pages ?? []), ...controlRoutes(controls), ...homePages(controls)]
  const server = createHttpServer(engine, api, pages)
  const port = await listen(server, host, options.port ?? 0).catch((error: unknown) => {
    journal?.close()
    throw error
  })
  const url = `http://${host}:${port}`
  engine.baseUrl = options.publicUrl ?? url
  const ticker = startTicker(engine)
  engine.onCommit = (writes) => {
    deliverer.committed(writes)
    ticker.reset()
  }
  addEndpoints(engine, options.webhooks ?? [])
  const { billing } = options
  if (billing !== undefined) engine.transact({ request: null, task: null }, (ctx) => changeBillingSettings(ctx, billing))
  deliverer.wake()
  ticker.reset()
  const stop = async () => {
    ticker.stop()
    engine.timeline.stop()
    deliverer.stop()
    server.closeAllConnections()
    await new Promise<void>((done) => {
      server.close(() => done())
    })
    await engine.timeline.idle()
    journal?.close()
  }
  let stopping: Promise<void> | null = null
  return {
    url,
    host,
    port,
    protocol: 'http',
    ...actions,
    stop: () => (stopping ??= stop()),
  }
}

interface Parts {
  readonly engine: Engine
  readonly chaos: Chaos
  readonly limiter: RateLimiter
  readonly deliverer: Deliverer
  readonly api: Api
  readonly log: RequestLog
  readonly key: string
}

type Actions = Omit<Sandbox, 'host' | 'port' | 'protocol' | 'stop' | 'url'>

function actionsOf(parts: Parts): Actions {
  const { engine, chaos, limiter, deliverer } = parts
  return {
    now: () => engine.sandboxNow(),
    advanceTo: (unixSeconds) => engine.advanceTo(unixSeconds),
    setClock: (setting) => {
      engine.setClock(clockStateOf(setting, realTimeMs()))
      engine.timeline.catchUp()
    },
    setChaos: (settings) => chaos.set(settings),
    setRateLimits: (limits) => {
      limiter.limits = limits
    },
    settled: () => settled(engine, deliverer),
    trigger: (event) => triggered(parts, event),
    exportFixture: () => exportFixture(engine),
    importFixture: (fixture) => importFixture(engine, fixture),
    all: (name) => [...engine.store.all(name)],
  }
}

function controlsOf({ engine, chaos, limiter, deliverer, log }: Parts, actions: Actions): Parameters<typeof controlRoutes>[0] {
  return {
    ...actions,
    clock: () => ({ now: engine.sandboxNow(), rate: engine.clock.rate }),
    chaos: () => chaos.current,
    rateLimits: () => limiter.limits,
    resend: (delivery) => deliverer.resend(delivery),
    request: (id) => log.get(id),
    realSeconds: () => Math.floor(realTimeMs() / 1000),
  }
}

function addEndpoints(engine: Engine, endpoints: readonly EndpointSettings[]): void {
  engine.transact({ request: null, task: null }, (ctx) => {
    const known = new Map([...ctx.store.all('webhook_endpoint')].map((endpoint) => [endpoint.url, endpoint]))
    for (const settings of endpoints) {
      const old = known.get(settings.url)
      if (old === undefined) createEndpoint(ctx, settings)
      else {
        ctx.update('webhook_endpoint', old.id, {
          enabled_events: [...(settings.enabledEvents ?? old.enabled_events)],
          _: { ...old._, secret: settings.secret ?? old._.secret },
        })
      }
    }
  })
}

async function triggered({ engine, api, key }: Parts, event: string): Promise<string[]> {
  const before = new Set([...engine.store.all('event')].map(({ id }) => id))
  await trigger(event, async (method, path, params = {}) => {
    const headers = { authorization: `Bearer ${key}` }
    const response = await api.answer({ method, pathname: path, search: '', headers, body: encodeForm(params) })
    const body = JSON.parse(response.body) as Answer & { error?: { message: string } }
    if (body.error !== undefined) throw new Error(body.error.message)
    return body
  })
  engine.timeline.catchUp()
  await engine.timeline.idle()
  return [...engine.store.all('event')].filter(({ id }) => !before.has(id)).map(({ type }) => type)
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
    const tick = () => {
      engine.timeline.catchUp()
      reset()
    }
    timer = setTimeout(tick, Math.min(wait, 2 ** 31 - 1))
    timer.unref()
  }
  return { reset, stop: cancel }
}
