import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'

export type AuditEntry = {
  /** null for what concerns no single organization. */
  readonly organizationId: string | null
  /** `operator:<name>`, `api_key:<id>`, `system:<part>`. */
  readonly actor: string
  /** `<thing>.<past participle>`, e.g. `api_key.revoked`. */
  readonly action: string
  /** The id of what was changed. */
  readonly target: string
  readonly before: unknown
  readonly after: unknown
  readonly requestId: string | null
  readonly at: Instant
}

export type AuditRow = AuditEntry & { readonly id: bigint }

/** Adds a row in the transaction of the change that it tells of. */
export async function insertAuditEntry(tx: Queryable, entry: AuditEntry): Promise<void> {
  await tx.query(
    `insert into audit_log (organization_id, actor, action, target, before, after, request_id, at)
     values ($1, $2, $3, $4, $5, $6, $7, $8)`,
    [
      entry.organizationId,
      entry.actor,
      entry.action,
      entry.target,
      jsonOf(entry.before),
      jsonOf(entry.after),
      entry.requestId,
      entry.at,
    ],
  )
}

function jsonOf(value: unknown): string | null {
  return value === null || value === undefined ? null : JSON.stringify(value)
}

export type AuditQuery = {
  /** null is every organization. */
  readonly organizationId: string | null
  /** Rows older than this one; null begins at the newest. */
  readonly before: bigint | null
  readonly limit: number
}

/** Newest first. */
export async function listAuditEntries(db: Queryable, query: AuditQuery): Promise<readonly AuditRow[]> {
  const { rows } = await db.query<AuditRow>(
    `select id, organization_id as "organizationId", actor, action, target, before, after, request_id as "requestId", at
     from audit_log
     where ($1::text is null or organization_id = $1) and ($2::bigint is null or id < $2)
     order by id desc limit $3`,
    [query.organizationId, query.before, query.limit],
  )
  return rows
}
