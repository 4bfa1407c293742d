import { machineTime } from './clock.ts'
import { TollgateUnreachableError } from './errors.ts'
import type { LocalQueue, QueuedUse } from './queue.ts'
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
  const isOpen = (meter: string): boolean => (options.meters?.[meter] ?? options.whenUnreachable ?? 'closed') === 'open'
  const keyed = (input: UsageInput): UsageInput & { idempotencyKey: string } => ({
    ...input,
    idempotencyKey: input.idempotencyKey ?? crypto.randomUUID(),
  })

  async function queue(input: UsageInput & { idempotencyKey: string }): Promise<void> {
    await options.queue.append({ ...input, occurredAt: input.occurredAt ?? now().toISOString() })
  }

  async function record(input: UsageInput, send: (input: UsageInput) => Promise<UsageAnswer>): Promise<UsageAnswer> {
    const use = keyed(input)
    try {
      return await send(use)
    } catch (error) {
      if (!(error instanceof TollgateUnreachableError)) throw error
      if (!isOpen(use.meter)) return refused(use.meter)
      await queue(use)
      return letThrough(use.quantity ?? 1)
    }
  }

  return {
    ...client,
    check: (input) => answerWhenAway(client.check(input), () => (isOpen(input.meter) ? letThrough(0) : refused(input.meter))),
    consume: (input) => record(input, (use) => client.consume(use)),
    // What has happened has happened: it is kept whatever is declared for the meter.
    async track(input) {
      const use = keyed(input)
      return answerWhenAway(client.track(use), async () => {
        await queue(use)
        return letThrough(use.quantity ?? 1)
      })
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
      if (!reservationId.startsWith(LOCAL)) await client.release(reservationId, input)
    },
    replay: () => replayQueue(client, options),
  }
}

async function answerWhenAway<Answer>(sending: Promise<Answer>, otherwise: () => Answer | Promise<Answer>): Promise<Answer> {
  try {
    return await sending
  } catch (error) {
    if (error instanceof TollgateUnreachableError) return otherwise()
    throw error
  }
}

async function replayQueue(client: UsageClient, { queue, onError }: ResilientOptions): Promise<number> {
  const waiting = await queue.list()
  for (const [index, use] of waiting.entries()) {
    try {
      await countLetThrough(client, use)
    } catch (error) {
      onError?.(error)
      if (error instanceof TollgateUnreachableError) return waiting.length - index
      // Refused for good (an unknown meter, say): keeping it would block every use behind it.
    }
    await queue.remove(use.idempotencyKey)
  }
  return 0
}

/** The same request again answers what it answered first; a use that was let through although it did not fit is tracked. */
async function countLetThrough(client: UsageClient, use: QueuedUse): Promise<void> {
  const { occurredAt, ...asked } = use
  const answer = await client.consume(asked)
  if (!answer.allowed)
    await client.track({
      ...asked,
      ...(occurredAt === undefined ? {} : { occurredAt }),
      idempotencyKey: `${use.idempotencyKey}:open`,
    })
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
