import type { Queryable } from '../db/database.ts'
import type { LowBalance } from './ledger.ts'

/** Leaves word of balances that fell under their marks, for whoever buys more; word that is there already stays. */
export async function insertLowBalances(tx: Queryable, balances: readonly LowBalance[]): Promise<void> {
  await tx.query(
    `insert into auto_top_up_requests (organization_id, balance, requested_at)
     select * from unnest($1::text[], $2::text[], $3::timestamptz[]) on conflict (organization_id, balance) do nothing`,
    [
      balances.map(({ organizationId }) => organizationId),
      balances.map(({ balanceKey }) => balanceKey),
      balances.map(({ at }) => at),
    ],
  )
}
