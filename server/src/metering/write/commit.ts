import type { PacketClient } from '../../db/packet.ts'
import { publishEvents } from '../../events/actions.ts'
import { termsOfAccounts, type GrantsContext } from '../../grants/actions.ts'
import { lockAndKeepAccounts, lockKnownAccounts } from '../../grants/known-accounts.ts'
import { meterOf, type GrantChange } from '../../grants/rules.ts'
import { addRareCounts, findActiveGrants } from '../../grants/store.ts'
import { assert } from '../../lib/errors.ts'
import { newId, newUsageEventId, type ReservationId } from '../../lib/ids.ts'
import { decide } from '../decide/decide.ts'
import { eventKey, nameOf, NOTHING_KNOWN, type Decision, type Outcome } from '../decide/decision.ts'
import type { UsageEvent, UsageRequest } from '../usage.ts'
import { readDueLevels, type AskedBalance, type DueLevel } from './due-levels.ts'
import { insertEvents } from './event-blocks.ts'
import { gather, openAccounts, readOverdue } from './gather.ts'
import { Gathering } from './gathering.ts'
import { KeysWanted, storesAllKeys } from './key-looks.ts'
import { addLateUse } from './late-store.ts'
import { markCarried } from './levels-store.ts'
import { insertLowBalances } from './low-balances-store.ts'
import type { Written } from './pipeline.ts'
import { deleteValues, findCorrections, insertValues, upsertCorrections, upsertReadings } from './readings-store.ts'
import { closeReservations, insertReservations } from './reservations-store.ts'
import { addGroupedUse } from './rollups-store.ts'
import { insertSpendRefusals } from './spend-refusals-store.ts'
import { addUse, countKnownKeys, findEventsOfKeys, insertKeys, type EventKey } from './store.ts'
import { upsertRateWindows } from './windows-store.ts'

export type CommitOptions = {
  /** Organizations of which nothing is asked, but whose overdue reservations end here. */
  readonly alsoExpire?: readonly string[]
  /** Whether to look first which keys were used before; without, all are taken for new and kept before anything is locked (`KeyLooks`). */
  readonly looksForKeys?: boolean
}

/**
 * The one write path of usage, inside a transaction: lock the accounts, read the keys and what counts, decide, write.
 * Everything is answered from what was read under the locks, so any number of processes may do this at once.
 * @throws KeysWanted from one that does not look for keys but would have to; `isRepeatedKey` tells the same of what its writes fail with
 */
export async function commitUsage(
  tx: PacketClient,
  context: GrantsContext,
  requests: readonly UsageRequest[],
  { alsoExpire = [], looksForKeys = true }: CommitOptions = {},
): Promise<Written<readonly Outcome[]>> {
  const recordedAt = context.clock.now()
  const organizationIds = [...new Set([...requests.map((request) => request.organizationId), ...alsoExpire])].sort()
  const keys = keysOf(requests)
  const [, locked, active, used] = await Promise.all([
    looksForKeys || keys.length === 0 ? null : insertKeys(tx, keys, recordedAt),
    // What has no second attempt reads them.
    alsoExpire.length > 0 ? lockAndKeepAccounts(tx, organizationIds) : lockKnownAccounts(tx, organizationIds),
    findActiveGrants(tx, organizationIds, recordedAt),
    looksForKeys && keys.length > 0 ? countKnownKeys(tx, keys) : 0,
  ])
  const opened = await openAccounts(tx, context, { organizationIds, accounts: locked, grants: active, now: recordedAt })
  // An account that was only opened here was not locked yet when its keys were looked at.
  const isLookedUp = used === 0 && opened.accounts.length === locked.length
  const repeated = isLookedUp || !looksForKeys ? [] : await findEventsOfKeys(tx, keys)
  // Events outlive their keys (`../jobs.ts` prunes in that order), so every key that was used before has its answer.
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
    await Promise.all(write(tx, ended, { keepsKeys: false }))
    gathered.apply(ended)
  }
  const due = await readDueLevels(tx, (id) => gathered.presentOf(id), balancesOf(gathered, requests))
  // Whether another server has carried them meanwhile, their keys say.
  if (due.length > 0 && !looksForKeys) throw new KeysWanted()
  const carried = due.map(({ use }) => use)
  const told = carried.length === 0 ? [] : await findEventsOfKeys(tx, carried)
  const all = carried.length === 0 ? requests : [...carried, ...requests]
  const past = await gather(tx, context, gathered, all)
  const known = new Map(
    [...repeated, ...told, ...past.settlements].map((event) => [eventKey(event.organizationId, nameOf(event)), event]),
  )
  const takenBack = await readTakenBack(tx, repeated, requests)
  const decision = decide({ ...naming, ...past, known, takenBack, requests: all, organizations: gathered.states() })
  if (!looksForKeys && !storesAllKeys(requests, decision.outcomes)) throw new KeysWanted()
  return {
    send: () => [...write(tx, decision, { keepsKeys: looksForKeys }), ...writeCarried(tx, due, decision.outcomes)],
    result: decision.outcomes.slice(due.length),
  }
}

function balancesOf({ terms }: Gathering, requests: readonly UsageRequest[]): AskedBalance[] {
  const asked: AskedBalance[] = []
  for (const request of requests) {
    if (!('meter' in request)) continue
    const { organizationId, meter } = request
    const own = terms.get(organizationId)
    const balanceKey = own && meterOf(own, meter)?.balanceKey
    if (balanceKey !== undefined) asked.push({ organizationId, balanceKey })
  }
  return asked
}

/**
 * What could not be told is left to the job, and so are a level of longer ago (the periods between want it as well) and one of who has taken
 * uses back: of those the job looks at what was carried before.
 */
function writeCarried(tx: PacketClient, due: readonly DueLevel[], outcomes: readonly Outcome[]): readonly Promise<unknown>[] {
  const done = due.filter(({ isNext, reading }, index) => isNext && !reading.hasRetractions && outcomes[index]!.kind === 'answer')
  if (done.length === 0) return []
  return [
    markCarried(
      tx,
      done.map(({ reading }) => reading),
    ),
  ]
}

/** Which of the uses that a group asks to be permitted again were counted and then taken back. */
async function readTakenBack(
  tx: PacketClient,
  repeated: readonly UsageEvent[],
  requests: readonly UsageRequest[],
): Promise<ReadonlySet<string>> {
  if (repeated.length === 0) return new Set()
  const asked = new Set(
    requests.flatMap((request) => (request.verb === 'consume' ? [eventKey(request.organizationId, request.idempotencyKey)] : [])),
  )
  const permitted = repeated.filter(
    ({ organizationId, idempotencyKey, refusal }) => refusal === null && asked.has(eventKey(organizationId, idempotencyKey)),
  )
  const corrections = permitted.length === 0 ? [] : await findCorrections(tx, permitted)
  const takenBack = corrections.filter(({ retracted }) => retracted)
  return new Set(takenBack.map(({ organizationId, idempotencyKey }) => eventKey(organizationId, idempotencyKey)))
}

/** The keys that a batch names; one that is named twice is looked up twice. */
function keysOf(requests: readonly UsageRequest[]): readonly EventKey[] {
  return requests.filter((request) => 'idempotencyKey' in request)
}

function changesUse({ used, overage, reserved, heldOverage, amount }: GrantChange): boolean {
  return used !== 0n || overage !== 0n || reserved !== 0n || heldOverage !== 0n || amount !== 0n
}

function write(tx: PacketClient, decision: Decision, { keepsKeys }: { keepsKeys: boolean }): readonly Promise<unknown>[] {
  const writes: Promise<unknown>[] = []
  // A settlement is found by its reservation.
  const keyed = keepsKeys ? decision.events.filter((event) => event.verb !== 'settle') : []
  if (keyed.length > 0) writes.push(insertKeys(tx, keyed, keyed[0]!.recordedAt))
  if (decision.events.length > 0) writes.push(insertEvents(tx, decision.events))
  const refused = decision.events.filter(({ spending }) => spending !== null)
  if (refused.length > 0) writes.push(insertSpendRefusals(tx, refused))
  const rare = decision.grantChanges.filter(
    ({ freeUsed, freeOverage, usedElsewhere }) => freeUsed !== 0n || freeOverage !== 0n || usedElsewhere !== 0n,
  )
  const changes = rare.length === 0 ? decision.grantChanges : decision.grantChanges.filter(changesUse)
  if (changes.length + decision.hourlyChanges.length > 0) writes.push(addUse(tx, changes, decision.hourlyChanges))
  if (rare.length > 0) writes.push(addRareCounts(tx, rare))
  if (decision.lateChanges.length > 0) writes.push(addLateUse(tx, decision.lateChanges))
  if (decision.groupedChanges.length > 0) writes.push(addGroupedUse(tx, decision.groupedChanges))
  if (decision.newReservations.length > 0) writes.push(insertReservations(tx, decision.newReservations))
  if (decision.closedReservations.length > 0) writes.push(closeReservations(tx, decision.closedReservations))
  if (decision.corrections.length > 0) writes.push(upsertCorrections(tx, decision.corrections))
  if (decision.readings.length > 0) writes.push(upsertReadings(tx, decision.readings))
  if (decision.goneValues.length > 0) writes.push(deleteValues(tx, decision.goneValues))
  if (decision.newValues.length > 0) writes.push(insertValues(tx, decision.newValues))
  if (decision.windows.length > 0) writes.push(upsertRateWindows(tx, decision.windows))
  if (decision.notices.length > 0) writes.push(publishEvents(tx, decision.notices))
  if (decision.lowBalances.length > 0) writes.push(insertLowBalances(tx, decision.lowBalances))
  return writes
}
