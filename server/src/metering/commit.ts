import type { ClientBase } from 'pg'
import type { Queryable } from '../db/database.ts'
import { ensurePlanGrants, termsOfAccounts, timeOf, type GrantsContext, type WantedGrant } from '../grants/actions.ts'
import { hasTermsOf, type Grant, type GrantName, type PlanTerms } from '../grants/rules.ts'
import {
  addToGrants,
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
  addToHours,
  claimKeys,
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
  const [locked, active, claimed] = await Promise.all([
    lockAccounts(tx, organizationIds),
    findActiveGrants(tx, organizationIds, recordedAt),
    claims.size === 0 ? 0 : claimKeys(tx, [...claims.values()], recordedAt),
  ])
  const known = claimed === claims.size ? [] : await findEventsOfKeys(tx, [...claims.values()])
  // Events outlive their keys (jobs.ts prunes in that order), so every key that was used before has its answer.
  assert(claimed + known.length === claims.size, 'every key that is not new has an event')
  const opened = await openAccounts(tx, context, { organizationIds, accounts: locked, grants: active, now: recordedAt })
  const reservations = await readReservations(tx, requests, { ...opened, alsoExpire })
  const settlements = reservations.some((reservation) => reservation.settledEventId !== null)
    ? await findSettlements(tx, reservations)
    : []
  const states = await readStates(tx, context, { ...opened, requests, reservations, now: recordedAt })
  const decision = decide({
    requests,
    organizations: states,
    known: new Map([...known, ...settlements].map((event) => [eventKey(event.organizationId, event.idempotencyKey), event])),
    reservations,
    recordedAt,
    eventIdOf: (organizationId, key) => claims.get(eventKey(organizationId, key))?.eventId ?? newUsageEventId(),
    newReservationId: () => newId<ReservationId>('res'),
  })
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

/** The reservations that are settled or released here, and those that are overdue where something is held at all. */
async function readReservations(
  tx: ClientBase,
  requests: readonly UsageRequest[],
  { grants, now, alsoExpire }: Accounts & { readonly alsoExpire: readonly string[] },
): Promise<readonly Reservation[]> {
  const named = requests.flatMap((request) => (request.verb === 'settle' || request.verb === 'release' ? [request] : []))
  const reserved = grants.flatMap((grant) => (grant.reserved > 0n ? [grant.organizationId] : []))
  const holding = [...new Set([...reserved, ...alsoExpire])]
  const [asked, overdue] = await Promise.all([
    named.length === 0 ? [] : findReservations(tx, named),
    holding.length === 0 ? [] : findOverdueReservations(tx, holding, now),
  ])
  const byId = new Map([...asked, ...overdue].map((reservation) => [reservation.id, reservation]))
  return [...byId.values()]
}

type StateInput = Accounts & { readonly requests: readonly UsageRequest[]; readonly reservations: readonly Reservation[] }

/** Completes what decisions need: plan allowances that have to be opened, grants of the past, grants behind reservations. */
async function readStates(
  tx: ClientBase,
  context: GrantsContext,
  input: StateInput,
): Promise<ReadonlyMap<string, OrganizationState>> {
  const terms = await termsOfAccounts(context, input.accounts, input.now)
  const times = new Map(input.accounts.map((account) => [account.organizationId, timeOf(account, input.now)]))
  const grants = new Map<string, Map<string, Grant>>()
  for (const organizationId of terms.keys()) grants.set(organizationId, new Map())
  const keep = (read: readonly Grant[]): void => {
    for (const grant of read) grants.get(grant.organizationId)?.set(grant.id, grant)
  }
  keep(input.grants)
  const lacking = lackingGrants(wantedGrants(input, terms, times), grants)
  const [past, held] = await Promise.all([findPast(tx, input.requests, times), findHeldGrants(tx, input.reservations, grants)])
  keep(past)
  keep(held)
  if (lacking.length > 0) keep(await ensurePlanGrants(tx, lacking, input.grants))
  return new Map(
    [...terms].map(([organizationId, organizationTerms]) => [
      organizationId,
      {
        organizationId,
        now: times.get(organizationId)!,
        terms: organizationTerms,
        grants: [...grants.get(organizationId)!.values()],
      },
    ]),
  )
}

function wantedGrants(
  input: StateInput,
  terms: ReadonlyMap<string, PlanTerms>,
  times: ReadonlyMap<string, Instant>,
): WantedGrant[] {
  const meters = new Map<string, Set<string>>()
  const want = (organizationId: string, meter: string): void => {
    const names = meters.get(organizationId)
    if (names) names.add(meter)
    else meters.set(organizationId, new Set([meter]))
  }
  for (const request of input.requests) if ('meter' in request) want(request.organizationId, request.meter)
  for (const reservation of input.reservations) want(reservation.organizationId, reservation.meter)
  return [...meters].flatMap(([organizationId, names]) => {
    const own = terms.get(organizationId)
    const now = times.get(organizationId)
    if (!own || !now) return []
    return planGrantsNeeded(own, now, names).map((plan) => ({ organizationId, plan, now }))
  })
}

function lackingGrants(
  wanted: readonly WantedGrant[],
  grants: ReadonlyMap<string, ReadonlyMap<string, Grant>>,
): readonly WantedGrant[] {
  return wanted.filter(({ organizationId, plan }) => {
    const grant = grants.get(organizationId)?.get(plan.id)
    return !grant || !hasTermsOf(grant, plan)
  })
}

/** Use that is told late may belong to a period that is over. */
async function findPast(
  tx: ClientBase,
  requests: readonly UsageRequest[],
  times: ReadonlyMap<string, Instant>,
): Promise<readonly Grant[]> {
  const moments: Moment[] = requests.flatMap((request) => {
    const now = times.get(request.organizationId)
    if (request.verb !== 'track' || request.occurredAt === null || !now || request.occurredAt >= now) return []
    return [{ organizationId: request.organizationId, at: request.occurredAt }]
  })
  return moments.length === 0 ? [] : findGrantsAt(tx, moments)
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
  if (decision.grantChanges.length > 0) writes.push(addToGrants(tx, decision.grantChanges))
  if (decision.hourlyChanges.length > 0) writes.push(addToHours(tx, decision.hourlyChanges))
  if (decision.newReservations.length > 0) writes.push(insertReservations(tx, decision.newReservations))
  if (decision.closedReservations.length > 0) writes.push(closeReservations(tx, decision.closedReservations))
  if (unused.length > 0) writes.push(unclaimKeys(tx, unused))
  return writes
}
