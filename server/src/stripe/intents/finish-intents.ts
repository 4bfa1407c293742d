import type { Session } from '../../db/database.ts'
import { eachApart } from '../../jobs/apart.ts'
import type { Instant } from '../../lib/clock.ts'
import { MINUTE_MS, SECOND_MS } from '../../lib/period.ts'
import type { BillingContext } from '../context.ts'
import { isKeyUsed, StripeCallError } from '../gateway/errors.ts'
import type { CallPriority } from '../gateway/limiter.ts'
import { COMPLETE_SCOPE, RECENT_SCOPE } from '../mirror/fetch.ts'
import { syncOrganization } from '../mirror/sync.ts'
import { findOutcome, isAskedAfter, type Found } from './asked-after.ts'
import { isHopeless, tellGivenUp } from './given-up.ts'
import type { Intent } from './intent.ts'
import {
  carryOut,
  KEY_LIFE_MS,
  listPendingIntents,
  listStranded,
  settleDone,
  settleIntent,
  settleNotMade,
  type FinishedIntent,
} from './intents.ts'
import { tryOrganizationLock } from './lock.ts'

/** After so many repeats that Stripe answered with its own failure (a replayed 500), we look instead of asking again. */
const MOST_REPEATS = 5

/**
 * Settles what an earlier request left open, before anything else of the organization is changed: so a customer who tries again
 * after a time-out is not given a second subscription. Preparations are repeated; what a customer would pay for or lose is only looked
 * for (`asked-after.ts`). The caller holds the organization's lock.
 * @throws DomainError `stripe_unavailable` while something may still come true
 * @returns those that turned out to be done, and those of which the mirror alone can tell: it has to follow before it is believed
 */
export async function finishPendingIntents(
  context: BillingContext,
  session: Session,
  organizationId: string,
  priority: CallPriority = 'interactive',
): Promise<FinishedIntent[]> {
  const finished: FinishedIntent[] = []
  // What has to follow on one that is done is pending with its end.
  for (let pending = await list(); pending.length > 0; pending = await list()) {
    for (const intent of pending) {
      const settled = await finishIntent(context, session, intent, priority)
      if (settled !== null) finished.push(settled)
    }
  }
  return finished

  function list(): Promise<Intent[]> {
    return listPendingIntents(session, organizationId)
  }
}

/** Settles what no request has come back for, and lets the mirror follow. Answers of how many it looked at. */
export async function finishStrandedIntents(context: BillingContext, limit = 50): Promise<number> {
  // A minute: the request that made the intent may still be waiting for its answer.
  const now = context.clock.now()
  const until = new Date(now.getTime() - MINUTE_MS)
  const stranded = await listStranded(context.db, { until, now, limit })
  await eachApart(
    stranded,
    async (organizationId) => {
      if (organizationId === null) {
        await tryOrganizationLock(context, CATALOG_LOCK, (session) => finishOwnIntents(context, session))
        return
      }
      await tryOrganizationLock(context, organizationId, async (session) => {
        await finishPendingIntents(context, session, organizationId, 'background')
        await syncOrganization(context, session, organizationId, { scope: RECENT_SCOPE, priority: 'background' })
      })
    },
    (organizationId, error) =>
      context.log.warn(
        { event: 'stripe.intent_stranded', organization_id: organizationId, err: error },
        'what became of a call to Stripe could not be found out',
      ),
  )
  return stranded.length
}

/** Held by whoever compares the catalog with what is at Stripe, and makes what is missing. */
export const CATALOG_LOCK = 'push of the catalog'

/**
 * Settles calls of no organization that were left open: the catalog's, and those of discounts. The caller holds `CATALOG_LOCK`, so that
 * what is repeated here is not made by a push as well, which did not find it.
 */
export async function finishOwnIntents(context: BillingContext, session: Session): Promise<void> {
  for (const intent of await listPendingIntents(session, null)) await finishIntent(context, session, intent, 'background')
}

/** null when it was refused, or was not made and is left to whoever asks for it again. */
async function finishIntent(
  context: BillingContext,
  session: Session,
  intent: Intent,
  priority: CallPriority,
): Promise<FinishedIntent | null> {
  let wasMade = false
  if (!isAskedAfter(intent) && hasKey(intent, context.clock.now()) && intent.attempts < MOST_REPEATS) {
    try {
      const result = await carryOut(context, session, intent, priority)
      await finish(context, session, { intent, result })
      return { intent, result }
    } catch (error) {
      if (error instanceof StripeCallError && error.outcome === 'refused') return null
      if (!isKeyUsed(error)) throw error
      wasMade = true
    }
  }
  // The key may be forgotten, or stands for other words: asking again could do it twice. Look for what it made; if there is nothing, leave it at that.
  const finished = await askAfter(context, session, intent, priority)
  if (finished !== null || !wasMade) return finished
  // Nothing is said of how it ended: whoever asks again is answered by what the mirror then has.
  return { intent: { ...intent, audit: null }, result: { id: intent.id, status: null, url: null, clientSecret: null } }
}

function hasKey({ createdAt }: Intent, now: Instant): boolean {
  return now.getTime() - createdAt.getTime() < KEY_LIFE_MS
}

/**
 * What was asked for by another request is looked for and never made: its caller was told that it is not known to be done. What was not made
 * is over once it cannot come true any more; whoever asks for it again asks for it anew.
 * @throws DomainError `stripe_unavailable` with `retry_after` while a call that got no answer may still come true
 */
async function askAfter(
  context: BillingContext,
  session: Session,
  intent: Intent,
  priority: CallPriority,
): Promise<FinishedIntent | null> {
  const waitMs = intent.inDoubtUntil.getTime() - context.clock.now().getTime()
  const found = await lookFor(context, session, intent, priority)
  if (found === 'unknown') return null
  if (found.kind !== 'not_made' || waitMs <= 0) return settleFound(context, session, intent, found)
  throw new StripeCallError(
    'stripe_unavailable',
    'Stripe did not answer an earlier change of this organization, which may still come true. Nothing was done of this one; ask again in a moment.',
    'later',
    { retry_after: Math.ceil(waitMs / SECOND_MS) },
  )
}

/**
 * What became of an intent. Where Stripe has no answer to that for as long as it keeps keys, though all that the mirror holds can be read, it is `unknown`
 * for good and left to operators: it has failed, which nobody asks for again by themselves, rather than not been made.
 */
async function lookFor(
  context: BillingContext,
  session: Session,
  intent: Intent,
  priority: CallPriority,
): Promise<Found | 'unknown'> {
  try {
    return await findOutcome(context, session, intent, priority)
  } catch (error) {
    const { organizationId } = intent
    if (organizationId === null || hasKey(intent, context.clock.now())) throw error
    // Whatever it made of what customers pay for is in the mirror then.
    await syncOrganization(context, session, organizationId, { scope: COMPLETE_SCOPE, priority })
    await tellGivenUp(context, session, intent, error)
    await settleIntent(session, intent.id, { state: 'failed', errorCode: 'outcome_unknown' }, context.clock.now())
    return 'unknown'
  }
}

/** Writes down what Stripe has of an intent; that it has nothing is its end. */
async function settleFound(
  context: BillingContext,
  session: Session,
  intent: Intent,
  found: Found,
): Promise<FinishedIntent | null> {
  context.log.warn(
    { event: 'stripe.intent_looked_up', intent_id: intent.id, kind: intent.kind, found: found.kind },
    'the end of a call to Stripe was looked up',
  )
  const now = context.clock.now()
  switch (found.kind) {
    case 'made':
      await finish(context, session, { intent, result: found.result })
      return { intent, result: found.result }
    case 'refused':
      await settleIntent(session, intent.id, { state: 'failed', errorCode: 'payment_failed' }, now)
      return null
    case 'not_made': {
      const isGivenUp = await isHopeless(session, intent, now)
      if (isGivenUp) await tellGivenUp(context, session, intent)
      await session.transaction(async (tx) => {
        await settleNotMade(tx, intent, { now, isGivenUp })
        await context.onNotMade?.(tx, intent)
      })
      return null
    }
  }
}

async function finish(context: BillingContext, session: Session, finished: FinishedIntent): Promise<void> {
  await session.transaction((tx) => settleDone(tx, finished, context.clock.now()))
}
