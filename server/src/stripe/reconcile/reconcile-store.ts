import type { Queryable } from '../../db/database.ts'
import type { Instant } from '../../lib/clock.ts'
import type { AccountList, ListedObject } from '../gateway/account-lists.ts'
import type { StripeObject } from '../gateway/wire.ts'

/** A comparison of the whole account that is under way. */
export type Reconciliation = {
  readonly id: bigint
  readonly startedAt: Instant
  readonly recentSince: Instant | null
  readonly list: AccountList
  /** The last object of the page before; null at the beginning of a list. */
  readonly afterId: string | null
  readonly afterCreatedAt: Instant | null
}

const RECONCILIATION = `id, started_at as "startedAt", recent_since as "recentSince", list, after_id as "afterId",
  after_created_at as "afterCreatedAt"`

export async function findRunning(db: Queryable): Promise<Reconciliation | null> {
  const { rows } = await db.query<Reconciliation>(
    `select ${RECONCILIATION} from stripe_reconciliations where finished_at is null`,
  )
  return rows[0] ?? null
}

/** When the last one began that came to its end, and the last one at all; null before the first. */
export async function readHistory(db: Queryable): Promise<{ finished: Instant | null; started: Instant | null }> {
  const { rows } = await db.query<{ finished: Instant | null; started: Instant | null }>(
    `select max(started_at) filter (where finished_at is not null) as finished, max(started_at) as started from stripe_reconciliations`,
  )
  return rows[0]!
}

export type NewReconciliation = Pick<Reconciliation, 'startedAt' | 'recentSince' | 'list'>

/** Begins one, or begins the one anew that is under way. */
export async function startReconciliation(db: Queryable, { startedAt, recentSince, list }: NewReconciliation): Promise<void> {
  await db.query(
    `insert into stripe_reconciliations (started_at, recent_since, list, updated_at) values ($1, $2, $3, $1)
     on conflict ((true)) where finished_at is null do update set
       (started_at, recent_since, list, after_id, after_created_at, pages, objects, suspected, updated_at) =
       (excluded.started_at, excluded.recent_since, excluded.list, null, null, 0, 0, 0, excluded.updated_at)`,
    [startedAt, recentSince, list],
  )
}

/** Holds it until the transaction ends; false when it is over, or was begun anew. */
export async function lockRunning(tx: Queryable, { id, startedAt }: Reconciliation): Promise<boolean> {
  const { rows } = await tx.query(
    'select from stripe_reconciliations where id = $1 and started_at = $2 and finished_at is null for update',
    [id, startedAt],
  )
  return rows.length === 1
}

export type Progress = {
  readonly list: AccountList
  readonly after: { readonly id: string; readonly createdAt: Instant } | null
  readonly objects: number
  readonly suspected: number
}

/** Writes down up to where a page has been compared. */
export async function saveProgress(tx: Queryable, { id }: Reconciliation, progress: Progress, now: Instant): Promise<void> {
  const { list, after, objects, suspected } = progress
  await tx.query(
    `update stripe_reconciliations set list = $2, after_id = $3, after_created_at = $4, pages = pages + 1, objects = objects + $5,
       suspected = suspected + $6, updated_at = $7 where id = $1`,
    [id, list, after?.id ?? null, after?.createdAt ?? null, objects, suspected, now],
  )
}

export async function finishReconciliation(tx: Queryable, id: bigint, now: Instant): Promise<void> {
  await tx.query('update stripe_reconciliations set finished_at = $2 where id = $1', [id, now])
}

const MIRRORS: Readonly<Record<ListedObject['objectType'], string>> = {
  subscription: 'stripe_subscriptions',
  invoice: 'stripe_invoices',
  charge: 'stripe_charges',
  customer: 'stripe_customers',
  dispute: 'stripe_disputes',
}

export type Counterpart = { readonly id: string; readonly organizationId: string; readonly data: StripeObject | null }

/** Whose the objects are and what the mirror holds of each. What belongs to no organization of ours is left out. */
export async function findCounterparts(
  db: Queryable,
  objectType: ListedObject['objectType'],
  objects: readonly ListedObject[],
): Promise<Counterpart[]> {
  if (objects.length === 0) return []
  const { rows } = await db.query<Counterpart>(
    `select listed.id, organization.id as "organizationId", mirror.data
     from unnest($1::text[], $2::text[]) as listed (id, customer_id)
     join organizations organization on organization.stripe_customer_id = listed.customer_id
     left join ${MIRRORS[objectType]} mirror on mirror.organization_id = organization.id and mirror.id = listed.id`,
    [objects.map(({ id }) => id), objects.map(({ customerId }) => customerId)],
  )
  return rows
}

/** Has those refetched that were seen to differ, also those of whom a refetch is on its way. */
export async function suspect(tx: Queryable, organizationIds: readonly string[], now: Instant): Promise<void> {
  if (organizationIds.length === 0) return
  await tx.query(
    `insert into stripe_syncs (organization_id, suspected_at) select unnest($1::text[]), $2
     on conflict (organization_id) do update set suspected_at = greatest(stripe_syncs.suspected_at, excluded.suspected_at)`,
    [organizationIds, now],
  )
}

/** Those that are to be refetched now, the longest waiting first. */
export async function listSuspects(db: Queryable, now: Instant, limit: number): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(
    'select organization_id as id from stripe_syncs where suspected_at <= $1 order by suspected_at, organization_id limit $2',
    [now, limit],
  )
  return rows.map(({ id }) => id)
}

export async function putOffSuspect(db: Queryable, organizationId: string, until: Instant): Promise<void> {
  await db.query('update stripe_syncs set suspected_at = $2 where organization_id = $1', [organizationId, until])
}

/** Since when an organization is suspected, to the microsecond, as PostgreSQL says it; null while it is not. */
export async function findSuspicion(db: Queryable, organizationId: string): Promise<string | null> {
  const { rows } = await db.query<{ since: string | null }>(
    'select suspected_at::text as since from stripe_syncs where organization_id = $1',
    [organizationId],
  )
  return rows[0]?.since ?? null
}

/** Unless something else was seen to differ since. */
export async function endSuspicion(db: Queryable, organizationId: string, since: string): Promise<void> {
  await db.query('update stripe_syncs set suspected_at = null where organization_id = $1 and suspected_at = $2::timestamptz', [
    organizationId,
    since,
  ])
}

/** The customers of these organizations were listed, and nothing else of theirs was seen to differ: they are compared. */
export async function markCompared(tx: Queryable, organizationIds: readonly string[], at: Instant): Promise<void> {
  if (organizationIds.length === 0) return
  await tx.query(
    `insert into stripe_syncs (organization_id, synced_at, reconciled_at) select unnest($1::text[]), $2, $2
     on conflict (organization_id) do update set (synced_at, reconciled_at) =
       (greatest(stripe_syncs.synced_at, excluded.synced_at), greatest(stripe_syncs.reconciled_at, excluded.reconciled_at))
     where stripe_syncs.suspected_at is null`,
    [organizationIds, at],
  )
}

/** Invoices that are not settled change at any age: their rows say when Stripe last showed them as they are. */
export async function markInvoicesSeen(tx: Queryable, invoiceIds: readonly string[], at: Instant): Promise<void> {
  if (invoiceIds.length === 0) return
  await tx.query(
    `update stripe_invoices set refreshed_at = greatest(refreshed_at, $2) where id = any($1) and status in ${UNSETTLED}`,
    [invoiceIds, at],
  )
}

const UNSETTLED = `('draft', 'open', 'uncollectible')`

/** Organizations with an invoice that the mirror holds as not settled and that Stripe's lists have not shown since a time. */
export async function listWithUnseenInvoices(db: Queryable, span: { seenSince: Instant; until: Instant }): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(
    `select distinct organization_id as id from stripe_invoices
     where status in ${UNSETTLED} and refreshed_at < $1 and created_at <= $2`,
    [span.seenSince, span.until],
  )
  return rows.map(({ id }) => id)
}

/** Those whose customer the list did not show, because it was deleted, is on a test clock, or was made a moment ago; answers how many. */
export async function suspectUnseenCustomers(tx: Queryable, startedAt: Instant, now: Instant): Promise<number> {
  const { rowCount } = await tx.query(
    `insert into stripe_syncs (organization_id, suspected_at)
     select organization.id, $2 from organizations organization left join stripe_syncs sync on sync.organization_id = organization.id
     where organization.stripe_customer_id is not null and (sync.reconciled_at is null or sync.reconciled_at < $1)
       and sync.suspected_at is null
     on conflict (organization_id) do update set suspected_at = excluded.suspected_at`,
    [startedAt, now],
  )
  return rowCount ?? 0
}

/** Whether anybody is at Stripe at all. */
export async function hasCustomers(db: Queryable): Promise<boolean> {
  const { rows } = await db.query<{ found: boolean }>(
    'select exists (select from organizations where stripe_customer_id is not null) as found',
  )
  return rows[0]!.found
}

/** Of these, the organizations that have no customer yet. */
export async function listWithoutCustomer(db: Queryable, organizationIds: readonly string[]): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(
    'select id from organizations where id = any($1) and stripe_customer_id is null',
    [organizationIds],
  )
  return rows.map(({ id }) => id)
}
