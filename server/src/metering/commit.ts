import type { ClientBase } from 'pg'
import type { Queryable } from '../db/database.ts'
import { ensurePlanGrants, termsOfAccounts, timeOf, type GrantsContext, type WantedGrant } from '../grants/actions.ts'
import { hasTermsOf, isActiveAt, type Grant, type GrantName, type PlanTerms } from '../grants/rules.ts'
import {
  findActiveGrants,
  findGrantsAt,
  findGrantsById,
  insertMissingAccounts,
  lockAccounts,
  type AccountRow,
  type Moment,
} from '../grants/store.ts'
import type { Instant } from '../lib/clock.ts'
import { assert } from '../lib/errors.ts'
import { newId, newUsageEventId, type ReservationId } from '../lib/ids.ts'
import { decide, eventKey, planGrantsNeeded, type Decision, type Outcome } from './decide.ts'
import type { OrganizationState } from './ledger.ts'
import type { Written } from './pipeline.ts'
import {
  addUse,
  claimKeysAndFindGrants,
  closeReservations,
  findEventsOfKeys,
  findOverdueReservations,
  findReservations,
  findSettlements,
  insertEvents,
  insertReservations,
  unclaimKeys,
  type KeyClaim,
} from './store.ts'
import type { Reservation, UsageEvent, UsageRequest } from './usage.ts'

/**
 * The one write path of usage, inside a transaction: lock the accounts, claim the keys, read what counts, decide, write.
 * Everything is answered from what was read under the locks, so any number of processes may do this at once.
 * @param alsoExpire organizations of which nothing is asked, but whose overdue reservations end here
 */
export async function commitUsage(
  tx: ClientBase,
  context: GrantsContext,
  requests: readonly UsageRequest[],
  alsoExpire: readonly string[] = [],
): Promise<Written<readonly Outcome[]>> {
  const recordedAt = context.clock.now()
  const organizationIds = [...new Set([...requests.map((request) => request.organizationId), ...alsoExpire])].sort()
  const claims = claimsOf(requests)
  const [locked, { grants: active, claimed }] = await Promise.all([
    lockAccounts(tx, organizationIds),
    claimKeysAndFindGrants(tx, organizationIds, [...claims.values()], recordedAt),
  ])
  const known = claimed === claims.size ? [] : await findEventsOfKeys(tx, [...claims.values()])
  // Events outlive their keys (jobs.ts prunes in that order), so every key that was used before has its answer.
  assert(claimed + known.length === claims.size, 'every key that is not new has an event')
  const opened = await openAccounts(tx, context, { organizationIds, accounts: locked, grants: active, now: recordedAt })
  const book = new Reading(opened, await termsOfAccounts(context, opened.accounts, recordedAt))
  const common = {
    known: new Map(known.map((event) => [eventKey(event.organizationId, event.idempotencyKey), event])),
    recordedAt,
    eventIdOf: (organizationId: string, key: string) => claims.get(eventKey(organizationId, key))?.eventId ?? newUsageEventId(),
    newReservationId: () => newId<ReservationId>('res'),
  }
  const overdue = await readOverdue(tx, book, alsoExpire)
  if (overdue.length > 0) {
    // Before anything is opened or decided: what these held counts for what comes.
    const ended = decide({ ...common, requests: [], organizations: book.states(), reservations: overdue })
    await Promise.all(write(tx, ended, []))
    book.apply(ended)
  }
  const named = await readNamed(tx, book, requests)
  for (const event of await findSettlements(tx, named)) {
    common.known.set(eventKey(event.organizationId, event.idempotencyKey), event)
  }
  await openPlans(tx, book, requests, named)
  const decision = decide({ ...common, requests, organizations: book.states(), reservations: named })
  return { writes: write(tx, decision, unusedClaims(claims, decision.events, known)), result: decision.outcomes }
}

/** One claim per key, however often the batch names it. */
function claimsOf(requests: readonly UsageRequest[]): ReadonlyMap<string, KeyClaim> {
  const claims = new Map<string, KeyClaim>()
  for (const request of requests) {
    if (request.verb !== 'track' && request.verb !== 'consume' && request.verb !== 'reserve') continue
    const { organizationId, idempotencyKey } = request
    const name = eventKey(organizationId, idempotencyKey)
    if (!claims.has(name)) claims.set(name, { organizationId, idempotencyKey, eventId: newUsageEventId() })
  }
  return claims
}

function unusedClaims(
  claims: ReadonlyMap<string, KeyClaim>,
  events: readonly UsageEvent[],
  known: readonly UsageEvent[],
): KeyClaim[] {
  if (claims.size === events.length) return []
  const used = new Set([...events, ...known].map((event) => eventKey(event.organizationId, event.idempotencyKey)))
  return [...claims].flatMap(([name, claim]) => (used.has(name) ? [] : [claim]))
}

type Accounts = {
  readonly organizationIds: readonly string[]
  readonly accounts: readonly AccountRow[]
  readonly grants: readonly Grant[]
  readonly now: Instant
}

/** An organization that was just made has no account until something asks: it gets one on the default plan. */
async function openAccounts(tx: ClientBase, context: GrantsContext, read: Accounts): Promise<Accounts> {
  if (read.accounts.length === read.organizationIds.length) return read
  const found = new Set(read.accounts.map((account) => account.organizationId))
  const missing = read.organizationIds.filter((id) => !found.has(id))
  const { version, catalog } = context.catalogs.current
  await insertMissingAccounts(tx, missing, { planKey: catalog.defaultPlanKey, catalogVersion: version, now: read.now })
  const accounts = await lockAccounts(tx, missing)
  const grants = accounts.length === 0 ? [] : await findActiveGrants(tx, missing, read.now)
  // A grant read before its account was locked may be stale: what was read now replaces it.
  const kept = read.grants.filter((grant) => found.has(grant.organizationId))
  return { ...read, accounts: [...read.accounts, ...accounts], grants: [...kept, ...grants] }
}

/** What one transaction has read, by organization. */
class Reading {
  readonly accounts: Accounts
  readonly terms: ReadonlyMap<string, PlanTerms>
  readonly times: ReadonlyMap<string, Instant>
  readonly grants = new Map<string, Map<string, Grant>>()

  constructor(accounts: Accounts, terms: ReadonlyMap<string, PlanTerms>) {
    this.accounts = accounts
    this.terms = terms
    this.times = new Map(accounts.accounts.map((account) => [account.organizationId, timeOf(account, accounts.now)]))
    for (const organizationId of terms.keys()) this.grants.set(organizationId, new Map())
    this.keep(accounts.grants)
  }

  keep(grants: readonly Grant[]): void {
    for (const grant of grants) this.grants.get(grant.organizationId)?.set(grant.id, grant)
  }

  apply({ grantChanges }: Decision): void {
    for (const { organizationId, id, used, overage, reserved } of grantChanges) {
      const grant = this.grants.get(organizationId)!.get(id)!
      const changed = { used: grant.used + used, overage: grant.overage + overage, reserved: grant.reserved + reserved }
      this.keep([{ ...grant, ...changed }])
    }
  }

  states(): ReadonlyMap<string, OrganizationState> {
    const states = new Map<string, OrganizationState>()
    for (const [organizationId, terms] of this.terms) {
      const now = this.times.get(organizationId)!
      states.set(organizationId, { organizationId, now, terms, grants: [...this.grants.get(organizationId)!.values()] })
    }
    return states
  }
}

/** Reservations whose time is over, where something is held at all. */
async function readOverdue(tx: ClientBase, book: Reading, alsoExpire: readonly string[]): Promise<readonly Reservation[]> {
  const holding = new Set(alsoExpire)
  for (const grant of book.accounts.grants) if (grant.reserved > 0n) holding.add(grant.organizationId)
  if (holding.size === 0) return []
  const overdue = await findOverdueReservations(tx, [...holding], book.accounts.now)
  book.keep(await findHeldGrants(tx, overdue, book.grants))
  return overdue
}

/** The reservations that are settled or released here. */
async function readNamed(tx: ClientBase, book: Reading, requests: readonly UsageRequest[]): Promise<readonly Reservation[]> {
  const names = requests.filter((request) => request.verb === 'settle' || request.verb === 'release')
  if (names.length === 0) return []
  const named = await findReservations(tx, names)
  book.keep(await findHeldGrants(tx, named, book.grants))
  return named
}

/** Opens the plan allowances that are drawn from here, and reads those of the past that late use belongs to. */
async function openPlans(
  tx: ClientBase,
  book: Reading,
  requests: readonly UsageRequest[],
  reservations: readonly Reservation[],
): Promise<void> {
  const moments = latePasts(requests, book.times)
  if (moments.length > 0) book.keep(await findGrantsAt(tx, moments))
  const lacking = wantedGrants(book, requests, reservations).filter(({ organizationId, plan }) => {
    const grant = book.grants.get(organizationId)!.get(plan.id)
    return !grant || !hasTermsOf(grant, plan)
  })
  if (lacking.length === 0) return
  const standing = [...book.grants].flatMap(([organizationId, grants]) =>
    [...grants.values()].filter((grant) => isActiveAt(grant, book.times.get(organizationId)!)),
  )
  book.keep(await ensurePlanGrants(tx, lacking, standing))
}

function wantedGrants(
  { terms, times }: Reading,
  requests: readonly UsageRequest[],
  reservations: readonly Reservation[],
): WantedGrant[] {
  const meters = new Map<string, Set<string>>()
  const want = (organizationId: string, meter: string): void => {
    const names = meters.get(organizationId)
    if (names) names.add(meter)
    else meters.set(organizationId, new Set([meter]))
  }
  for (const request of requests) if ('meter' in request) want(request.organizationId, request.meter)
  for (const reservation of reservations) want(reservation.organizationId, reservation.meter)
  return [...meters].flatMap(([organizationId, names]) => {
    const own = terms.get(organizationId)
    const now = times.get(organizationId)
    if (!own || !now) return []
    return planGrantsNeeded(own, now, names).map((plan) => ({ organizationId, plan, now }))
  })
}

/** Use that is told late may belong to a period that is over. */
function latePasts(requests: readonly UsageRequest[], times: ReadonlyMap<string, Instant>): readonly Moment[] {
  return requests.flatMap((request) => {
    const now = times.get(request.organizationId)
    if (request.verb !== 'track' || request.occurredAt === null || !now || request.occurredAt >= now) return []
    return [{ organizationId: request.organizationId, at: request.occurredAt }]
  })
}

/** The grants on which something is held and that were not read yet: a grant may have expired meanwhile. */
export async function findHeldGrants(
  tx: Queryable,
  reservations: readonly Reservation[],
  grants: ReadonlyMap<string, ReadonlyMap<string, Grant>>,
): Promise<readonly Grant[]> {
  const names: GrantName[] = reservations
    .filter((reservation) => reservation.status === 'open')
    .flatMap(({ organizationId, holds }) => holds.map(({ grantId }) => ({ organizationId, id: grantId })))
    .filter(({ organizationId, id }) => !grants.get(organizationId)?.has(id))
  return names.length === 0 ? [] : findGrantsById(tx, names)
}

function write(tx: ClientBase, decision: Decision, unused: readonly KeyClaim[]): readonly Promise<unknown>[] {
  const writes: Promise<unknown>[] = []
  if (decision.events.length > 0) writes.push(insertEvents(tx, decision.events))
  if (decision.grantChanges.length + decision.hourlyChanges.length > 0) {
    writes.push(addUse(tx, decision.grantChanges, decision.hourlyChanges))
  }
  if (decision.newReservations.length > 0) writes.push(insertReservations(tx, decision.newReservations))
  if (decision.closedReservations.length > 0) writes.push(closeReservations(tx, decision.closedReservations))
  if (unused.length > 0) writes.push(unclaimKeys(tx, unused))
  return writes
}
