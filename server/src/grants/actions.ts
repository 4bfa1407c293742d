import type { Catalog } from '../catalog/catalog.ts'
import type { CatalogRegistry } from '../catalog/registry.ts'
import type { Queryable, Transaction } from '../db/database.ts'
import type { Clock, Instant } from '../lib/clock.ts'
import { deriveStanding } from '../standing/rules.ts'
import { hasTermsOf, openedGrant, planGrantOf, regrant, type Grant, type PlanGrant, type PlanTerms } from './rules.ts'
import { findActiveGrants, findGrantsById, insertGrants, lockAccounts, updateGrants, type AccountRow } from './store.ts'

/** What grants and metering need from outside. */
export type GrantsContext = {
  readonly catalogs: CatalogRegistry
  readonly clock: Clock
  /** Days of use after a payment failed (EM-7). */
  readonly graceDays: number
}

/** The time of an organization: its test clock's, else this server's. */
export function timeOf(account: Pick<AccountRow, 'testClockNow'>, now: Instant): Instant {
  return account.testClockNow ?? now
}

/** What decides an organization's plan allowances, from its account and the catalog whose terms it has. Pure. */
export function planTermsOf(
  account: AccountRow,
  { catalog, current, graceDays, now }: { catalog: Catalog; current: Catalog; graceDays: number; now: Instant },
): PlanTerms {
  const overridden = account.overridePlanKey ?? account.overrideStatus ?? account.overrideTrialEndsAt ?? account.overrideExpiresAt
  const facts = {
    planKey: account.planKey,
    subscriptionStatus: account.subscriptionStatus,
    trialEndsAt: account.trialEndsAt,
    currentPeriodEnd: account.currentPeriodEnd,
    paymentFailedAt: account.paymentFailedAt,
    override:
      overridden === null
        ? null
        : {
            planKey: account.overridePlanKey,
            status: account.overrideStatus,
            trialEndsAt: account.overrideTrialEndsAt,
            expiresAt: account.overrideExpiresAt,
          },
  }
  return {
    standing: deriveStanding(facts, { defaultPlanKey: catalog.defaultPlanKey, graceDays }, timeOf(account, now)),
    catalog,
    newerMeters: current.meters,
    catalogVersion: account.catalogVersion,
    anchor: account.organizationCreatedAt,
    currentPeriodStart: account.currentPeriodStart,
    currentPeriodEnd: account.currentPeriodEnd,
    timeZone: account.timeZone ?? 'UTC',
  }
}

/** Reads the catalogs that accounts name and answers each organization's terms. */
export async function termsOfAccounts(
  context: GrantsContext,
  accounts: readonly AccountRow[],
  now: Instant,
): Promise<ReadonlyMap<string, PlanTerms>> {
  const versions = new Map<number, Catalog>()
  for (const { catalogVersion } of accounts) {
    if (!versions.has(catalogVersion)) versions.set(catalogVersion, await context.catalogs.get(catalogVersion))
  }
  const current = context.catalogs.current.catalog
  return new Map(
    accounts.map((account) => {
      const catalog = versions.get(account.catalogVersion)!
      return [account.organizationId, planTermsOf(account, { catalog, current, graceDays: context.graceDays, now })]
    }),
  )
}

/** A plan's allowance that an organization is to have. */
export type WantedGrant = { readonly organizationId: string; readonly plan: PlanGrant; readonly now: Instant }

/**
 * Opens the plan allowances that are not there yet, gives those that stand under other terms the present ones, and ends
 * the allowances that they replace. The caller holds the accounts' locks. Answers those and these as they now are.
 * @param standing what the caller has read already: the grants that count now
 */
export async function ensurePlanGrants(
  tx: Queryable,
  wanted: readonly WantedGrant[],
  standing: readonly Grant[],
): Promise<readonly Grant[]> {
  const known = new Map(standing.map((grant) => [nameOf(grant), grant]))
  const missing = wanted.filter(({ organizationId, plan }) => !known.has(nameOf({ organizationId, id: plan.id })))
  if (missing.length > 0) {
    await insertGrants(
      tx,
      missing.map(({ organizationId, plan, now }) => openedGrant(organizationId, plan, now)),
    )
    const names = missing.map(({ organizationId, plan }) => ({ organizationId, id: plan.id }))
    for (const grant of await findGrantsById(tx, names)) known.set(nameOf(grant), grant)
  }
  const changed: Grant[] = []
  const result = wanted.map(({ organizationId, plan }) => {
    const grant = known.get(nameOf({ organizationId, id: plan.id }))!
    if (hasTermsOf(grant, plan)) return grant
    const regranted = regrant(grant, plan)
    changed.push(regranted)
    return regranted
  })
  const replaced = replacedBy(wanted, standing)
  if (changed.length + replaced.length > 0) await updateGrants(tx, [...changed, ...replaced])
  return [...result, ...replaced]
}

/** Plan allowances of the same balances that still count but stand no longer: they end now, and their rest expires. */
function replacedBy(wanted: readonly WantedGrant[], standing: readonly Grant[]): Grant[] {
  const current = new Map(wanted.map((want) => [`${want.organizationId}\n${want.plan.balanceKey}`, want]))
  return standing.flatMap((grant) => {
    const want = grant.kind === 'plan' ? current.get(`${grant.organizationId}\n${grant.balanceKey}`) : undefined
    return want && want.plan.id !== grant.id ? [{ ...grant, expiresAt: want.now }] : []
  })
}

function nameOf({ organizationId, id }: { organizationId: string; id: string }): string {
  return `${organizationId}\n${id}`
}

/**
 * Brings an organization's plan allowances in line with its account: called by whoever changed plan, period or standing, in
 * the same transaction. Doing it again changes nothing; leaving it out only means that the next use does it.
 */
export async function reconcilePlanGrants(
  tx: Transaction,
  context: GrantsContext,
  organizationId: string,
): Promise<readonly Grant[]> {
  const machineNow = context.clock.now()
  const accounts = await lockAccounts(tx, [organizationId])
  const [account] = accounts
  if (!account) return []
  const terms = (await termsOfAccounts(context, accounts, machineNow)).get(organizationId)!
  const now = timeOf(account, machineNow)
  const standing = (await findActiveGrants(tx, [organizationId], machineNow)).filter((grant) => grant.kind === 'plan')
  const included = terms.catalog.plans.get(terms.standing.planKey)?.allowances.keys() ?? []
  // A balance that the plan no longer names still has the old plan's allowance, which has to end.
  const balanceKeys = new Set([...included, ...standing.map((grant) => grant.balanceKey)])
  const wanted = [...balanceKeys].map((balanceKey) => ({ organizationId, plan: planGrantOf(terms, balanceKey, now), now }))
  return ensurePlanGrants(tx, wanted, standing)
}
