import { TollgateError } from './errors.ts'
import type { BatchItem, BatchResult, UsageClient } from './usage.ts'

/** How a part of a batch ended: with a result for each of its items, or with an error of the whole. */
export type BatchPart<Each> = { readonly part: readonly Each[] } & (
  | { readonly results: readonly BatchResult[] }
  | { readonly error: unknown }
)

/** Refusals of a whole body that may be for one of its items, or for how many they are. */
const DIVISIBLE: ReadonlySet<number> = new Set([400, 413, 422])

/** How many refusals of a whole body may still be met until nothing is divided any more. */
export type RefusalBound = { left: number }

/** Whether a part was refused that could not be divided, for what it is. */
export function isRefusedAlone<Each>(ended: BatchPart<Each>): ended is BatchPart<Each> & { readonly error: TollgateError } {
  return 'error' in ended && ended.part.length === 1 && isDivisible(ended.error)
}

/**
 * Sends items as one batch, and in halves what is refused as a whole, until only what is wrong or too large by itself stays refused, or the
 * bound is reached: where every body is refused, halves of 1,000 items would come to 1,999 requests.
 * @returns each part in the order of the items, as soon as it is answered
 */
export async function* sendInParts<Each extends { readonly item: BatchItem }>(
  client: Pick<UsageClient, 'batch'>,
  part: readonly Each[],
  bound: RefusalBound = { left: Infinity },
): AsyncGenerator<BatchPart<Each>, void, undefined> {
  try {
    const results = await client.batch(part.map(({ item }) => item))
    yield { part, results }
  } catch (error) {
    bound.left -= 1
    if (part.length < 2 || bound.left <= 0 || !isDivisible(error)) {
      yield { part, error }
      return
    }
    const half = Math.ceil(part.length / 2)
    yield* sendInParts(client, part.slice(0, half), bound)
    yield* sendInParts(client, part.slice(half), bound)
  }
}

function isDivisible(error: unknown): error is TollgateError {
  return error instanceof TollgateError && DIVISIBLE.has(error.status)
}
