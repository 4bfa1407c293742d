import type { Queryable } from '../../db/database.ts'
import { DomainError, type DomainErrorCode } from '../../lib/errors.ts'
import { HOUR_MS } from '../../lib/period.ts'
import { requireGateway, type BillingContext } from '../context.ts'
import { markCovered } from '../inbox/inbox-store.ts'
import { tryOrganizationLock } from '../intents/lock.ts'
import { COMPLETE_SCOPE } from '../mirror/fetch.ts'
import { syncOrganization } from '../mirror/sync.ts'
import { insertDrifts } from './drift-store.ts'
import { findDrift, type Drift, type MirroredRow } from './drift.ts'
import { comparePages } from './reconcile-account.ts'
import { endSuspicion, findSuspicion, listSuspects, putOffSuspect } from './reconcile-store.ts'

/** Organizations refetched in one go, with pauses for what people wait for (the client's limiter lets those pass first). */
const BATCH = 25

/**
 * Goes on with the comparison of everything with Stripe: first those organizations that were seen to differ are refetched whole, repaired
 * and written down, then further pages of Stripe's lists are compared (`reconcile-account.ts`). Where it has come to is in the database, so
 * a crash costs one organization or one page. Answers how much was done; 0 when nothing is due.
 */
export async function reconcileSome(context: BillingContext, signal?: AbortSignal, limit = BATCH): Promise<number> {
  if (context.gateway === null) return 0
  const suspects = await listSuspects(context.db, context.clock.now(), limit)
  let refetched = 0
  for (const organizationId of suspects) {
    if (signal?.aborted === true) break
    if (await reconcileOrPutOff(context, organizationId)) refetched += 1
  }
  return refetched > 0 ? refetched : comparePages(context, signal)
}

// What Stripe refuses (`stripe_failed`) is that organization's own trouble.
const AWAY: ReadonlySet<DomainErrorCode> = new Set(['stripe_unavailable', 'database_unavailable'])
const PUT_OFF_MS = HOUR_MS

/** One organization that cannot be compared must not keep the others waiting: it is put off for an hour, and said so in the log. */
async function reconcileOrPutOff(context: BillingContext, organizationId: string): Promise<boolean> {
  try {
    const drifts = await reconcileOrganization(context, organizationId)
    return drifts !== null
  } catch (error) {
    if (error instanceof DomainError && AWAY.has(error.code)) throw error
    context.log.error(
      { event: 'stripe.reconcile_failed', organization_id: organizationId, err: error },
      'an organization could not be compared with Stripe',
    )
    await putOffSuspect(context.db, organizationId, new Date(context.clock.now().getTime() + PUT_OFF_MS))
    return false
  }
}

/** Compares one organization and repairs it; answers what differed, or null when somebody else is at work on it. */
export async function reconcileOrganization(context: BillingContext, organizationId: string): Promise<readonly Drift[] | null> {
  requireGateway(context)
  return tryOrganizationLock(context, organizationId, async (session) => {
    const until = context.clock.now()
    const suspected = await findSuspicion(session, organizationId)
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
    if (suspected !== null) await endSuspicion(session, organizationId, suspected)
    if (drifts.length > 0) {
      context.log.warn(
        { event: 'stripe.drift', organization_id: organizationId, count: drifts.length, drifts: drifts.slice(0, 10) },
        'mirror and Stripe differed; the mirror was repaired',
      )
    }
    return drifts
  })
}

async function readMirrored(db: Queryable, organizationId: string): Promise<MirroredRow[]> {
  const { rows } = await db.query<MirroredRow>(
    `select 'subscription' as "objectType", id, data from stripe_subscriptions where organization_id = $1
     union all select 'invoice', id, data from stripe_invoices where organization_id = $1
     union all select 'customer', id, data from stripe_customers where organization_id = $1
     union all select 'charge', id, data from stripe_charges where organization_id = $1
     union all select 'dispute', id, data from stripe_disputes where organization_id = $1`,
    [organizationId],
  )
  return rows
}
