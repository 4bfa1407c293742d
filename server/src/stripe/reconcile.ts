import type { Transaction } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import { DomainError, type DomainErrorCode } from '../lib/errors.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS } from '../lib/period.ts'
import { requireGateway, type BillingContext } from './context.ts'
import { COMPLETE_SCOPE } from './fetch.ts'
import { insertEvent, markCovered } from './inbox-store.ts'
import { EVENTS_LISTED_UNTIL, insertDrifts, RECONCILE_EVERY_MS } from './drift-store.ts'
import { findDrift, type Drift, type MirroredRow } from './drift.ts'
import { tryOrganizationLock } from './lock.ts'
import { syncOrganization } from './sync.ts'

/** Organizations compared in one go, with pauses for what people wait for (the client's limiter lets those pass first). */
const BATCH = 25

/**
 * Compares those organizations with Stripe whose comparison is the longest ago, repairs what differs by the same refetch that
 * webhooks use, and writes down what was found. Where it has come to is in the database, so a crash costs one organization.
 * Answers how many were compared.
 */
export async function reconcileSome(context: BillingContext, signal?: AbortSignal, limit = BATCH): Promise<number> {
  if (context.gateway === null) return 0
  const due = await listDue(context, limit)
  let compared = 0
  for (const organizationId of due) {
    if (signal?.aborted === true) break
    if (await reconcileOrPutOff(context, organizationId)) compared += 1
  }
  return compared
}

const AWAY: ReadonlySet<DomainErrorCode> = new Set(['stripe_unavailable', 'stripe_failed', 'database_unavailable'])
const PUT_OFF_MS = HOUR_MS

/** One organization that cannot be compared must not keep the others waiting: it is put off for an hour, and said so in the log. */
async function reconcileOrPutOff(context: BillingContext, organizationId: string): Promise<boolean> {
  try {
    return (await reconcileOrganization(context, organizationId)) !== null
  } catch (error) {
    if (error instanceof DomainError && AWAY.has(error.code)) throw error
    context.log.error(
      { event: 'stripe.reconcile_failed', organization_id: organizationId, err: error },
      'an organization could not be compared with Stripe',
    )
    const comparedAt = new Date(context.clock.now().getTime() - RECONCILE_EVERY_MS + PUT_OFF_MS)
    await context.db.query(
      `insert into stripe_syncs (organization_id, reconciled_at) values ($1, $2)
       on conflict (organization_id) do update set reconciled_at = excluded.reconciled_at`,
      [organizationId, comparedAt],
    )
    return false
  }
}

/** Compares one organization and repairs it; answers what differed, or null when somebody else is at work on it. */
export async function reconcileOrganization(context: BillingContext, organizationId: string): Promise<readonly Drift[] | null> {
  requireGateway(context)
  return tryOrganizationLock(context, organizationId, async (session) => {
    const until = context.clock.now()
    const before = await readMirrored(session, organizationId)
    let drifts: readonly Drift[] = []
    await syncOrganization(context, session, organizationId, {
      scope: COMPLETE_SCOPE,
      priority: 'background',
      alsoWrite: async (tx, fetched) => {
        if (fetched === null) return
        drifts = findDrift(before, fetched)
        await insertDrifts(tx, organizationId, drifts, context.clock.now())
        await markCovered(tx, { organizationId, customerId: fetched.customerId, until }, context.clock.now())
      },
    })
    if (drifts.length > 0) {
      context.log.warn(
        { event: 'stripe.drift', organization_id: organizationId, count: drifts.length, drifts: drifts.slice(0, 10) },
        'mirror and Stripe differed; the mirror was repaired',
      )
    }
    return drifts
  })
}

type Queryable = Pick<Transaction, 'query'>

async function listDue(context: BillingContext, limit: number): Promise<string[]> {
  const before = new Date(context.clock.now().getTime() - RECONCILE_EVERY_MS)
  const { rows } = await context.db.query<{ id: string }>(
    `select organization.id from organizations organization
     left join stripe_syncs sync on sync.organization_id = organization.id
     where organization.stripe_customer_id is not null and (sync.reconciled_at is null or sync.reconciled_at < $1)
     order by sync.reconciled_at nulls first limit $2`,
    [before, limit],
  )
  return rows.map(({ id }) => id)
}

async function readMirrored(db: Queryable, organizationId: string): Promise<MirroredRow[]> {
  const { rows } = await db.query<MirroredRow>(
    `select 'subscription' as "objectType", id, data from stripe_subscriptions where organization_id = $1
     union all select 'invoice', id, data from stripe_invoices where organization_id = $1
     union all select 'customer', id, data from stripe_customers where organization_id = $1`,
    [organizationId],
  )
  return rows
}

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
