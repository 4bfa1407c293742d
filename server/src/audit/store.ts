import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'

export type AuditEntry = {
  readonly organizationId: string | null
  /** As `actorOf` names the caller, or `system` for what nobody asked for. */
  readonly actor: string
  /** What was done, e.g. `api_key.created`. */
  readonly action: string
  /** The id of what it was done to. */
  readonly target: string
  readonly before?: Readonly<Record<string, unknown>> | null
  readonly after?: Readonly<Record<string, unknown>> | null
  readonly requestId?: string | null
  readonly at: Instant
}

/** Appends an entry; to be called in the transaction of the change. */
export async function insertAuditEntry(tx: Queryable, entry: AuditEntry): Promise<void> {
  await tx.query(
    `insert into audit_log (organization_id, actor, action, target, before, after, request_id, at)
     values ($1, $2, $3, $4, $5, $6, $7, $8)`,
    [
      entry.organizationId,
      entry.actor,
      entry.action,
      entry.target,
      entry.before ?? null,
      entry.after ?? null,
      entry.requestId ?? null,
      entry.at,
    ],
  )
}

/** The newest entries of an organization first. */
export async function listAuditEntries(db: Queryable, organizationId: string, limit: number): Promise<readonly AuditEntry[]> {
  const { rows } = await db.query<AuditEntry>(
    `select organization_id as "organizationId", actor, action, target, before, after, request_id as "requestId", at
     from audit_log where organization_id = $1 order by id desc limit $2`,
    [organizationId, limit],
  )
  return rows
}
