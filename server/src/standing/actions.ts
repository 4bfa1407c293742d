import type { Queryable } from '../db/database.ts'
import { termsOfAccounts, type GrantsContext } from '../grants/actions.ts'
import { findAccounts, type AccountRow } from '../grants/store.ts'
import type { Standing } from './rules.ts'

/** An organization's account with what follows from it now. */
export type AccountStanding = { readonly account: AccountRow; readonly standing: Standing }

/** Whether and how an organization may use the product now; null when there is no such organization. */
export async function readStanding(
  db: Queryable,
  context: GrantsContext,
  organizationId: string,
): Promise<AccountStanding | null> {
  const { version, catalog } = context.catalogs.current
  const accounts = await findAccounts(db, [organizationId], { planKey: catalog.defaultPlanKey, catalogVersion: version })
  const [account] = accounts
  if (!account) return null
  const terms = await termsOfAccounts(context, accounts, context.clock.now())
  return { account, standing: terms.get(organizationId)!.standing }
}
