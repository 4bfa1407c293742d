import { DomainError } from '../lib/errors.ts'
import { MINUTE_MS, SECOND_MS } from '../lib/period.ts'
import { requireGateway, type BillingContext } from './context.ts'
import { COMPLETE_SCOPE } from './fetch.ts'
import {
  insertEvent,
  listDueLanes,
  listOpenEvents,
  markFailed,
  markHandled,
  postpone,
  reopenEvent,
  type OpenEvent,
} from './inbox-store.ts'
import { tryOrganizationLock } from './lock.ts'
import {
  findOrganization,
  findOrganizationIdByCustomer,
  findOrganizationIdByObject,
  findOrganizationIdByTestClock,
  linkCustomer,
} from './organizations.ts'
import { isRelevant, scopeOf } from './scope.ts'
import { syncOrganization } from './sync.ts'

/** The metadata by which a customer at Stripe names its organization. */
export const ORGANIZATION_METADATA = 'tollgate_organization'

/**
 * Takes a webhook in: signature, then one insert, and that is all before the answer. An event that came before changes nothing.
 * Answers whether it was new.
 * @throws DomainError `invalid_signature`, `billing_not_configured`
 */
export async function receiveWebhook(context: BillingContext, rawBody: string, signature: string | undefined): Promise<boolean> {
  const gateway = requireGateway(context)
  const secrets = context.policy.webhookSecrets
  if (secrets.length === 0) {
    throw new DomainError('billing_not_configured', 'No signing secret of the webhook endpoint is set.')
  }
  if (signature === undefined) throw new DomainError('invalid_signature', 'invalid signature')
  const envelope = gateway.verifyWebhook(rawBody, signature, secrets)
  return insertEvent(context.db, { envelope, payload: rawBody, source: 'webhook' }, context.clock.now())
}

/**
 * Handles what is due and answers how many lanes (customers) were taken up; 0 when nothing was due. Safe to run in any number of
 * processes: an organization's lock is held by one of them, and the events are marked in the transaction that applied them.
 */
export async function handleDueEvents(context: BillingContext, limit = 50): Promise<number> {
  if (context.gateway === null) return 0
  const lanes = await listDueLanes(context.db, context.clock.now(), limit)
  let next = 0
  // A few at a time: Stripe's rate limit is what bounds this, not our processor.
  await Promise.all(
    Array.from({ length: Math.min(LANES_AT_ONCE, lanes.length) }, async () => {
      while (next < lanes.length) {
        const lane = lanes[next]!
        next += 1
        await handleLane(context, lane)
      }
    }),
  )
  return lanes.length
}

/**
 * Makes an event due again.
 * @throws DomainError `not_found`
 */
export async function replayEvent(context: BillingContext, eventId: string): Promise<void> {
  if (!(await reopenEvent(context.db, eventId, context.clock.now()))) {
    throw new DomainError('not_found', 'There is no such event.')
  }
}

const LANES_AT_ONCE = 4
const BUSY_WAIT_MS = 200
/** After this many failures that are not Stripe's absence, an event waits for a replay. */
const MOST_ATTEMPTS = 20

/** One refetch for all that waits of a customer. A failure is written to the events, not thrown. */
async function handleLane(context: BillingContext, lane: string): Promise<void> {
  const events = await listOpenEvents(context.db, lane)
  try {
    const relevant = events.filter(({ type }) => isRelevant(type))
    const ignored = events.filter(({ type }) => !isRelevant(type))
    await ignore(context, ignored)
    const [first] = relevant
    if (first === undefined) return
    const organizationId = await findOrganizationOf(context, first)
    if (organizationId === null) return await ignore(context, relevant)
    const done = await tryOrganizationLock(context, organizationId, async (session) => {
      // Under the lock the list may have grown; all of it is covered by the refetch that follows.
      const open = (await listOpenEvents(session, lane)).filter(({ type }) => isRelevant(type))
      if (open.length === 0) return true
      await syncOrganization(context, session, organizationId, {
        scope: first.customerId === null ? COMPLETE_SCOPE : scopeOf(open),
        priority: 'background',
        alsoWrite: (tx) =>
          markHandled(
            tx,
            { eventIds: open.map(({ eventId }) => eventId), organizationId, outcome: 'applied' },
            context.clock.now(),
          ),
      })
      return true
    })
    if (done === null) await postpone(context.db, eventIdsOf(relevant), later(context, BUSY_WAIT_MS))
  } catch (error) {
    await recordFailure(context, events, error)
  }
}

async function ignore(context: BillingContext, events: readonly OpenEvent[]): Promise<void> {
  if (events.length === 0) return
  await markHandled(context.db, { eventIds: eventIdsOf(events), organizationId: null, outcome: 'ignored' }, context.clock.now())
}

/** Whom an event is about; null when it is nobody of ours (several products may share a Stripe account). */
async function findOrganizationOf(context: BillingContext, event: OpenEvent): Promise<string | null> {
  const { db } = context
  if (event.type.startsWith('test_helpers.'))
    return event.objectId === null ? null : findOrganizationIdByTestClock(db, event.objectId)
  if (event.customerId === null) return event.objectId === null ? null : findOrganizationIdByObject(db, event.objectId)
  const known = await findOrganizationIdByCustomer(db, event.customerId)
  if (known !== null) return known
  // A customer whose creation we did not live to record: it names its organization itself.
  const customer = await requireGateway(context).backgroundReads.retrieveCustomer(event.customerId)
  const named = customer?.metadata[ORGANIZATION_METADATA]
  if (named === undefined || (await findOrganization(db, named)) === null) return null
  return (await linkCustomer(db, { organizationId: named, customerId: event.customerId })) ? named : null
}

async function recordFailure(context: BillingContext, events: readonly OpenEvent[], error: unknown): Promise<void> {
  const code = error instanceof DomainError ? error.code : 'internal_error'
  // Without the database nothing can be written down, and nothing needs to be: the events are still due.
  if (code === 'database_unavailable') throw error
  const away = code === 'stripe_unavailable' || code === 'stripe_failed' || code === 'overloaded'
  const now = context.clock.now()
  for (const { eventId, attempts, type } of events) {
    const parked = !away && attempts + 1 >= MOST_ATTEMPTS
    await markFailed(context.db, {
      eventId,
      error: `${code}: ${error instanceof Error ? error.message : String(error)}`,
      nextAttemptAt: later(context, retryDelayMs(attempts)),
      parkedAt: parked ? now : null,
    })
    context.log[parked ? 'error' : 'warn'](
      { event: 'stripe.event_failed', event_id: eventId, type, attempts: attempts + 1, parked, err: error },
      'an event of Stripe could not be handled',
    )
  }
}

/** 1 s, 2 s, 4 s … up to ten minutes. */
export function retryDelayMs(attempts: number): number {
  return Math.min(SECOND_MS * 2 ** Math.min(attempts, 20), 10 * MINUTE_MS)
}

function later(context: BillingContext, ms: number): Date {
  return new Date(context.clock.now().getTime() + ms)
}

function eventIdsOf(events: readonly OpenEvent[]): string[] {
  return events.map(({ eventId }) => eventId)
}
