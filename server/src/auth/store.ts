import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { ApiKeyId, OrganizationId } from '../lib/ids.ts'
import type { KeyedRequest, SentRequest } from '../lib/sent-request.ts'
import type { Scope } from './principal.ts'

/** The channel on which a revoked key's id is told to every process. */
export const REVOCATION_CHANNEL = 'tollgate_api_key_revoked'

/** A key as it is shown: never the key itself, its digest or its hash. */
export type ApiKey = {
  readonly id: ApiKeyId
  readonly name: string
  readonly scopes: readonly Scope[]
  readonly displayPrefix: string
  readonly createdAt: Instant
  /** Once it was rotated, when the overlap is over, if that is earlier. */
  readonly expiresAt: Instant | null
  /** When it ends, or would have ended, by itself. */
  readonly ownExpiresAt: Instant | null
  readonly revokedAt: Instant | null
  /** null: nobody has used it, and it may never have arrived. */
  readonly firstUsedAt: Instant | null
}

export type ApiKeyRow = ApiKey & { readonly organizationId: OrganizationId }

/** What is kept of a key itself. */
export type KeySecret = { readonly digest: Buffer; readonly bcryptHash: string; readonly displayPrefix: string }

export type NewApiKey = Omit<ApiKeyRow, 'ownExpiresAt' | 'revokedAt' | 'firstUsedAt'> & KeySecret

const COLUMNS = `organization_id as "organizationId", id, name, scopes, display_prefix as "displayPrefix",
  created_at as "createdAt", least(expires_at, overlap_ends_at) as "expiresAt", expires_at as "ownExpiresAt", revoked_at as "revokedAt",
  first_used_at as "firstUsedAt"`

/** Answers false when the request has made one before. */
export async function insertApiKey(db: Queryable, key: NewApiKey, request: KeyedRequest | null): Promise<boolean> {
  const { rowCount } = await db.query(
    `insert into api_keys (organization_id, id, name, scopes, digest, bcrypt_hash, display_prefix, created_at, expires_at, request_key, request)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
     on conflict (organization_id, request_key) where request_key is not null do nothing`,
    [
      key.organizationId,
      key.id,
      key.name,
      key.scopes,
      key.digest,
      key.bcryptHash,
      key.displayPrefix,
      key.createdAt,
      key.expiresAt,
      request?.key ?? null,
      request && JSON.stringify({ operation: request.operation, body: request.body }),
    ],
  )
  return rowCount === 1
}

/** The key that a request has made, and what was sent then; it stays as it is until the transaction ends. */
export async function lockRequestedKey(
  tx: Queryable,
  { organizationId, requestKey }: { readonly organizationId: OrganizationId; readonly requestKey: string },
): Promise<ApiKey & { readonly request: SentRequest }> {
  const { rows } = await tx.query<ApiKey & { request: SentRequest }>(
    `select ${COLUMNS}, request from api_keys where organization_id = $1 and request_key = $2 for update`,
    [organizationId, requestKey],
  )
  return rows[0]!
}

/** Puts a new secret in the place of one that nobody has used. */
export async function replaceSecret(
  tx: Queryable,
  key: { readonly organizationId: OrganizationId; readonly id: ApiKeyId },
  { digest, bcryptHash, displayPrefix }: KeySecret,
): Promise<void> {
  await tx.query(
    'update api_keys set digest = $3, bcrypt_hash = $4, display_prefix = $5 where organization_id = $1 and id = $2',
    [key.organizationId, key.id, digest, bcryptHash, displayPrefix],
  )
}

/** Notes that a secret has arrived with somebody; answers false when another one has taken its place. */
export async function noteFirstUse(db: Queryable, digest: Buffer, now: Instant): Promise<boolean> {
  const { rowCount } = await db.query('update api_keys set first_used_at = coalesce(first_used_at, $2) where digest = $1', [
    digest,
    now,
  ])
  return rowCount === 1
}

export async function listApiKeys(db: Queryable, organizationId: OrganizationId): Promise<readonly ApiKey[]> {
  const found = await db.query<ApiKey>(`select ${COLUMNS} from api_keys where organization_id = $1 order by created_at, id`, [
    organizationId,
  ])
  return found.rows
}

/** The live or revoked key with this digest, and the hash that decides; null for a key that never existed. */
export async function findApiKeyByDigest(
  db: Queryable,
  digest: Buffer,
): Promise<(ApiKeyRow & { readonly bcryptHash: string }) | null> {
  const found = await db.query<ApiKeyRow & { bcryptHash: string }>(
    `select ${COLUMNS}, bcrypt_hash as "bcryptHash" from api_keys where digest = $1`,
    [digest],
  )
  return found.rows[0] ?? null
}

/** Marks the key revoked and tells every process in the same transaction; answers false when there was no live key. */
export async function revokeApiKey(
  db: Queryable,
  key: { organizationId: OrganizationId; id: ApiKeyId },
  now: Instant,
): Promise<boolean> {
  const revoked = await db.query(
    `with revoked as (
       update api_keys set revoked_at = $3 where organization_id = $1 and id = $2 and revoked_at is null returning id
     )
     select pg_notify($4, id) from revoked`,
    [key.organizationId, key.id, now, REVOCATION_CHANNEL],
  )
  return revoked.rowCount === 1
}

/**
 * Ends a live key at a time to come, unless it ends earlier by itself, and tells every process in the same transaction, as
 * they may keep it as verified. Answers the key as it was, or null when there is no live one.
 */
export async function endApiKeyAt(
  tx: Queryable,
  key: { organizationId: OrganizationId; id: ApiKeyId },
  { endsAt, now }: { readonly endsAt: Instant; readonly now: Instant },
): Promise<ApiKey | null> {
  const found = await tx.query<ApiKey>(
    `select ${COLUMNS} from api_keys
     where organization_id = $1 and id = $2 and revoked_at is null
       and coalesce(least(expires_at, overlap_ends_at) > $3, true) for update`,
    [key.organizationId, key.id, now],
  )
  const [before] = found.rows
  if (before === undefined) return null
  await tx.query(
    'update api_keys set overlap_ends_at = least(overlap_ends_at, $3::timestamptz) where organization_id = $1 and id = $2',
    [key.organizationId, key.id, endsAt],
  )
  await tx.query('select pg_notify($1, $2)', [REVOCATION_CHANNEL, key.id])
  return before
}

/**
 * The secret behind the digests: the given one, else the one kept in the database, made at the first start.
 * Two servers that start at once agree: whoever inserts first decides.
 */
export async function loadDigestSecret(db: Queryable, given: string | undefined, makeSecret: () => string): Promise<string> {
  if (given !== undefined) return given
  await db.query(`insert into settings (name, value) values ('api_key_digest_secret', $1) on conflict (name) do nothing`, [
    makeSecret(),
  ])
  const found = await db.query<{ value: string }>(`select value from settings where name = 'api_key_digest_secret'`)
  return found.rows[0]!.value
}
