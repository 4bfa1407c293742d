import { isDeepStrictEqual } from 'node:util'
import { insertAuditEntry } from '../audit/store.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { isPlanKnown } from '../catalog/plans-store.ts'
import { planKeyOf } from '../catalog/tiers.ts'
import type { Session, Transaction } from '../db/database.ts'
import { eachApart } from '../jobs/apart.ts'
import type { Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import { newId } from '../lib/ids.ts'
import { DAY_MS, MINUTE_MS } from '../lib/period.ts'
import type { BillingContext } from '../stripe/context.ts'
import { RECENT_SCOPE } from '../stripe/mirror/fetch.ts'
import { syncOrganization } from '../stripe/mirror/sync.ts'
import { listAllUsagePrices } from '../stripe/push/push-usage-prices.ts'
import { readOrganization, timeOf } from '../stripe/organizations.ts'
import { changePlanIn, runExclusively, type Asker } from '../subscriptions/actions.ts'
import { meteredPricesOf } from '../subscriptions/metered-items.ts'
import { findAccountSubscription, findScheduledOffer, listOffers } from '../subscriptions/store.ts'
import {
  allowanceChanges,
  featureChanges,
  isMove,
  moveOf,
  newlyBilled,
  repricings,
  withDefaultOf,
  yearlyTotals,
  type AllowanceChange,
  type FeatureChange,
  type Move,
  type Repricing,
  type Unmovable,
  type YearlyTotal,
} from './rules.ts'
import {
  countMoves,
  findMigration,
  findMovedAccount,
  insertMigration,
  insertMoves,
  listDueMoves,
  noteMoveAttempt,
  readCandidates,
  listUnknownOrganizations,
  setTerms,
  updateMove,
  type Migration,
  type MovedAccount,
  type MoveResult,
  type MoveState,
  type StoredMove,
} from './store.ts'

/** Who is to be moved; null is everybody. */
export type MigrationFilter = {
  readonly planKey: string | null
  readonly fromVersion: number | null
  readonly organizationIds: readonly string[] | null
}

/** Customers of one plan who have the same terms, and what changes for them. */
export type MigrationGroup = {
  readonly planKey: string
  readonly fromVersion: number
  readonly organizations: number
  readonly allowances: readonly AllowanceChange[]
  /** Balances whose use beyond the allowance begins to be billed. */
  readonly newlyBilled: readonly string[]
  readonly repriced: readonly Repricing[]
  readonly features: readonly FeatureChange[]
}

export type MigrationPreview = {
  readonly toVersion: number
  /** How many would be moved. */
  readonly organizations: number
  /** The first of them. */
  readonly moves: readonly Move[]
  readonly unmovable: readonly Unmovable[]
  readonly groups: readonly MigrationGroup[]
  readonly yearly: readonly YearlyTotal[]
}

/** A preview names so many of those whom it would move. */
const MOVES_SHOWN = 1_000
/** All that is known of so many customers at once: all of 100,000 together were 36 MB that lived as long as the answer was made. */
const CUSTOMERS_AT_ONCE = 1_000

/**
 * Who would be moved to the present terms, and how much each would pay. Changes nothing.
 * @throws DomainError `invalid_request` for a plan or an organization that there is not
 */
export async function previewMigration(context: BillingContext, named: MigrationFilter): Promise<MigrationPreview> {
  const { version, catalog } = context.catalogs.current
  const first: Move[] = []
  const unmovable: Unmovable[] = []
  const sizes = new Map<string, Pick<MigrationGroup, 'planKey' | 'fromVersion' | 'organizations'>>()
  let yearly: readonly YearlyTotal[] = []
  let organizations = 0
  const filter = await checkFilter(context, named)
  await context.db.transaction(async (tx) => {
    for await (const page of readMoves(context, tx, filter)) {
      const moves = page.filter(isMove)
      unmovable.push(...page.filter((each): each is Unmovable => !isMove(each)))
      first.push(...moves.slice(0, MOVES_SHOWN - first.length))
      yearly = yearlyTotals(moves, yearly)
      organizations += moves.length
      for (const { planKey, catalogVersion: fromVersion } of moves) {
        const name = `${planKey} ${fromVersion}`
        sizes.set(name, { planKey, fromVersion, organizations: (sizes.get(name)?.organizations ?? 0) + 1 })
      }
    }
  })
  const groups = await Promise.all(
    [...sizes.values()].map(async (size) => ({ ...size, ...(await changesOf(context, size, catalog)) })),
  )
  return { toVersion: version, organizations, moves: first, unmovable, groups, yearly }
}

/** What becomes of everybody who is meant, by organization, so many at a time. */
async function* readMoves(
  { catalogs }: BillingContext,
  tx: Transaction,
  filter: MigrationFilter,
): AsyncGenerator<readonly (Move | Unmovable)[]> {
  const { version: toVersion, catalog } = catalogs.current
  const offers = await listOffers(tx, [...catalog.plans.keys()])
  const asked = { ...filter, toVersion, currency: catalog.currency }
  for await (const page of readCandidates(tx, asked, CUSTOMERS_AT_ONCE)) {
    const versions = [...new Set(page.map(({ catalogVersion }) => catalogVersion))]
    const known = new Map(await Promise.all(versions.map(async (version) => [version, await catalogs.get(version)] as const)))
    yield page.map((candidate) =>
      moveOf(
        candidate,
        candidate.priceId === null ? withDefaultOf(known.get(candidate.catalogVersion)!, catalog) : catalog,
        offers,
      ),
    )
  }
}

/** A name that is mistyped would otherwise be left out, and look as if there were nothing to move. */
async function checkFilter({ db, catalogs }: BillingContext, filter: MigrationFilter): Promise<MigrationFilter> {
  const { catalog } = catalogs.current
  const planKey = filter.planKey === null ? null : planKeyOf(catalog, filter.planKey)
  if (planKey !== null && !catalog.plans.has(planKey) && !(await isPlanKnown(db, planKey))) {
    const known = [...catalog.plans.keys()].join(', ')
    throw new DomainError('invalid_request', `There is no plan "${planKey}"; there are ${known}.`, { field: 'plan' })
  }
  const unknown = await listUnknownOrganizations(db, filter.organizationIds ?? [])
  if (unknown.length > 0) {
    const shown = unknown.slice(0, 10).join(', ')
    throw new DomainError('invalid_request', `There is no organization ${shown}.`, { field: 'organization_ids' })
  }
  return { ...filter, planKey }
}

async function changesOf(
  { catalogs }: BillingContext,
  { planKey, fromVersion }: Pick<MigrationGroup, 'planKey' | 'fromVersion'>,
  after: Catalog,
): Promise<Pick<MigrationGroup, 'allowances' | 'newlyBilled' | 'repriced' | 'features'>> {
  const before = await catalogs.get(fromVersion)
  const present = withDefaultOf(before, after)
  return {
    allowances: allowanceChanges(planKey, before, present),
    newlyBilled: newlyBilled(planKey, before, present),
    repriced: repricings(planKey, before, present),
    features: featureChanges(planKey, before, present),
  }
}

/**
 * Starts a migration: writes down who is moved and how; the job carries it out. Audited.
 * @throws DomainError `nothing_to_change` when nobody is left to move
 */
export async function startMigration(
  context: BillingContext,
  { filter, at, reason }: { filter: MigrationFilter; at: Migration['at']; reason: string | null },
  asker: Asker,
): Promise<Migration> {
  const asked = await checkFilter(context, filter)
  const createdAt = context.clock.now()
  const toVersion = context.catalogs.current.version
  const migration: Migration = { id: newId('mig'), toVersion, at, reason, actor: asker.actor, createdAt }
  await context.db.transaction(async (tx) => {
    await insertMigration(tx, migration)
    let organizations = 0
    for await (const page of readMoves(context, tx, asked)) {
      const moves = page.filter(isMove)
      await insertMoves(tx, migration, moves)
      organizations += moves.length
    }
    if (organizations === 0)
      throw new DomainError(
        'nothing_to_change',
        'Nobody is left to move: everybody whom this names has the present terms, or is being moved to them.',
      )
    await insertAuditEntry(tx, {
      organizationId: null,
      ...asker,
      action: 'plan_migration.started',
      target: migration.id,
      before: null,
      after: { to_version: toVersion, at, reason, organizations },
      at: createdAt,
    })
  })
  return migration
}

/** @throws DomainError `not_found` */
export async function readMigration(
  context: BillingContext,
  id: string,
): Promise<{ migration: Migration; counts: Readonly<Record<MoveState, number>> }> {
  const migration = await findMigration(context.db, id)
  if (migration === null) throw new DomainError('not_found', 'There is no such migration.')
  return { migration, counts: await countMoves(context.db, id) }
}

const AT_ONCE = 50

/**
 * Carries out what is due, one organization after the other. One that fails comes after the others next time. Answers how many were due.
 * @throws what the first that could not be moved failed with, after the others
 */
export async function runDueMoves(context: BillingContext): Promise<number> {
  const due = await listDueMoves(context.db, context.clock.now(), AT_ONCE)
  await eachApart(
    due,
    (move) => runMove(context, move),
    (move) => noteMoveAttempt(context.db, move, context.clock.now()),
  )
  return due.length
}

/** What Stripe refuses is told in the row and not tried again. */
async function runMove(context: BillingContext, move: StoredMove): Promise<void> {
  try {
    await moveOrganization(context, move)
  } catch (error) {
    if (!(error instanceof DomainError) || TRANSIENT.has(error.code)) throw error
    await updateMove(context.db, move, { state: 'failed', detail: error.message }, context.clock.now())
  }
}

const TRANSIENT: ReadonlySet<string> = new Set([
  'stripe_unavailable',
  'database_unavailable',
  'overloaded',
  'billing_not_configured',
])

async function moveOrganization(context: BillingContext, move: StoredMove): Promise<void> {
  const { organizationId } = move
  const work = async (session: Session): Promise<void> => {
    const result = await nextStep({ context, session, move })
    if (result.state === 'done') await takeTerms({ context, session, move })
    else await updateMove(session, move, result, context.clock.now())
  }
  // Who pays nothing is moved without Stripe.
  await (move.fromPriceId === null && context.gateway === null
    ? context.db.session(work)
    : runExclusively(context, organizationId, work))
}

type Moving = { readonly context: BillingContext; readonly session: Session; readonly move: StoredMove }

async function nextStep(moving: Moving): Promise<MoveResult> {
  const { context, session, move } = moving
  const organization = await readOrganization(session, move.organizationId)
  const now = timeOf(organization, context.clock)
  if (move.state === 'scheduled' && context.gateway !== null) {
    // The schedule has just moved on at Stripe; its webhook may still be on the way.
    await syncOrganization(context, session, move.organizationId, { scope: RECENT_SCOPE, priority: 'background' })
  }
  const account = await findMovedAccount(session, move.organizationId)
  const pays = account?.priceId === move.toPriceId
  // Who pays the new price has newer terms already (`stripe/mirror/derive-account.ts`), and only the move does not know it yet.
  const hasMoved = pays && (account.catalogVersion === move.toVersion || move.toPriceId !== move.fromPriceId)
  if (account?.planKey === move.planKey && hasMoved) return { state: 'done' }
  if (account === null || account.planKey !== move.planKey || account.catalogVersion !== move.fromVersion) {
    return { state: 'skipped', detail: 'The plan has changed since the migration began.' }
  }
  const use = await readUsePrices(moving)
  const repriced = (move.toPriceId === move.fromPriceId || pays) && !use.differ
  const step = { account, repriced, use, now }
  if (move.state === 'pending') return { ...(await firstStep(moving, step)), repricesUse: use.differ }
  if (repriced) return { state: 'done' }
  // Its time has come, and Stripe is about to move on to it: until then a schedule may show nothing more that is to come.
  const isNearlyThere = account.scheduleId !== null && account.scheduledPriceId === null && account.priceId === move.fromPriceId
  if (isNearlyThere || isScheduled(step, move)) {
    return { state: 'scheduled', effectiveAt: new Date(now.getTime() + 5 * MINUTE_MS) }
  }
  if (account.scheduledPriceId !== null || account.priceId !== move.fromPriceId) {
    return { state: 'skipped', detail: 'The scheduled price was replaced by another change.' }
  }
  // A pause, a cancellation, other seats or a change that waits for the bank stood in the way, and nothing of that is another plan. It is due again once
  // it goes on.
  return account.mayBeRepriced ? firstStep(moving, step) : { state: 'scheduled', effectiveAt: new Date(now.getTime() + DAY_MS) }
}

/** The metered prices that a subscription is to have, and whether it has others, or will with the next phase of its schedule. */
type UsePrices = { readonly priceIds: readonly string[]; readonly differ: boolean; readonly areScheduled: boolean }

/** @throws DomainError `conflict` where the terms price use, and the price is not at Stripe */
async function readUsePrices({ context, session, move }: Moving): Promise<UsePrices> {
  const subscription = move.toPriceId === null ? null : await findAccountSubscription(session, move.organizationId)
  if (subscription === null) return { priceIds: [], differ: false, areScheduled: false }
  const plan = (await context.catalogs.get(move.toVersion)).plans.get(move.planKey)
  const known = await listAllUsagePrices(session)
  const own = subscription.usageItems.map(({ priceId }) => priceId)
  // Of several that cost the same the one that they have stays.
  const ordered = [...known.filter(({ priceId }) => own.includes(priceId)), ...known]
  const prices = meteredPricesOf(plan, ordered, move.currency)
  const priced = [...(plan?.allowances.values() ?? [])].filter(({ overage }) => overage !== null)
  const missing = priced.find(({ balanceKey }) => !prices.some((price) => price.balanceKey === balanceKey))
  if (missing !== undefined) {
    throw new DomainError('conflict', `What use of "${missing.balanceKey}" costs is not at Stripe yet: run "tollgate push".`)
  }
  const priceIds = [...new Set(prices.map(({ priceId }) => priceId))]
  const scheduled = await findScheduledOffer(session, move.organizationId)
  const isSame = (ids: readonly string[]): boolean => isDeepStrictEqual(new Set(ids), new Set(priceIds))
  return {
    priceIds,
    differ: !isSame(own),
    areScheduled: scheduled !== null && isSame(scheduled.usagePriceIds),
  }
}

type Step = { readonly account: MovedAccount; readonly repriced: boolean; readonly use: UsePrices; readonly now: Instant }

/** A plan at its own price is scheduled by the customer too, with other seats; what is scheduled for the move has its prices of use. */
function isScheduled({ account, use }: Step, { fromPriceId, toPriceId }: StoredMove): boolean {
  return account.scheduledPriceId === toPriceId && (toPriceId !== fromPriceId || use.areScheduled)
}

async function firstStep({ context, session, move }: Moving, step: Step): Promise<MoveResult> {
  const { account, repriced, use, now } = step
  const { currentPeriodEnd: end, scheduledAt } = account
  if (repriced) {
    const later = move.at === 'period_end' && account.subscribed && end !== null && end > now
    return later ? { state: 'scheduled', effectiveAt: end } : { state: 'done' }
  }
  // A run that crashed may have scheduled it already.
  if (isScheduled(step, move)) return { state: 'scheduled', effectiveAt: scheduledAt }
  // Moved now, it could not be paid any more. It is due again as soon as that is decided.
  if (account.hasChangeWaiting) return { state: 'scheduled', effectiveAt: new Date(now.getTime() + DAY_MS), detail: WAITS }
  const prices = { priceId: move.toPriceId ?? '', amountMinor: move.toAmountMinor, usagePriceIds: use.priceIds }
  const options = {
    organizationId: move.organizationId,
    request: { kind: 'reprice', at: move.at, ...prices },
    prorationAt: null,
  } as const
  const change = await changePlanIn(context, session, options, { actor: move.actor, requestId: move.migrationId })
  return change.kind === 'switch_at_period_end' ? { state: 'scheduled', effectiveAt: change.at } : { state: 'done' }
}

const WAITS = 'A change that the customer asked for waits for their bank; once it is paid or off, this one is looked at again.'

/** Gives the organization the new terms, and its allowances with them, in one transaction with the move's end. */
async function takeTerms({ context, session, move }: Moving): Promise<void> {
  const { organizationId, migrationId, fromVersion, toVersion } = move
  const organization = await readOrganization(session, organizationId)
  const at = context.clock.now()
  const { plans, defaultPlanKey } = await context.catalogs.get(toVersion)
  const planKey = plans.has(move.planKey) ? move.planKey : defaultPlanKey
  await session.transaction(async (tx) => {
    await setTerms(tx, organizationId, { planKey, catalogVersion: toVersion }, at)
    await context.onAccountDerived(tx, { organizationId, now: timeOf(organization, context.clock) })
    await updateMove(tx, move, { state: 'done' }, at)
    await insertAuditEntry(tx, {
      organizationId,
      actor: move.actor,
      requestId: migrationId,
      action: 'plan.migrated',
      target: planKey,
      before: { catalog_version: fromVersion, price_id: move.fromPriceId },
      after: { catalog_version: toVersion, price_id: move.toPriceId },
      at,
    })
  })
}
