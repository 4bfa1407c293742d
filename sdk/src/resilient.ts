import { machineTime } from './clock.ts'
import { isAway, isStillToCount, TollgateError } from './errors.ts'
import type { LocalQueue, ParkedUse, QueuedUse } from './queue.ts'
import type { QuantityInput, ReservationAnswer, UsageAnswer, UsageClient, UsageInput } from './usage.ts'

/** What a meter's calls are answered while the server cannot be reached: let through and counted later, or refused. */
export type UnreachableAnswer = 'open' | 'closed'

export type ResilientOptions = {
  /** Default `closed`. */
  readonly whenUnreachable?: UnreachableAnswer
  /** The answer per meter, where it differs. */
  readonly meters?: Readonly<Record<string, UnreachableAnswer>>
  /** Where uses that were let through wait; `createFileQueue` survives the process. */
  readonly queue: LocalQueue
  /** The time a use that was let through happened; default the machine's. */
  readonly now?: () => Date
  readonly onError?: (error: unknown) => void
  /**
   * Told of a use that is not tried any more: the server refuses it for what it is, or failed about it ten times. It is kept in
   * `queue.parked()` until it is appended again, or removed.
   */
  readonly onParked?: (use: ParkedUse) => void
}

export type ResilientClient = UsageClient & {
  /** Counts the uses that were let through. Answers how many are left. Call it by an interval and before the process ends. */
  replay(): Promise<number>
}

const LOCAL = 'local:'
const CODE = 'tollgate_unreachable'

/**
 * A client with a declared answer for when Tollgate is away. A use that is let through is written to the queue before it
 * is answered, under the key of the attempt that had no answer: if that attempt arrived after all, it counts once.
 */
export function createResilientClient(client: UsageClient, options: ResilientOptions): ResilientClient {
  const now = options.now ?? machineTime
  const failed = new Map<string, number>()
  const isOpen = (meter: string): boolean => (options.meters?.[meter] ?? options.whenUnreachable ?? 'closed') === 'open'
  const keyed = (input: UsageInput): UsageInput & { idempotencyKey: string } => ({
    ...input,
    idempotencyKey: input.idempotencyKey ?? crypto.randomUUID(),
  })

  async function queue(input: UsageInput & { idempotencyKey: string }, sentAs?: 'consume' | 'track'): Promise<void> {
    const { occurredAt } = input
    const sent = sentAs && { verb: sentAs, ...(occurredAt === undefined ? {} : { occurredAt }) }
    await options.queue.append({ ...input, occurredAt: occurredAt ?? now().toISOString(), ...(sent ? { sentAs: sent } : {}) })
  }

  return {
    ...client,
    check: (input) => answerWhenAway(client.check(input), () => (isOpen(input.meter) ? letThrough(0) : refused(input.meter))),
    async consume(input) {
      const use = keyed(input)
      return answerWhenAway(client.consume(use), async () => {
        if (!isOpen(use.meter)) return refused(use.meter)
        await queue(use, 'consume')
        return letThrough(use.quantity ?? 1)
      })
    },
    // What has happened has happened: it is kept whatever is declared for the meter.
    async track(input) {
      const use = keyed(input)
      try {
        return await client.track(use)
      } catch (error) {
        if (!isStillToCount(error)) throw error
        if (!isAway(error)) options.onError?.(error)
        await queue(use, 'track')
        return letThrough(use.quantity ?? 1)
      }
    },
    async reserve(input) {
      const use = keyed(input)
      return answerWhenAway<ReservationAnswer>(client.reserve(use), () =>
        isOpen(use.meter)
          ? { ...letThrough(use.quantity ?? 1), reservation_id: `${LOCAL}${JSON.stringify(use)}` }
          : refused(use.meter),
      )
    },
    async settle(reservationId, input = {}) {
      if (!reservationId.startsWith(LOCAL)) return client.settle(reservationId, input)
      const use = JSON.parse(reservationId.slice(LOCAL.length)) as UsageInput & { idempotencyKey: string }
      // Its own key: the reservation, if it arrived after all, expires without being counted.
      const quantity = input.quantity ?? use.quantity ?? 1
      await queue({ ...use, quantity, idempotencyKey: `${use.idempotencyKey}:settled` })
      return letThrough(quantity)
    },
    async release(reservationId, input = {}) {
      return reservationId.startsWith(LOCAL) ? letThrough(0) : client.release(reservationId, input)
    },
    replay: () => replayQueue(client, options, failed),
  }
}

async function answerWhenAway<Answer>(sending: Promise<Answer>, otherwise: () => Answer | Promise<Answer>): Promise<Answer> {
  try {
    return await sending
  } catch (error) {
    if (isAway(error)) return otherwise()
    throw error
  }
}

/** A use about which the server fails so often is put aside. */
const MAX_TRIES = 10

/** One round over the queue; `failed` says how often the server has failed about each use. */
async function replayQueue(client: UsageClient, options: ResilientOptions, failed: Map<string, number>): Promise<number> {
  const { queue, onError } = options
  const waiting = await queue.list()
  let left = 0
  for (const [index, use] of waiting.entries()) {
    const { idempotencyKey } = use
    try {
      await countLetThrough(client, use)
    } catch (error) {
      onError?.(error)
      // A failure of the server's may be about this use alone; of everything else that passes, the next would hear the same.
      const isOfThisUse = error instanceof TollgateError && error.status === 500
      if (isStillToCount(error) && !isOfThisUse) return left + waiting.length - index
      const tries = (failed.get(idempotencyKey) ?? 0) + 1
      const isGivenUp = error instanceof TollgateError && (!isOfThisUse || tries >= MAX_TRIES)
      if (isGivenUp) {
        await park(options, use, { tries, error })
        failed.delete(idempotencyKey)
      } else {
        failed.set(idempotencyKey, tries)
        left += 1
      }
      continue
    }
    failed.delete(idempotencyKey)
    await queue.remove(idempotencyKey)
  }
  return left
}

type Failed = { readonly tries: number; readonly error: TollgateError }

async function park({ queue, onParked, now = machineTime }: ResilientOptions, use: QueuedUse, { tries, error }: Failed) {
  const { status, message } = error
  const parked: ParkedUse = { ...use, parked: { at: now().toISOString(), tries, status, error: message } }
  await queue.park(parked)
  onParked?.(parked)
}

/**
 * Counts a use at the time when it happened. Its first attempt may have arrived after all: its key then says so, and what it was
 * answered is asked for. A use that was let through although it did not fit is tracked under a key of its own.
 */
async function countLetThrough(client: UsageClient, { sentAs, ...use }: QueuedUse): Promise<void> {
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
  if (!answer.allowed) await client.track({ ...use, idempotencyKey: `${use.idempotencyKey}:open` })
}

/** The field in which a request differs from the one that used its key before; null for every other error. */
function conflictOf(error: unknown): unknown {
  return error instanceof TollgateError && error.code === 'idempotency_conflict' ? error.problem['field'] : null
}

function letThrough(quantity: QuantityInput): UsageAnswer {
  return {
    allowed: true,
    code: CODE,
    balance: null,
    credits_used: quantity,
    total_credits_used: 0,
    quota_remaining: null,
    quota_exceeded: false,
  }
}

function refused(meter: string): UsageAnswer {
  const reason = `Tollgate cannot be reached, and "${meter}" is closed until it can.`
  return {
    allowed: false,
    code: CODE,
    reason,
    balance: null,
    credits_used: 0,
    total_credits_used: 0,
    quota_remaining: null,
    quota_exceeded: false,
  }
}
