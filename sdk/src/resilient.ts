import { machineTime } from './clock.ts'
import { rememberEntitlements } from './entitlements.ts'
import { isAway, isStillToCount, TollgateUnreachableError, UNREACHABLE } from './errors.ts'
import { derivedKey, nameOf, type LocalQueue, type ParkedCall, type QueuedCall } from './queue.ts'
import { createReplay } from './replay.ts'
import { report } from './report.ts'
import { createResilientBatch, isTakenBack } from './resilient-batch.ts'
import { createRetractions, type KeyedItem, type KeyedUse } from './retractions.ts'
import type { BatchItem, QuantityInput, ReservationAnswer, UsageAnswer, UsageClient, UsageInput } from './usage.ts'

/** What a meter's calls are answered while the server cannot be reached: let through and counted later, or refused. */
export type UnreachableAnswer = 'open' | 'closed'

export type ResilientOptions = {
  /** Default `closed`. */
  readonly whenUnreachable?: UnreachableAnswer
  /** The answer per meter, where it differs. */
  readonly meters?: Readonly<Record<string, UnreachableAnswer>>
  /** Where what the server has to hear yet waits; `createFileQueue` survives the process. */
  readonly queue: LocalQueue
  /** The time a use that was let through happened; default the machine's. */
  readonly now?: () => Date
  /** Told what went wrong without ending anything; of what waits, about which call. */
  readonly onError?: (error: unknown, call?: QueuedCall) => void
  /**
   * Told of a call that is not tried any more: the server refuses it for what it is, or has failed about it ten times in an hour or more. It is
   * kept in `queue.parked()` until it is appended again, or removed.
   */
  readonly onParked?: (call: ParkedCall) => void
}

export type ResilientClient = UsageClient & {
  /**
   * Tells the server what waits: uses that were let through are counted, settlements made up for, and uses that were refused without an answer
   * but counted are taken back. Answers how many are left, without those that are parked. Call it by an interval and before the process ends.
   */
  replay(): Promise<number>
}

const LOCAL = 'local:'

/**
 * A client with a declared answer for when Tollgate is away. A use that is let through is written to the queue before it
 * is answered, under the key of the attempt that had no answer: if that attempt arrived after all, it counts once. One that is refused
 * is taken back if it arrived after all. In a batch each item has its own answer. Of a feature the answer is the last one that there was.
 */
export function createResilientClient(client: UsageClient, options: ResilientOptions): ResilientClient {
  const { queue, now = machineTime } = options
  const retractions = createRetractions({ client, queue, now })
  const isOpen = (meter: string): boolean => (options.meters?.[meter] ?? options.whenUnreachable ?? 'closed') === 'open'
  const keyed = (input: UsageInput): KeyedUse => ({ ...input, idempotencyKey: input.idempotencyKey ?? crypto.randomUUID() })

  const tell = (error: unknown, call?: QueuedCall): void => report(() => options.onError?.(error, call))
  const tellParked = (call: ParkedCall): void => report(() => options.onParked?.(call))

  async function keep(use: KeyedUse, sentAs?: 'consume' | 'track'): Promise<void> {
    const { occurredAt } = use
    const sent = sentAs && { verb: sentAs, ...(occurredAt === undefined ? {} : { occurredAt }) }
    await queue.append({ ...use, occurredAt: occurredAt ?? now().toISOString(), ...(sent ? { sentAs: sent } : {}) })
  }

  /** Refuses a use, and remembers to take it back where it may have been counted. Refused it is even where that cannot be written. */
  async function refuse(use: KeyedUse, error: unknown): Promise<UsageAnswer> {
    if (!(error instanceof TollgateUnreachableError) || error.mayHaveArrived) {
      await retractions.add(use).catch((failure: unknown) => tell(failure))
    }
    return refused(use.meter)
  }

  /** A use as it is asked for. One under a key of the caller's is asked for again, perhaps: then nothing of it is to be taken back. */
  async function prepare(item: BatchItem): Promise<KeyedItem> {
    const { verb, meter, idempotencyKey } = item
    const use = { ...keyed(item), verb }
    if (verb === 'consume' && idempotencyKey !== undefined && !isOpen(meter)) await retractions.callOff(use)
    return use
  }

  /** The same use under the next key, where what the first permitted was taken back. The next key is the same in every process. */
  const underNextKey = async (item: KeyedItem): Promise<KeyedItem> =>
    prepare({ ...item, idempotencyKey: await derivedKey(item.idempotencyKey, 'again') })

  /**
   * What is declared for a use that had no answer.
   * @throws the error that it had instead, where that is an answer
   */
  async function standIn({ verb, ...use }: KeyedItem, error: unknown): Promise<UsageAnswer> {
    if (verb === 'track' ? !isStillToCount(error) : !isAway(error)) throw error
    if (verb === 'check') return isOpen(use.meter) ? letThrough(0) : refused(use.meter)
    // What has happened has happened: it is kept whatever is declared for the meter.
    if (verb === 'consume' && !isOpen(use.meter)) return refuse(use, error)
    if (!isAway(error)) tell(error)
    await keep(use, verb)
    return letThrough(use.quantity ?? 1)
  }

  /** A refusal, but not of a use that was let through before and waits to be counted: what its caller was told then holds. */
  async function unlessLetThrough(item: KeyedItem, answer: UsageAnswer): Promise<UsageAnswer> {
    if (answer.allowed || item.verb !== 'consume' || !isOpen(item.meter)) return answer
    const waiting = await queue.list().catch((error: unknown) => {
      tell(error)
      return []
    })
    return waiting.some((call) => nameOf(call) === nameOf(item)) ? letThrough(item.quantity ?? 1) : answer
  }

  async function ask(item: KeyedItem): Promise<UsageAnswer> {
    const { verb, ...use } = item
    const answer = await client[verb](use).catch((error: unknown) => standIn(item, error))
    return isTakenBack(answer) ? ask(await underNextKey(item)) : unlessLetThrough(item, answer)
  }

  return {
    ...client,
    entitlement: rememberEntitlements((feature, input) => client.entitlement(feature, input)),
    check: (input) => ask({ ...keyed(input), verb: 'check' }),
    consume: async (input) => ask(await prepare({ ...input, verb: 'consume' })),
    track: (input) => ask({ ...keyed(input), verb: 'track' }),
    batch: createResilientBatch({ client, prepare, underNextKey, standIn, unlessLetThrough, tell }),
    async reserve(input) {
      const use = keyed(input)
      return answerWhenAway<ReservationAnswer>(client.reserve(use), () =>
        isOpen(use.meter)
          ? { ...letThrough(use.quantity ?? 1), reservation_id: `${LOCAL}${JSON.stringify(use)}` }
          : refused(use.meter),
      )
    },
    async settle(reservationId, input = {}) {
      if (reservationId.startsWith(LOCAL)) {
        const use = JSON.parse(reservationId.slice(LOCAL.length)) as KeyedUse
        const quantity = input.quantity ?? use.quantity ?? 1
        // Its own key: the reservation, if it arrived after all, expires without being counted.
        await keep({ ...use, quantity, idempotencyKey: await derivedKey(use.idempotencyKey, 'settled') })
        return letThrough(quantity)
      }
      try {
        return await client.settle(reservationId, input)
      } catch (error) {
        // The work is done. Settled later it counts once, whether or not this attempt arrived and the hold still stands.
        if (!isStillToCount(error)) throw error
        if (!isAway(error)) tell(error)
        await queue.append({ kind: 'settlement', reservationId, ...input })
        return letThrough(input.quantity ?? 0)
      }
    },
    // What cannot be given back now ends by itself.
    release: async (reservationId, input) =>
      reservationId.startsWith(LOCAL) ? letThrough(0) : answerWhenAway(client.release(reservationId, input), () => letThrough(0)),
    replay: createReplay({ client, queue, retractions, now, tell, tellParked }),
  }
}

async function answerWhenAway<Answer>(
  sending: Promise<Answer>,
  otherwise: (error: unknown) => Answer | Promise<Answer>,
): Promise<Answer> {
  try {
    return await sending
  } catch (error) {
    if (isAway(error)) return otherwise(error)
    throw error
  }
}

function letThrough(quantity: QuantityInput): UsageAnswer {
  return {
    allowed: true,
    code: UNREACHABLE,
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
    code: UNREACHABLE,
    reason,
    balance: null,
    credits_used: 0,
    total_credits_used: 0,
    quota_remaining: null,
    quota_exceeded: false,
  }
}
