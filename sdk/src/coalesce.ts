import { statusOf, TollgateError } from './errors.ts'
import type { BatchItem, BatchResult, UsageAnswer, UsageClient, UsageInput } from './usage.ts'

export type CoalesceOptions = {
  /** Items at most in one request; default 500, the server takes 1,000. */
  readonly maxItems?: number
}

type Waiting = {
  readonly item: BatchItem
  readonly resolve: (answer: UsageAnswer) => void
  readonly reject: (error: unknown) => void
}

/**
 * A client that sends calls which are made at the same moment as one batch: what gathers while a request is under way goes with
 * the next one. A lone call is sent at once, so nothing waits for company. Each item keeps its own key and its own answer.
 */
export function createCoalescingClient(client: UsageClient, options: CoalesceOptions = {}): UsageClient {
  const maxItems = options.maxItems ?? 500
  let waiting: Waiting[] = []
  let sending = false

  async function sendAll(): Promise<void> {
    sending = true
    // One turn of the event loop: calls made in the same turn go together from the first request on.
    await Promise.resolve()
    while (waiting.length > 0) {
      const batch = waiting.slice(0, maxItems)
      waiting = waiting.slice(batch.length)
      await send(batch)
    }
    sending = false
  }

  async function send(batch: readonly Waiting[]): Promise<void> {
    try {
      const results = await client.batch(batch.map(({ item }) => item))
      for (const [index, { resolve, reject }] of batch.entries()) deliver(results[index], resolve, reject)
    } catch (error) {
      for (const { reject } of batch) reject(error)
    }
  }

  function ask(verb: BatchItem['verb'], input: UsageInput): Promise<UsageAnswer> {
    return new Promise((resolve, reject) => {
      waiting.push({ item: { ...input, verb }, resolve, reject })
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
