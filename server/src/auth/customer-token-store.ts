import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { CustomerTokenId, OrganizationId } from '../lib/ids.ts'

export type CustomerToken = {
  readonly id: CustomerTokenId
  readonly organizationId: OrganizationId
  readonly createdBy: string
  readonly createdAt: Instant
  readonly expiresAt: Instant
  readonly revokedAt: Instant | null
}

const COLUMNS = `id, organization_id as "organizationId", created_by as "createdBy", created_at as "createdAt",
  expires_at as "expiresAt", revoked_at as "revokedAt"`

export async function insertCustomerToken(
  tx: Queryable,
  token: Omit<CustomerToken, 'revokedAt'> & { readonly digest: Buffer },
): Promise<void> {
  await tx.query(
    `insert into customer_tokens (organization_id, id, digest, created_by, created_at, expires_at)
     values ($1, $2, $3, $4, $5, $6)`,
    [token.organizationId, token.id, token.digest, token.createdBy, token.createdAt, token.expiresAt],
  )
}

export async function findCustomerToken(db: Queryable, digest: Buffer): Promise<CustomerToken | null> {
  const { rows } = await db.query<CustomerToken>(`select ${COLUMNS} from customer_tokens where digest = $1`, [digest])
  return rows[0] ?? null
}

/** Newest first. */
export async function listCustomerTokens(db: Queryable, organizationId: OrganizationId): Promise<readonly CustomerToken[]> {
  const { rows } = await db.query<CustomerToken>(
    `select ${COLUMNS} from customer_tokens where organization_id = $1 order by created_at desc, id limit 200`,
    [organizationId],
  )
  return rows
}

/** Answers false when there is none that could be revoked. */
export async function revokeCustomerToken(
  tx: Queryable,
  token: { readonly organizationId: OrganizationId; readonly id: CustomerTokenId },
  now: Instant,
): Promise<boolean> {
  const revoked = await tx.query(
    'update customer_tokens set revoked_at = $3 where organization_id = $1 and id = $2 and revoked_at is null',
    [token.organizationId, token.id, now],
  )
  return revoked.rowCount === 1
}

/** Those that ended a day ago: nobody asks for them any more. */
export async function deleteExpiredCustomerTokens(db: Queryable, now: Instant): Promise<void> {
  await db.query(`delete from customer_tokens where expires_at < $1::timestamptz - interval '1 day'`, [now])
}
