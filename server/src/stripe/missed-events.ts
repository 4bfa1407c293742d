import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS } from '../lib/period.ts'
import { requireGateway, type BillingContext } from './context.ts'
import { EVENTS_LISTED_UNTIL } from './drift-store.ts'
import { insertEvent } from './inbox-store.ts'

/** How far before the last look events are listed again: what was being delivered then may have been lost since. */
const OVERLAP_MS = 10 * MINUTE_MS
/** Stripe lists events of 30 days. */
const WINDOW_MS = 29 * DAY_MS
const LOOK_EVERY_MS = 5 * MINUTE_MS

/**
 * Lists Stripe's events since the last look and puts those into the inbox that never arrived: webhooks lost for a day are
 * recovered. The inbox's key keeps those out that did. Answers how many had been missed.
 */
export async function recoverMissedEvents(context: BillingContext, options: { now?: boolean } = {}): Promise<number> {
  const gateway = requireGateway(context)
  const { db, clock } = context
  const startedAt = clock.now()
  const last = await readMark(db)
  if (options.now !== true && last !== null && startedAt.getTime() - last.getTime() < LOOK_EVERY_MS) return 0
  const earliest = startedAt.getTime() - (last === null ? HOUR_MS : WINDOW_MS)
  const since = new Date(Math.max(earliest, (last ?? startedAt).getTime() - OVERLAP_MS))
  let missed = 0
  let startingAfter: string | null = null
  for (;;) {
    const page = await gateway.backgroundReads.listEvents({ since, startingAfter })
    for (const { envelope, payload } of page.events) {
      if (await insertEvent(db, { envelope, payload, source: 'reconcile' }, clock.now())) missed += 1
    }
    startingAfter = page.events.at(-1)?.envelope.id ?? null
    if (!page.hasMore || startingAfter === null) break
  }
  await db.query(`insert into settings (name, value) values ($1, $2) on conflict (name) do update set value = excluded.value`, [
    EVENTS_LISTED_UNTIL,
    startedAt.toISOString(),
  ])
  // Before the first look there was no server that could have missed anything.
  if (missed > 0 && last !== null) {
    context.log.warn({ event: 'stripe.events_missed', count: missed }, 'events were found that no webhook had brought')
  }
  return missed
}

async function readMark(db: Queryable): Promise<Instant | null> {
  const { rows } = await db.query<{ value: string }>('select value from settings where name = $1', [EVENTS_LISTED_UNTIL])
  return rows[0] ? new Date(rows[0].value) : null
}
