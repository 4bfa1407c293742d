import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { ExportFormat, ExportKind } from './rules.ts'

export type ExportFilter = { readonly status?: string; readonly currency?: string }

export type Export = {
  /** `*` for those over all organizations. */
  readonly organizationId: string
  readonly id: string
  readonly kind: ExportKind
  readonly format: ExportFormat
  readonly startsAt: Instant | null
  readonly endsAt: Instant | null
  readonly filter: ExportFilter
  readonly state: 'queued' | 'running' | 'done' | 'failed'
  readonly made: number
  readonly planned: number | null
  readonly attempt: number
  readonly bytes: number
  readonly error: string | null
  readonly requestedBy: string
  readonly createdAt: Instant
  readonly finishedAt: Instant | null
  readonly expiresAt: Instant
}

const COLUMNS = `organization_id as "organizationId", id, kind, format, starts_at as "startsAt", ends_at as "endsAt", filter, state,
  made::float8 as made, planned::float8 as planned, attempt, bytes::float8 as bytes, error, requested_by as "requestedBy",
  created_at as "createdAt", finished_at as "finishedAt", expires_at as "expiresAt"`

export type NewExport = Pick<
  Export,
  'organizationId' | 'id' | 'kind' | 'format' | 'startsAt' | 'endsAt' | 'filter' | 'requestedBy' | 'createdAt' | 'expiresAt'
>

export async function insertExport(tx: Queryable, made: NewExport): Promise<Export> {
  const { rows } = await tx.query<Export>(
    `insert into exports (organization_id, id, kind, format, starts_at, ends_at, filter, state, requested_by, created_at, expires_at)
     values ($1, $2, $3, $4, $5, $6, $7, 'queued', $8, $9, $10) returning ${COLUMNS}`,
    [
      made.organizationId,
      made.id,
      made.kind,
      made.format,
      made.startsAt,
      made.endsAt,
      JSON.stringify(made.filter),
      made.requestedBy,
      made.createdAt,
      made.expiresAt,
    ],
  )
  return rows[0]!
}

/** How many of an organization's are not finished. */
export async function countUnfinished(db: Queryable, organizationId: string): Promise<number> {
  const { rows } = await db.query<{ count: number }>(
    `select count(*)::int as count from exports where organization_id = $1 and state in ('queued', 'running')`,
    [organizationId],
  )
  return rows[0]!.count
}

/** @param organizationId null is any: for operators */
export async function findExport(db: Queryable, organizationId: string | null, id: string): Promise<Export | null> {
  const { rows } = await db.query<Export>(
    `select ${COLUMNS} from exports where id = $2 and ($1::text is null or organization_id = $1)`,
    [organizationId, id],
  )
  return rows[0] ?? null
}

/** Newest first. */
export async function listExports(
  db: Queryable,
  organizationId: string | null,
  { after, limit }: { readonly after: string | null; readonly limit: number },
): Promise<Export[]> {
  const { rows } = await db.query<Export>(
    `select ${COLUMNS} from exports where ($1::text is null or organization_id = $1)
       and ($2::text is null or (created_at, id) < (select created_at, id from exports where id = $2))
     order by created_at desc, id desc limit $3`,
    [organizationId, after, limit],
  )
  return rows
}

/** Gives up those whose last attempt ended without a word, as when it takes the process down each time. Answers which. */
export async function failAbandoned(
  tx: Queryable,
  now: Instant,
  limits: { attempts: number; error: string },
): Promise<readonly string[]> {
  const { rows } = await tx.query<{ id: string }>(
    `update exports set state = 'failed', error = $3, finished_at = $1, lease_until = null
     where state = 'running' and lease_until < $1 and attempt >= $2 returning id`,
    [now, limits.attempts, limits.error],
  )
  return rows.map(({ id }) => id)
}

/** Takes the oldest that is due, for as long as the lease lasts, and throws away what an earlier attempt left. */
export async function claimExport(tx: Queryable, now: Instant, leaseUntil: Instant): Promise<Export | null> {
  const { rows } = await tx.query<Export>(
    `update exports set state = 'running', attempt = attempt + 1, lease_until = $2, made = 0, planned = null, bytes = 0
     where (organization_id, id) = (
       select organization_id, id from exports where state = 'queued' or (state = 'running' and lease_until < $1)
       order by created_at limit 1 for update skip locked
     ) returning ${COLUMNS}`,
    [now, leaseUntil],
  )
  const claimed = rows[0]
  if (claimed === undefined) return null
  await tx.query('delete from export_chunks where organization_id = $1 and export_id = $2', [claimed.organizationId, claimed.id])
  return claimed
}

/** Which attempt is meant: one that lost its lease to another changes nothing any more. */
type Attempt = Pick<Export, 'organizationId' | 'id' | 'attempt'>

/** Answers whether the lease is still this attempt's. */
export async function saveProgress(
  db: Queryable,
  { organizationId, id, attempt }: Attempt,
  progress: { readonly made: number; readonly planned: number | null; readonly leaseUntil: Instant },
): Promise<boolean> {
  const { rowCount } = await db.query(
    `update exports set made = $4, planned = $5, lease_until = $6
     where organization_id = $1 and id = $2 and attempt = $3 and state = 'running'`,
    [organizationId, id, attempt, progress.made, progress.planned, progress.leaseUntil],
  )
  return rowCount === 1
}

/** Lets another take an export at once that this attempt does not finish; it was none then. */
export async function giveBack(db: Queryable, { organizationId, id, attempt }: Attempt): Promise<void> {
  await db.query(
    `update exports set state = 'queued', attempt = attempt - 1, made = 0, planned = null, lease_until = null
     where organization_id = $1 and id = $2 and attempt = $3 and state = 'running'`,
    [organizationId, id, attempt],
  )
}

export async function insertChunk(
  db: Queryable,
  { organizationId, id, attempt }: Attempt,
  number: number,
  data: Buffer,
): Promise<void> {
  await db.query('insert into export_chunks (organization_id, export_id, attempt, number, data) values ($1, $2, $3, $4, $5)', [
    organizationId,
    id,
    attempt,
    number,
    data,
  ])
}

export async function finishExport(
  db: Queryable,
  { organizationId, id, attempt }: Attempt,
  result: { readonly made: number; readonly bytes: number; readonly error: string | null; readonly now: Instant },
): Promise<boolean> {
  const { rowCount } = await db.query(
    `update exports set state = case when $6::text is null then 'done' else 'failed' end, made = $4, planned = case when $6::text is null then $4
       else planned end, bytes = $5, error = $6, finished_at = $7, lease_until = null
     where organization_id = $1 and id = $2 and attempt = $3 and state = 'running'`,
    [organizationId, id, attempt, result.made, result.bytes, result.error, result.now],
  )
  return rowCount === 1
}

export async function readChunk(db: Queryable, { organizationId, id, attempt }: Attempt, number: number): Promise<Buffer | null> {
  const { rows } = await db.query<{ data: Buffer }>(
    'select data from export_chunks where organization_id = $1 and export_id = $2 and attempt = $3 and number = $4',
    [organizationId, id, attempt, number],
  )
  return rows[0]?.data ?? null
}

/** Answers how many there were. */
export async function deleteExpired(db: Queryable, now: Instant): Promise<number> {
  const { rowCount } = await db.query('delete from exports where expires_at <= $1', [now])
  return rowCount ?? 0
}
