import type { Queryable } from '../db/database.ts'
import type { EventRow } from '../events/store.ts'
import { ALL_ORGANIZATIONS } from '../events/types.ts'
import type { Instant } from '../lib/clock.ts'
import type { PostOutcome } from './post.ts'

export type DeliveryState = 'pending' | 'delivered' | 'failed'

export type DeliveryName = { readonly organizationId: string; readonly endpointId: string; readonly eventId: string }

/** Stores what endpoints are to be told; what they are told already is left as it is. */
export async function insertDeliveries(
  tx: Queryable,
  deliveries: readonly DeliveryName[],
  { now, giveUpAt }: { now: Instant; giveUpAt: Instant },
): Promise<void> {
  if (deliveries.length === 0) return
  await tx.query(
    `insert into webhook_deliveries (organization_id, endpoint_id, event_id, state, created_at, next_attempt_at, give_up_at)
     select organization_id, endpoint_id, event_id, 'pending', $4, $4, $5
     from unnest($1::text[], $2::text[], $3::text[]) as row (organization_id, endpoint_id, event_id)
     on conflict do nothing`,
    [
      deliveries.map(({ organizationId }) => organizationId),
      deliveries.map(({ endpointId }) => endpointId),
      deliveries.map(({ eventId }) => eventId),
      now,
      giveUpAt,
    ],
  )
}

export type ReplayQuery = {
  readonly endpointId: string
  /** The endpoint's; `*` is every one. */
  readonly organizationId: string
  readonly eventTypes: readonly string[]
  /** One event, or those handed out since a time. */
  readonly which: { readonly eventId: string } | { readonly since: Instant }
}

/** Makes events due again for an endpoint, delivered or not, with as much patience as at first; answers how many. */
export async function replayDeliveries(
  tx: Queryable,
  { endpointId, organizationId, eventTypes, which }: ReplayQuery,
  { now, giveUpAt }: { now: Instant; giveUpAt: Instant },
): Promise<number> {
  const one = 'eventId' in which
  const { rowCount } = await tx.query(
    `insert into webhook_deliveries (organization_id, endpoint_id, event_id, state, created_at, next_attempt_at, give_up_at)
     select organization_id, $1, id, 'pending', $5, $5, $6 from events
     where ($2 = '${ALL_ORGANIZATIONS}' or organization_id = $2) and handed_out_at is not null
       and type = any($3) and ${one ? 'id = $4' : 'handed_out_at >= $4'}
     on conflict (organization_id, endpoint_id, event_id) do update set state = 'pending', next_attempt_at = excluded.next_attempt_at,
       give_up_at = excluded.give_up_at, attempts_before = webhook_deliveries.attempts, finished_at = null`,
    [endpointId, organizationId, eventTypes, one ? which.eventId : which.since, now, giveUpAt],
  )
  return rowCount ?? 0
}

/** A delivery that this process is to make, with all that it takes. */
export type ClaimedDelivery = DeliveryName & {
  readonly number: number
  readonly attemptsBefore: number
  readonly giveUpAt: Instant
  readonly url: string
  readonly secret: Buffer
  /** Those whose overlap is not over. */
  readonly previousSecrets: readonly Buffer[]
  readonly event: Pick<EventRow, 'id' | 'type' | 'organizationId' | 'data' | 'occurredAt'>
}

export type Claim = {
  readonly now: Instant
  readonly leaseEnd: Instant
  readonly limit: number
  /** How many an endpoint may have under way in this process. */
  readonly limitPerEndpoint: number
  /** How many are under way, by endpoint. */
  readonly busy: Readonly<Record<string, number>>
  /** Begins behind this endpoint: the one at which the last claim ended, so that everybody's turn comes. */
  readonly after: string
}

/**
 * Takes deliveries that are due, until `leaseEnd`: nobody else takes them before, and somebody does if this process dies. Goes from endpoint to
 * endpoint (a skip scan over those that have something pending) and takes a few of each, one where it fails: what waits for a slow
 * endpoint is in nobody's way. With 1,000 endpoints of 100 due deliveries each, a claim of 128 looks at 32 of them.
 */
export async function claimDeliveries(db: Queryable, claim: Claim): Promise<readonly ClaimedDelivery[]> {
  const { rows } = await db.query<ClaimRow>(
    `with recursive waiting as (
       (select endpoint_id from webhook_deliveries where state = 'pending' and endpoint_id > $6 order by endpoint_id limit 1)
       union all
       select (select endpoint_id from webhook_deliveries where state = 'pending' and endpoint_id > waiting.endpoint_id
               order by endpoint_id limit 1)
       from waiting where waiting.endpoint_id is not null
     ), due as (
       select taken.* from waiting
       cross join lateral (
         select id, failing_since from webhook_endpoints where id = waiting.endpoint_id and disabled_at is null limit 1
       ) endpoint
       cross join lateral (
         select organization_id, endpoint_id, event_id from webhook_deliveries
         where endpoint_id = endpoint.id and state = 'pending' and next_attempt_at <= $1
         order by next_attempt_at
         limit greatest(0, case when endpoint.failing_since is null then $4::int else 1 end - coalesce(($5::jsonb ->> endpoint.id)::int, 0))
         for update skip locked
       ) taken
       limit $3
     ), claimed as (
       update webhook_deliveries delivery set attempts = attempts + 1, next_attempt_at = $2
       from due where (delivery.organization_id, delivery.endpoint_id, delivery.event_id) = (due.organization_id, due.endpoint_id, due.event_id)
       returning delivery.*
     )
     select claimed.endpoint_id as "endpointId", claimed.attempts as number, claimed.attempts_before as "attemptsBefore",
       claimed.give_up_at as "giveUpAt", endpoint.url, endpoint.secret,
       array(
         select previous.secret from unnest(endpoint.previous_secrets, endpoint.previous_secret_ends) previous (secret, ends)
         where previous.ends > $1
       ) as "previousSecrets", events.organization_id as "organizationId", events.id, events.type,
       events.data, events.occurred_at as "occurredAt"
     from claimed
     join webhook_endpoints endpoint on endpoint.id = claimed.endpoint_id
     join events on events.organization_id = claimed.organization_id and events.id = claimed.event_id
     order by claimed.endpoint_id`,
    [claim.now, claim.leaseEnd, claim.limit, claim.limitPerEndpoint, JSON.stringify(claim.busy), claim.after],
  )
  return rows.map(({ id, type, organizationId, data, occurredAt, ...rest }) => ({
    ...rest,
    organizationId,
    eventId: id,
    event: { id, type, organizationId, data, occurredAt },
  }))
}

type ClaimRow = Omit<ClaimedDelivery, 'event' | 'eventId'> & Pick<EventRow, 'id' | 'type' | 'data' | 'occurredAt'>

export async function insertAttempt(
  tx: Queryable,
  attempt: DeliveryName & { readonly number: number; readonly attemptedAt: Instant; readonly outcome: PostOutcome },
): Promise<void> {
  const { outcome } = attempt
  await tx.query(
    `insert into webhook_attempts (organization_id, endpoint_id, event_id, number, attempted_at, duration_ms, status, error, response)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict do nothing`,
    [
      attempt.organizationId,
      attempt.endpointId,
      attempt.eventId,
      attempt.number,
      attempt.attemptedAt,
      outcome.durationMs,
      outcome.status,
      outcome.error,
      outcome.response,
    ],
  )
}

/**
 * Says what came of an attempt; false when that is no longer its to say: another attempt has begun, the event was replayed, or the
 * endpoint deleted. Where it was disabled meanwhile, what waited for it was given up, and an attempt that was taken says so all the same.
 */
export async function settleDelivery(
  tx: Queryable,
  settled: DeliveryName &
    Pick<ClaimedDelivery, 'number' | 'attemptsBefore'> & { readonly state: DeliveryState; readonly nextAttemptAt: Instant },
): Promise<boolean> {
  const { rowCount } = await tx.query(
    `update webhook_deliveries set state = $6, next_attempt_at = $7, finished_at = case when $6 <> 'pending' then $7::timestamptz end
     where organization_id = $1 and endpoint_id = $2 and event_id = $3 and attempts = $4 and attempts_before = $5
       and (state = 'pending' or (state = 'failed' and $6 = 'delivered'))`,
    [
      settled.organizationId,
      settled.endpointId,
      settled.eventId,
      settled.number,
      settled.attemptsBefore,
      settled.state,
      settled.nextAttemptAt,
    ],
  )
  return rowCount === 1
}

/** Holds a delivery until the transaction ends; false when it is gone with its endpoint. */
export async function lockDelivery(tx: Queryable, name: DeliveryName): Promise<boolean> {
  const { rowCount } = await tx.query(
    'select 1 from webhook_deliveries where organization_id = $1 and endpoint_id = $2 and event_id = $3 for update',
    [name.organizationId, name.endpointId, name.eventId],
  )
  return rowCount === 1
}

export type DeliveryRow = DeliveryName & {
  readonly type: string
  readonly state: DeliveryState
  readonly attempts: number
  readonly createdAt: Instant
  readonly nextAttemptAt: Instant
  readonly finishedAt: Instant | null
}

export type AttemptRow = PostOutcome & { readonly number: number; readonly attemptedAt: Instant }

const DELIVERY = `select delivery.organization_id as "organizationId", delivery.endpoint_id as "endpointId",
  delivery.event_id as "eventId", events.type, delivery.state, delivery.attempts, delivery.created_at as "createdAt",
  delivery.next_attempt_at as "nextAttemptAt", delivery.finished_at as "finishedAt"
  from webhook_deliveries delivery
  join events on events.organization_id = delivery.organization_id and events.id = delivery.event_id`

export type DeliveryQuery = {
  readonly endpointId: string
  readonly state: DeliveryState | null
  /** The event whose delivery was the last of the page before; null begins at the newest. */
  readonly after: string | null
  readonly limit: number
}

/** Newest first. */
export async function listDeliveries(db: Queryable, query: DeliveryQuery): Promise<readonly DeliveryRow[]> {
  const { rows } = await db.query<DeliveryRow>(
    `${DELIVERY}
     where delivery.endpoint_id = $1 and ($2::text is null or delivery.state = $2)
       and ($3::text is null or (delivery.created_at, delivery.event_id) <
         (select created_at, event_id from webhook_deliveries where endpoint_id = $1 and event_id = $3))
     order by delivery.created_at desc, delivery.event_id desc limit $4`,
    [query.endpointId, query.state, query.after, query.limit],
  )
  return rows
}

export async function findDelivery(
  db: Queryable,
  { endpointId, eventId }: Pick<DeliveryName, 'endpointId' | 'eventId'>,
): Promise<{ readonly delivery: DeliveryRow; readonly attempts: readonly AttemptRow[] } | null> {
  const found = await db.query<DeliveryRow>(`${DELIVERY} where delivery.endpoint_id = $1 and delivery.event_id = $2`, [
    endpointId,
    eventId,
  ])
  if (!found.rows[0]) return null
  const attempts = await db.query<AttemptRow>(
    `select number, attempted_at as "attemptedAt", duration_ms as "durationMs", status, error, response from webhook_attempts
     where endpoint_id = $1 and event_id = $2 and organization_id = $3 order by number`,
    [endpointId, eventId, found.rows[0].organizationId],
  )
  return { delivery: found.rows[0], attempts: attempts.rows }
}

/** Gives up what waits for a disabled endpoint and has had its time: nobody attempts it, so no attempt finds that out. */
export async function giveUpOnDisabled(db: Queryable, now: Instant): Promise<void> {
  await db.query(
    `update webhook_deliveries delivery set state = 'failed', finished_at = $1
     from webhook_endpoints endpoint
     where endpoint.id = delivery.endpoint_id and endpoint.disabled_at is not null
       and delivery.state = 'pending' and delivery.give_up_at <= $1`,
    [now],
  )
}

/** Forgets what was delivered or given up and is older than `before`; attempts go with it. Answers how many, at most `limit`. */
export async function deleteOldDeliveries(db: Queryable, before: Instant, limit: number): Promise<number> {
  const { rowCount } = await db.query(
    `delete from webhook_deliveries where ctid = any(array(
       select ctid from webhook_deliveries where created_at < $1 and state <> 'pending' limit $2))`,
    [before, limit],
  )
  return rowCount ?? 0
}
