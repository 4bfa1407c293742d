import { insertAuditEntry } from '../audit/store.ts'
import type { Transaction } from '../db/database.ts'
import { DomainError } from '../lib/errors.ts'
import { readTimeZone } from '../lib/period.ts'
import { reconcilePlanGrants } from './actions.ts'
import type { Giver, GivingContext } from './giving.ts'
import { insertMissingAccounts, lockAccounts, updateTimeZone } from './store.ts'

export type TimeZoneContext = GivingContext & {
  /** Ends the reservations whose time is over: what they held is left over, and moves on into a period that begins here. */
  readonly endOverdueReservations: (tx: Transaction, organizationId: string) => Promise<void>
}

/**
 * Sets the zone of an organization's calendar periods. The period that stands keeps its name and what was used of it, and ends
 * where it ends in the new zone; so a change hands out no period twice and leaves none out.
 * @param timeZone an IANA name; null is the catalog's
 * @returns the name in its usual spelling
 * @throws DomainError `not_found`, `invalid_request`
 */
export async function setTimeZone(
  context: TimeZoneContext,
  { organizationId, timeZone }: { organizationId: string; timeZone: string | null },
  giver: Giver,
): Promise<string | null> {
  const after = timeZone === null ? null : readTimeZone(timeZone)
  const now = context.clock.now()
  const { version, catalog } = context.catalogs.current
  await context.db.transaction(async (tx) => {
    await insertMissingAccounts(tx, [organizationId], { planKey: catalog.defaultPlanKey, catalogVersion: version, now })
    const [account] = await lockAccounts(tx, [organizationId])
    if (!account) throw new DomainError('not_found', 'There is no such organization.')
    if (account.timeZone === after) return
    await context.endOverdueReservations(tx, organizationId)
    await updateTimeZone(tx, organizationId, after)
    await reconcilePlanGrants(tx, context, organizationId)
    await insertAuditEntry(tx, {
      organizationId,
      ...giver,
      action: 'organization.time_zone_set',
      target: organizationId,
      before: { time_zone: account.timeZone },
      after: { time_zone: after },
      at: now,
    })
  })
  return after
}
