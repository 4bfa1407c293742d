import type { Db } from '../db/database.ts'
import type { Clock } from '../lib/clock.ts'
import { DAY_MS, MINUTE_MS, SECOND_MS } from '../lib/period.ts'
import type { ForwardedUse, Sink } from './sink.ts'
import {
  advanceCursor,
  listUseAfter,
  NO_EVENT,
  noteFailure,
  openCursor,
  readHorizon,
  recordRejections,
  type Place,
} from './store.ts'

export type SinksContext = {
  readonly db: Db
  readonly clock: Clock
  readonly log: {
    readonly warn: (fields: Record<string, unknown>, message: string) => void
    readonly error: (fields: Record<string, unknown>, message: string) => void
  }
  /** How far behind now is read; for clocks of servers that disagree. Default a minute. */
  readonly marginMs?: number
  /** How long one delivery may take. Default ten seconds. */
  readonly timeoutMs?: number
}

/** So many events are in memory at once. */
const EVENTS_READ_AT_ONCE = 2_000
/** The time over which events are looked for at once; twice as much after a look that found none. */
const SHORTEST_LOOK_MS = 30 * SECOND_MS
const LONGEST_LOOK_MS = DAY_MS
const LONGEST_WAIT_MS = 10 * MINUTE_MS
/** The first of two keys; the second is the sink's name. */
const LOCK_SPACE = 7_865_435

/**
 * Delivers what is due to a sink and answers how many events that were; 0 when there is nothing, when another server is at it, or
 * when the sink has failed and its pause is not over. A failure is written down and said in the log, not thrown.
 */
export async function forward(context: SinksContext, sink: Sink, signal: AbortSignal): Promise<number> {
  return context.db.session(async (session) => {
    const lock = [LOCK_SPACE, sink.name]
    const { rows } = await session.query<{ held: boolean }>('select pg_try_advisory_lock($1, hashtext($2)) as held', lock)
    if (!rows[0]?.held) return 0
    try {
      return await forwardAlone(context, sink, signal)
    } finally {
      await session.query('select pg_advisory_unlock($1, hashtext($2))', lock)
    }
  })
}

async function forwardAlone(context: SinksContext, sink: Sink, signal: AbortSignal): Promise<number> {
  const { db, clock } = context
  const cursor = await openCursor(db, sink.name, clock.now())
  if (cursor.nextAttemptAt > clock.now()) return 0
  const horizon = await readHorizon(db, clock.now(), context.marginMs ?? MINUTE_MS)
  let place: Place = cursor
  let delivered = 0
  let lookMs = SHORTEST_LOOK_MS
  while (place.recordedAt < horizon && !signal.aborted) {
    const until = new Date(Math.min(horizon.getTime(), place.recordedAt.getTime() + lookMs))
    const found = await listUseAfter(db, { after: place, until, limit: EVENTS_READ_AT_ONCE })
    for (let from = 0; from < found.length; from += sink.batchSize) {
      const batch = found.slice(from, from + sink.batchSize)
      if (!(await deliver(context, sink, batch, cursor.failures))) return delivered
      delivered += batch.length
    }
    if (found.length < EVENTS_READ_AT_ONCE) {
      place = { recordedAt: until, eventId: NO_EVENT }
      await advanceCursor(db, sink.name, { to: place, delivered: 0, now: clock.now() })
    } else place = placeOf(found.at(-1)!)
    lookMs = found.length === 0 ? Math.min(lookMs * 2, LONGEST_LOOK_MS) : SHORTEST_LOOK_MS
  }
  return delivered
}

/** Delivers one batch and moves the cursor over it; false when the sink has failed. */
async function deliver(context: SinksContext, sink: Sink, batch: readonly ForwardedUse[], failures: number): Promise<boolean> {
  const { db, clock, log } = context
  try {
    const rejected = await sink.deliver(batch, AbortSignal.timeout(context.timeoutMs ?? 10 * SECOND_MS))
    if (rejected.length > 0) {
      const owners = new Map(batch.map(({ id, organizationId }) => [id, organizationId]))
      const named = rejected.map((each) => ({ ...each, organizationId: owners.get(each.id) ?? '' }))
      await recordRejections(db, sink.name, named, clock.now())
      log.error(
        { event: 'sink.rejected', sink: sink.name, rejected: named.slice(0, 10), count: named.length },
        'a sink refused use',
      )
    }
    await advanceCursor(db, sink.name, {
      to: placeOf(batch.at(-1)!),
      delivered: batch.length - rejected.length,
      now: clock.now(),
    })
    return true
  } catch (error) {
    const waitMs = Math.min(SECOND_MS * 2 ** Math.min(failures, 20), LONGEST_WAIT_MS)
    const now = clock.now()
    const failure = { error: error instanceof Error ? error.message : String(error), now }
    await noteFailure(db, sink.name, { ...failure, nextAttemptAt: new Date(now.getTime() + waitMs) })
    log.warn(
      { event: 'sink.failed', sink: sink.name, err: error, wait_ms: waitMs },
      'a sink failed; nothing is lost, it is tried again',
    )
    return false
  }
}

function placeOf({ recordedAt, id }: ForwardedUse): Place {
  return { recordedAt, eventId: id }
}
