import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'

/** An organization whose counters do not tell the same sums; there is never one. */
export type Imbalance = {
  readonly organizationId: string
  /** used + overage of all its grants; what its hours say was drawn. */
  readonly granted: bigint
  readonly drawn: bigint
  /** What its grants say is reserved; what its open reservations hold. */
  readonly reserved: bigint
  readonly held: bigint
}

/**
 * Compares, in one snapshot, what grants, hourly sums and reservations say.
 * @param organizationIds of which; default: of all
 */
export async function listImbalances(
  db: Queryable,
  limit: number,
  organizationIds: readonly string[] | null = null,
): Promise<readonly Imbalance[]> {
  const asked = organizationIds === null ? 'true' : 'organization_id = any($2)'
  const found = await db.query<Imbalance>(
    `with granted as (
        select organization_id, sum(used + overage) as granted, sum(reserved) as reserved from grants where ${asked} group by 1
      ), drawn as (select organization_id, sum(drawn) as drawn from usage_hourly where ${asked} group by 1),
      held as (select organization_id, sum((hold ->> 1)::bigint) as held
        from reservations, jsonb_array_elements(holds) as hold where status = 'open' and ${asked} group by 1)
     select organization_id as "organizationId", coalesce(granted, 0)::bigint as granted, coalesce(drawn, 0)::bigint as drawn,
       coalesce(reserved, 0)::bigint as reserved, coalesce(held, 0)::bigint as held
     from granted full join drawn using (organization_id) full join held using (organization_id)
     where coalesce(granted, 0) <> coalesce(drawn, 0) or coalesce(reserved, 0) <> coalesce(held, 0)
     order by organization_id limit $1`,
    organizationIds === null ? [limit] : [limit, organizationIds],
  )
  return found.rows
}

/** Organizations that have an account, in order, after one. */
export async function listAccountsAfter(db: Queryable, after: string, limit: number): Promise<readonly string[]> {
  const { rows } = await db.query<{ id: string }>(
    'select organization_id as id from accounts where organization_id > $1 order by 1 limit $2',
    [after, limit],
  )
  return rows.map(({ id }) => id)
}

/** What the last comparison found. */
export type BalanceCheck = { readonly checkedAt: Instant; readonly imbalances: number }

export async function upsertBalanceCheck(db: Queryable, { checkedAt, imbalances }: BalanceCheck): Promise<void> {
  await db.query(
    `insert into balance_checks (checked_at, imbalances) values ($1, $2)
     on conflict (only_row) do update set checked_at = excluded.checked_at, imbalances = excluded.imbalances`,
    [checkedAt, imbalances],
  )
}

export async function findBalanceCheck(db: Queryable): Promise<BalanceCheck | null> {
  const found = await db.query<BalanceCheck>('select checked_at as "checkedAt", imbalances from balance_checks')
  return found.rows[0] ?? null
}
