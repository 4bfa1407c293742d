import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { MeterFault } from '../stripe/gateway/gateway.ts'

/** Those of the events that have been dealt with. */
export async function findHandledFaults(db: Queryable, eventIds: readonly string[]): Promise<ReadonlySet<string>> {
  const { rows } = await db.query<{ id: string }>(
    'select event_id as id from stripe_events where event_id = any($1) and handled_at is not null',
    [eventIds],
  )
  return new Set(rows.map(({ id }) => id))
}

/** Keeps an event among those of Stripe, as dealt with; one that a webhook brought is there already. */
export async function recordFault(tx: Queryable, fault: MeterFault, now: Instant): Promise<void> {
  await tx.query(
    `insert into stripe_events as known (event_id, type, object_type, object_id, livemode, payload, source, stripe_created_at, received_at,
       next_attempt_at, handled_at, outcome)
     values ($1, $2, 'billing.meter', $3, $4, $5, 'reconcile', $6, $7, $7, $7, 'applied')
     on conflict (event_id) do update set (handled_at, outcome, last_error, attempts) =
       (coalesce(known.handled_at, excluded.handled_at), 'applied', null, known.attempts + 1)`,
    [fault.eventId, fault.type, fault.meterId, fault.livemode, fault.payload, fault.createdAt, now],
  )
}
