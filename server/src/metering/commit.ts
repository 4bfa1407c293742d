import { publishEvents } from '../events/actions.ts'
import { termsOfAccounts, type GrantsContext } from '../grants/actions.ts'
import { addFreeUse, lockAccounts } from '../grants/store.ts'
import { assert } from '../lib/errors.ts'
import { newId, newUsageEventId, type ReservationId } from '../lib/ids.ts'
import { decide } from './decide.ts'
import { eventKey, NOTHING_KNOWN, type Decision, type Outcome } from './decision.ts'
import { gather, Gathering, openAccounts, readOverdue } from './gather.ts'
import type { PacketClient } from '../db/packet.ts'
import { insertEvents } from './event-blocks.ts'
import { insertLowBalances } from './low-balances-store.ts'
import type { Written } from './pipeline.ts'
import { addGroupedUse } from './rollups-store.ts'
import { insertValues, upsertCorrections, upsertReadings } from './readings-store.ts'
import { closeReservations, insertReservations } from './reservations-store.ts'
import { addUse, findEventsOfKeys, findGrantsAndKnownKeys, insertKeys, type EventKey } from './store.ts'
import type { UsageRequest } from './usage.ts'
import { upsertRateWindows } from './windows-store.ts'

/**
 * The one write path of usage, inside a transaction: lock the accounts, read the keys and what counts, decide, write.
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
  const keys = keysOf(requests)
  const [locked, { grants: active, known: used }] = await Promise.all([
    lockAccounts(tx, organizationIds),
    findGrantsAndKnownKeys(tx, organizationIds, keys, recordedAt),
  ])
  const opened = await openAccounts(tx, context, { organizationIds, accounts: locked, grants: active, now: recordedAt })
  // An account that was only opened here was not locked yet when its keys were looked at.
  const isLookedUp = used === 0 && opened.accounts.length === locked.length
  const repeated = isLookedUp ? [] : await findEventsOfKeys(tx, keys)
  // Events outlive their keys (jobs.ts prunes in that order), so every key that was used before has its answer.
  assert(repeated.length >= used, 'every key that is not new has an event')
  const gathered = new Gathering(opened, await termsOfAccounts(context, opened.accounts, recordedAt))
  const naming = {
    recordedAt,
    newEventId: () => newUsageEventId(recordedAt),
    newReservationId: () => newId<ReservationId>('res'),
  }
  const overdue = await readOverdue(tx, gathered, requests, alsoExpire)
  if (overdue.length > 0) {
    // Before anything is opened or decided: what these held counts for what comes.
    const nothingElse = { ...NOTHING_KNOWN, requests: [], reservations: overdue }
    const ended = decide({ ...naming, ...nothingElse, organizations: gathered.states() })
    await Promise.all(write(tx, ended))
    gathered.apply(ended)
  }
  const past = await gather(tx, context, gathered, requests)
  const known = new Map(
    [...repeated, ...past.settlements].map((event) => [eventKey(event.organizationId, event.idempotencyKey), event]),
  )
  const decision = decide({ ...naming, ...past, known, requests, organizations: gathered.states() })
  return { send: () => write(tx, decision), result: decision.outcomes }
}

/** The keys that a batch names; one that is named twice is looked up twice. */
function keysOf(requests: readonly UsageRequest[]): readonly EventKey[] {
  return requests.filter((request) => 'idempotencyKey' in request)
}

function write(tx: PacketClient, decision: Decision): readonly Promise<unknown>[] {
  const writes: Promise<unknown>[] = []
  // A settlement is found by its reservation.
  const keyed = decision.events.filter((event) => event.verb !== 'settle')
  if (keyed.length > 0) writes.push(insertKeys(tx, keyed))
  if (decision.events.length > 0) writes.push(insertEvents(tx, decision.events))
  if (decision.grantChanges.length + decision.hourlyChanges.length > 0) {
    writes.push(addUse(tx, decision.grantChanges, decision.hourlyChanges))
  }
  const free = decision.grantChanges.filter(({ freeUsed, freeOverage }) => freeUsed !== 0n || freeOverage !== 0n)
  if (free.length > 0) writes.push(addFreeUse(tx, free))
  if (decision.groupedChanges.length > 0) writes.push(addGroupedUse(tx, decision.groupedChanges))
  if (decision.newReservations.length > 0) writes.push(insertReservations(tx, decision.newReservations))
  if (decision.closedReservations.length > 0) writes.push(closeReservations(tx, decision.closedReservations))
  if (decision.corrections.length > 0) writes.push(upsertCorrections(tx, decision.corrections))
  if (decision.readings.length > 0) writes.push(upsertReadings(tx, decision.readings))
  if (decision.newValues.length > 0) writes.push(insertValues(tx, decision.newValues))
  if (decision.windows.length > 0) writes.push(upsertRateWindows(tx, decision.windows))
  if (decision.notices.length > 0) writes.push(publishEvents(tx, decision.notices))
  if (decision.lowBalances.length > 0) writes.push(insertLowBalances(tx, decision.lowBalances))
  return writes
}
