import type { Queryable } from '../db/database.ts'
import type { Draw, Grant } from '../grants/rules.ts'
import { GRANT_COLUMNS, grantOf, type GrantRow } from '../grants/store.ts'
import type { Instant } from '../lib/clock.ts'
import type { UsageEvent } from '../metering/usage.ts'
import { withSpending } from '../metering/write/spend-refusals-store.ts'
import { EVENT_COLUMNS, drawsOf, eventOf, PLAN_GRANT, type EventRow, type StoredDraw } from '../metering/write/store.ts'
import type { EventPage } from './events-store.ts'

/** The event of an id, which was recorded when its id says. */
export async function findEvent(
  db: Queryable,
  { organizationId, id, recordedAt }: { organizationId: string; id: string; recordedAt: Instant },
): Promise<UsageEvent | null> {
  const found = await db.query<EventRow>(
    `select ${EVENT_COLUMNS} from usage_events e where e.organization_id = $1 and e.recorded_at = $2 and e.id = $3`,
    [organizationId, recordedAt, id],
  )
  const [event] = await withSpending(db, found.rows.map(eventOf))
  return event ?? null
}

/** The corrections of an event, which come after it; most events have none, and then nothing is looked through. */
export async function listCorrections(
  db: Queryable,
  { organizationId, idempotencyKey, recordedAt }: Pick<UsageEvent, 'organizationId' | 'idempotencyKey' | 'recordedAt'>,
): Promise<readonly UsageEvent[]> {
  const found = await db.query<EventRow>(
    `select ${EVENT_COLUMNS} from usage_events e
     where e.organization_id = $1 and e.corrects = $2 and e.recorded_at >= $3
       and exists (select from corrected_events c where c.organization_id = $1 and c.idempotency_key = $2)
     order by e.recorded_at, e.id`,
    [organizationId, idempotencyKey, recordedAt],
  )
  return found.rows.map(eventOf)
}

/** What use may have drawn from in a period beside what counts at its present: other grants than the plan's that have ended within it. */
export async function listGrantsEnded(
  db: Queryable,
  query: { readonly organizationId: string; readonly balanceKey: string; readonly since: Instant; readonly now: Instant },
): Promise<readonly Grant[]> {
  const found = await db.query<GrantRow>(
    `select ${GRANT_COLUMNS} from grants g
     where g.organization_id = $1 and g.balance = $2 and g.kind <> 'plan' and g.used > 0 and g.expires_at > $3 and g.expires_at <= $4`,
    [query.organizationId, query.balanceKey, query.since, query.now],
  )
  return found.rows.map(grantOf)
}

export type DrawnQuery = EventPage & {
  readonly organizationId: string
  readonly balanceKey: string
  readonly grantIds: readonly string[]
  /** Nothing that was recorded before can have drawn from them; null is not known. */
  readonly recordedFrom: Instant | null
}

/** The events that took from grants or gave back to them, in the order in which they were recorded. */
export async function listDrawnEvents(db: Queryable, query: DrawnQuery): Promise<readonly UsageEvent[]> {
  const { organizationId, balanceKey, grantIds, recordedFrom, after, limit } = query
  const found = await db.query<EventRow>(
    `select ${EVENT_COLUMNS} from usage_events e
     where e.organization_id = $1 and e.balance = $2 and e.verb <> 'reserve' and e.refusal is null
       and case when e.draws is null then e.drawn <> 0 and ${PLAN_GRANT} = any ($3)
         else exists (select from jsonb_array_elements(e.draws) as draw where draw ->> 0 = any ($3)) end
       and ($4::timestamptz is null or e.recorded_at >= $4)
       and ($5::timestamptz is null or e.recorded_at >= $5 and (e.recorded_at, e.id) > ($5, $6::uuid))
     order by e.recorded_at, e.id limit $7`,
    [organizationId, balanceKey, grantIds, recordedFrom, after?.recordedAt ?? null, after?.id ?? null, limit],
  )
  return found.rows.map(eventOf)
}

/** A reservation that holds something. */
export type OpenHold = {
  readonly id: string
  readonly meter: string
  readonly expiresAt: Instant
  readonly holds: readonly Draw[]
}

/** What is held of a balance, also by reservations whose time is over and which nobody has ended yet. */
export async function listHolds(
  db: Queryable,
  { organizationId, balanceKey }: { organizationId: string; balanceKey: string },
): Promise<readonly OpenHold[]> {
  const found = await db.query<Omit<OpenHold, 'holds'> & { holds: readonly StoredDraw[] }>(
    `select id, meter, expires_at as "expiresAt", holds from reservations
     where organization_id = $1 and balance = $2 and status = 'open' order by created_at, id`,
    [organizationId, balanceKey],
  )
  return found.rows.map((row) => ({ ...row, holds: drawsOf(row.holds) }))
}
