import type { TestBilling } from './billing.ts'

/** How an organization's revenue has moved, oldest first: each kind with its amount in minor units. */
export async function movementsOf(billing: TestBilling, id: string): Promise<readonly (readonly [string, number])[]> {
  const { rows } = await billing.database.db.query<{ kind: string; amount: bigint }>(
    'select kind, amount from mrr_movements where organization_id = $1 order by number',
    [id],
  )
  return rows.map(({ kind, amount }) => [kind, Number(amount) / 1_000_000])
}
