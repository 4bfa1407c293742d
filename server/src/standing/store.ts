import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { StandingOverride } from './rules.ts'

/** Locks the account and reads what an operator set; null when there is no account. */
export async function lockOverride(tx: Queryable, organizationId: string): Promise<StandingOverride | null> {
  const { rows } = await tx.query<StandingOverride>(
    `select override_plan_key as "planKey", override_status as "status", override_trial_ends_at as "trialEndsAt",
       override_expires_at as "expiresAt", override_ends_at as "endsAt"
     from accounts where organization_id = $1 for update`,
    [organizationId],
  )
  return rows[0] ?? null
}

/** Why an override was set, by whom and when. */
export type OverrideNote = { readonly reason: string | null; readonly setBy: string | null; readonly setAt: Instant | null }

export async function updateOverride(
  tx: Queryable,
  organizationId: string,
  override: StandingOverride & OverrideNote,
  now: Instant,
): Promise<void> {
  const { planKey, status, trialEndsAt, expiresAt, endsAt, reason, setBy, setAt } = override
  await tx.query(
    `update accounts set override_plan_key = $2, override_status = $3, override_trial_ends_at = $4, override_expires_at = $5,
       override_ends_at = $6, override_reason = $7, override_set_by = $8, override_set_at = $9, updated_at = $10
     where organization_id = $1`,
    [organizationId, planKey, status, trialEndsAt, expiresAt, endsAt, reason, setBy, setAt, now],
  )
}

/** The notes of overrides, by organization. */
export async function findOverrideNotes(
  db: Queryable,
  organizationIds: readonly string[],
): Promise<ReadonlyMap<string, OverrideNote>> {
  const { rows } = await db.query<OverrideNote & { id: string }>(
    `select organization_id as id, override_reason as reason, override_set_by as "setBy", override_set_at as "setAt" from accounts
     where organization_id = any($1) and override_set_at is not null`,
    [organizationIds],
  )
  return new Map(rows.map(({ id, ...note }) => [id, note]))
}

export type BilledName = {
  readonly id: string
  readonly name: string
  readonly email: string
  readonly customerId: string | null
}

/** Organizations by id, a page at a time; those of one id when it is named. */
export async function listBilledNames(
  db: Queryable,
  query: { only: string | null; after: string | null; limit: number },
): Promise<BilledName[]> {
  const { rows } = await db.query<BilledName>(
    `select id, name, email, stripe_customer_id as "customerId" from organizations
     where ($1::text is null or id = $1) and id > coalesce($2, '') order by id limit $3`,
    [query.only, query.after, query.limit],
  )
  return rows
}

/** One of those that the list of `only`, or of all, has. */
export async function findBilledName(
  db: Queryable,
  { only, id }: { readonly only: string | null; readonly id: string },
): Promise<BilledName | null> {
  if (only !== null && only !== id) return null
  const [name] = await listBilledNames(db, { only: id, after: null, limit: 1 })
  return name ?? null
}

/** The subscriptions on which accounts stand, by organization. */
export async function findSubscriptionIds(
  db: Queryable,
  organizationIds: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const { rows } = await db.query<{ id: string; subscriptionId: string }>(
    `select organization_id as id, subscription_id as "subscriptionId" from accounts
     where organization_id = any($1) and subscription_id is not null`,
    [organizationIds],
  )
  return new Map(rows.map(({ id, subscriptionId }) => [id, subscriptionId]))
}

/** The time of an organization's test clock, null when it has none; undefined when there is no such organization. */
export async function findClockTime(db: Queryable, organizationId: string): Promise<Instant | null | undefined> {
  const { rows } = await db.query<{ now: Instant | null }>('select test_clock_now as now from organizations where id = $1', [
    organizationId,
  ])
  return rows[0]?.now
}
