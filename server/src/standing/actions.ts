import type { Queryable } from '../db/database.ts'
import { termsOfAccounts, type GrantsContext } from '../grants/actions.ts'
import { findAccounts, type AccountRow } from '../grants/store.ts'
import type { Standing } from './rules.ts'

/** An organization's account with what follows from it now. */
export type AccountStanding = { readonly account: AccountRow; readonly standing: Standing }

/** Whether and how organizations may use the product now, by id; those that do not exist are left out. */
export async function readStandings(
  db: Queryable,
  context: GrantsContext,
  organizationIds: readonly string[],
): Promise<ReadonlyMap<string, AccountStanding>> {
  const { version, catalog } = context.catalogs.current
  const accounts = await findAccounts(db, organizationIds, { planKey: catalog.defaultPlanKey, catalogVersion: version })
  const terms = await termsOfAccounts(context, accounts, context.clock.now())
  return new Map(
    accounts.map((account) => [account.organizationId, { account, standing: terms.get(account.organizationId)!.standing }]),
  )
}

/** The same of one; null when there is no such organization. */
export async function readStanding(
  db: Queryable,
  context: GrantsContext,
  organizationId: string,
): Promise<AccountStanding | null> {
  return (await readStandings(db, context, [organizationId])).get(organizationId) ?? null
}
