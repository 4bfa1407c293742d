import { isRefusedAlone, sendInParts } from './batch-parts.ts'
import { machineTime } from './clock.ts'
import { errorOf, isAway } from './errors.ts'
import { report } from './report.ts'
import type { BatchItem, BatchResult, UsageClient } from './usage.ts'

export type CallCounterOptions = {
  /** An operator's client: each count names its own tenant. */
  readonly client: Pick<UsageClient, 'batch'>
  /** Default `api_call` (KF-1). */
  readonly meter?: string
  /** Calls that are gathered before they are sent; default 100 (KF-10). */
  readonly batchSize?: number
  /** How long a call waits at most before it is sent, in milliseconds; default 1,000. */
  readonly intervalMs?: number
  /** Paths that are not counted, with everything below them. Default: health, metrics and documentation. */
  readonly excludedPaths?: readonly string[]
  /** Where the tenant is found; default the query `tenant_id`, the header `X-Tenant-ID`, the path `/tenants/<id>` or `/tenant/<id>`. */
  readonly tenant?: (request: CountedRequest) => string | null
  /** How many counts (one of a tenant at a time) wait at most; beyond it the oldest are dropped. Default 10,000. */
  readonly maxWaiting?: number
  /** Told of each failure to send; most are tried again. */
  readonly onError?: (error: unknown) => void
  /** Told of what will not be counted, and why: the server refuses it for good, too much waits, or it could not be sent before the end. */
  readonly onDropped?: (dropped: DroppedCalls) => void
  /** The time of a call; default the machine's. */
  readonly now?: () => Date
}

/** Calls that are not counted: `items` are what would have been sent, with tenant, time and key. */
export type DroppedCalls = { readonly calls: number; readonly items: readonly BatchItem[]; readonly error: unknown }

export type CountedRequest = { readonly url: URL; readonly headers: { get(name: string): string | null } }

export type CallCounter = {
  /** Counts a request; takes microseconds and never waits. Answers whether it was counted. */
  count(request: CountedRequest): boolean
  /** Sends what has been gathered. */
  flush(): Promise<void>
  /** Sends what is left and stops; to be awaited before the process ends. */
  stop(): Promise<void>
}

const EXCLUDED = ['/health', '/healthz', '/readyz', '/metrics', '/docs', '/openapi.json', '/redoc']
/** As many items as one batch of the server takes. */
const MAX_ITEMS = 1_000
const MAX_WAITING = 10_000
/** Refusals of whole bodies between two pauses: of a thousand items one that is wrong by itself is found by eleven. */
const MOST_REFUSALS = 32
const LONGEST_PAUSE_MS = 60_000
/** A failure of the server's that is about one item alone is tried so often. */
const MAX_TRIES = 10

type Gathered = { calls: number; readonly since: Date }
type Waiting = { readonly item: BatchItem; readonly calls: number; readonly tries: number }

/**
 * Counts API calls by itself (KF-10): gathered per tenant, sent by number and by time. What could not be sent keeps its idempotency
 * key and the time of its first call, and is sent again, so that it counts once, when it happened, whether or not the first attempt
 * arrived. While the server is away, does not know the key or takes nothing, the pauses grow to a minute, and no more waits than `maxWaiting`.
 */
export function createCallCounter(options: CallCounterOptions): CallCounter {
  const {
    client,
    meter = 'api_call',
    batchSize = 100,
    intervalMs = 1_000,
    excludedPaths = EXCLUDED,
    tenant = findTenant,
  } = options
  const { maxWaiting = MAX_WAITING, now = machineTime } = options
  let gathered = new Map<string, Gathered>()
  let calls = 0
  let waiting: Waiting[] = []
  let failures = 0
  let pausedUntil = 0
  let timer: ReturnType<typeof setTimeout> | undefined
  let sending: Promise<void> = Promise.resolve()

  function drop(dropped: readonly Waiting[], error: unknown): void {
    if (dropped.length === 0) return
    const sum = dropped.reduce((total, each) => total + each.calls, 0)
    const items = dropped.map(({ item }) => item)
    report(() => options.onDropped?.({ calls: sum, items, error }))
  }

  function gatherUp(): void {
    clearTimeout(timer)
    timer = undefined
    for (const [organizationId, { calls: quantity, since }] of gathered) {
      const key = { organizationId, idempotencyKey: crypto.randomUUID() }
      waiting.push({
        item: { verb: 'track', meter, quantity, occurredAt: since.toISOString(), ...key },
        calls: quantity,
        tries: 0,
      })
    }
    gathered = new Map()
    calls = 0
    const tooMany = waiting.splice(0, Math.max(0, waiting.length - maxWaiting))
    drop(tooMany, new Error(`More than ${maxWaiting} counts wait to be sent.`))
  }

  async function send(isForced: boolean): Promise<void> {
    gatherUp()
    const isPaused = !isForced && now().getTime() < pausedUntil
    if (!isPaused) await sendAll()
    if (waiting.length > 0) timer ??= setTimeout(() => void run(false), Math.max(0, pausedUntil - now().getTime()))
  }

  /** Each item once: what fails by itself stands in the way of nothing that comes after it. */
  async function sendAll(): Promise<void> {
    const round = waiting
    const open: Waiting[] = []
    const alone: { readonly each: Waiting; readonly error: unknown }[] = []
    const bound = { left: MOST_REFUSALS }
    let isAnyTaken = false
    let next = 0
    let isCut = false
    while (next < round.length && !isCut) {
      for await (const ended of sendInParts(client, round.slice(next, next + MAX_ITEMS), bound)) {
        next += ended.part.length
        if ('results' in ended) {
          isAnyTaken = true
          open.push(...ended.part.flatMap((each, index) => stillOpen(each, ended.results[index])))
        } else {
          report(() => options.onError?.(ended.error))
          if (isRefusedAlone(ended)) alone.push({ each: ended.part[0]!, error: ended.error })
          else open.push(...ended.part)
          // All that comes after it would hear the same.
          isCut = bound.left <= 0 || !isRefusedAlone(ended)
        }
        if (isCut) break
      }
    }
    // Of a server that takes others, what it refuses alone is refused for what it is. One that takes nothing has another reason.
    if (isAnyTaken) for (const { each, error } of alone) drop([each], error)
    const suspects = isAnyTaken ? [] : alone.map(({ each }) => each)
    // The others go first the next time, so that each has its turn.
    waiting = [...open, ...round.slice(next), ...suspects]
    failures = waiting.length === 0 ? 0 : failures + 1
    pausedUntil = failures === 0 ? 0 : now().getTime() + Math.min(intervalMs * 2 ** (failures - 1), LONGEST_PAUSE_MS)
  }

  function stillOpen(each: Waiting, result: BatchResult | undefined): Waiting[] {
    if (result !== undefined && !('error' in result)) return []
    const error = result === undefined ? new Error('The server left an item out.') : errorOf(result.error)
    report(() => options.onError?.(error))
    const tries = each.tries + 1
    if (tries < MAX_TRIES && (result === undefined || isAway(error))) return [{ ...each, tries }]
    drop([each], error)
    return []
  }

  function run(isForced: boolean): Promise<void> {
    const sent = () => send(isForced)
    sending = sending.then(sent, sent)
    return sending
  }

  return {
    count(request) {
      const { pathname } = request.url
      if (excludedPaths.some((path) => pathname === path || pathname.startsWith(`${path}/`))) return false
      const organizationId = tenant(request)
      if (organizationId === null) return false
      const known = gathered.get(organizationId)
      if (known === undefined) gathered.set(organizationId, { calls: 1, since: now() })
      else known.calls += 1
      calls += 1
      if (calls >= batchSize) void run(false)
      else timer ??= setTimeout(() => void run(false), intervalMs)
      return true
    },
    flush: () => run(true),
    async stop() {
      await run(true)
      clearTimeout(timer)
      timer = undefined
      drop(waiting.splice(0), new Error('The counter was stopped before they could be sent.'))
    },
  }
}

/** The tenant of a request by KF-10's three places: query, header, path. One that is there and empty names nobody. */
function findTenant({ url, headers }: CountedRequest): string | null {
  const named = url.searchParams.get('tenant_id') || headers.get('x-tenant-id')
  if (named) return named
  const segment = /\/tenants?\/([^/]+)/.exec(url.pathname)?.[1]
  return segment === undefined ? null : decodeSegment(segment)
}

/** What a part of a path stands for; what is encoded wrongly is taken as it is written. */
function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}
