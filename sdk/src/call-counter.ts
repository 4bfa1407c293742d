import { isAway, statusOf, TollgateError, type Problem } from './errors.ts'
import type { BatchItem, UsageClient } from './usage.ts'

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
  /** Told when counts could not be sent, which are kept and sent with the next ones, and of counts that the server refuses for good. */
  readonly onError?: (error: unknown) => void
}

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

/**
 * Counts API calls by itself (KF-10): gathered per tenant, sent by number and by time. What could not be sent keeps its idempotency
 * key and is sent again, so that it counts once whether or not the first attempt arrived.
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
  let gathered = new Map<string, number>()
  let calls = 0
  let unsent: BatchItem[] = []
  let timer: ReturnType<typeof setTimeout> | undefined
  let sending: Promise<void> = Promise.resolve()

  function gatherUp(): void {
    clearTimeout(timer)
    timer = undefined
    for (const [organizationId, quantity] of gathered) {
      unsent.push({ verb: 'track', meter, quantity, organizationId, idempotencyKey: crypto.randomUUID() })
    }
    gathered = new Map()
    calls = 0
  }

  async function send(): Promise<void> {
    gatherUp()
    while (unsent.length > 0) {
      const items = unsent.slice(0, MAX_ITEMS)
      const open = await sendItems(items)
      unsent = [...open, ...unsent.slice(items.length)]
      if (open.length > 0) {
        // Tried again with the next calls, or after the interval.
        timer ??= setTimeout(() => void flush(), intervalMs)
        return
      }
    }
  }

  /** Answers which items are still to be counted, under their keys. What is wrong in itself is told, and given up. */
  async function sendItems(items: readonly BatchItem[]): Promise<BatchItem[]> {
    try {
      const results = await client.batch(items)
      return items.filter((_item, index) => {
        const result = results[index]
        if (result !== undefined && !('error' in result)) return false
        const error = result === undefined ? new Error('The server left an item out.') : errorOf(result.error)
        options.onError?.(error)
        return result === undefined || isAway(error)
      })
    } catch (error) {
      options.onError?.(error)
      return [...items]
    }
  }

  function flush(): Promise<void> {
    sending = sending.then(send)
    return sending
  }

  return {
    count(request) {
      const { pathname } = request.url
      if (excludedPaths.some((path) => pathname === path || pathname.startsWith(`${path}/`))) return false
      const organizationId = tenant(request)
      if (organizationId === null) return false
      gathered.set(organizationId, (gathered.get(organizationId) ?? 0) + 1)
      calls += 1
      if (calls >= batchSize) void flush()
      else timer ??= setTimeout(() => void flush(), intervalMs)
      return true
    },
    flush,
    async stop() {
      await flush()
      clearTimeout(timer)
    },
  }
}

const errorOf = (problem: Problem): TollgateError => new TollgateError(statusOf(problem), problem)

/** The tenant of a request by KF-10's three places: query, header, path. */
function findTenant({ url, headers }: CountedRequest): string | null {
  return url.searchParams.get('tenant_id') ?? headers.get('x-tenant-id') ?? /\/tenants?\/([^/]+)/.exec(url.pathname)?.[1] ?? null
}
