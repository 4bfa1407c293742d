import { insertAuditEntry } from '../audit/store.ts'
import type { Instant } from '../lib/clock.ts'
import type { Queryable } from '../db/database.ts'
import { DomainError } from '../lib/errors.ts'
import { newId } from '../lib/ids.ts'
import { DAY_MS, startOfDate } from '../lib/period.ts'
import { readSpan, type ReadingContext } from '../usage/reports.ts'
import { EVERYBODY, findRefusal, type ExportFormat, type ExportKind } from './rules.ts'
import { countUnfinished, findExport, insertExport, readChunk, type Export, type ExportFilter } from './store.ts'

export type ExportsContext = ReadingContext & {
  /** Wakes the worker. */
  readonly kick: () => void
}

/** Where a span begins or ends: a moment, or a date (`2026-03-01`), which is its first moment. */
export type Bound = Instant | string

export type ExportRequest = {
  /** null is every organization: for operators. */
  readonly organizationId: string | null
  readonly kind: ExportKind
  readonly format: ExportFormat
  readonly from: Bound | null
  readonly to: Bound | null
  readonly filter: ExportFilter
}

/** Files are kept this long. */
const KEPT_MS = 7 * DAY_MS
const UNFINISHED_AT_MOST = 5

/**
 * Asks for a file; it is made in the background.
 * @throws DomainError `invalid_request` for a kind that cannot be had so; `conflict` while five others are not finished; `not_found`
 */
export async function requestExport(
  context: ExportsContext,
  request: ExportRequest,
  asker: { readonly actor: string; readonly requestId: string },
): Promise<Export> {
  const refusal = findRefusal(request)
  if (refusal !== null) throw new DomainError('invalid_request', refusal.detail, { field: refusal.field })
  const { db, clock, kick } = context
  const { from, to } = await spanOf(context, request)
  if (from !== null && to !== null && from >= to) {
    throw new DomainError('invalid_request', 'from must lie before to.', { field: 'from' })
  }
  const organizationId = request.organizationId ?? EVERYBODY
  const now = clock.now()
  const made = await db.transaction(async (tx) => {
    if (request.organizationId !== null) await lockOrganization(tx, request.organizationId)
    if ((await countUnfinished(tx, organizationId)) >= UNFINISHED_AT_MOST) {
      throw new DomainError('conflict', `${UNFINISHED_AT_MOST} exports are not finished yet; wait for one of them.`)
    }
    const inserted = await insertExport(tx, {
      organizationId,
      id: newId('exp'),
      kind: request.kind,
      format: request.format,
      startsAt: from,
      endsAt: to,
      filter: request.filter,
      requestedBy: asker.actor,
      createdAt: now,
      expiresAt: new Date(now.getTime() + KEPT_MS),
    })
    await insertAuditEntry(tx, {
      organizationId: request.organizationId,
      ...asker,
      action: 'export.requested',
      target: inserted.id,
      before: null,
      after: { kind: request.kind, format: request.format, from, to, filter: request.filter },
      at: now,
    })
    return inserted
  })
  kick()
  return made
}

/** A statement's dates are days of the organization's time zone, as those that it tells; of anything else they are UTC's. */
async function spanOf(
  context: ExportsContext,
  { kind, organizationId, from, to }: ExportRequest,
): Promise<{ readonly from: Instant | null; readonly to: Instant | null }> {
  const isLocal = kind === 'usage_statement' && organizationId !== null && [from, to].some((bound) => typeof bound === 'string')
  const timeZone = isLocal ? (await readSpan(context, { organizationId })).calendar.timeZone : 'UTC'
  const instantOf = (bound: Bound | null): Instant | null => (typeof bound === 'string' ? startOfDate(bound, timeZone) : bound)
  return { from: instantOf(from), to: instantOf(to) }
}

/** Makes requests of one organization wait for each other, so that together they keep to the limit. */
async function lockOrganization(tx: Queryable, id: string): Promise<void> {
  const { rowCount } = await tx.query('select 1 from organizations where id = $1 for no key update', [id])
  if (rowCount === 0) throw new DomainError('not_found', 'There is no such organization.')
}

/**
 * @param organizationId null is any: for operators
 * @throws DomainError `not_found`
 */
export async function readExport(db: Queryable, organizationId: string | null, id: string): Promise<Export> {
  const found = await findExport(db, organizationId, id)
  if (found === null) throw new DomainError('not_found', 'There is no such export.')
  return found
}

/**
 * The pieces of a file, in order. Where it goes while it is read, as its time has come, the last one fails: whoever reads it hears that it is not whole.
 * @throws DomainError `conflict` while it is not finished
 */
export function readFile(db: Queryable, made: Export): AsyncGenerator<Buffer> {
  if (made.state !== 'done')
    throw new DomainError('conflict', `The export is ${made.state}: there is no file.`, { state: made.state })
  return readPieces(db, made)
}

async function* readPieces(db: Queryable, made: Export): AsyncGenerator<Buffer> {
  for (let [number, left] = [0, made.bytes]; left > 0; number += 1) {
    const piece = await readChunk(db, made, number)
    if (piece === null) throw new Error(`The rest of the export ${made.id} is not there any more.`)
    left -= piece.length
    yield piece
  }
}
