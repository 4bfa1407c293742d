import type { Queryable } from '../../db/database.ts'
import type { Instant } from '../../lib/clock.ts'
import { DAY_MS } from '../../lib/period.ts'
import { EVENTS_LISTED_UNTIL } from '../inbox/inbox-store.ts'
import type { Drift } from './drift.ts'

/** An organization is compared with Stripe this often. */
export const RECONCILE_EVERY_MS = DAY_MS

export async function insertDrifts(tx: Queryable, organizationId: string, drifts: readonly Drift[], now: Instant): Promise<void> {
  if (drifts.length === 0) return
  await tx.query(
    `insert into stripe_drifts (organization_id, object_type, object_id, field, mirrored, actual, found_at)
     select $1, "objectType", "objectId", field, mirrored, actual, $3
     from jsonb_to_recordset($2) as row ("objectType" text, "objectId" text, field text, mirrored jsonb, actual jsonb)`,
    [organizationId, JSON.stringify(drifts), now],
  )
}

export type StoredDrift = Drift & { readonly id: bigint; readonly organizationId: string; readonly foundAt: Instant }

const COLUMNS = `id, organization_id as "organizationId", object_type as "objectType", object_id as "objectId", field, mirrored, actual,
  found_at as "foundAt"`

/** By its id as it is shown. */
export async function findDrift(db: Queryable, shownId: string): Promise<StoredDrift | null> {
  const { rows } = await db.query<StoredDrift>(
    `select ${COLUMNS} from stripe_drifts where id = (case when $1 ~ '^[0-9]{1,18}$' then $1::bigint end)`,
    [shownId],
  )
  return rows[0] ?? null
}

/** Newest first. */
export async function listDrifts(
  db: Queryable,
  { organizationId, after, limit }: { organizationId: string | null; after: bigint | null; limit: number },
): Promise<StoredDrift[]> {
  const { rows } = await db.query<StoredDrift>(
    `select ${COLUMNS} from stripe_drifts where ($1::text is null or organization_id = $1) and ($2::bigint is null or id < $2)
     order by id desc limit $3`,
    [organizationId, after, limit],
  )
  return rows
}

/** Deletes up to `limit` comparisons that ended before `before`; answers how many. */
export async function deleteOldReconciliations(db: Queryable, before: Instant, limit: number): Promise<number> {
  const { rowCount } = await db.query(
    'delete from stripe_reconciliations where id = any(array(select id from stripe_reconciliations where finished_at < $1 limit $2))',
    [before, limit],
  )
  return rowCount ?? 0
}

/** Deletes up to `limit` findings from before `before`; answers how many. */
export async function deleteOldDrifts(db: Queryable, before: Instant, limit: number): Promise<number> {
  const { rowCount } = await db.query(
    'delete from stripe_drifts where ctid = any(array(select ctid from stripe_drifts where found_at < $1 order by found_at limit $2))',
    [before, limit],
  )
  return rowCount ?? 0
}

/** How far the comparison with Stripe is. */
export type ReconciliationState = {
  /** Those that are at Stripe. */
  readonly organizations: number
  /** Not compared within the last day, or seen to differ and not refetched yet. */
  readonly due: number
  readonly oldestComparison: Instant | null
  readonly eventsListedUntil: Instant | null
  readonly driftsOfLastDay: number
  /** The comparison of everything that is under way, else the last one; null before the first. */
  readonly run: ReconciliationRun | null
}

export type ReconciliationRun = {
  readonly startedAt: Instant
  readonly finishedAt: Instant | null
  readonly list: string
  readonly pages: number
  readonly objects: number
  readonly suspected: number
}

export async function readReconciliation(db: Queryable, now: Instant): Promise<ReconciliationState> {
  const { rows } = await db.query<Omit<ReconciliationState, 'eventsListedUntil' | 'run'> & { eventsListedUntil: string | null }>(
    `select count(*)::float8 as organizations,
       count(*) filter (where sync.reconciled_at is null or sync.reconciled_at < $1 or sync.suspected_at is not null)::float8 as due,
       min(sync.reconciled_at) as "oldestComparison",
       (select value from settings where name = $2) as "eventsListedUntil",
       (select count(*) from stripe_drifts where found_at >= $1)::float8 as "driftsOfLastDay"
     from organizations organization left join stripe_syncs sync on sync.organization_id = organization.id
     where organization.stripe_customer_id is not null`,
    [new Date(now.getTime() - RECONCILE_EVERY_MS), EVENTS_LISTED_UNTIL],
  )
  const runs = await db.query<ReconciliationRun>(
    `select started_at as "startedAt", finished_at as "finishedAt", list, pages::float8, objects::float8, suspected::float8
     from stripe_reconciliations order by id desc limit 1`,
  )
  const { eventsListedUntil, ...state } = rows[0]!
  return {
    ...state,
    eventsListedUntil: eventsListedUntil === null ? null : new Date(eventsListedUntil),
    run: runs.rows[0] ?? null,
  }
}
