import type { Queryable } from '../../db/database.ts'
import type { Instant } from '../../lib/clock.ts'
import { isMeterFault } from '../gateway/catalog-snapshots.ts'
import type { WebhookEnvelope } from '../gateway/gateway.ts'
import { packPayloads, unpackPayload, type PayloadPlace } from './payloads.ts'
import { isRelevant, type EventSignal } from './scope.ts'

/** The setting that holds up to when Stripe's events have been listed. */
export const EVENTS_LISTED_UNTIL = 'stripe_events_listed_until'

export type ReceivedEvent = {
  readonly envelope: WebhookEnvelope
  /** As received, byte for byte. */
  readonly payload: Buffer
  readonly source: 'webhook' | 'reconcile'
}

/** Stores an event; false when it is known already (MR-11). */
export async function insertEvent(db: Queryable, event: ReceivedEvent, now: Instant): Promise<boolean> {
  return (await insertEvents(db, [event], now)).has(event.envelope.id)
}

/** Stores any number of events in one statement, those that change nothing here as handled; answers the ids of those that were new. */
export async function insertEvents(db: Queryable, events: readonly ReceivedEvent[], now: Instant): Promise<ReadonlySet<string>> {
  if (events.length === 0) return new Set()
  const column = <Value>(read: (event: ReceivedEvent) => Value): Value[] => events.map(read)
  const { packed, places } = packPayloads(column(({ payload }) => payload))
  const { rows } = await db.query<{ id: string }>({
    name: 'insert_stripe_events',
    text: `with piece as (insert into stripe_event_payloads (stored_at, packed) values ($1, $2) returning id)
      insert into stripe_events (event_id, type, object_type, object_id, customer_id, livemode, source, stripe_created_at, payload_from,
        payload_bytes, payload_id, outcome, handled_at, received_at, next_attempt_at)
      select event.id, type, object_type, object_id, customer_id, livemode, source, created_at, payload_from, payload_bytes, piece.id,
        case when not dealt_with then 'ignored' end, case when not dealt_with then $1 end, $1, $1
      from piece, unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::boolean[], $9::text[], $10::timestamptz[],
        $11::integer[], $12::integer[], $13::boolean[]) as event (id, type, object_type, object_id, customer_id, livemode, source,
        created_at, payload_from, payload_bytes, dealt_with)
      -- In one order in every process, or two that store the same events would wait for each other.
      order by event.id
      on conflict do nothing returning event_id as id`,
    values: [
      now,
      packed,
      column(({ envelope }) => envelope.id),
      column(({ envelope }) => envelope.type),
      column(({ envelope }) => envelope.objectType),
      column(({ envelope }) => envelope.objectId),
      column(({ envelope }) => envelope.customerId),
      column(({ envelope }) => envelope.livemode),
      column(({ source }) => source),
      column(({ envelope }) => envelope.createdAt),
      places.map(({ from }) => from),
      places.map(({ bytes }) => bytes),
      column(({ envelope }) => isDealtWith(envelope)),
    ],
  })
  return new Set(rows.map(({ id }) => id))
}

/** Whether anything is done about such an event; another has no lane to wait in. */
function isDealtWith(envelope: WebhookEnvelope): boolean {
  return isRelevant(envelope.type) || isMeterFault(envelope)
}

/** An event that waits to be handled. */
export type OpenEvent = EventSignal & {
  readonly eventId: string
  readonly customerId: string | null
  readonly attempts: number
}

const OPEN_EVENT = `event_id as "eventId", type, object_type as "objectType", object_id as "objectId", customer_id as "customerId", attempts`

/** How long a customer has to be quiet before its events are handled, and for how long at most that is waited for. */
export type Quiet = { readonly quietMs: number; readonly mostMs: number }

/**
 * Whose events are due, the longest waiting first: a customer's are handled together, one without a customer alone. With `quiet`, while
 * more keep arriving they wait to be handled with those, but none for longer than `mostMs`.
 */
export async function listDueLanes(
  db: Queryable,
  now: Instant,
  { limit, quietMs, mostMs }: Quiet & { readonly limit: number },
): Promise<string[]> {
  const before = (ms: number) => new Date(now.getTime() - ms)
  const { rows } = await db.query<{ lane: string }>({
    name: 'list_due_lanes',
    text: `select lane from (
        select coalesce(customer_id, event_id) as lane, next_attempt_at, received_at from stripe_events
        where handled_at is null and parked_at is null and next_attempt_at <= $1
        order by next_attempt_at limit 20000
      ) due group by lane having max(received_at) <= $3 or min(received_at) <= $4
      order by min(next_attempt_at) limit $2`,
    values: [now, limit, before(quietMs), before(mostMs)],
  })
  return rows.map(({ lane }) => lane)
}

/** The lane in which an event waits. */
export function laneOf({ customerId, eventId }: OpenEvent): string {
  return customerId ?? eventId
}

/** All that waits in these lanes, whether due or not. */
export async function listOpenEvents(db: Queryable, lanes: readonly string[]): Promise<OpenEvent[]> {
  // Apart from the condition, or PostgreSQL takes the index of all that is due and looks at the whole backlog for each group.
  const { rows } = await db.query<OpenEvent>({
    name: 'list_open_events',
    text: `select ${OPEN_EVENT} from (
        select * from stripe_events where handled_at is null and customer_id = any($1)
        union all
        select * from stripe_events where event_id = any($1) and handled_at is null and customer_id is null offset 0
      ) open where parked_at is null`,
    values: [lanes],
  })
  return rows
}

export type Handling = {
  readonly eventIds: readonly string[]
  readonly organizationId: string | null
  readonly outcome: 'applied' | 'ignored'
}

/** In one statement, whosever they are. */
export async function markHandled(db: Queryable, handlings: readonly Handling[], now: Instant): Promise<void> {
  const rows = handlings.flatMap(({ eventIds, ...handling }) => eventIds.map((eventId) => ({ eventId, ...handling })))
  if (rows.length === 0) return
  await db.query(
    `update stripe_events event set handled_at = $4, outcome = handling.outcome, organization_id = handling.organization_id,
       attempts = attempts + 1, last_error = null
     from unnest($1::text[], $2::text[], $3::text[]) as handling (event_id, organization_id, outcome)
     where event.event_id = handling.event_id and event.handled_at is null`,
    [
      rows.map(({ eventId }) => eventId),
      rows.map(({ organizationId }) => organizationId),
      rows.map(({ outcome }) => outcome),
      now,
    ],
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

/**
 * Deletes up to `limit` pieces of payloads that were stored before `before` and of which no event is left; answers how many. An event and its
 * piece are stored at the same time, so only events as old have to be looked at.
 */
export async function deletePayloads(db: Queryable, before: Instant, limit: number): Promise<number> {
  const { rowCount } = await db.query(
    `delete from stripe_event_payloads where id = any(array(
       select id from stripe_event_payloads where stored_at < $1
         and id not in (select payload_id from stripe_events where received_at < $1 and payload_id is not null)
       order by stored_at limit $2))`,
    [before, limit],
  )
  return rowCount ?? 0
}

/** What an event brought, byte for byte; null when there is no such event. */
export async function readPayload(db: Queryable, eventId: string): Promise<Buffer | null> {
  const { rows } = await db.query<PayloadPlace & { plain: string | null; packed: Buffer }>(
    `select payload as plain, payload_from as from, payload_bytes as bytes, piece.packed
     from stripe_events event left join stripe_event_payloads piece on piece.id = event.payload_id where event_id = $1`,
    [eventId],
  )
  const [row] = rows
  if (row === undefined) return null
  return row.plain === null ? unpackPayload(row.packed, row) : Buffer.from(row.plain)
}

/** Which of these events are not dealt with. */
export async function findOpenIds(db: Queryable, eventIds: readonly string[]): Promise<ReadonlySet<string>> {
  const { rows } = await db.query<{ id: string }>(
    'select event_id as id from stripe_events where event_id = any($1) and handled_at is null',
    [eventIds],
  )
  return new Set(rows.map(({ id }) => id))
}
