import type { Queryable } from '../../db/database.ts'
import type { Instant } from '../../lib/clock.ts'
import type { Spending, UsageEvent } from '../usage.ts'

/** Keeps what of their limits of spending was spent when uses were refused for them. */
export async function insertSpendRefusals(tx: Queryable, events: readonly UsageEvent[]): Promise<void> {
  await tx.query(
    `insert into spend_refusals (organization_id, event_id, recorded_at, currency, limit_minor, spent_minor)
     select * from unnest($1::text[], $2::uuid[], $3::timestamptz[], $4::text[], $5::bigint[], $6::bigint[])`,
    [
      events.map(({ organizationId }) => organizationId),
      events.map(({ id }) => id),
      events.map(({ recordedAt }) => recordedAt),
      events.map(({ spending }) => spending?.currency),
      events.map(({ spending }) => spending?.limitMinor),
      events.map(({ spending }) => spending?.spentMinor),
    ],
  )
}

type SpendingRow = { readonly organizationId: string; readonly id: string; readonly currency: string } & Readonly<
  Record<'limitMinor' | 'spentMinor', bigint>
>

/** Events as they were read, those that were refused for their limit of spending with what was spent of it. */
export async function withSpending(tx: Queryable, events: readonly UsageEvent[]): Promise<readonly UsageEvent[]> {
  const refused = events.filter(({ refusal }) => refusal === 'spend_limit_reached')
  if (refused.length === 0) return events
  const { rows } = await tx.query<SpendingRow>(
    `select s.organization_id as "organizationId", s.event_id as id, s.currency, s.limit_minor as "limitMinor", s.spent_minor as "spentMinor"
     from unnest($1::text[], $2::uuid[]) as e (organization_id, id)
     join spend_refusals s on s.organization_id = e.organization_id and s.event_id = e.id`,
    [refused.map(({ organizationId }) => organizationId), refused.map(({ id }) => id)],
  )
  const found = new Map<string, Spending>(
    rows.map(({ id, currency, limitMinor, spentMinor }) => [
      id,
      { currency, limitMinor: Number(limitMinor), spentMinor: Number(spentMinor) },
    ]),
  )
  return events.map((event) => ({ ...event, spending: found.get(event.id) ?? null }))
}

/** Forgets at most so many of those whose keys are forgotten; answers how many. */
export async function deleteSpendRefusalsBefore(db: Queryable, before: Instant, limit: number): Promise<number> {
  const { rowCount } = await db.query(
    `delete from spend_refusals where (organization_id, event_id) in
       (select organization_id, event_id from spend_refusals where recorded_at < $1 limit $2)`,
    [before, limit],
  )
  return rowCount ?? 0
}
