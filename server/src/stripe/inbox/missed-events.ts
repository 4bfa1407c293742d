import { runAlone } from '../../db/alone.ts'
import type { Queryable, Session } from '../../db/database.ts'
import type { Instant } from '../../lib/clock.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS } from '../../lib/period.ts'
import { requireGateway, type BillingContext } from '../context.ts'
import { isMissingAtStripe } from '../gateway/errors.ts'
import { EVENTS_LISTED_UNTIL, insertEvents } from './inbox-store.ts'

/** How far before the last look events are listed again: what was being delivered then may have been lost since. */
const OVERLAP_MS = 10 * MINUTE_MS
/** Stripe lists events of 30 days. */
const WINDOW_MS = 29 * DAY_MS
const LOOK_EVERY_MS = 5 * MINUTE_MS
/** The setting that holds how far a look is that is under way. */
const EVENTS_LISTING = 'stripe_events_listing'

/** A look that is under way: newest first, from when it began back to `since`. */
type Listing = { readonly startedAt: Instant; readonly since: Instant; readonly startingAfter: string | null }

type Looking = {
  /** Looks also when the last look was a moment ago. */
  readonly now?: boolean
  readonly signal?: AbortSignal
}

/**
 * Lists Stripe's events since the last look and puts those into the inbox that never arrived: webhooks lost for a day are
 * recovered. The inbox's key keeps those out that did. One server does it at a time; where it has come to is stored with each page, so that
 * a crash costs a page. Answers how many had been missed.
 */
export async function recoverMissedEvents(context: BillingContext, { now = false, signal }: Looking = {}): Promise<number> {
  requireGateway(context)
  const missed = await context.db.session((session) =>
    runAlone(session, 'missed events', async () => {
      if (now || (await isDue(context, session))) await requestLook(context, session)
      return look(context, session, signal)
    }),
  )
  return missed ?? 0
}

async function isDue({ clock }: BillingContext, session: Session): Promise<boolean> {
  const last = await readTime(session)
  return last === null || clock.now().getTime() - last.getTime() >= LOOK_EVERY_MS
}

/** Has events listed at the next occasion, unless they are being listed. */
export async function requestLook({ clock }: BillingContext, db: Queryable): Promise<void> {
  if ((await readListing(db)) !== null) return
  const startedAt = clock.now()
  const last = await readTime(db)
  const earliest = startedAt.getTime() - (last === null ? HOUR_MS : WINDOW_MS)
  const since = new Date(Math.max(earliest, (last ?? startedAt).getTime() - OVERLAP_MS))
  await writeSetting(db, EVENTS_LISTING, JSON.stringify({ startedAt, since, startingAfter: null }))
}

async function look(context: BillingContext, session: Session, signal: AbortSignal | undefined): Promise<number> {
  const isFirst = (await readTime(session)) === null
  let missed = 0
  for (let listing = await readListing(session); listing !== null; listing = await readListing(session)) {
    if (signal?.aborted === true) break
    missed += await storePage(context, session, listing, await readPage(context, listing))
  }
  // Before the first look there was no server that could have missed anything.
  if (missed > 0 && !isFirst) {
    context.log.warn({ event: 'stripe.events_missed', count: missed }, 'events were found that no webhook had brought')
  }
  return missed
}

type Page = Awaited<ReturnType<ReturnType<typeof requireGateway>['backgroundReads']['listEvents']>>

async function readPage(context: BillingContext, { since, startingAfter }: Listing): Promise<Page> {
  const { backgroundReads } = requireGateway(context)
  try {
    return await backgroundReads.listEvents({ since, startingAfter })
  } catch (error) {
    // Where it had come to is longer ago than Stripe remembers: from the newest on again.
    if (startingAfter === null || !isMissingAtStripe(error)) throw error
    return backgroundReads.listEvents({ since, startingAfter: null })
  }
}

/** Stores what is new of a page, and how far it is; at the last page, that all is listed up to when the look began. */
async function storePage(context: BillingContext, session: Session, listing: Listing, page: Page): Promise<number> {
  const startingAfter = page.events.at(-1)?.envelope.id ?? null
  return session.transaction(async (tx) => {
    const received = page.events.map(({ envelope, payload }) => ({
      envelope,
      payload: Buffer.from(payload),
      source: 'reconcile' as const,
    }))
    const stored = await insertEvents(tx, received, context.clock.now())
    if (page.hasMore && startingAfter !== null) {
      await writeSetting(tx, EVENTS_LISTING, JSON.stringify({ ...listing, startingAfter }))
    } else {
      await writeSetting(tx, EVENTS_LISTED_UNTIL, listing.startedAt.toISOString())
      await tx.query('delete from settings where name = $1', [EVENTS_LISTING])
    }
    return stored.size
  })
}

async function readTime(db: Queryable): Promise<Instant | null> {
  const value = await readSetting(db, EVENTS_LISTED_UNTIL)
  return value === null ? null : new Date(value)
}

async function readListing(db: Queryable): Promise<Listing | null> {
  const value = await readSetting(db, EVENTS_LISTING)
  if (value === null) return null
  const { startedAt, since, startingAfter } = JSON.parse(value) as {
    startedAt: string
    since: string
    startingAfter: string | null
  }
  return { startedAt: new Date(startedAt), since: new Date(since), startingAfter }
}

async function readSetting(db: Queryable, name: string): Promise<string | null> {
  const { rows } = await db.query<{ value: string }>('select value from settings where name = $1', [name])
  return rows[0]?.value ?? null
}

async function writeSetting(db: Queryable, name: string, value: string): Promise<void> {
  await db.query('insert into settings (name, value) values ($1, $2) on conflict (name) do update set value = excluded.value', [
    name,
    value,
  ])
}
