import type { Queryable } from '../../db/database.ts'
import type { Instant } from '../../lib/clock.ts'
import { EVENTS_LISTED_UNTIL } from '../inbox/inbox-store.ts'
import { LEFT_TO_OPERATORS, type LeftToOperators } from '../mirror/billing-events.ts'

/** How well the server follows Stripe. */
export type Following = {
  /** Events that were to be handled five minutes ago and are not. */
  readonly eventsOverdue: number
  /** Events that were given up until somebody replays them. */
  readonly eventsFailed: number
  /** Seconds since Stripe was last asked for events that no webhook brought; null before the first time. */
  readonly lookAgeSeconds: number | null
  /** Seconds since the last comparison of everything began that came to its end, else since the first began; null before that. */
  readonly comparisonAgeSeconds: number | null
  /** Disputes that wait for evidence. */
  readonly disputesOpen: number
  /** What of customers' money was left to operators in the last seven days, by kind. */
  readonly leftToOperators: Readonly<Record<LeftToOperators, number>>
}

export async function readFollowing(db: Queryable, now: Instant): Promise<Following> {
  const { rows } = await db.query<Following>(
    `select count(*) filter (where parked_at is null and next_attempt_at < $1::timestamptz - interval '5 minutes')::float8 as "eventsOverdue",
       count(*) filter (where parked_at is not null)::float8 as "eventsFailed",
       (select extract(epoch from $1 - value::timestamptz)::float8 from settings where name = $2) as "lookAgeSeconds",
       (select extract(epoch from $1 - coalesce(max(started_at) filter (where finished_at is not null), min(started_at)))::float8
        from stripe_reconciliations) as "comparisonAgeSeconds",
       (select count(*) from stripe_disputes where closed_at is null and status in ('needs_response', 'warning_needs_response'))::float8
         as "disputesOpen",
       (select jsonb_object_agg(kind, (select count(*) from billing_events event
          where event.kind = left_open.kind and recorded_at > $1::timestamptz - interval '7 days')) from unnest($3::text[]) left_open (kind))
         as "leftToOperators"
     from stripe_events where handled_at is null`,
    [now, EVENTS_LISTED_UNTIL, Object.keys(LEFT_TO_OPERATORS)],
  )
  return rows[0]!
}
