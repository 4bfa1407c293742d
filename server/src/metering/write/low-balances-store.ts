import type { Queryable } from '../../db/database.ts'
import type { LowBalance } from '../decide/ledger.ts'

/**
 * Leaves word of balances that are under their marks, for whoever buys more. Word that is there already is then as good as not looked
 * at: it is due at once, and who has just seen enough of the balance does not take it away.
 */
export async function insertLowBalances(tx: Queryable, balances: readonly LowBalance[]): Promise<void> {
  await tx.query(
    `insert into auto_top_up_requests (organization_id, balance, requested_at)
     select * from unnest($1::text[], $2::text[], $3::timestamptz[]) 
     on conflict (organization_id, balance) do update set requested_at = excluded.requested_at, looked_at = null`,
    [
      balances.map(({ organizationId }) => organizationId),
      balances.map(({ balanceKey }) => balanceKey),
      balances.map(({ at }) => at),
    ],
  )
}
