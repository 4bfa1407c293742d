import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'

export type EndedAllowance = {
  readonly organizationId: string
  readonly id: string
  readonly expiresAt: Instant | null
  /** Whether it was never to end: then nothing was said of when its levels are carried. */
  readonly wasEndless: boolean
}

/**
 * The period of an allowance ends at another time than it was to: another takes its place, or its time zone or cycle has changed. The levels
 * that were told in it (`metering/levels.ts` carries them on) stand in the one that follows from then on.
 */
export async function endLevelsOf(tx: Queryable, grants: readonly EndedAllowance[]): Promise<void> {
  await tx.query(
    `update meter_readings r set carry_at = ended.at
     from unnest($1::text[], $2::text[], $3::timestamptz[], $4::boolean[]) as ended (organization_id, grant_id, at, was_endless)
     where r.organization_id = ended.organization_id and r.grant_id = ended.grant_id
       and (r.carry_at <> ended.at or (ended.was_endless and r.carry_at is null and r.level > 0))`,
    [
      grants.map((grant) => grant.organizationId),
      grants.map((grant) => grant.id),
      grants.map((grant) => grant.expiresAt),
      grants.map((grant) => grant.wasEndless),
    ],
  )
}
