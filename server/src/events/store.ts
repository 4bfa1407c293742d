import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { EventType } from './types.ts'

export type EventRow = {
  readonly organizationId: string
  readonly id: string
  readonly key: string
  readonly type: EventType
  readonly data: Readonly<Record<string, unknown>>
  readonly occurredAt: Instant
  readonly sequence: bigint
  readonly handedOutAt: Instant | null
}

export const EVENT_COLUMNS = `organization_id as "organizationId", id, key, type, data, occurred_at as "occurredAt", sequence,
  handed_out_at as "handedOutAt"`

export type EventInsert = Omit<EventRow, 'sequence' | 'handedOutAt' | 'data'> & { readonly data: unknown }

/** One statement for any number of events; those that are known already are left as they are. */
export function insertStatement(events: readonly EventInsert[]): { readonly text: string; readonly values: unknown[] } {
  return {
    text: `insert into events (organization_id, id, key, type, data, occurred_at)
     select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::timestamptz[])
     on conflict do nothing`,
    values: [
      events.map(({ organizationId }) => organizationId),
      events.map(({ id }) => id),
      events.map(({ key }) => key),
      events.map(({ type }) => type),
      events.map(({ data }) => JSON.stringify(data)),
      events.map(({ occurredAt }) => occurredAt.toISOString()),
    ],
  }
}

/** Events that nobody was told of yet, oldest first, held until the transaction ends; those that another server holds are left out. */
export async function lockDueEvents(tx: Queryable, limit: number): Promise<readonly EventRow[]> {
  const { rows } = await tx.query<EventRow>(
    `select ${EVENT_COLUMNS} from events where handed_out_at is null order by sequence limit $1 for update skip locked`,
    [limit],
  )
  return rows
}

export async function markHandedOut(tx: Queryable, ids: readonly string[], now: Instant): Promise<void> {
  await tx.query('update events set handed_out_at = $2 where id = any($1)', [ids, now])
}

export type EventQuery = {
  /** null is every organization. */
  readonly organizationId: string | null
  readonly type: EventType | null
  /** Those written before this one; null begins at the newest. */
  readonly before: bigint | null
  readonly limit: number
}

/** Newest first. */
export async function listEvents(db: Queryable, query: EventQuery): Promise<readonly EventRow[]> {
  const { rows } = await db.query<EventRow>(
    `select ${EVENT_COLUMNS} from events
     where ($1::text is null or organization_id = $1) and ($2::text is null or type = $2) and ($3::bigint is null or sequence < $3)
     order by sequence desc limit $4`,
    [query.organizationId, query.type, query.before, query.limit],
  )
  return rows
}

export async function findEvent(db: Queryable, id: string): Promise<EventRow | null> {
  const { rows } = await db.query<EventRow>(`select ${EVENT_COLUMNS} from events where id = $1`, [id])
  return rows[0] ?? null
}

/** Forgets events that were handed out before `before`. Answers how many, at most `limit`. */
export async function deleteOldEvents(db: Queryable, before: Instant, limit: number): Promise<number> {
  const { rowCount } = await db.query(
    'delete from events where ctid = any(array(select ctid from events where handed_out_at < $1 limit $2))',
    [before, limit],
  )
  return rowCount ?? 0
}
