import { errorOf, isAway, isStillToCount, TollgateError, TollgateUnreachableError, UNREACHABLE, type Problem } from './errors.ts'
import type { KeyedItem } from './retractions.ts'
import type { BatchItem, BatchResult, UsageAnswer, UsageClient } from './usage.ts'

export type ResilientBatchContext = {
  readonly client: Pick<UsageClient, 'batch'>
  readonly prepare: (item: BatchItem) => Promise<KeyedItem>
  readonly underNextKey: (item: KeyedItem) => Promise<KeyedItem>
  readonly standIn: (item: KeyedItem, error: unknown) => Promise<UsageAnswer>
  readonly unlessLetThrough: (item: KeyedItem, answer: UsageAnswer) => Promise<UsageAnswer>
  readonly tell: (error: unknown) => void
}

/** A batch of which every item that had no answer gets its own, as though it had been asked alone under the same key. */
export function createResilientBatch(context: ResilientBatchContext): UsageClient['batch'] {
  const { client, prepare, underNextKey, standIn, unlessLetThrough, tell } = context

  /** What the server said of each item. Of all of them the same where it said nothing, or does not know the key of who asks. */
  async function send(items: readonly KeyedItem[]): Promise<readonly (UsageAnswer | Error)[]> {
    try {
      const results = await client.batch(items)
      return items.map((_item, index) => outcomeOf(results[index]))
    } catch (error) {
      const isKept = isAway(error) || (isStillToCount(error) && items.some(({ verb }) => verb === 'track'))
      if (!isKept) throw error
      return items.map(() => error as Error)
    }
  }

  async function resultOf(item: KeyedItem, outcome: UsageAnswer | Error): Promise<BatchResult> {
    if (!(outcome instanceof Error)) return isTakenBack(outcome) ? outcome : unlessLetThrough(item, outcome)
    try {
      return await standIn(item, outcome)
    } catch (error) {
      if (error !== outcome) tell(error)
      return { allowed: false, error: problemOf(error) }
    }
  }

  async function ask(items: readonly KeyedItem[]): Promise<readonly BatchResult[]> {
    const outcomes = await send(items)
    const results: BatchResult[] = []
    // One after another: so they wait in the queue in their order.
    for (const [index, item] of items.entries()) results.push(await resultOf(item, outcomes[index]!))
    const takenBack = results.flatMap((result, index) => (isTakenBack(result) ? [index] : []))
    if (takenBack.length === 0) return results
    const again = await ask(await Promise.all(takenBack.map((index) => underNextKey(items[index]!))))
    for (const [at, index] of takenBack.entries()) results[index] = again[at]!
    return results
  }

  return async (items) => ask(await Promise.all(items.map(prepare)))
}

/** Whether a key permits nothing any more, since the use that it was first asked for was taken back. */
export function isTakenBack(result: BatchResult): boolean {
  return !('error' in result) && result.code === 'taken_back'
}

function outcomeOf(result: BatchResult | undefined): UsageAnswer | Error {
  if (result === undefined) return new TollgateUnreachableError('The server left an item out.')
  return 'error' in result ? errorOf(result.error) : result
}

/** What was wrong with an item, or that it could not be written down: then it was not let through. */
function problemOf(error: unknown): Problem {
  if (error instanceof TollgateError) return { status: error.status, ...error.problem }
  const detail = `Tollgate cannot be reached, and the use could not be written down: ${error instanceof Error ? error.message : String(error)}`
  return { title: 'Not counted', status: 503, code: UNREACHABLE, detail }
}
