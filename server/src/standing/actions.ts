import type { Queryable } from '../db/database.ts'
import { overrideOf, termsOfAccounts, type GrantsContext } from '../grants/actions.ts'
import { findAccounts, type AccountRow } from '../grants/store.ts'
import type { Instant } from '../lib/clock.ts'
import type { Standing, StandingOverride } from './rules.ts'

/** An organization's account with what follows from it now. */
export type AccountStanding = {
  readonly account: AccountRow
  readonly standing: Standing
  /** What an operator set by hand, while it counts. */
  readonly override: StandingOverride | null
  /** MR-12's words: an operator's before Stripe's; `none` without a subscription. */
  readonly billingStatus: string
  readonly trialEndsAt: Instant | null
  readonly expiresAt: Instant | null
}

/** Whether and how organizations may use the product now, by id; those that do not exist are left out. */
export async function readStandings(
  db: Queryable,
  context: GrantsContext,
  organizationIds: readonly string[],
): Promise<ReadonlyMap<string, AccountStanding>> {
  const { version, catalog } = context.catalogs.current
  const accounts = await findAccounts(db, organizationIds, { planKey: catalog.defaultPlanKey, catalogVersion: version })
  const now = context.clock.now()
  const terms = await termsOfAccounts(context, accounts, now)
  return new Map(
    accounts.map((account) => {
      const { standing } = terms.get(account.organizationId)!
      return [account.organizationId, { account, standing, ...snapshotOf(account, overrideOf(account, now)) }]
    }),
  )
}

function snapshotOf(account: AccountRow, override: StandingOverride | null): Omit<AccountStanding, 'account' | 'standing'> {
  return {
    override,
    billingStatus: override?.status ?? account.subscriptionStatus ?? 'none',
    trialEndsAt: override?.trialEndsAt ?? account.trialEndsAt,
    expiresAt: override?.expiresAt ?? account.currentPeriodEnd,
  }
}

/** The same of one; null when there is no such organization. */
export async function readStanding(
  db: Queryable,
  context: GrantsContext,
  organizationId: string,
): Promise<AccountStanding | null> {
  return (await readStandings(db, context, [organizationId])).get(organizationId) ?? null
}
