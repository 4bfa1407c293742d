import type { Db, Transaction } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import { addMonths, calendarMonthOf, type Period } from '../lib/period.ts'

/** Any fixed number will do: whoever holds this advisory lock makes partitions. */
const PARTITION_LOCK = 7_865_433
const MONTHS_AHEAD = 3

/**
 * Makes the monthly partitions of usage events from last month to three months ahead, where they are missing. Events that
 * the default partition caught meanwhile move into the month they belong to. Safe to run at once from several servers.
 */
export async function ensurePartitions(db: Db, now: Instant): Promise<void> {
  const { start } = calendarMonthOf(now)
  await db.transaction(async (tx) => {
    await tx.query('select pg_advisory_xact_lock($1)', [PARTITION_LOCK])
    for (let month = -1; month <= MONTHS_AHEAD; month += 1) await ensurePartition(tx, calendarMonthOf(addMonths(start, month)))
  })
}

async function ensurePartition(tx: Transaction, { start, end }: Period): Promise<void> {
  const name = `usage_events_${start.toISOString().slice(0, 7).replace('-', '_')}`
  const found = await tx.query<{ present: boolean }>('select to_regclass($1) is not null as present', [name])
  if (found.rows[0]?.present) return
  const range = `from ('${start.toISOString()}') to ('${end.toISOString()}')`
  await tx.query(`create table ${name} (like usage_event_blocks including all)`)
  // Reached through usage_event_blocks, under its policies; by its own name it is closed.
  await tx.query(`alter table ${name} enable row level security`)
  await tx.query(
    `with moved as (delete from usage_events_other where recorded_at >= $1 and recorded_at < $2 returning *)
     insert into ${name} select * from moved`,
    [start, end],
  )
  await tx.query(`alter table usage_event_blocks attach partition ${name} for values ${range}`)
}
