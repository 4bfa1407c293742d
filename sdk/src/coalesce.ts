import { sendInParts } from './batch-parts.ts'
import { elapsedMs } from './clock.ts'
import { errorOf, TollgateUnreachableError } from './errors.ts'
import { DEADLINE_MS } from './transport.ts'
import type { BatchItem, BatchResult, UsageAnswer, UsageClient, UsageInput } from './usage.ts'

export type CoalesceOptions = {
  /** Items at most in one request; default 500, the server takes 1,000. */
  readonly maxItems?: number
  /** Bytes at most in one request, by its items; default 3 MiB, the server takes 4 MiB. What is larger by itself goes alone. */
  readonly maxBytes?: number
  /** How long a call may take, with the time that it waits for others, in milliseconds. Default 3,000; to be as long as the client's own. */
  readonly deadlineMs?: number
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

/** Requests at most at one time. */
const MOST_UNDER_WAY = 4

/**
 * A client that sends calls which are made at the same moment as one batch: what gathers while a request is under way goes with
 * the next one, and what would fill several goes in several at once. A lone call is sent at once, so nothing waits for company. Each item
 * keeps its own key and its own answer. What is refused as a whole, too large or for one of its items, is sent in halves.
 * @throws TypeError for a resilient client: at its own deadline this one knows no declared answer. Give this client to it instead.
 */
export function createCoalescingClient(
  client: UsageClient & { readonly replay?: never },
  options: CoalesceOptions = {},
): UsageClient {
  if ('replay' in client) throw new TypeError('Give the coalescing client to the resilient one, not the other way round.')
  const { maxItems = MAX_ITEMS, maxBytes = MAX_BYTES, deadlineMs = DEADLINE_MS } = options
  const waiting = new Set<Waiting>()
  let waitingBytes = 0
  let underWay = 0

  /** Whether a request is to go beside so many others: where there are any, only one that what waits more than fills. */
  function isDue(others: number): boolean {
    if (others === 0) return waiting.size > 0
    return others < MOST_UNDER_WAY && (waiting.size > maxItems || waitingBytes > maxBytes)
  }

  /** Takes a call from those that wait; false where it did not. */
  function leave(call: Waiting): boolean {
    if (!waiting.delete(call)) return false
    waitingBytes -= call.bytes
    return true
  }

  async function sendAll(): Promise<void> {
    underWay += 1
    // One turn of the event loop: calls made in the same turn go together from the first request on.
    await Promise.resolve()
    while (isDue(underWay - 1)) await send(takeBatch())
    underWay -= 1
  }

  /** As many of those that wait as fit one request; at least one. */
  function takeBatch(): readonly Waiting[] {
    const batch: Waiting[] = []
    let bytes = 0
    for (const call of waiting) {
      bytes += call.bytes
      if (batch.length > 0 && (batch.length >= maxItems || bytes > maxBytes)) break
      leave(call)
      batch.push(call)
    }
    return batch
  }

  async function send(batch: readonly Waiting[]): Promise<void> {
    const end = elapsedMs() + deadlineMs
    for await (const ended of sendInParts(client, batch)) {
      for (const [index, { resolve, reject }] of ended.part.entries()) {
        if ('error' in ended) reject(ended.error)
        else deliver(ended.results[index], resolve, reject)
      }
      // Nobody waits for the other halves any more.
      if (elapsedMs() >= end) break
    }
  }

  function ask(verb: BatchItem['verb'], input: UsageInput): Promise<UsageAnswer> {
    let timer: ReturnType<typeof setTimeout> | undefined
    const answered = new Promise<UsageAnswer>((resolve, reject) => {
      const item = { ...input, verb }
      const bytes = encoder.encode(JSON.stringify(item)).byteLength + BYTES_BESIDE
      const call: Waiting = { item, bytes, resolve, reject }
      waiting.add(call)
      waitingBytes += bytes
      timer = setTimeout(() => reject(withoutAnswer({ wasSent: !leave(call), deadlineMs })), deadlineMs)
      if (isDue(underWay)) void sendAll()
    })
    return answered.finally(() => clearTimeout(timer))
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
  else if ('error' in result) reject(errorOf(result.error))
  else resolve(result)
}

function withoutAnswer({ wasSent, deadlineMs }: { wasSent: boolean; deadlineMs: number }): TollgateUnreachableError {
  const sentence = wasSent
    ? `A call had no answer within ${deadlineMs} ms.`
    : `A call waited ${deadlineMs} ms for others and was not sent.`
  return new TollgateUnreachableError(sentence, { mayHaveArrived: wasSent })
}
