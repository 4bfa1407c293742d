import type { Db, Queryable } from '../db/database.ts'
import type { GrantsContext } from '../grants/actions.ts'
import { DAY_MS } from '../lib/period.ts'
import { findBalanceCheck, listAccountsAfter, listImbalances, upsertBalanceCheck, type Imbalance } from './balance-store.ts'
import { carryLevels, type LevelsContext } from './levels.ts'
import { ensurePartitions } from './partitions.ts'
import { commitUsage } from './write/commit.ts'
import type { UsageConnections } from './write/pipeline.ts'
import { deleteOldReadings, deleteOldValues } from './write/readings-store.ts'
import { deleteReservationsBefore, listOrganizationsWithOverdueReservations } from './write/reservations-store.ts'
import { deleteSpendRefusalsBefore } from './write/spend-refusals-store.ts'
import { deleteKeysBefore } from './write/store.ts'

export type MeteringJobsContext = GrantsContext &
  LevelsContext & {
    readonly db: Db
    readonly connections: UsageConnections
    /** Called with organizations whose counters disagree: a fault of ours that somebody has to look at. */
    readonly onImbalance: (imbalances: readonly Imbalance[]) => void
  }

/** What runs by itself: a name, when (cron, UTC), and what. Each may run on several servers at once, and again. */
export type MeteringJob = { readonly name: string; readonly cron: string; readonly run: () => Promise<void> }

/** Keys are promised for 35 days; the day more is for clocks that disagree. Their events are kept longer. */
export const KEY_RETENTION_MS = 36 * DAY_MS
const ORGANIZATIONS_AT_ONCE = 100
const KEYS_AT_ONCE = 10_000
const IMBALANCES_SHOWN = 100

export function meteringJobs(context: MeteringJobsContext): readonly MeteringJob[] {
  return [
    { name: 'usage.partitions', cron: '17 3 * * *', run: () => ensurePartitions(context.db, context.clock.now()) },
    { name: 'usage.reservations', cron: '* * * * *', run: () => expireReservations(context) },
    { name: 'usage.levels', cron: '* * * * *', run: () => carryLevels(context) },
    { name: 'usage.keys', cron: '37 * * * *', run: () => pruneKeys(context) },
    { name: 'usage.ended_reservations', cron: '43 4 * * *', run: () => pruneReservations(context) },
    { name: 'usage.ended_readings', cron: '53 4 * * *', run: () => pruneReadings(context) },
    { name: 'usage.balances', cron: '7 * * * *', run: () => checkBalances(context) },
  ]
}

/** Ends the reservations that nobody settled. The next use of a balance does so too; this is for balances that rest. */
export async function expireReservations(context: MeteringJobsContext): Promise<void> {
  for (;;) {
    const overdue = await listOrganizationsWithOverdueReservations(context.db, context.clock.now(), ORGANIZATIONS_AT_ONCE)
    if (overdue.length === 0) return
    await context.connections.transaction((tx) => commitUsage(tx, context, [], { alsoExpire: overdue }))
  }
}

/** Forgets keys older than promised. */
export async function pruneKeys(context: MeteringJobsContext): Promise<void> {
  const before = new Date(context.clock.now().getTime() - KEY_RETENTION_MS)
  while ((await deleteKeysBefore(context.db, before, KEYS_AT_ONCE)) === KEYS_AT_ONCE);
  while ((await deleteSpendRefusalsBefore(context.db, before, KEYS_AT_ONCE)) === KEYS_AT_ONCE);
}

/** Forgets reservations that ended so long ago that no repeat of their keys is answered any more. */
export async function pruneReservations(context: MeteringJobsContext): Promise<void> {
  const before = new Date(context.clock.now().getTime() - KEY_RETENTION_MS)
  while ((await deleteReservationsBefore(context.db, before, KEYS_AT_ONCE)) === KEYS_AT_ONCE);
}

/** Late use reaches 35 days back, and its key is kept for 36: then nothing of the period changes any more. */
const READINGS_AGE = '72 days'

/** Forgets what meters have come to, and the values that they have seen, in periods that nothing can reach any more. */
export async function pruneReadings({ db, clock }: MeteringJobsContext): Promise<void> {
  const old = { now: clock.now(), age: READINGS_AGE, limit: KEYS_AT_ONCE }
  while ((await deleteOldValues(db, old)) === KEYS_AT_ONCE);
  while ((await deleteOldReadings(db, old)) === KEYS_AT_ONCE);
}

/**
 * Looks whether grants, hourly sums and reservations tell the same sums for every organization, and keeps what came of it. A part of them at
 * a time: hourly sums are kept for good, and one statement over all would take longer every day.
 */
export async function checkBalances({ db, clock, onImbalance }: MeteringJobsContext): Promise<void> {
  const checkedAt = clock.now()
  const imbalances: Imbalance[] = []
  let last: string | undefined = ''
  while (last !== undefined) {
    const organizationIds = await listAccountsAfter(db, last, ORGANIZATIONS_AT_ONCE)
    imbalances.push(...(await listImbalances(db, IMBALANCES_SHOWN, organizationIds)))
    last = organizationIds.at(-1)
  }
  await upsertBalanceCheck(db, { checkedAt, imbalances: imbalances.length })
  if (imbalances.length > 0) onImbalance(imbalances.slice(0, IMBALANCES_SHOWN))
}

/** What the last look at the balances found, in words: for those who watch the server. An imbalance does not keep it from serving. */
export async function describeBalanceCheck(db: Queryable): Promise<string> {
  const last = await findBalanceCheck(db)
  if (last === null) return 'not checked yet'
  const { checkedAt, imbalances } = last
  const count = imbalances === IMBALANCES_SHOWN ? `${imbalances} or more` : imbalances
  return `${count} ${imbalances === 1 ? 'imbalance' : 'imbalances'}, checked at ${checkedAt.toISOString()}`
}
