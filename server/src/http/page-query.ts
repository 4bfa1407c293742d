import { z } from '@hono/zod-openapi'
import { DomainError } from '../lib/errors.ts'

/** The query of a list that is read page by page: `starting_after` names the last row of the page before. */
export const pageQuery = ({ most, usual }: { readonly most: number; readonly usual: number }) => ({
  limit: z.coerce.number().int().min(1).max(most).default(usual),
  starting_after: z.string().max(200).optional().meta({ description: 'The last id of the page before.' }),
})

/** What one row more than a page tells: the page, and whether there are more. */
export function pageOf<Row>(found: readonly Row[], limit: number): { readonly page: readonly Row[]; readonly hasMore: boolean } {
  return { page: found.slice(0, limit), hasMore: found.length > limit }
}

/**
 * The row after which a page begins; null for the first page, as which an empty name counts.
 * @throws DomainError `invalid_request` when it is not there: from the beginning again, a reader would never end
 */
export async function findStart<Row>(
  startingAfter: string | undefined,
  find: (id: string) => Promise<Row | null>,
): Promise<Row | null> {
  if (startingAfter === undefined || startingAfter === '') return null
  const row = await find(startingAfter)
  if (row !== null) return row
  throw new DomainError('invalid_request', 'There is no such row, or it was forgotten; begin again without starting_after.', {
    field: 'starting_after',
  })
}
