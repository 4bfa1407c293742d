import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'

export type TimelineKind = 'stripe_event' | 'billing' | 'audit' | 'mail' | 'grant' | 'revenue' | 'refusals'

export type TimelineEntry = {
  /** When it was written down, by this server. */
  readonly at: Instant
  /** The same to the microsecond, for a cursor. */
  readonly atText: string
  readonly kind: TimelineKind
  readonly id: string
  readonly data: Readonly<Record<string, unknown>>
}

export type TimelineQuery = {
  readonly organizationId: string
  readonly kinds: readonly TimelineKind[]
  readonly limit: number
  readonly after: { readonly at: string; readonly kind: string; readonly id: string } | null
}

/** Where each kind of entry comes from: `at`, `id` and `data` of what happened to organization $1. */
const SOURCES: Readonly<Record<TimelineKind, string>> = {
  stripe_event: `select received_at as at, event_id as id, jsonb_build_object('type', type, 'object_id', object_id, 'source', source,
      'handled_at', handled_at, 'failed', parked_at is not null, 'last_error', last_error) as data
    from stripe_events where organization_id = $1`,
  billing: `select recorded_at as at, key as id, data || jsonb_build_object('type', kind, 'occurred_at', occurred_at) as data
    from billing_events where organization_id = $1`,
  audit: `select at, lpad(id::text, 19, '0') as id, jsonb_build_object('action', action, 'actor', actor, 'target', target,
      'before', before, 'after', after, 'request_id', request_id) as data
    from audit_log where organization_id = $1`,
  mail: `select created_at as at, id, jsonb_build_object('type', kind, 'recipient', recipient, 'subject', subject, 'state', state,
      'last_error', last_error) as data
    from mails where organization_id = $1`,
  grant: `select coalesce(recorded_at, created_at) as at, id, jsonb_build_object('balance', balance, 'type', kind, 'plan', plan_key,
      'amount_millionths', amount::text, 'expires_at', nullif(expires_at, 'infinity'), 'reason', reason, 'occurred_at', created_at) as data
    from grants where organization_id = $1`,
  revenue: `select recorded_at as at, currency || ':' || lpad(number::text, 9, '0') as id, jsonb_build_object('type', kind, 'currency', currency,
      'amount_minor', round(amount / 1000000.0), 'mrr_minor', round(mrr_after / 1000000.0), 'plan', plan_key, 'occurred_at', occurred_at) as data
    from mrr_movements where organization_id = $1`,
  // In sum: one entry for a day, a meter and a reason.
  refusals: `select max(recorded_at) as at, to_char(date_trunc('day', recorded_at), 'YYYY-MM-DD') || ':' || meter || ':' || refusal as id,
      jsonb_build_object('meter', meter, 'code', refusal, 'count', count(*), 'day', to_char(date_trunc('day', recorded_at), 'YYYY-MM-DD')) as data
    from usage_events where organization_id = $1 and refusal is not null group by date_trunc('day', recorded_at), meter, refusal`,
}

export const TIMELINE_KINDS = Object.keys(SOURCES) as readonly TimelineKind[]

/** What happened to an organization, newest first, from all sources as one. */
export async function listTimeline(
  db: Queryable,
  { organizationId, kinds, limit, after }: TimelineQuery,
): Promise<TimelineEntry[]> {
  // Each source is cut to a page before they are put together.
  const parts = kinds.map(
    (kind) => `(select at, '${kind}' as kind, id, data from (${SOURCES[kind]}) source
      where $2::timestamptz is null or (at, '${kind}' collate "C", id collate "C") < ($2, $3::text, $4::text)
      order by at desc, id collate "C" desc limit $5)`,
  )
  const { rows } = await db.query<TimelineEntry>(
    `select at, at::text as "atText", kind, id, data from (${parts.join(' union all ')}) entries
     order by at desc, kind collate "C" desc, id collate "C" desc limit $5`,
    [organizationId, after?.at ?? null, after?.kind ?? null, after?.id ?? null, limit],
  )
  return rows
}
