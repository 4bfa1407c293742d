import { isStillToCount, TollgateError } from './errors.ts'
import {
  derivedKey,
  nameOf,
  type LocalQueue,
  type ParkedCall,
  type QueuedCall,
  type QueuedSettlement,
  type QueuedUse,
} from './queue.ts'
import type { Retractions } from './retractions.ts'
import type { UsageClient } from './usage.ts'

export type ReplayContext = {
  readonly client: UsageClient
  readonly queue: LocalQueue
  readonly retractions: Retractions
  readonly now: () => Date
  readonly tell: (error: unknown, call: QueuedCall) => void
  readonly tellParked: (call: ParkedCall) => void
}

type Failures = { readonly times: number; readonly since: number }

/** The server fails about a call so often, over an hour at least, before the call is parked: an outage of its own takes less. */
const MOST_FAILURES = 10
const FAILING_MS = 3_600_000

/** What tells the server what waits, and answers how many calls are still to be told. */
export function createReplay(context: ReplayContext): () => Promise<number> {
  const failures = new Map<string, Failures>()

  /** Whether a call that failed is kept for the next time; else it is parked, as there is no sense in asking again. */
  async function isKept(call: QueuedCall, error: unknown): Promise<boolean> {
    const name = nameOf(call)
    const time = context.now()
    const { times, since } = failures.get(name) ?? { times: 0, since: time.getTime() }
    const isHopeless = times + 1 >= MOST_FAILURES && time.getTime() - since >= FAILING_MS
    if (!(error instanceof TollgateError) || (isServerFailure(error) && !isHopeless)) {
      failures.set(name, { times: times + 1, since })
      return true
    }
    failures.delete(name)
    if (call.kind === 'retraction' && !context.retractions.giveUp(call)) return false
    const { status, message } = error
    const parked = { ...call, parked: { at: time.toISOString(), tries: times + 1, status, error: message } }
    await context.queue.park(parked)
    context.tellParked(parked)
    return false
  }

  return async () => {
    const waiting = await context.queue.list()
    context.retractions.learn(waiting)
    let left = 0
    for (const [index, call] of waiting.entries()) {
      try {
        if (!(await sendCall(context, call))) left += 1
        failures.delete(nameOf(call))
      } catch (error) {
        context.tell(error, call)
        // A failure of the server's may be about this call alone; of everything else that passes, the next would hear the same.
        if (isStillToCount(error) && !isServerFailure(error)) return left + waiting.length - index
        if (await isKept(call, error)) left += 1
      }
    }
    return left
  }
}

function isServerFailure(error: unknown): boolean {
  return error instanceof TollgateError && error.status === 500
}

/** Tells the server one call, and takes it from the queue. False where it is to be asked about again later. */
async function sendCall({ client, queue, retractions }: ReplayContext, call: QueuedCall): Promise<boolean> {
  switch (call.kind) {
    case 'retraction':
      return retractions.takeBack(call)
    case 'settlement':
      await client.settle(call.reservationId, settledBy(call))
      break
    case 'use':
    case undefined:
      await countLetThrough(client, call)
  }
  await queue.remove(call)
  return true
}

/**
 * Counts a use at the time when it happened. Its first attempt may have arrived after all: its key then says so, and what it was
 * answered is asked for. A use that was let through although it did not fit is tracked under a key of its own.
 */
async function countLetThrough(client: UsageClient, { kind: _kind, sentAs, ...use }: QueuedUse): Promise<void> {
  try {
    await client.track(use)
    return
  } catch (error) {
    const field = conflictOf(error)
    // It was tracked, without the time that only the queue knows.
    if (sentAs?.verb === 'track' && field === 'occurred_at') return
    if (field !== 'verb') throw error
  }
  const { occurredAt: _now, ...asked } = use
  const answer = await client.consume({
    ...asked,
    ...(sentAs?.occurredAt === undefined ? {} : { occurredAt: sentAs.occurredAt }),
  })
  if (!answer.allowed) await client.track({ ...use, idempotencyKey: await derivedKey(use.idempotencyKey, 'open') })
}

/** The field in which a request differs from the one that used its key before; null for every other error. */
function conflictOf(error: unknown): unknown {
  return error instanceof TollgateError && error.code === 'idempotency_conflict' ? error.problem['field'] : null
}

function settledBy({ quantity, organizationId }: QueuedSettlement) {
  return { ...(quantity === undefined ? {} : { quantity }), ...(organizationId === undefined ? {} : { organizationId }) }
}
