import { z } from '@hono/zod-openapi'
import type { Queryable } from '../db/database.ts'
import { countFailedReports } from '../pricing/event-store.ts'

/** Something about an organization's billing that is not in order, and takes nothing away from it. */
export type Notice = z.infer<typeof noticeSchema>

export const noticeSchema = z
  .object({
    code: z.enum(['use_not_reported']),
    message: z.string(),
    count: z.number().int(),
    since: z.iso.datetime(),
  })
  .openapi('Notice')

/** The notices of organizations, by id; those without one are left out. */
export async function readNotices(
  db: Queryable,
  organizationIds: readonly string[],
): Promise<ReadonlyMap<string, readonly Notice[]>> {
  const failed = await countFailedReports(db, organizationIds)
  return new Map(
    failed.map(({ organizationId, count, since }) => [
      organizationId,
      [
        {
          code: 'use_not_reported',
          message: 'Stripe does not count some of the reported use: it is on no invoice until somebody has put that right.',
          count,
          since: since.toISOString(),
        },
      ],
    ]),
  )
}
