import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { ApiKeyId, OrganizationId } from '../lib/ids.ts'
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
}

export type ApiKeyRow = ApiKey & { readonly organizationId: OrganizationId }

export type NewApiKey = Omit<ApiKeyRow, 'ownExpiresAt' | 'revokedAt'> & { readonly digest: Buffer; readonly bcryptHash: string }

const COLUMNS = `organization_id as "organizationId", id, name, scopes, display_prefix as "displayPrefix",
  created_at as "createdAt", least(expires_at, overlap_ends_at) as "expiresAt", expires_at as "ownExpiresAt", revoked_at as "revokedAt"`

export async function insertApiKey(db: Queryable, key: NewApiKey): Promise<void> {
  await db.query(
    `insert into api_keys (organization_id, id, name, scopes, digest, bcrypt_hash, display_prefix, created_at, expires_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
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
    ],
  )
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
