import type { Db } from '../db/database.ts'
import type { Job } from '../jobs/scheduler.ts'
import type { Clock } from '../lib/clock.ts'
import { calendarDayOf, HOUR_MS } from '../lib/period.ts'
import { insertMissingDays } from './ledger-store.ts'
import { foldTallies } from './store.ts'

/** A day is over for good once the transactions that began in it are. */
const SETTLED_MS = HOUR_MS

export function analyticsJobs({ db, clock }: { readonly db: Db; readonly clock: Clock }): readonly Job[] {
  return [
    { name: 'analytics.tallies', cron: '* * * * *', run: () => foldTallies(db) },
    { name: 'analytics.days', cron: '13 * * * *', run: () => closeDays(db, clock) },
  ]
}

/** Writes the sums at the end of each day that is over. */
export async function closeDays(db: Db, clock: Clock): Promise<void> {
  const until = calendarDayOf(new Date(clock.now().getTime() - SETTLED_MS)).start
  await db.transaction(async (tx) => void (await insertMissingDays(tx, until)))
}
