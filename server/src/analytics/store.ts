import type { Queryable } from '../db/database.ts'

/** Subscriptions that stand (in trial, paid, or being retried), by plan (EM-13). */
export async function countSubscriptionsByPlan(db: Queryable): Promise<ReadonlyMap<string, number>> {
  const { rows } = await db.query<{ planKey: string; count: number }>(
    `select plan_key as "planKey", count(*)::int as count from accounts
     where subscription_status in ('trialing', 'active', 'past_due') group by plan_key`,
  )
  return new Map(rows.map(({ planKey, count }) => [planKey, count]))
}

/** What the triggers of migration 0090 count. */
export type TallySubject =
  | 'organizations'
  | 'users'
  | 'stripe_subscriptions'
  | 'stripe_invoices'
  | 'stripe_charges'
  | 'mrr_accounts'

export type Tally = {
  readonly subject: TallySubject
  readonly status: string
  readonly planKey: string
  readonly currency: string
  readonly count: number
  /** Of `mrr_accounts`: monthly revenue in millionths of a minor unit. */
  readonly amount: bigint
}

/** How many rows there are, without counting them: exact, and in a time that does not depend on how many there are. */
export async function listTallies(db: Queryable, subject: TallySubject | null): Promise<Tally[]> {
  const { rows } = await db.query<Tally>(
    `select subject, status, plan_key as "planKey", currency, sum(count)::float8 as count, sum(amount)::bigint as amount
     from tallies where $1::text is null or subject = $1 group by subject, status, plan_key, currency
     having sum(count) <> 0 or sum(amount) <> 0 order by subject, status, plan_key, currency`,
    [subject],
  )
  return rows
}

/** Rows of all statuses, or of one. */
export async function countRows(db: Queryable, subject: TallySubject, status: string | null = null): Promise<number> {
  const tallies = await listTallies(db, subject)
  return tallies.filter((tally) => status === null || tally.status === status).reduce((sum, { count }) => sum + count, 0)
}

/** Monthly recurring revenue by currency and plan, in minor units; for metrics, which are floats. */
export async function readRevenue(db: Queryable): Promise<{ currency: string; tier: string; minor: number }[]> {
  const { rows } = await db.query<{ currency: string; tier: string; minor: number }>(
    `select currency, plan_key as tier, (sum(amount) / 1000000)::float8 as minor from tallies
     where subject = 'mrr_accounts' group by currency, plan_key having sum(amount) <> 0`,
  )
  return rows
}

/** Below this many rows there is nothing to gain. */
const FOLD_FROM = 100

/** Adds the differences up to one row each. What is inserted meanwhile stays for the next time. */
export async function foldTallies(db: Queryable): Promise<void> {
  const { rows } = await db.query<{ many: boolean }>('select count(*) > $1 as many from tallies', [FOLD_FROM])
  if (rows[0]?.many !== true) return
  await db.query(
    `with folded as (delete from tallies returning *)
     insert into tallies (subject, status, plan_key, currency, count, amount)
     select subject, status, plan_key, currency, sum(count), sum(amount) from folded
     group by subject, status, plan_key, currency having sum(count) <> 0 or sum(amount) <> 0`,
  )
}
