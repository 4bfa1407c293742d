import type { Queryable } from '../db/database.ts'

/** Subscriptions that stand (in trial, paid, or being retried), by plan (EM-13). */
export async function countSubscriptionsByPlan(db: Queryable): Promise<ReadonlyMap<string, number>> {
  const { rows } = await db.query<{ planKey: string; count: number }>(
    `select plan_key as "planKey", count(*)::int as count from accounts
     where subscription_status in ('trialing', 'active', 'past_due') group by plan_key`,
  )
  return new Map(rows.map(({ planKey, count }) => [planKey, count]))
}
