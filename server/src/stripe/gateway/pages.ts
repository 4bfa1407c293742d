import { isMissingAtStripe } from './errors.ts'

/** null where Stripe knows no such object. */
export async function orNull<T>(reading: Promise<T>): Promise<T | null> {
  try {
    return await reading
  } catch (error) {
    if (isMissingAtStripe(error)) return null
    throw error
  }
}

/** Every page of a list, each page its own call under the rate limit. */
export async function readPages<Wire extends { id: string }, Snapshot>(
  page: (startingAfter: { starting_after?: string }) => Promise<{ data: Wire[]; has_more: boolean }>,
  map: (wire: Wire) => Snapshot,
  limit: number | null = null,
): Promise<Snapshot[]> {
  const found: Snapshot[] = []
  let after: { starting_after?: string } = {}
  for (;;) {
    const { data, has_more } = await page(after)
    found.push(...data.map(map))
    const last = data.at(-1)
    if (!has_more || last === undefined || (limit !== null && found.length >= limit)) return found
    after = { starting_after: last.id }
  }
}
