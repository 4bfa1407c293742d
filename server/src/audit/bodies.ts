import { csvLine } from '../lib/csv.ts'
import type { ChainedEntryBody, EntryBody } from './schemas.ts'
import type { AuditRow } from './store.ts'

export function showEntry(row: AuditRow): EntryBody {
  return {
    id: String(row.id),
    organization_id: row.organizationId,
    actor: row.actor,
    action: row.action,
    target: row.target,
    before: row.before,
    after: row.after,
    request_id: row.requestId,
    at: row.at.toISOString(),
    position: row.position === null ? null : Number(row.position),
    hash: row.hash?.toString('hex') ?? null,
  }
}

export function showChained(row: AuditRow): ChainedEntryBody {
  return { ...showEntry(row), previous_hash: row.previousHash?.toString('hex') ?? null, content: row.content }
}

const jsonOf = (value: unknown): string | null => (value === null ? null : JSON.stringify(value))

const COLUMNS: Readonly<Record<string, (entry: ChainedEntryBody) => string | number | null>> = {
  id: (entry) => entry.id,
  at: (entry) => entry.at,
  organization_id: (entry) => entry.organization_id,
  actor: (entry) => entry.actor,
  action: (entry) => entry.action,
  target: (entry) => entry.target,
  before: (entry) => jsonOf(entry.before),
  after: (entry) => jsonOf(entry.after),
  request_id: (entry) => entry.request_id,
  position: (entry) => entry.position,
  previous_hash: (entry) => entry.previous_hash,
  hash: (entry) => entry.hash,
}

export type AuditWriter = {
  readonly contentType: string
  readonly head: string
  readonly lineOf: (entry: ChainedEntryBody) => string
}

/** How the log is written to a file. */
export function auditWriter(format: 'csv' | 'ndjson'): AuditWriter {
  if (format === 'ndjson') {
    return { contentType: 'application/x-ndjson', head: '', lineOf: (entry) => `${JSON.stringify(entry)}\n` }
  }
  const readers = Object.values(COLUMNS)
  return {
    contentType: 'text/csv; charset=utf-8; header=present',
    head: csvLine(Object.keys(COLUMNS)),
    lineOf: (entry) => csvLine(readers.map((read) => read(entry))),
  }
}
