import { TollgateError } from './errors.ts'
import { derivedKey, nameOf, type LocalQueue, type QueuedCall, type QueuedRetraction } from './queue.ts'
import type { BatchItem, UsageClient, UsageInput } from './usage.ts'

export type KeyedUse = UsageInput & { readonly idempotencyKey: string }
export type KeyedItem = KeyedUse & Pick<BatchItem, 'verb'>

export type RetractionsContext = {
  readonly client: Pick<UsageClient, 'correct'>
  readonly queue: LocalQueue
  readonly now: () => Date
}

/** An attempt may still be on its way for so long after its caller gave it up: through proxies, in the server's queue. */
const UNDER_WAY_MS = 60_000

/**
 * Uses that were refused because no answer came. Each may have been counted all the same, and is taken back then: the server is asked to
 * retract what was counted under its key, until a minute has passed in which it might have arrived.
 */
export function createRetractions({ client, queue, now }: RetractionsContext) {
  /** What waits in the queue, by name. */
  const waiting = new Map<string, QueuedRetraction>()
  /** What is being removed from it, and may still be listed. */
  const leaving = new Set<string>()
  const underWay = new Map<string, Promise<boolean>>()
  let reading: Promise<void> | undefined

  function learn(calls: readonly QueuedCall[]): void {
    for (const call of calls) if (call.kind === 'retraction' && !leaving.has(nameOf(call))) waiting.set(nameOf(call), call)
  }

  /** What an earlier process left. */
  function read(): Promise<void> {
    reading ??= queue.list().then(learn, (error: unknown) => {
      // The next call looks again.
      reading = undefined
      throw error
    })
    return reading
  }

  async function forget(retraction: QueuedRetraction): Promise<void> {
    const name = nameOf(retraction)
    if (!waiting.delete(name)) return
    leaving.add(name)
    try {
      await queue.remove(retraction)
    } finally {
      leaving.delete(name)
    }
  }

  async function retract(retraction: QueuedRetraction): Promise<boolean> {
    const { idempotencyKey, organizationId } = retraction
    try {
      await client.correct({
        corrects: idempotencyKey,
        retract: true,
        idempotencyKey: await derivedKey(idempotencyKey, 'retracted'),
        ...(organizationId === undefined ? {} : { organizationId }),
      })
      return true
    } catch (error) {
      if (!(error instanceof TollgateError) || error.status !== 404) throw error
      // Nothing was counted under the key so far.
      return now().getTime() - Date.parse(retraction.refusedAt) >= UNDER_WAY_MS
    }
  }

  return {
    learn,

    /** Remembers a use that was refused without an answer. */
    async add(use: KeyedUse): Promise<void> {
      const retraction = retractionOf(use, now().toISOString())
      waiting.set(nameOf(retraction), retraction)
      await queue.append(retraction)
    },

    /** Calls off what waits for the key of a use that is asked for again, since its first answer holds now. */
    async callOff(use: KeyedUse): Promise<void> {
      const retraction = retractionOf(use, '')
      await read()
      await underWay.get(nameOf(retraction))?.catch(() => undefined)
      await forget(retraction)
    },

    /** Takes a use back if it was counted, and forgets it then. Answers false where it is to be asked again later. */
    async takeBack(retraction: QueuedRetraction): Promise<boolean> {
      const name = nameOf(retraction)
      // Called off since it was listed.
      if (!waiting.has(name)) return true
      const retracting = retract(retraction).then(async (isSettled) => {
        if (isSettled) await forget(retraction)
        return isSettled
      })
      underWay.set(name, retracting)
      try {
        return await retracting
      } finally {
        underWay.delete(name)
      }
    },

    /** Whether it still waits; then it is this caller's to put aside. */
    giveUp: (retraction: QueuedRetraction): boolean => waiting.delete(nameOf(retraction)),
  }
}

export type Retractions = ReturnType<typeof createRetractions>

function retractionOf({ idempotencyKey, organizationId }: KeyedUse, refusedAt: string): QueuedRetraction {
  return { kind: 'retraction', idempotencyKey, refusedAt, ...(organizationId === undefined ? {} : { organizationId }) }
}
