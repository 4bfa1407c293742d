import type { Queryable } from '../db/database.ts'
import type { Statement } from '../db/row-stream.ts'
import type { Instant } from '../lib/clock.ts'
import type { ChainedEntry } from './rules.ts'

export type AuditEntry = {
  /** null for what concerns no single organization. */
  readonly organizationId: string | null
  /** `operator:<name>`, `api_key:<id>`, `user:<id>`, `system:<part>`. */
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

export type AuditRow = AuditEntry & Pick<ChainedEntry, 'id' | 'position' | 'previousHash' | 'hash' | 'content'>

/** Adds an entry in the transaction of the change that it tells of; it is chained when that commits. */
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

/** Which entries; what is null is left open. */
export type AuditFilter = {
  readonly organizationId: string | null
  readonly actor: string | null
  readonly action: string | null
  readonly target: string | null
  /** From this moment on. */
  readonly from: Instant | null
  /** Before this moment. */
  readonly to: Instant | null
}

const COLUMNS = `id, organization_id as "organizationId", actor, action, target, before, after, request_id as "requestId", at,
  position, previous_hash as "previousHash", hash, audit_content(audit_log) as content`

const MATCHES = `($1::text is null or organization_id = $1) and ($2::text is null or actor = $2) and ($3::text is null or action = $3)
  and ($4::text is null or target = $4) and ($5::timestamptz is null or at >= $5) and ($6::timestamptz is null or at < $6)`

function valuesOf({ organizationId, actor, action, target, from, to }: AuditFilter): unknown[] {
  return [organizationId, actor, action, target, from, to]
}

/** A page of entries, newest first, older than `before` where that is given. */
export async function listAuditEntries(
  db: Queryable,
  { before, limit, ...filter }: AuditFilter & { readonly before: bigint | null; readonly limit: number },
): Promise<readonly AuditRow[]> {
  const { rows } = await db.query<AuditRow>(
    `select ${COLUMNS} from audit_log where ${MATCHES} and ($7::bigint is null or id < $7) order by id desc limit $8`,
    [...valuesOf(filter), before, limit],
  )
  return rows
}

/** All entries, oldest first. */
export function exportStatement(filter: AuditFilter): Statement {
  return { text: `select ${COLUMNS} from audit_log where ${MATCHES} order by id`, values: valuesOf(filter) }
}

/** Where a chain ends, or (then its `content` is not null) an entry of it. */
export type ChainRow = Omit<ChainedEntry, 'id' | 'content'> & { readonly id: bigint | null; readonly content: string | null }

/** All chains, or that of one organization: of each first where it ends, then its entries in order. */
export async function openChains(tx: Queryable, organizationId: string | null): Promise<void> {
  await tx.query(
    `declare chains no scroll cursor for
     select chain, null::bigint as id, organization_id as "organizationId", position, null::bytea as "previousHash", hash,
       null as content, 0::bigint as place
     from audit_heads where $1::text is null or organization_id = $1
     union all
     select coalesce(organization_id, ''), id, organization_id, position, previous_hash, hash, audit_content(audit_log), position
     from audit_log where $1::text is null or organization_id = $1
     order by chain, place`,
    [organizationId],
  )
}

export async function fetchChains(tx: Queryable, count: number): Promise<readonly ChainRow[]> {
  return (await tx.query<ChainRow>(`fetch ${count} from chains`)).rows
}
