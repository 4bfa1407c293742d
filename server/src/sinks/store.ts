import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import { formatQuantity, type Quantity } from '../lib/quantity.ts'
import { USAGE_APPLICATION } from '../metering/write/pipeline.ts'
import type { ForwardedUse, Rejection } from './sink.ts'

/** The event up to which everything was delivered. */
export type Place = { readonly recordedAt: Instant; readonly eventId: string }

export type SinkCursor = Place & { readonly failures: number; readonly nextAttemptAt: Instant }

/** Before every event of a time. */
export const NO_EVENT = '00000000-0000-0000-0000-000000000000'

/** The cursor of a sink; one that is new begins now: what was used before it was switched on is not forwarded. */
export async function openCursor(db: Queryable, sink: string, now: Instant): Promise<SinkCursor> {
  await db.query(
    `insert into sink_cursors (sink, recorded_at, event_id, next_attempt_at, updated_at) values ($1, $2, $3, $2, $2)
     on conflict (sink) do nothing`,
    [sink, now, NO_EVENT],
  )
  const { rows } = await db.query<SinkCursor>(
    `select recorded_at as "recordedAt", event_id as "eventId", failures, next_attempt_at as "nextAttemptAt"
     from sink_cursors where sink = $1`,
    [sink],
  )
  return rows[0]!
}

/**
 * Until when all events are committed: a margin behind now, and behind the oldest transaction of the write path that still runs, which
 * may write events that were recorded when it began. Others write none, and a long one of theirs, such as an export, holds up nothing. A role that may not see when other sessions' transactions began (it lacks
 * pg_read_all_stats) has the margin alone; a write of use takes milliseconds of it.
 */
export async function readHorizon(db: Queryable, now: Instant, marginMs: number): Promise<Instant> {
  const { rows } = await db.query<{ oldest: Instant | null }>(
    `select min(xact_start) as oldest from pg_stat_activity where datname = current_database() and application_name = $1`,
    [USAGE_APPLICATION],
  )
  const oldest = rows[0]!.oldest ?? now
  return new Date(Math.min(now.getTime(), oldest.getTime()) - marginMs)
}

// What a correction has as properties is its reason: for whoever groups by properties it is use of what it corrects, an event or a settlement.
const CORRECTED = `select true as found, p.properties from usage_keys k
    join usage_events p on p.organization_id = k.organization_id and p.recorded_at = k.recorded_at and p.idempotency_key = k.idempotency_key
      and p.verb <> 'settle'
    where k.organization_id = e.organization_id and k.idempotency_key = e.corrects
  union all
  select true, p.properties from reservations r
    join usage_events p on p.organization_id = r.organization_id and p.recorded_at = r.settled_recorded_at and p.id = r.settled_event_id
    where r.organization_id = e.organization_id and r.id = e.corrects
  limit 1`

/** What was counted after a place and before a time, in the order of recording. Refusals and holds count nothing. */
export async function listUseAfter(
  db: Queryable,
  query: { readonly after: Place; readonly until: Instant; readonly limit: number },
): Promise<readonly ForwardedUse[]> {
  const { rows } = await db.query<Omit<ForwardedUse, 'quantity'> & { quantity: Quantity }>(
    `select e.id, e.organization_id as "organizationId", e.meter, e.counted as quantity, e.occurred_at as "occurredAt",
       e.recorded_at as "recordedAt", case when corrected.found then corrected.properties else e.properties end as properties
     from (
       select * from usage_events
       where recorded_at >= $1 and recorded_at < $3 and (recorded_at, id) > ($1, $2) and counted <> 0 and refusal is null
       order by recorded_at, id limit $4
     ) as e left join lateral (${CORRECTED}) as corrected on e.corrects is not null
     order by e.recorded_at, e.id`,
    [query.after.recordedAt, query.after.eventId, query.until, query.limit],
  )
  return rows.map(({ quantity, ...row }) => ({ ...row, quantity: formatQuantity(quantity) }))
}

/** Moves the cursor over what was delivered, with what was put aside. */
export async function advanceCursor(
  db: Queryable,
  sink: string,
  moved: { readonly to: Place; readonly delivered: number; readonly now: Instant },
): Promise<void> {
  await db.query(
    `update sink_cursors set (recorded_at, event_id, delivered, failures, last_error, next_attempt_at, updated_at) =
       ($2, $3, delivered + $4, 0, null, $5, $5) where sink = $1`,
    [sink, moved.to.recordedAt, moved.to.eventId, moved.delivered, moved.now],
  )
}

export async function recordRejections(
  db: Queryable,
  sink: string,
  rejected: readonly (Rejection & { readonly organizationId: string })[],
  now: Instant,
): Promise<void> {
  await db.query(
    `insert into sink_rejections (organization_id, sink, event_id, reason, rejected_at)
     select organization_id, $1, event_id, reason, $2
     from unnest($3::text[], $4::uuid[], $5::text[]) as r (organization_id, event_id, reason) on conflict do nothing`,
    [
      sink,
      now,
      rejected.map(({ organizationId }) => organizationId),
      rejected.map(({ id }) => id),
      rejected.map(({ reason }) => reason),
    ],
  )
}

export async function noteFailure(
  db: Queryable,
  sink: string,
  failure: { readonly error: string; readonly nextAttemptAt: Instant; readonly now: Instant },
): Promise<void> {
  await db.query(
    `update sink_cursors set (failures, last_error, next_attempt_at, updated_at) = (failures + 1, $2, $3, $4) where sink = $1`,
    [sink, failure.error, failure.nextAttemptAt, failure.now],
  )
}
