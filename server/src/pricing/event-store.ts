import type { Queryable } from '../db/database.ts'
import { rowsTogether } from '../db/together.ts'
import type { Instant } from '../lib/clock.ts'
import type { Quantity } from '../lib/quantity.ts'

/** A report of use in the outbox. */
export type StoredEvent = {
  readonly organizationId: string
  readonly identifier: string
  readonly spanId: string
  readonly eventName: string
  readonly formula: 'sum' | 'last'
  readonly customerId: string
  /** What was counted since the report before. */
  readonly quantity: Quantity
  /** What Stripe is told. */
  readonly value: Quantity
  readonly at: Instant
  readonly late: boolean
  /** What it holds of each grant. */
  readonly parts: readonly (readonly [grantId: string, quantity: string])[]
  readonly attempts: number
  readonly firstAttemptAt: Instant | null
}

const COLUMNS = `event.organization_id as "organizationId", event.identifier, event.span_id as "spanId",
  event.event_name as "eventName", event.formula, event.customer_id as "customerId", event.quantity, event.value, event.at,
  event.late, event.parts, event.attempts, event.first_attempt_at as "firstAttemptAt"`

export async function insertMeterEvent(
  tx: Queryable,
  event: Omit<StoredEvent, 'attempts' | 'firstAttemptAt'>,
  now: Instant,
): Promise<void> {
  await tx.query(
    `insert into meter_events (organization_id, identifier, span_id, event_name, formula, customer_id, quantity, value, at, late,
       parts, state, created_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $12, 'pending', $11)`,
    [
      event.organizationId,
      event.identifier,
      event.spanId,
      event.eventName,
      event.formula,
      event.customerId,
      event.quantity,
      event.value,
      event.at,
      event.late,
      now,
      JSON.stringify(event.parts),
    ],
  )
}

/** Reports that are not known to be at Stripe, in the order in which they were made; of one organization, or those due of all. */
export async function listPendingEvents(
  db: Queryable,
  { organizationId, dueAt, limit }: { readonly organizationId: string | null; readonly dueAt: Instant; readonly limit: number },
): Promise<readonly StoredEvent[]> {
  const { rows } = await db.query<StoredEvent>(
    `select ${COLUMNS} from meter_events event
     where state = 'pending' and (organization_id = $1 or ($1::text is null and coalesce(next_attempt_at, '-infinity') <= $2))
     order by created_at, identifier limit $3`,
    [organizationId, dueAt, limit],
  )
  return rows
}

/** Lets the reports of an organization wait, but where somebody asks for them. */
export async function postponeEvents(db: Queryable, organizationId: string, nextAttemptAt: Instant): Promise<void> {
  await db.query(`update meter_events set next_attempt_at = $2 where organization_id = $1 and state = 'pending'`, [
    organizationId,
    nextAttemptAt,
  ])
}

/**
 * Writes down that a report is about to be sent, and answers what is to be sent: until now it may have been moved to a later invoice. null
 * when it is not pending any more.
 */
export async function beginAttempt(
  db: Queryable,
  { organizationId, identifier }: Pick<StoredEvent, 'organizationId' | 'identifier'>,
  now: Instant,
): Promise<StoredEvent | null> {
  const { rows } = await db.query<StoredEvent>(
    `update meter_events event set attempts = attempts + 1, first_attempt_at = coalesce(first_attempt_at, $3)
     where organization_id = $1 and identifier = $2 and state = 'pending' returning ${COLUMNS}`,
    [organizationId, identifier, now],
  )
  return rows[0] ?? null
}

export async function settleEvent(
  db: Queryable,
  { organizationId, identifier }: Pick<StoredEvent, 'organizationId' | 'identifier'>,
  outcome: { readonly state: 'sent' | 'failed'; readonly error: string | null; readonly now: Instant },
): Promise<void> {
  await db.query(
    `update meter_events set state = $3, error = $4, sent_at = case $3 when 'sent' then $5::timestamptz end
     where organization_id = $1 and identifier = $2 and state = 'pending'`,
    [organizationId, identifier, outcome.state, outcome.error, outcome.now],
  )
}

/** The reports of a customer to a meter whose time lies in a span: those that are at Stripe, and those that may be. */
export async function listEventsBetween(
  db: Queryable,
  query: Pick<StoredEvent, 'organizationId' | 'eventName' | 'customerId'> & { readonly start: Instant; readonly end: Instant },
): Promise<readonly { readonly identifier: string; readonly value: Quantity; readonly state: 'pending' | 'sent' }[]> {
  const { rows } = await db.query<{ identifier: string; value: Quantity; state: 'pending' | 'sent' }>(
    `select identifier, value, state from meter_events
     where organization_id = $1 and event_name = $2 and customer_id = $3 and at >= $4 and at < $5 and state <> 'failed'
       and (state = 'sent' or attempts > 0)
     order by created_at, identifier`,
    [query.organizationId, query.eventName, query.customerId, query.start, query.end],
  )
  return rows
}

/** Reports of spans that were closed before they were ever sent: they go into the next span, as late ones. */
export const takeUnsentOfClosedSpans = rowsTogether(async (tx, organizationIds) => {
  const { rows } = await tx.query<StoredEvent & { balanceKey: string }>(
    `select ${COLUMNS}, span.balance as "balanceKey" from meter_events event
     join billing_spans span on span.organization_id = event.organization_id and span.id = event.span_id
     where event.organization_id = any($1) and event.state = 'pending' and event.attempts = 0 and span.state = 'closed'
     order by event.created_at, event.identifier for update of event`,
    [organizationIds],
  )
  return rows
})

export async function moveEvent(
  tx: Queryable,
  event: Pick<StoredEvent, 'organizationId' | 'identifier' | 'spanId' | 'value' | 'at'>,
): Promise<void> {
  await tx.query(
    `update meter_events set span_id = $3, value = $4, at = $5, late = true where organization_id = $1 and identifier = $2`,
    [event.organizationId, event.identifier, event.spanId, event.value, event.at],
  )
}

/** Moves what a report holds of grants to the span that bills it now, as late. */
export async function moveReported(
  tx: Queryable,
  { organizationId, identifier, spanId, late }: Pick<StoredEvent, 'organizationId' | 'identifier' | 'spanId' | 'late'>,
  toSpanId: string,
): Promise<void> {
  await tx.query(
    `with part as (
       select r.grant_id, r.reports, (part ->> 1)::bigint as counted
       from meter_events event cross join lateral jsonb_array_elements(event.parts) as part
       join reported_grants r on r.organization_id = event.organization_id and r.grant_id = part ->> 0 and r.span_id = $3 and r.late = $4
       where event.organization_id = $1 and event.identifier = $2
     ), taken as (
       update reported_grants r set counted = r.counted - part.counted from part
       where r.organization_id = $1 and r.grant_id = part.grant_id and r.reports = part.reports and r.span_id = $3 and r.late = $4
     )
     insert into reported_grants as r (organization_id, grant_id, reports, span_id, late, counted)
     select $1, grant_id, reports, $5, true, counted from part
     on conflict (organization_id, grant_id, reports, span_id, late) do update set counted = r.counted + excluded.counted`,
    [organizationId, identifier, spanId, late, toSpanId],
  )
}

/** What Stripe did not take, newest first; of one organization, or of all. */
export async function listFailedEvents(
  db: Queryable,
  query: { readonly organizationId: string | null; readonly after: FailedEvent | null; readonly limit: number },
): Promise<readonly FailedEvent[]> {
  const { rows } = await db.query<FailedEvent>(
    `${FAILED_EVENTS} and ($1::text is null or event.organization_id = $1)
       and ($2::timestamptz is null or (event.at, event.identifier) < ($2, $3))
     order by event.at desc, event.identifier desc limit $4`,
    [query.organizationId, query.after?.at ?? null, query.after?.identifier ?? null, query.limit],
  )
  return rows
}

export async function findFailedEvent(db: Queryable, identifier: string): Promise<FailedEvent | null> {
  const { rows } = await db.query<FailedEvent>(`${FAILED_EVENTS} and event.identifier = $1`, [identifier])
  return rows[0] ?? null
}

type FailedEvent = StoredEvent & { readonly error: string }

const FAILED_EVENTS = `select ${COLUMNS}, event.error from meter_events event where event.state = 'failed'`

/** Reports that Stripe took and does not count; answers whose they are. */
export async function failSentEvents(
  db: Queryable,
  faults: readonly { readonly identifier: string; readonly code: string }[],
): Promise<readonly string[]> {
  const { rows } = await db.query<{ id: string }>(
    `update meter_events event set state = 'failed', error = fault.code
     from unnest($1::text[], $2::text[]) as fault (identifier, code)
     where event.identifier = fault.identifier and event.state <> 'failed' returning event.organization_id as id`,
    [faults.map(({ identifier }) => identifier), faults.map(({ code }) => code)],
  )
  return [...new Set(rows.map(({ id }) => id))]
}

export type FailedReports = { readonly organizationId: string; readonly count: number; readonly since: Instant }

/** How many reports of each organization Stripe did not take or does not count, and since when. */
export async function countFailedReports(db: Queryable, organizationIds: readonly string[]): Promise<readonly FailedReports[]> {
  const { rows } = await db.query<FailedReports>(
    `select organization_id as "organizationId", count(*)::int as count, min(at) as since from meter_events
     where organization_id = any($1) and state = 'failed' group by organization_id`,
    [organizationIds],
  )
  return rows
}

/** Lets a failed report be sent again, under a new name: nobody knows whether Stripe would take the old one. */
export async function reopenFailedEvent(tx: Queryable, identifier: string): Promise<{ readonly organizationId: string } | null> {
  const { rows } = await tx.query<{ organizationId: string }>(
    `update meter_events set state = 'pending', error = null, attempts = 0, first_attempt_at = null, sent_at = null,
       identifier = left(identifier, 90) || '_again'
     where identifier = $1 and state = 'failed' returning organization_id as "organizationId"`,
    [identifier],
  )
  return rows[0] ?? null
}
