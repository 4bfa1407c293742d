import { sendInParts } from './batch-parts.ts'
import { statusOf, TollgateError } from './errors.ts'
import type { BatchItem, BatchResult, UsageAnswer, UsageClient, UsageInput } from './usage.ts'

export type CoalesceOptions = {
  /** Items at most in one request; default 500, the server takes 1,000. */
  readonly maxItems?: number
  /** Bytes at most in one request, by its items; default 3 MiB, the server takes 4 MiB. What is larger by itself goes alone. */
  readonly maxBytes?: number
}

type Waiting = {
  readonly item: BatchItem
  readonly bytes: number
  readonly resolve: (answer: UsageAnswer) => void
  readonly reject: (error: unknown) => void
}

const MAX_ITEMS = 500
const MAX_BYTES = 3 * 1_024 * 1_024
/** What an item's body may have beyond the item as it is here: longer names, a key that is made up. */
const BYTES_BESIDE = 128

const encoder = new TextEncoder()

/**
 * A client that sends calls which are made at the same moment as one batch: what gathers while a request is under way goes with
 * the next one. A lone call is sent at once, so nothing waits for company. Each item keeps its own key and its own answer. What is
 * refused as a whole, too large or for one of its items, is sent in halves.
 */
export function createCoalescingClient(client: UsageClient, options: CoalesceOptions = {}): UsageClient {
  const { maxItems = MAX_ITEMS, maxBytes = MAX_BYTES } = options
  let waiting: Waiting[] = []
  let sending = false

  async function sendAll(): Promise<void> {
    sending = true
    // One turn of the event loop: calls made in the same turn go together from the first request on.
    await Promise.resolve()
    while (waiting.length > 0) {
      const batch = waiting.slice(0, fitting(waiting))
      waiting = waiting.slice(batch.length)
      await send(batch)
    }
    sending = false
  }

  /** How many of those that wait fit one request; at least one. */
  function fitting(all: readonly Waiting[]): number {
    let bytes = 0
    const over = all.findIndex((each, index) => {
      bytes += each.bytes
      return index > 0 && (index >= maxItems || bytes > maxBytes)
    })
    return over === -1 ? all.length : over
  }

  async function send(batch: readonly Waiting[]): Promise<void> {
    for await (const ended of sendInParts(client, batch)) {
      for (const [index, { resolve, reject }] of ended.part.entries()) {
        if ('error' in ended) reject(ended.error)
        else deliver(ended.results[index], resolve, reject)
      }
    }
  }

  function ask(verb: BatchItem['verb'], input: UsageInput): Promise<UsageAnswer> {
    return new Promise((resolve, reject) => {
      const item = { ...input, verb }
      waiting.push({ item, bytes: encoder.encode(JSON.stringify(item)).byteLength + BYTES_BESIDE, resolve, reject })
      if (!sending) void sendAll()
    })
  }

  return {
    ...client,
    check: (input) => ask('check', input),
    track: (input) => ask('track', input),
    consume: (input) => ask('consume', input),
  }
}

function deliver(
  result: BatchResult | undefined,
  resolve: (answer: UsageAnswer) => void,
  reject: (error: unknown) => void,
): void {
  if (result === undefined) reject(new Error('The server answered fewer results than there were items.'))
  else if ('error' in result) reject(new TollgateError(statusOf(result.error), result.error))
  else resolve(result)
}
