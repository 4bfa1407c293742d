import type { Queryable } from '../db/database.ts'
import { ALL_ORGANIZATIONS } from '../events/types.ts'
import type { Instant } from '../lib/clock.ts'

export type DisabledReason = 'failing' | 'gone' | 'by_hand'

export type EndpointRow = {
  readonly organizationId: string
  readonly id: string
  readonly url: string
  readonly description: string
  readonly eventTypes: readonly string[]
  /** When the last of the secrets before this one ends, or ended; null where there is none. */
  readonly previousSecretUntil: Instant | null
  readonly failingSince: Instant | null
  readonly disabledAt: Instant | null
  readonly disabledReason: DisabledReason | null
  readonly createdAt: Instant
}

const COLUMNS = `organization_id as "organizationId", id, url, description, event_types as "eventTypes",
  (select max(ends) from unnest(previous_secret_ends) ends) as "previousSecretUntil", failing_since as "failingSince", disabled_at as "disabledAt",
  disabled_reason as "disabledReason", created_at as "createdAt"`

export type EndpointInsert = Pick<EndpointRow, 'organizationId' | 'id' | 'url' | 'description' | 'eventTypes' | 'createdAt'> & {
  readonly secret: Buffer
}

/** Answers false when the organization has `most` endpoints already. */
export async function insertEndpoint(tx: Queryable, endpoint: EndpointInsert, most: number): Promise<boolean> {
  // Two creations side by side count each other.
  await tx.query(`select pg_advisory_xact_lock(hashtext('webhook_endpoints'), hashtext($1))`, [endpoint.organizationId])
  const { rowCount } = await tx.query(
    `insert into webhook_endpoints (organization_id, id, url, description, event_types, secret, created_at)
     select $1, $2, $3, $4, $5, $6, $7 where (select count(*) from webhook_endpoints where organization_id = $1) < $8`,
    [
      endpoint.organizationId,
      endpoint.id,
      endpoint.url,
      endpoint.description,
      endpoint.eventTypes,
      endpoint.secret,
      endpoint.createdAt,
      most,
    ],
  )
  return rowCount === 1
}

export async function listEndpoints(db: Queryable, organizationId: string): Promise<readonly EndpointRow[]> {
  const { rows } = await db.query<EndpointRow>(
    `select ${COLUMNS} from webhook_endpoints where organization_id = $1 order by created_at, id`,
    [organizationId],
  )
  return rows
}

export type EndpointName = { readonly organizationId: string; readonly id: string }

export async function findEndpoint(db: Queryable, { organizationId, id }: EndpointName): Promise<EndpointRow | null> {
  const { rows } = await db.query<EndpointRow>(
    `select ${COLUMNS} from webhook_endpoints where organization_id = $1 and id = $2`,
    [organizationId, id],
  )
  return rows[0] ?? null
}

/** The same, which nobody else changes, disables or deletes until the transaction ends. What is made for it meanwhile goes on. */
export async function lockEndpoint(tx: Queryable, { organizationId, id }: EndpointName): Promise<EndpointRow | null> {
  const { rows } = await tx.query<EndpointRow>(
    `select ${COLUMNS} from webhook_endpoints where organization_id = $1 and id = $2 for no key update`,
    [organizationId, id],
  )
  return rows[0] ?? null
}

/** The endpoints that are told of an organization: its own and the operators'. */
export async function findListeners(
  tx: Queryable,
  organizationIds: readonly string[],
): Promise<readonly Pick<EndpointRow, 'organizationId' | 'id' | 'eventTypes'>[]> {
  const { rows } = await tx.query<Pick<EndpointRow, 'organizationId' | 'id' | 'eventTypes'>>(
    `select organization_id as "organizationId", id, event_types as "eventTypes" from webhook_endpoints
     where organization_id = any($1) and disabled_at is null`,
    [[...organizationIds, ALL_ORGANIZATIONS]],
  )
  return rows
}

export type EndpointChange = Pick<EndpointRow, 'url' | 'description' | 'eventTypes'> & {
  /** null leaves it as it is. */
  readonly enabled: boolean | null
}

export async function updateEndpoint(tx: Queryable, name: EndpointName, change: EndpointChange, now: Instant): Promise<void> {
  await tx.query(
    `update webhook_endpoints set url = $3, description = $4, event_types = $5,
       disabled_at = case when $6 then null when not $6 then coalesce(disabled_at, $7) else disabled_at end,
       disabled_reason = case when $6 then null when not $6 then coalesce(disabled_reason, 'by_hand') else disabled_reason end,
       failing_since = case when $6 then null else failing_since end
     where organization_id = $1 and id = $2`,
    [name.organizationId, name.id, change.url, change.description, change.eventTypes, change.enabled, now],
  )
}

export async function deleteEndpoint(tx: Queryable, { organizationId, id }: EndpointName): Promise<void> {
  await tx.query('delete from webhook_endpoints where organization_id = $1 and id = $2', [organizationId, id])
}

/** The sealed secrets of an endpoint. */
export async function listSecrets(tx: Queryable, { organizationId, id }: EndpointName): Promise<readonly Buffer[]> {
  const { rows } = await tx.query<{ secrets: Buffer[] }>(
    'select secret || previous_secrets as secrets from webhook_endpoints where organization_id = $1 and id = $2',
    [organizationId, id],
  )
  return rows[0]?.secrets ?? []
}

/**
 * The new secret signs at once, the old one beside it until `previousUntil`, and those before it no longer than that.
 * @param except those that sign no more
 */
export async function replaceSecret(
  tx: Queryable,
  { organizationId, id }: EndpointName,
  { secret, except, previousUntil, now }: { secret: Buffer; except: readonly Buffer[]; previousUntil: Instant; now: Instant },
): Promise<void> {
  await tx.query(
    `update webhook_endpoints endpoint set secret = $3, (previous_secrets, previous_secret_ends) = (
       select coalesce(array_agg(previous.secret), '{}'), coalesce(array_agg(least(previous.ends, $4)), '{}')
       from (
         select endpoint.secret, $4::timestamptz
         union all select * from unnest(endpoint.previous_secrets, endpoint.previous_secret_ends)
       ) previous (secret, ends)
       where least(previous.ends, $4) > $5 and previous.secret <> all ($6::bytea[])
     )
     where organization_id = $1 and id = $2`,
    [organizationId, id, secret, previousUntil, now, except],
  )
}

/** Notes that an endpoint took something. */
export async function markHealthy(tx: Queryable, id: string): Promise<void> {
  await tx.query('update webhook_endpoints set failing_since = null where id = $1 and failing_since is not null', [id])
}

/** Notes a failure; answers since when there was no success. */
export async function markFailing(tx: Queryable, id: string, since: Instant): Promise<Instant> {
  const { rows } = await tx.query<{ since: Instant }>(
    'update webhook_endpoints set failing_since = coalesce(failing_since, $2) where id = $1 returning failing_since as since',
    [id, since],
  )
  return rows[0]?.since ?? since
}

/** Disables an endpoint, and gives up what waits for it; null when it was disabled, or deleted, already. */
export async function disableEndpoint(
  tx: Queryable,
  { id, reason }: { id: string; reason: DisabledReason },
  now: Instant,
): Promise<EndpointRow | null> {
  const { rows } = await tx.query<EndpointRow>(
    `update webhook_endpoints set disabled_at = $2, disabled_reason = $3 where id = $1 and disabled_at is null returning ${COLUMNS}`,
    [id, now, reason],
  )
  if (rows[0]) {
    await tx.query(
      `update webhook_deliveries set state = 'failed', finished_at = $2 where endpoint_id = $1 and state = 'pending'`,
      [id, now],
    )
  }
  return rows[0] ?? null
}
