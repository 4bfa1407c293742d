import { publishEvents } from '../events/actions.ts'
import type { PacketClient } from './packet.ts'
import { termsOfAccounts, type GrantsContext } from '../grants/actions.ts'
import { lockAccounts } from '../grants/store.ts'
import type { Instant } from '../lib/clock.ts'
import { assert } from '../lib/errors.ts'
import { newId, newUsageEventId, type ReservationId } from '../lib/ids.ts'
import { decide } from './decide.ts'
import { eventKey, NOTHING_KNOWN, type Decision, type Outcome } from './decision.ts'
import { gather, Gathering, openAccounts, readOverdue } from './gather.ts'
import type { Written } from './pipeline.ts'
import { addGroupedUse } from './rollups-store.ts'
import { insertValues, upsertCorrections, upsertReadings } from './readings-store.ts'
import {
  addUse,
  claimKeysAndFindGrants,
  closeReservations,
  findEventsOfClaims,
  insertEvents,
  insertReservations,
  unclaimKeys,
  type KeyClaim,
} from './store.ts'
import { upsertRateWindows } from './windows-store.ts'
import type { UsageEvent, UsageRequest } from './usage.ts'

/**
 * The one write path of usage, inside a transaction: lock the accounts, claim the keys, read what counts, decide, write.
 * Everything is answered from what was read under the locks, so any number of processes may do this at once.
 * @param alsoExpire organizations of which nothing is asked, but whose overdue reservations end here
 */
export async function commitUsage(
  tx: PacketClient,
  context: GrantsContext,
  requests: readonly UsageRequest[],
  alsoExpire: readonly string[] = [],
): Promise<Written<readonly Outcome[]>> {
  const recordedAt = context.clock.now()
  const organizationIds = [...new Set([...requests.map((request) => request.organizationId), ...alsoExpire])].sort()
  const claims = claimsOf(requests, recordedAt)
  const [locked, { grants: active, claimed }] = await Promise.all([
    lockAccounts(tx, organizationIds),
    claimKeysAndFindGrants(tx, organizationIds, [...claims.values()], recordedAt),
  ])
  const repeated = claimed === claims.size ? [] : await findEventsOfClaims(tx, [...claims.values()])
  // Events outlive their keys (jobs.ts prunes in that order), so every key that was used before has its answer.
  assert(claimed + repeated.length === claims.size, 'every key that is not new has an event')
  const opened = await openAccounts(tx, context, { organizationIds, accounts: locked, grants: active, now: recordedAt })
  const gathered = new Gathering(opened, await termsOfAccounts(context, opened.accounts, recordedAt))
  const naming = {
    recordedAt,
    eventIdOf: (organizationId: string, key: string) =>
      claims.get(eventKey(organizationId, key))?.eventId ?? newUsageEventId(recordedAt),
    newReservationId: () => newId<ReservationId>('res'),
  }
  const overdue = await readOverdue(tx, gathered, alsoExpire)
  if (overdue.length > 0) {
    // Before anything is opened or decided: what these held counts for what comes.
    const nothingElse = { ...NOTHING_KNOWN, requests: [], reservations: overdue }
    const ended = decide({ ...naming, ...nothingElse, organizations: gathered.states() })
    await Promise.all(write(tx, ended, []))
    gathered.apply(ended)
  }
  const past = await gather(tx, gathered, requests)
  const known = new Map(
    [...repeated, ...past.settlements].map((event) => [eventKey(event.organizationId, event.idempotencyKey), event]),
  )
  const decision = decide({ ...naming, ...past, known, requests, organizations: gathered.states() })
  const unused = unusedClaims(claims, decision.events, repeated)
  return { send: () => write(tx, decision, unused), result: decision.outcomes }
}

/** One claim per key, however often the batch names it. */
function claimsOf(requests: readonly UsageRequest[], recordedAt: Instant): ReadonlyMap<string, KeyClaim> {
  const claims = new Map<string, KeyClaim>()
  for (const request of requests) {
    if (!('idempotencyKey' in request)) continue
    const { organizationId, idempotencyKey } = request
    const name = eventKey(organizationId, idempotencyKey)
    if (!claims.has(name)) claims.set(name, { organizationId, idempotencyKey, eventId: newUsageEventId(recordedAt) })
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

function write(tx: PacketClient, decision: Decision, unused: readonly KeyClaim[]): readonly Promise<unknown>[] {
  const writes: Promise<unknown>[] = []
  if (decision.events.length > 0) writes.push(insertEvents(tx, decision.events))
  if (decision.grantChanges.length + decision.hourlyChanges.length > 0) {
    writes.push(addUse(tx, decision.grantChanges, decision.hourlyChanges))
  }
  if (decision.groupedChanges.length > 0) writes.push(addGroupedUse(tx, decision.groupedChanges))
  if (decision.newReservations.length > 0) writes.push(insertReservations(tx, decision.newReservations))
  if (decision.closedReservations.length > 0) writes.push(closeReservations(tx, decision.closedReservations))
  if (decision.corrections.length > 0) writes.push(upsertCorrections(tx, decision.corrections))
  if (decision.readings.length > 0) writes.push(upsertReadings(tx, decision.readings))
  if (decision.newValues.length > 0) writes.push(insertValues(tx, decision.newValues))
  if (decision.windows.length > 0) writes.push(upsertRateWindows(tx, decision.windows))
  if (decision.notices.length > 0) writes.push(publishEvents(tx, decision.notices))
  if (unused.length > 0) writes.push(unclaimKeys(tx, unused))
  return writes
}
