import type { Queryable } from '../db/database.ts'

/** Whether some version of the catalog has a plan, or has sold it: a plan that was taken out still has its customers. */
export async function isPlanKnown(db: Queryable, planKey: string): Promise<boolean> {
  const { rows } = await db.query<{ known: boolean }>(
    `select exists (select from accounts where plan_key = $1) or exists (select from plan_prices where plan_key = $1) as known`,
    [planKey],
  )
  return rows[0]!.known
}
