import { setTimeout as delay } from 'node:timers/promises'
import { isConnectionError, type Session } from '../../db/database.ts'
import { DomainError } from '../../lib/errors.ts'
import { MINUTE_MS, SECOND_MS } from '../../lib/period.ts'
import { requireGateway, type BillingContext } from '../context.ts'
import { isMeterFault } from '../gateway/catalog-snapshots.ts'
import { tryOrganizationLocks, type HeldLocks } from '../intents/lock.ts'
import { COMPLETE_SCOPE } from '../mirror/fetch.ts'
import { applyFetched, fetchOrganizations, type Fetched, type SyncTask } from '../mirror/sync.ts'
import {
  findOrganization,
  findOrganizationIdByObject,
  findOrganizationIdByTestClock,
  findOrganizationIdsByCustomers,
  linkCustomer,
  ORGANIZATION_METADATA,
} from '../organizations.ts'
import {
  laneOf,
  listDueLanes,
  listOpenEvents,
  markFailed,
  markHandled,
  postpone,
  reopenEvent,
  type OpenEvent,
  type Quiet,
  findOpenIds,
} from './inbox-store.ts'
import { isChargeId, isRelevant, scopeOf } from './scope.ts'

/** How the worker takes events up; without `quiet` whatever is due is taken up at once. */
export type Handling = {
  readonly limit?: number
  readonly quiet?: Quiet
  /** Whether to take no more up, and leave the rest for the next time. */
  readonly isInterrupted?: () => boolean
}

/**
 * Handles what is due and answers how many lanes (customers) were taken up; 0 when nothing was due. Safe to run in any number of
 * processes: an organization's lock is held by one of them, and the events are marked in the transaction that applied them.
 */
export async function handleDueEvents(
  context: BillingContext,
  { limit = 2_000, quiet = AT_ONCE, isInterrupted = () => false }: Handling = {},
): Promise<number> {
  const { gateway } = context
  if (gateway === null) return 0
  const lanes = await listDueLanes(context.db, context.clock.now(), { ...quiet, limit })
  const groups = groupsOf(lanes, groupSize(gateway.callsPerSecond))
  let next = 0
  const take = () => (isInterrupted() ? undefined : groups[next++])
  // While one group is read from Stripe, another is written here.
  await Promise.all(
    Array.from({ length: Math.min(GROUPS_AT_ONCE, groups.length) }, async () => {
      for (let group = take(); group !== undefined; group = take()) await handleLanes(context, group)
    }),
  )
  return lanes.length
}

/**
 * Makes an event due again.
 * @throws DomainError `not_found`
 */
export async function replayEvent(context: BillingContext, eventId: string): Promise<void> {
  if (!(await reopenEvent(context.db, eventId, context.clock.now()))) {
    throw new DomainError('not_found', 'There is no such event.')
  }
}

const AT_ONCE: Quiet = { quietMs: 0, mostMs: 0 }
/** Fewer than sessions may be lent (`intents/lock.ts`): people change something meanwhile. */
const GROUPS_AT_ONCE = 4
const MOST_LANES = 32
/** Fewer are not worth a transaction of their own. */
const WORTHWHILE = 8
const CALLS_OF_A_LANE = 4
const BUSY_WAIT_MS = 200
/** After this many failures that are not Stripe's absence, an event waits for a replay. */
const MOST_ATTEMPTS = 20

/**
 * How many customers are refetched together: as many as Stripe's rate limit lets through in half a second, since people who change
 * something wait for the locks that are held meanwhile. Their transaction holds their accounts, on which use is counted: so not more than 32.
 */
function groupSize(callsPerSecond: number): number {
  return Math.min(MOST_LANES, Math.max(2, Math.floor(callsPerSecond / 2 / CALLS_OF_A_LANE / GROUPS_AT_ONCE)))
}

/**
 * Groups of at most `most`. The first ones are smaller, so that there is something to write while others are still being read, and so are the last,
 * so that all come to their end together.
 */
export function groupsOf<Item>(items: readonly Item[], most: number): readonly (readonly Item[])[] {
  const groups: (readonly Item[])[] = []
  for (let from = 0; from < items.length; from += groups.at(-1)!.length) {
    const begun = Math.ceil((most * Math.min(groups.length + 1, GROUPS_AT_ONCE)) / GROUPS_AT_ONCE)
    const fairShare = Math.ceil((items.length - from) / GROUPS_AT_ONCE)
    groups.push(items.slice(from, from + Math.min(begun, Math.max(fairShare, WORTHWHILE))))
  }
  return groups
}

/** One refetch for all that waits of a customer. A failure is written to the events, not thrown. */
async function handleLanes(context: BillingContext, lanes: readonly string[]): Promise<void> {
  const events = await listOpenEvents(context.db, lanes)
  try {
    const faults = events.filter(isMeterFault)
    if (faults.length > 0) await noteFaults(context, faults)
    const relevant = events.filter(({ type }) => isRelevant(type))
    await ignore(
      context,
      events.filter((event) => !isRelevant(event.type) && !isMeterFault(event)),
    )
    const owned = await findOwners(context, relevant)
    if (owned.size === 0) return
    const held = new Set<string>()
    await tryOrganizationLocks(context, [...owned.keys()], async (locks) => {
      for (const id of locks.organizationIds) held.add(id)
      await refetch(context, locks, owned)
    })
    const busy = [...owned].flatMap(([id, waiting]) => (held.has(id) ? [] : waiting))
    if (busy.length > 0) await postpone(context.db, eventIdsOf(busy), later(context, BUSY_WAIT_MS))
  } catch (error) {
    await recordFailure(context, events, error)
  }
}

/** Thin events about reports of use are about a meter, not about a customer: whom they concern stands in their data. */
async function noteFaults(context: BillingContext, faults: readonly OpenEvent[]): Promise<void> {
  try {
    await context.onMeterFaults?.()
    // Those that were found in Stripe's list are dealt with; the list may lag behind its webhooks.
    const open = await findOpenIds(context.db, eventIdsOf(faults))
    const missing = faults.filter(({ eventId }) => open.has(eventId))
    if (missing.length > 0) await recordFailure(context, missing, new Error('Stripe does not list this error of a meter yet.'))
  } catch (error) {
    await recordFailure(context, faults, error)
  }
}

async function ignore(context: BillingContext, events: readonly OpenEvent[]): Promise<void> {
  const ignored = { eventIds: eventIdsOf(events), organizationId: null, outcome: 'ignored' as const }
  await markHandled(context.db, [ignored], context.clock.now())
}

/** Events by the organization that they are about; those that are about nobody of ours are put aside. */
async function findOwners(context: BillingContext, events: readonly OpenEvent[]): Promise<ReadonlyMap<string, OpenEvent[]>> {
  const customers = events.flatMap(({ customerId, type }) => (customerId === null || isOfTestClock(type) ? [] : [customerId]))
  const known = await findOrganizationIdsByCustomers(context.db, [...new Set(customers)])
  const owned = new Map<string, OpenEvent[]>()
  for (const [, waiting] of Map.groupBy(events, laneOf)) {
    const [first] = waiting
    try {
      const organizationId = known.get(first!.customerId ?? '') ?? (await findOrganizationOf(context, first!))
      if (organizationId === null) await ignore(context, waiting)
      else owned.set(organizationId, [...(owned.get(organizationId) ?? []), ...waiting])
    } catch (error) {
      await recordFailure(context, waiting, error)
    }
  }
  return owned
}

/** Reads organizations from Stripe, and applies them together as they come: one that takes long keeps nobody else waiting. */
async function refetch(
  context: BillingContext,
  { session, organizationIds, release }: HeldLocks,
  owned: ReadonlyMap<string, readonly OpenEvent[]>,
): Promise<void> {
  // Under the locks there may be more by now; all of it is covered by the refetch that follows.
  const lanes = new Set(organizationIds.flatMap((id) => owned.get(id)!.map(laneOf)))
  const open = Map.groupBy(await listOpenEvents(session, [...lanes]), laneOf)
  const works = organizationIds.flatMap((organizationId): Work[] => {
    const own = new Set(owned.get(organizationId)!.map(laneOf))
    const events = [...own].flatMap((lane) => open.get(lane) ?? []).filter(({ type }) => isRelevant(type))
    // Somebody else was faster.
    return events.length === 0 ? [] : [{ organizationId, events }]
  })
  const fetching = await fetchOrganizations(context, session, works.map(toTask))
  const results = fetching.map(async (fetched, index) => ({ ...works[index]!, result: await settled(fetched) }))
  for await (const done of together(results, PATIENCE_MS)) {
    await apply(context, session, done)
    await release(done.map(({ organizationId }) => organizationId))
  }
}

/** What of a refetch is not there by then is applied with the next. */
const PATIENCE_MS = 200

type Work = { readonly organizationId: string; readonly events: readonly OpenEvent[] }
type Done = Work & { readonly result: { readonly fetched: Fetched } | { readonly error: unknown } }

function toTask({ organizationId, events }: Work): SyncTask {
  const isOfCustomer = events.every(({ customerId, type }) => customerId !== null && !isOfTestClock(type))
  return { organizationId, scope: isOfCustomer ? scopeOf(events) : COMPLETE_SCOPE, priority: 'background' }
}

async function settled(fetching: Promise<Fetched>): Promise<Done['result']> {
  try {
    return { fetched: await fetching }
  } catch (error) {
    return { error }
  }
}

/** Applies what was fetched in one transaction; when that fails, each by itself, so that the one at fault fails alone. */
async function apply(context: BillingContext, session: Session, done: readonly Done[]): Promise<void> {
  for (const { events, result } of done) {
    if ('error' in result) await recordFailure(context, events, result.error)
  }
  const works = done.flatMap(({ result, ...work }) => ('fetched' in result ? [{ ...work, fetched: result.fetched }] : []))
  try {
    await applyAll(context, session, works)
  } catch (error) {
    // A connection that is lost has lost the locks with it.
    if (isConnectionError(error)) throw error
    if (works.length > 1)
      context.log.warn({ event: 'stripe.group_failed', err: error }, 'refetched organizations are applied one by one')
    for (const work of works) {
      const failure = works.length === 1 ? error : await failureOf(applyAll(context, session, [work]))
      if (failure !== null) await recordFailure(context, work.events, failure)
    }
  }
}

async function applyAll(
  context: BillingContext,
  session: Session,
  works: readonly (Work & { readonly fetched: Fetched })[],
): Promise<void> {
  if (works.length === 0) return
  await applyFetched(
    context,
    session,
    works.map(({ fetched }) => fetched),
    (tx) =>
      markHandled(
        tx,
        works.map(({ organizationId, events }) => ({
          eventIds: eventIdsOf(events),
          organizationId,
          outcome: 'applied' as const,
        })),
        context.clock.now(),
      ),
  )
}

async function failureOf(applying: Promise<void>): Promise<unknown> {
  try {
    await applying
    return null
  } catch (error) {
    if (isConnectionError(error)) throw error
    return error
  }
}

/** Answers what has come of promises that never fail: all of them, or what is there after `patienceMs`, and then the rest likewise. */
async function* together<Result>(promises: readonly Promise<Result>[], patienceMs: number): AsyncGenerator<readonly Result[]> {
  const arrived: Result[] = []
  const all = Promise.all(promises.map(async (promise) => arrived.push(await promise)))
  let given = 0
  while (given < promises.length) {
    const patience = new AbortController()
    await Promise.race([all, delay(patienceMs, undefined, { signal: patience.signal }).catch(() => undefined)])
    patience.abort()
    const group = arrived.splice(0)
    given += group.length
    if (group.length > 0) yield group
  }
}

function isOfTestClock(type: string): boolean {
  return type.startsWith('test_helpers.')
}

/** Whom an event is about; null when it is nobody of ours (several products may share a Stripe account). */
async function findOrganizationOf(context: BillingContext, event: OpenEvent): Promise<string | null> {
  const { db } = context
  if (isOfTestClock(event.type)) return event.objectId === null ? null : findOrganizationIdByTestClock(db, event.objectId)
  if (event.customerId === null) {
    if (event.objectId === null) return null
    return (await findOrganizationIdByObject(db, event.objectId)) ?? findOrganizationByCharge(context, event.objectId)
  }
  // A customer whose creation we did not live to record: it names its organization itself.
  const customer = await requireGateway(context).backgroundReads.retrieveCustomer(event.customerId)
  const named = customer?.metadata[ORGANIZATION_METADATA]
  if (named === undefined || (await findOrganization(db, named)) === null) return null
  return (await linkCustomer(db, { organizationId: named, customerId: event.customerId })) ? named : null
}

/** A dispute may be told of before the charge that it is of: Stripe knows whose that is. */
async function findOrganizationByCharge(context: BillingContext, objectId: string): Promise<string | null> {
  if (!isChargeId(objectId)) return null
  const charge = await requireGateway(context).backgroundReads.retrieveCharge(objectId)
  if (charge === null || charge.customerId === null) return null
  const known = await findOrganizationIdsByCustomers(context.db, [charge.customerId])
  return known.get(charge.customerId) ?? null
}

async function recordFailure(context: BillingContext, events: readonly OpenEvent[], error: unknown): Promise<void> {
  const code = error instanceof DomainError ? error.code : 'internal_error'
  // Without the database nothing can be written down, and nothing needs to be: the events are still due.
  if (code === 'database_unavailable') throw error
  const away = code === 'stripe_unavailable' || code === 'stripe_failed' || code === 'overloaded'
  const now = context.clock.now()
  for (const { eventId, attempts, type } of events) {
    const parked = !away && attempts + 1 >= MOST_ATTEMPTS
    await markFailed(context.db, {
      eventId,
      error: `${code}: ${error instanceof Error ? error.message : String(error)}`,
      nextAttemptAt: later(context, retryDelayMs(attempts)),
      parkedAt: parked ? now : null,
    })
    context.log[parked ? 'error' : 'warn'](
      { event: 'stripe.event_failed', event_id: eventId, type, attempts: attempts + 1, parked, err: error },
      'an event of Stripe could not be handled',
    )
  }
}

/** 1 s, 2 s, 4 s … up to ten minutes. */
export function retryDelayMs(attempts: number): number {
  return Math.min(SECOND_MS * 2 ** Math.min(attempts, 20), 10 * MINUTE_MS)
}

function later(context: BillingContext, ms: number): Date {
  return new Date(context.clock.now().getTime() + ms)
}

function eventIdsOf(events: readonly OpenEvent[]): string[] {
  return events.map(({ eventId }) => eventId)
}
