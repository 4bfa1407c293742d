import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { WebhookEnvelope } from './gateway.ts'
import type { EventSignal } from './scope.ts'

export type ReceivedEvent = {
  readonly envelope: WebhookEnvelope
  readonly payload: string
  readonly source: 'webhook' | 'reconcile'
}

/** Stores an event; false when it is known already (MR-11). */
export async function insertEvent(db: Queryable, { envelope, payload, source }: ReceivedEvent, now: Instant): Promise<boolean> {
  const { rowCount } = await db.query(
    `insert into stripe_events (event_id, type, object_type, object_id, customer_id, livemode, payload, source,
       stripe_created_at, received_at, next_attempt_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)
     on conflict do nothing`,
    [
      envelope.id,
      envelope.type,
      envelope.objectType,
      envelope.objectId,
      envelope.customerId,
      envelope.livemode,
      payload,
      source,
      envelope.createdAt,
      now,
    ],
  )
  return rowCount === 1
}

/** An event that waits to be handled. */
export type OpenEvent = EventSignal & {
  readonly eventId: string
  readonly customerId: string | null
  readonly attempts: number
}

const OPEN_EVENT = `event_id as "eventId", type, object_type as "objectType", object_id as "objectId", customer_id as "customerId", attempts`

/** Whose events are due, the longest waiting first: a customer's are handled together, one without a customer alone. */
export async function listDueLanes(db: Queryable, now: Instant, limit: number): Promise<string[]> {
  const { rows } = await db.query<{ lane: string }>(
    `select lane from (
       select coalesce(customer_id, event_id) as lane, next_attempt_at from stripe_events
       where handled_at is null and parked_at is null and next_attempt_at <= $1
       order by next_attempt_at limit 500
     ) due group by lane order by min(next_attempt_at) limit $2`,
    [now, limit],
  )
  return rows.map(({ lane }) => lane)
}

export async function listOpenEvents(db: Queryable, lane: string): Promise<OpenEvent[]> {
  const { rows } = await db.query<OpenEvent>(
    `select ${OPEN_EVENT} from stripe_events
     where handled_at is null and parked_at is null and (customer_id = $1 or (customer_id is null and event_id = $1))
     order by received_at`,
    [lane],
  )
  return rows
}

export type Handling = {
  readonly eventIds: readonly string[]
  readonly organizationId: string | null
  readonly outcome: 'applied' | 'ignored'
}

export async function markHandled(db: Queryable, { eventIds, organizationId, outcome }: Handling, now: Instant): Promise<void> {
  await db.query(
    `update stripe_events set handled_at = $4, outcome = $3, organization_id = $2, attempts = attempts + 1, last_error = null
     where event_id = any($1) and handled_at is null`,
    [eventIds, organizationId, outcome, now],
  )
}

/** Everything of a customer that had come before `until` is covered by a complete refetch begun then. */
export async function markCovered(
  db: Queryable,
  covered: { organizationId: string; customerId: string; until: Instant },
  now: Instant,
): Promise<void> {
  await db.query(
    `update stripe_events set handled_at = $4, outcome = 'applied', organization_id = $1, last_error = null
     where customer_id = $2 and received_at <= $3 and handled_at is null`,
    [covered.organizationId, covered.customerId, covered.until, now],
  )
}

/** Puts events off without counting an attempt: somebody else is at work on the same organization. */
export async function postpone(db: Queryable, eventIds: readonly string[], until: Instant): Promise<void> {
  await db.query('update stripe_events set next_attempt_at = $2 where event_id = any($1) and handled_at is null', [
    eventIds,
    until,
  ])
}

export async function markFailed(
  db: Queryable,
  failure: { eventId: string; error: string; nextAttemptAt: Instant; parkedAt: Instant | null },
): Promise<void> {
  await db.query(
    `update stripe_events set attempts = attempts + 1, last_error = $2, next_attempt_at = $3, parked_at = $4
     where event_id = $1 and handled_at is null`,
    [failure.eventId, failure.error, failure.nextAttemptAt, failure.parkedAt],
  )
}

/** Makes an event due again, handled or not; false when there is none of that id. */
export async function reopenEvent(db: Queryable, eventId: string, now: Instant): Promise<boolean> {
  const { rowCount } = await db.query(
    `update stripe_events set handled_at = null, parked_at = null, outcome = null, attempts = 0, last_error = null,
       next_attempt_at = $2 where event_id = $1`,
    [eventId, now],
  )
  return rowCount === 1
}

/** Deletes up to `limit` handled events that arrived before `before`, the oldest first; answers how many. */
export async function deleteHandledEvents(db: Queryable, before: Instant, limit: number): Promise<number> {
  const { rowCount } = await db.query(
    `delete from stripe_events where ctid = any(array(
       select ctid from stripe_events where handled_at is not null and received_at < $1 order by received_at limit $2))`,
    [before, limit],
  )
  return rowCount ?? 0
}
