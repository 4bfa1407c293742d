import { TollgateError } from './errors.ts'
import type { BatchItem, BatchResult, UsageClient } from './usage.ts'

/** How a part of a batch ended: with a result for each of its items, or with an error of the whole. */
export type BatchPart<Each> = { readonly part: readonly Each[] } & (
  | { readonly results: readonly BatchResult[] }
  | { readonly error: unknown }
)

/** Refusals of a whole body that may be for one of its items, or for how many they are. */
const DIVISIBLE: ReadonlySet<number> = new Set([400, 413, 422])

/**
 * Sends items as one batch, and in halves what is refused as a whole, until only what is wrong or too large by itself stays refused.
 * @returns each part in the order of the items, as soon as it is answered
 */
export async function* sendInParts<Each extends { readonly item: BatchItem }>(
  client: Pick<UsageClient, 'batch'>,
  part: readonly Each[],
): AsyncGenerator<BatchPart<Each>, void, undefined> {
  try {
    const results = await client.batch(part.map(({ item }) => item))
    yield { part, results }
  } catch (error) {
    if (part.length < 2 || !(error instanceof TollgateError && DIVISIBLE.has(error.status))) {
      yield { part, error }
      return
    }
    const half = Math.ceil(part.length / 2)
    yield* sendInParts(client, part.slice(0, half))
    yield* sendInParts(client, part.slice(half))
  }
}
