import type { Meter } from '../../catalog/catalog.ts'
import type { Queryable } from '../../db/database.ts'
import type { PacketClient } from '../../db/packet.ts'
import { ensurePlanGrants, type GrantsContext } from '../../grants/actions.ts'
import { lockAndKeepAccounts } from '../../grants/known-accounts.ts'
import { rolloverIdOf } from '../../grants/rollover.ts'
import {
  hasTermsOf,
  isActiveAt,
  isCarryDue,
  meterOf,
  rateLimitOf,
  type Draw,
  type PlanTerms,
  type WantedGrant,
} from '../../grants/rules.ts'
import { findActiveGrants, insertMissingAccounts } from '../../grants/store.ts'
import type { Instant } from '../../lib/clock.ts'
import { planGrantsNeeded } from '../decide/decide.ts'
import { eventKey, type DecisionInput } from '../decide/decision.ts'
import { propertyOf, textOfValue } from '../decide/property-values.ts'
import { isAdditive } from '../decide/readings.ts'
import { isTellablePast, recordedSpanOf } from '../decide/rules.ts'
import type { RateWindow } from '../decide/windows.ts'
import type { CorrectedEvent, Reservation, UsageEvent, UsageRequest } from '../usage.ts'
import type { Present } from './due-levels.ts'
import type { Accounts, Gathering } from './gathering.ts'
import { keepPast } from './past.ts'
import { findCorrections, findReadings, findValues, type MeterName, type MeterSince } from './readings-store.ts'
import { findOverdueReservations, findReservations } from './reservations-store.ts'
import { findRivals, type RivalOrder } from './rivals-store.ts'
import { findEventsByKey, findSettlements } from './store.ts'
import { findRateWindows } from './windows-store.ts'

/** An organization that was just made has no account until something asks: it gets one on the default plan. */
export async function openAccounts(tx: PacketClient, context: GrantsContext, read: Accounts): Promise<Accounts> {
  if (read.accounts.length === read.organizationIds.length) return read
  const found = new Set(read.accounts.map((account) => account.organizationId))
  const missing = read.organizationIds.filter((id) => !found.has(id))
  const { version, catalog } = context.catalogs.current
  await insertMissingAccounts(tx, missing, { planKey: catalog.defaultPlanKey, catalogVersion: version, now: read.now })
  const accounts = await lockAndKeepAccounts(tx, missing)
  const grants = accounts.length === 0 ? [] : await findActiveGrants(tx, missing, read.now)
  // A grant read before its account was locked may be stale: what was read now replaces it.
  const kept = read.grants.filter((grant) => found.has(grant.organizationId))
  return { ...read, accounts: [...read.accounts, ...accounts], grants: [...kept, ...grants] }
}

/** Reservations whose time is over, where something is held at all, or may have been in a period before. */
export async function readOverdue(
  tx: PacketClient,
  gathered: Gathering,
  requests: readonly UsageRequest[],
  alsoExpire: readonly string[],
): Promise<readonly Reservation[]> {
  const holding = new Set(alsoExpire)
  for (const grant of gathered.accounts.grants) if (grant.reserved + grant.heldOverage > 0n) holding.add(grant.organizationId)
  // What an ended allowance holds no longer is left over, and moves on.
  for (const request of requests) if (carries(gathered, request)) holding.add(request.organizationId)
  if (holding.size === 0) return []
  const overdue = await findOverdueReservations(tx, [...holding], gathered.accounts.now)
  await gathered.keepDrawn(
    tx,
    overdue.map(({ organizationId, holds }) => ({ organizationId, draws: holds })),
  )
  return overdue
}

function carries({ terms, times, grants }: Gathering, request: UsageRequest): boolean {
  const { organizationId } = request
  const own = terms.get(organizationId)
  if (!own) return false
  const balanceKey = 'meter' in request ? (meterOf(own, request.meter)?.balanceKey ?? '') : null
  const open = grants.get(organizationId)!
  return isCarryDue(own, { balanceKey, now: times.get(organizationId)!, isOpen: (id) => open.has(id) })
}

/** What requests refer to besides balances. */
type Past = Pick<DecisionInput, 'reservations' | 'corrected' | 'rivals' | 'readings' | 'values' | 'windows'> & {
  readonly settlements: readonly UsageEvent[]
}

/**
 * Reads what the requests refer to (reservations, events to be corrected, what meters have come to), and opens the plan
 * allowances that they draw from.
 */
export async function gather(
  tx: PacketClient,
  context: GrantsContext,
  gathered: Gathering,
  requests: readonly UsageRequest[],
): Promise<Past> {
  const reservations = await readNamed(tx, requests)
  const corrected = await readCorrected(tx, requests)
  const settlements = await findSettlements(tx, reservations)
  const open = reservations.filter((reservation) => reservation.status === 'open')
  await gathered.keepDrawn(tx, [
    ...open.map(({ organizationId, holds }) => ({ organizationId, draws: holds })),
    ...corrected.map(({ event, draws }) => ({ organizationId: event.organizationId, draws: [...draws, ...periodOf(event)] })),
  ])
  await openPlans(tx, context, gathered, { requests, reservations, corrected })
  // What is opened of the past afterwards hands nothing on into the present.
  await keepPast(tx, context, gathered, { requests, corrected })
  const levels = levelsOf(gathered, corrected)
  const { readings, values } = await readReadings(tx, (id) => gathered.presentOf(id), requests, {
    corrected: levels,
    pastGrantOf: (id, balanceKey, at) => gathered.pastGrantOf(id, balanceKey, at),
  })
  const rivals = await readRivals(tx, levels, gathered.accounts)
  await gathered.keepDrawn(tx, [
    ...readings,
    ...rivals.map(({ event, draws }) => ({ organizationId: event.organizationId, draws })),
  ])
  const names = corrected.map((target): [string, CorrectedEvent] => [
    eventKey(target.event.organizationId, target.event.idempotencyKey),
    target,
  ])
  const windows = await readWindows(tx, gathered.terms, requests)
  return { reservations, settlements, corrected: new Map(names), rivals, readings, values, windows }
}

/** The plan's allowance of an event's period and what it left over, as draws of nothing. */
function periodOf({ after }: UsageEvent): Draw[] {
  return [after.planGrantId, rolloverIdOf(after.planGrantId)].map((grantId) => ({ grantId, amount: 0n, overage: 0n }))
}

/** The reservations that are settled or released here. */
async function readNamed(tx: PacketClient, requests: readonly UsageRequest[]): Promise<readonly Reservation[]> {
  const names = requests.filter((request) => request.verb === 'settle' || request.verb === 'release')
  return names.length === 0 ? [] : findReservations(tx, names)
}

/** The events that are corrected here, with what earlier corrections left of them. */
async function readCorrected(tx: PacketClient, requests: readonly UsageRequest[]): Promise<readonly CorrectedEvent[]> {
  const keys = requests
    .filter((request) => request.verb === 'correct')
    .map(({ organizationId, corrects }) => ({ organizationId, idempotencyKey: corrects }))
  if (keys.length === 0) return []
  const events = await findEventsByKey(tx, keys)
  const left = new Map(
    (await findCorrections(tx, keys)).map((correction) => [
      eventKey(correction.organizationId, correction.idempotencyKey),
      correction,
    ]),
  )
  return events.map((event) => {
    const { counted, draws, retracted } = left.get(eventKey(event.organizationId, event.idempotencyKey)) ?? {
      ...event,
      retracted: false,
    }
    return { event, counted, draws, retracted }
  })
}

/** A use of a meter that does not add up, which is taken back. */
type CorrectedLevel = { readonly event: UsageEvent; readonly meter: Meter }

function levelsOf({ terms }: Gathering, corrected: readonly CorrectedEvent[]): readonly CorrectedLevel[] {
  return corrected.flatMap(({ event }) => {
    const own = terms.get(event.organizationId)
    const meter = own && meterOf(own, event.meter)
    return meter && !isAdditive(meter) ? [{ event, meter }] : []
  })
}

const RIVALS: Readonly<Record<Meter['aggregation'], readonly RivalOrder[]>> = {
  sum: [],
  count: [],
  max: ['max', 'latest'],
  latest: ['latest'],
  unique: ['unique'],
}

async function readRivals(
  tx: PacketClient,
  levels: readonly CorrectedLevel[],
  { accounts }: Accounts,
): Promise<readonly CorrectedEvent[]> {
  if (levels.length === 0) return []
  // Events are recorded by this server's time: of a test clock's period it says nothing.
  const live = new Set(accounts.flatMap((account) => (account.testClockNow === null ? [account.organizationId] : [])))
  const rivals: CorrectedEvent[] = []
  for (const { event, meter } of levels) {
    const without = levels
      .filter((other) => other.event.organizationId === event.organizationId)
      .map((other) => other.event.idempotencyKey)
    const recorded = live.has(event.organizationId) ? recordedSpanOf(event.after) : null
    for (const by of RIVALS[meter.aggregation]) rivals.push(...(await findRivals(tx, { event, meter, without, by, recorded })))
  }
  return rivals
}

type Referred = {
  readonly requests: readonly UsageRequest[]
  readonly reservations: readonly Reservation[]
  readonly corrected: readonly CorrectedEvent[]
}

/** Opens the plan allowances that are drawn from here. */
async function openPlans(tx: PacketClient, context: GrantsContext, gathered: Gathering, referred: Referred): Promise<void> {
  const lacking = wantedGrants(gathered, referred).filter(({ organizationId, plan }) => {
    const grant = gathered.grants.get(organizationId)!.get(plan.id)
    return !grant || !hasTermsOf(grant, plan)
  })
  if (lacking.length === 0) return
  const standing = [...gathered.grants].flatMap(([organizationId, grants]) =>
    [...grants.values()].filter((grant) => isActiveAt(grant, gathered.times.get(organizationId)!)),
  )
  gathered.keep(await ensurePlanGrants(tx, context, lacking, standing))
}

function wantedGrants({ terms, times, plans }: Gathering, { requests, reservations, corrected }: Referred): WantedGrant[] {
  const meters = new Map<string, Set<string>>()
  const want = (organizationId: string, meter: string): void => {
    const names = meters.get(organizationId)
    if (names) names.add(meter)
    else meters.set(organizationId, new Set([meter]))
  }
  for (const request of requests) if ('meter' in request) want(request.organizationId, request.meter)
  for (const reservation of reservations) want(reservation.organizationId, reservation.meter)
  for (const { event } of corrected) want(event.organizationId, event.meter)
  return [...meters].flatMap(([organizationId, names]) => {
    const own = terms.get(organizationId)
    const now = times.get(organizationId)
    if (!own || !now) return []
    const needed = planGrantsNeeded(own, now, names)
    plans.set(organizationId, new Map(needed.map((plan) => [plan.balanceKey, plan])))
    return needed.map((plan) => ({ organizationId, terms: own, plan, now }))
  })
}

type ReadReadings = Pick<DecisionInput, 'readings' | 'values'>

type OfPast = {
  readonly corrected?: readonly CorrectedLevel[]
  /** The allowance on which use of a past moment is counted. */
  readonly pastGrantOf?: (organizationId: string, balanceKey: string, at: Instant) => string | null
}

/** What the meters that do not add up have come to, in each period that may be asked for here. */
export async function readReadings(
  client: Queryable,
  presentOf: (organizationId: string) => Present | undefined,
  requests: readonly UsageRequest[],
  { corrected = [], pastGrantOf }: OfPast = {},
): Promise<ReadReadings> {
  const meters = corrected.map(({ event: { organizationId, after }, meter }): MeterSince => {
    return { organizationId, meter: meter.key, since: after.periodStart, grantId: after.planGrantId }
  })
  const seen: (MeterSince & { readonly value: string })[] = []
  for (const request of requests) {
    if (!('meter' in request) || request.verb === 'reserve') continue
    const { organizationId } = request
    const present = presentOf(organizationId)
    const meter = present && meterOf(present.terms, request.meter)
    if (!meter || isAdditive(meter)) continue
    const told = request.verb === 'track' ? request.occurredAt : null
    const isPast = told !== null && isTellablePast(told, present.now)
    const grantId = isPast ? (pastGrantOf?.(organizationId, meter.balanceKey, told) ?? null) : null
    const name = { organizationId, meter: meter.key, since: isPast ? told : present.now, grantId }
    const value = meter.uniqueBy === null ? undefined : propertyOf(request.properties ?? null, meter.uniqueBy)
    if (value === undefined) meters.push(name)
    else seen.push({ ...name, value: textOfValue(value) })
  }
  return {
    readings: meters.length === 0 ? [] : await findReadings(client, meters),
    values: seen.length === 0 ? [] : await findValues(client, seen),
  }
}

/** What was accepted lately of the meters whose pace is limited. */
export async function readWindows(
  client: Queryable,
  terms: ReadonlyMap<string, PlanTerms>,
  requests: readonly UsageRequest[],
): Promise<readonly RateWindow[]> {
  const meters: MeterName[] = []
  for (const request of requests) {
    const own = terms.get(request.organizationId)
    if (!own || !('meter' in request) || rateLimitOf(own, request.meter) === null) continue
    meters.push({ organizationId: request.organizationId, meter: request.meter })
  }
  return meters.length === 0 ? [] : findRateWindows(client, meters)
}
