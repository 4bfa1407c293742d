import type { Queryable } from '../db/database.ts'
import { DomainError } from '../lib/errors.ts'
import { isStorable } from '../lib/storable.ts'
import { isMoment } from './listing.ts'
import { listTimeline, type TimelineEntry, type TimelineKind, type TimelineQuery } from './timeline-store.ts'

/**
 * A page of what happened to an organization.
 * @throws DomainError `invalid_request` for a cursor that no page answered
 */
export async function readTimeline(
  db: Queryable,
  query: Omit<TimelineQuery, 'after'> & { readonly cursor: string | null },
): Promise<{ readonly entries: readonly TimelineEntry[]; readonly nextCursor: string | null }> {
  const after = query.cursor === null ? null : readCursor(query.cursor)
  const found = await listTimeline(db, { ...query, limit: query.limit + 1, after })
  const entries = found.slice(0, query.limit)
  const last = found.length > query.limit ? entries.at(-1) : undefined
  return { entries, nextCursor: last === undefined ? null : writeCursor(last) }
}

function writeCursor({ atText, kind, id }: TimelineEntry): string {
  return Buffer.from([atText, kind, id].join('\n')).toString('base64url')
}

function readCursor(cursor: string): { at: string; kind: string; id: string } {
  const text = Buffer.from(cursor, 'base64url').toString('utf8')
  const [at, kind, id] = text.split('\n')
  if (at !== undefined && isMoment(at) && kind !== undefined && id !== undefined && isStorable(text)) return { at, kind, id }
  throw new DomainError('invalid_request', 'cursor is not one that a timeline answered.', { field: 'cursor' })
}

/** An entry as a sentence. Pure. */
export function summarize({ kind, data }: Pick<TimelineEntry, 'kind' | 'data'>): string {
  return SENTENCES[kind]((name) => {
    const value = data[name]
    return typeof value === 'string' || typeof value === 'number' ? String(value) : '–'
  }, data)
}

type Sentence = (text: (name: string) => string, data: TimelineEntry['data']) => string

const SENTENCES: Readonly<Record<TimelineKind, Sentence>> = {
  stripe_event: (text, { failed, handled_at: handledAt }) =>
    `Stripe said ${text('type')} of ${text('object_id')}${failed === true ? ', which could not be handled' : handledAt === null ? ', which waits' : ''}.`,
  billing: (text, { from, to }) =>
    from === undefined || to === undefined ? `${text('type')}.` : `${text('type')}: from ${text('from')} to ${text('to')}.`,
  audit: (text) => `${text('actor')}: ${text('action')} (${text('target')}).`,
  mail: (text) => `Mail to ${text('recipient')}: “${text('subject')}” (${text('state')}).`,
  grant: (text) => `Grant of ${text('balance')} (${text('type')}).`,
  revenue: (text) => `Monthly revenue: ${text('type')}, now ${text('mrr_minor')} minor units of ${text('currency')}.`,
  refusals: (text) => `${text('count')} uses of ${text('meter')} refused on ${text('day')}: ${text('code')}.`,
}
