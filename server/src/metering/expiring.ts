import type { Queryable } from '../db/database.ts'
import { timeOf, type GrantsContext } from '../grants/actions.ts'
import { UNCOUNTED, type GrantChange } from '../grants/rules.ts'
import { lockAccount } from '../grants/store.ts'
import { closeReservations, findOverdueReservationsOf } from './write/reservations-store.ts'
import { addUse } from './write/store.ts'

/**
 * Ends the reservations of an organization whose time is over, before a period begins: what they held is left over, and moves on.
 * Called in the transaction that is about to reconcile the organization's grants.
 */
export async function endOverdueReservations(
  tx: Queryable,
  { clock }: Pick<GrantsContext, 'clock'>,
  organizationId: string,
): Promise<void> {
  const account = await lockAccount(tx, organizationId)
  if (account === null) return
  const machineNow = clock.now()
  const overdue = await findOverdueReservationsOf(tx, { organizationId, at: machineNow })
  if (overdue.length === 0) return
  const closedAt = timeOf(account, machineNow)
  await closeReservations(
    tx,
    overdue.map((reservation) => ({ ...reservation, status: 'expired', closedAt })),
  )
  const changes = new Map<string, GrantChange>()
  for (const { holds } of overdue) {
    for (const { grantId, amount, overage } of holds) {
      const change = changes.get(grantId) ?? { organizationId, id: grantId, ...UNCOUNTED, amount: 0n }
      changes.set(grantId, { ...change, reserved: change.reserved - amount, heldOverage: change.heldOverage - overage })
    }
  }
  await addUse(tx, [...changes.values()], [])
}
