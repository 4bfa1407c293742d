import type { AddOn, Catalog } from '../catalog/catalog.ts'
import type { CatalogRegistry, CatalogVersion } from '../catalog/registry.ts'
import type { Queryable, Transaction } from '../db/database.ts'
import { publishEvents } from '../events/actions.ts'
import type { NewEvent } from '../events/types.ts'
import type { Clock, Instant } from '../lib/clock.ts'
import { DAY_MS } from '../lib/period.ts'
import { deriveStanding, overrideAt, type StandingOverride } from '../standing/rules.ts'
import { thresholdsReached } from './thresholds.ts'
import { nextTerms, type PastTerms } from './history.ts'
import { findLastTerms, insertTerms } from './history-store.ts'
import { endLevelsOf } from './ending-store.ts'
import { moveOn, type MovedOn } from './rollover.ts'
import {
  hasTermsOf,
  includedBalances,
  openedGrant,
  planGrantOf,
  regrant,
  type Grant,
  type PlanTerms,
  type WantedGrant,
} from './rules.ts'
import {
  findActiveGrantsOf,
  findGrantsById,
  findLastPlanGrants,
  insertGrants,
  lockAccount,
  updateGrants,
  type AccountRow,
} from './store.ts'

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

/** What an operator set by hand (MR-6) that counts at this server's time `now`; null when there is nothing, or no more. */
export function overrideOf(account: AccountRow, now: Instant): StandingOverride | null {
  const override = {
    planKey: account.overridePlanKey,
    status: account.overrideStatus,
    trialEndsAt: account.overrideTrialEndsAt,
    expiresAt: account.overrideExpiresAt,
    endsAt: account.overrideEndsAt,
  }
  return overrideAt(override, timeOf(account, now))
}

type TermsSource = {
  /** Under which they bought. */
  readonly catalog: Catalog
  readonly current: CatalogVersion
  readonly otherAddOns: Catalog['addOns']
  readonly graceDays: number
  readonly now: Instant
}

/** What decides an organization's plan allowances, from its account and the catalog whose terms it has. Pure. */
function planTermsOf(account: AccountRow, { catalog: own, current, otherAddOns, graceDays, now }: TermsSource): PlanTerms {
  const facts = {
    planKey: account.planKey,
    subscriptionStatus: account.subscriptionStatus,
    trialEndsAt: account.trialEndsAt,
    currentPeriodEnd: account.currentPeriodEnd,
    paymentFailedAt: account.paymentFailedAt,
    endedAt: account.endedAt,
    override: overrideOf(account, now),
  }
  const standing = deriveStanding(facts, { defaultPlanKey: own.defaultPlanKey, graceDays }, timeOf(account, now))
  // An operator may give a plan that was declared after these terms: then it is what the present catalog says.
  const isNewer = !own.plans.has(standing.planKey) && current.catalog.plans.has(standing.planKey)
  const catalog = isNewer ? current.catalog : own
  return {
    standing,
    catalog,
    newerMeters: current.catalog.meters,
    otherAddOns,
    catalogVersion: isNewer ? current.version : account.catalogVersion,
    anchor: account.organizationCreatedAt,
    currentPeriodStart: account.currentPeriodStart,
    currentPeriodEnd: account.currentPeriodEnd,
    cycleAnchor: account.cycleAnchor,
    timeZone: account.timeZone ?? catalog.timeZone,
    addOns: account.addOns ?? {},
    since: account.termsSince,
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
  const { current } = context.catalogs
  // Whichever of the two an account's terms are.
  const bought = accounts.flatMap(({ catalogVersion, addOns }) => [
    { catalog: versions.get(catalogVersion)!, addOns },
    { catalog: current.catalog, addOns },
  ])
  const otherAddOns = await readOtherAddOns(context.catalogs, bought)
  const source = { current, otherAddOns, graceDays: context.graceDays, now }
  return new Map(
    accounts.map((account) => {
      const catalog = versions.get(account.catalogVersion)!
      return [account.organizationId, planTermsOf(account, { ...source, catalog })]
    }),
  )
}

/** The add-ons that were bought under catalogs that do not declare them, as the newest that has them does. */
export async function readOtherAddOns(
  catalogs: CatalogRegistry,
  bought: readonly { readonly catalog: Catalog; readonly addOns: PastTerms['addOns'] | null }[],
): Promise<Catalog['addOns']> {
  const found = new Map<string, AddOn>()
  for (const { catalog, addOns } of bought) {
    for (const key in addOns) {
      if (catalog.addOns.has(key) || found.has(key)) continue
      const addOn = await catalogs.addOn(key)
      if (addOn !== undefined) found.set(key, addOn)
    }
  }
  return found
}

/**
 * Opens the plan allowances that are not there yet, with what moves on into them from the period before; gives those that stand
 * under other terms the present ones, and ends the allowances that they replace. The caller holds the accounts' locks. Answers
 * all of these as they now are.
 * @param standing what the caller has read already: the grants that count now
 */
export async function ensurePlanGrants(
  tx: Queryable,
  { catalogs }: Pick<GrantsContext, 'catalogs'>,
  wanted: readonly WantedGrant[],
  standing: readonly Grant[],
): Promise<readonly Grant[]> {
  const known = new Map(standing.map((grant) => [nameOf(grant), grant]))
  const missing = wanted.filter(({ organizationId, plan }) => !known.has(nameOf({ organizationId, id: plan.id })))
  const replaced = replacedBy(wanted, standing)
  const moved = missing.length === 0 ? [] : await openMissing(tx, missing, { known, replaced })
  const changed: Grant[] = []
  const notices: NewEvent[] = []
  const catalogOf = await catalogsBefore(catalogs, wanted, ({ organizationId, plan }) =>
    known.get(nameOf({ organizationId, id: plan.id })),
  )
  const result = wanted.map(({ organizationId, plan, terms, now }) => {
    const grant = known.get(nameOf({ organizationId, id: plan.id }))!
    if (hasTermsOf(grant, plan)) return grant
    const regranted = regrant(grant, plan, catalogOf(grant, terms))
    changed.push(regranted)
    // Under other terms the shares of what was used so far are others.
    notices.push(
      ...thresholdsReached({ grant, plan, catalog: terms.catalog, before: 0n, after: regranted.used + regranted.overage }, now),
    )
    return regranted
  })
  // What was replaced and left something over is among both: it was written as it is now.
  const ended = new Map([...replaced, ...moved].map((grant) => [nameOf(grant), grant]))
  const unwritten = [...changed, ...replaced.filter((grant) => ended.get(nameOf(grant)) === grant)]
  if (unwritten.length > 0) await updateGrants(tx, unwritten)
  await moveLevels(tx, [...replaced, ...changed], standing)
  if (notices.length > 0) await publishEvents(tx, notices)
  return [...result, ...ended.values()]
}

/** Tells the levels of allowances when they end, where that is at another time than before. */
async function moveLevels(tx: Queryable, grants: readonly Grant[], before: readonly Grant[]): Promise<void> {
  const ends = new Map(before.map((grant) => [nameOf(grant), grant.expiresAt]))
  const moved = grants.filter((grant) => {
    const end = ends.get(nameOf(grant))
    return end !== undefined && end?.getTime() !== grant.expiresAt?.getTime()
  })
  if (moved.length === 0) return
  await endLevelsOf(
    tx,
    moved.map((grant) => ({ ...grant, wasEndless: ends.get(nameOf(grant)) === null })),
  )
}

/**
 * Reads the catalogs under which grants stand that are to take other terms; answers how a grant's is found.
 * @param grantOf the grant that stands for an allowance, if there is one
 */
export async function catalogsBefore(
  catalogs: CatalogRegistry,
  wanted: readonly WantedGrant[],
  grantOf: (want: WantedGrant) => Grant | undefined,
): Promise<(grant: Grant, terms: PlanTerms) => Catalog> {
  const read = new Map<number, Catalog>()
  for (const want of wanted) {
    const grant = grantOf(want)
    const version = grant?.catalogVersion ?? want.terms.catalogVersion
    if (!grant || version === want.terms.catalogVersion || read.has(version) || hasTermsOf(grant, want.plan)) continue
    read.set(version, await catalogs.get(version))
  }
  return ({ catalogVersion }, terms) => (catalogVersion === null ? undefined : read.get(catalogVersion)) ?? terms.catalog
}

type Opening = { readonly known: Map<string, Grant>; readonly replaced: readonly Grant[] }

/** Opens allowances, adds them to `known`, and answers what moved on: the grants it came from and those that hold it. */
async function openMissing(tx: Queryable, missing: readonly WantedGrant[], { known, replaced }: Opening): Promise<Grant[]> {
  const opened = await insertGrants(
    tx,
    missing.map(({ organizationId, plan, now }) => openedGrant(organizationId, plan, now)),
  )
  const names = missing.map(({ organizationId, plan }) => ({ organizationId, id: plan.id }))
  for (const grant of await findGrantsById(tx, names)) known.set(nameOf(grant), grant)
  const begun = new Set(opened.map(nameOf))
  const fresh = missing.filter(({ organizationId, plan }) => begun.has(nameOf({ organizationId, id: plan.id })))
  const { passed, moves } = await readMoves(tx, fresh, replaced)
  if (passed.length + moves.length === 0) return []
  const taken = new Map(moves.map(({ from }) => [nameOf(from), from]))
  const rollovers = moves.map(({ to }) => to)
  const written = await insertGrants(tx, [...passed.map((grant) => taken.get(nameOf(grant)) ?? grant), ...rollovers])
  const isNew = new Set(written.map(nameOf))
  const begunNow = moves.filter(({ to }) => isNew.has(nameOf(to)))
  const before = begunNow.flatMap(({ from }) => (isNew.has(nameOf(from)) ? [] : [from]))
  if (before.length > 0) await updateGrants(tx, before)
  return begunNow.flatMap(({ from, to }) => [from, to])
}

/**
 * What moves on into periods that begin, with nothing written: `to` may be there already.
 * @param known grants as the caller knows them, where that is not as they are stored
 */
export async function readMoves(client: Queryable, begun: readonly WantedGrant[], known: readonly Grant[]): Promise<MovedOn> {
  const carrying = begun.filter(({ plan }) => plan.allowance.rollover !== null)
  if (carrying.length === 0) return { passed: [], moves: [] }
  const names = carrying.map(({ organizationId, plan }) => ({ organizationId, id: plan.id, balanceKey: plan.balanceKey }))
  const last = await findLastPlanGrants(client, names)
  const ended = new Map(known.map((grant) => [nameOf(grant), grant]))
  const previous = new Map(last.map((grant) => [balanceOf(grant), ended.get(nameOf(grant)) ?? grant]))
  const moved = carrying.map((want) => moveOn(want, previous.get(balanceOf({ ...want, ...want.plan })) ?? null))
  return { passed: moved.flatMap(({ passed }) => passed), moves: moved.flatMap(({ moves }) => moves) }
}

/** Plan allowances of the same balances that still count but stand no longer: they end now, and their rest expires or moves on. */
export function replacedBy(wanted: readonly WantedGrant[], standing: readonly Grant[]): Grant[] {
  const current = new Map(wanted.map((want) => [balanceOf({ ...want, ...want.plan }), want]))
  return standing.flatMap((grant) => {
    const want = grant.kind === 'plan' ? current.get(balanceOf(grant)) : undefined
    return want && want.plan.id !== grant.id ? [{ ...grant, expiresAt: want.now }] : []
  })
}

function balanceOf({ organizationId, balanceKey }: { organizationId: string; balanceKey: string }): string {
  return `${organizationId}\n${balanceKey}`
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
  const account = await lockAccount(tx, organizationId)
  if (account === null) return []
  const terms = (await termsOfAccounts(context, [account], machineNow)).get(organizationId)!
  const now = timeOf(account, machineNow)
  await recordTerms(tx, context, { organizationId, terms, now })
  const standing = (await findActiveGrantsOf(tx, { organizationId, at: machineNow })).filter((grant) => grant.kind === 'plan')
  // A balance that the plan no longer names still has the old plan's allowance, which has to end.
  const balanceKeys = new Set([...includedBalances(terms), ...standing.map((grant) => grant.balanceKey)])
  const wanted = [...balanceKeys].map((balanceKey) => ({
    organizationId,
    terms,
    plan: planGrantOf(terms, balanceKey, now),
    now,
  }))
  return ensurePlanGrants(tx, context, wanted, standing)
}

/** Longer than use may be told back (35 days), with the allowance of a month before it. */
const HISTORY_MS = 70 * DAY_MS

/** Keeps what the organization has from now on, where that is something else than before. */
async function recordTerms(
  tx: Transaction,
  { catalogs }: GrantsContext,
  { organizationId, terms, now }: { readonly organizationId: string; readonly terms: PlanTerms; readonly now: Instant },
): Promise<void> {
  const { version, catalog } = catalogs.current
  // Before anything was heard of an organization it had the default plan, ever since.
  const first: PastTerms = {
    since: new Date(0),
    planKey: catalog.defaultPlanKey,
    catalogVersion: version,
    cycle: null,
    addOns: {},
  }
  const known = await findLastTerms(tx, organizationId)
  const next = nextTerms(terms, known ?? first, now)
  if (next === null) return
  const forgetBefore = new Date(now.getTime() - HISTORY_MS)
  for (const entry of known === null ? [first, next] : [next]) await insertTerms(tx, organizationId, entry, { forgetBefore })
}
