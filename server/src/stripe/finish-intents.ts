import type { Queryable, Session } from '../db/database.ts'
import { MINUTE_MS } from '../lib/period.ts'
import type { BillingContext } from './context.ts'
import { requireGateway } from './context.ts'
import { isKeyUsed, StripeCallError } from './errors.ts'
import type { MutationKind, MutationResult } from './gateway.ts'
import {
  carryOut,
  INTENT_METADATA,
  KEY_LIFE_MS,
  listPendingIntents,
  settleDone,
  settleIntent,
  type FinishedIntent,
  type Intent,
  type IntentDb,
} from './intents.ts'
import type { CallPriority } from './limiter.ts'
import { tryOrganizationLock } from './lock.ts'
import { readOrganization } from './organizations.ts'
import type { StripeObject } from './wire.ts'

/** After so many repeats that Stripe answered with its own failure (a replayed 500), we look instead of asking again. */
const MOST_REPEATS = 5

/**
 * Settles what an earlier request left open, before anything else of the organization is changed: so a customer who tries again
 * after a time-out is not given a second subscription. The caller holds the organization's lock.
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
    return listPendingIntents(session, { organizationId })
  }
}

/** Settles what no request has come back for. Answers how many it looked at. */
export async function finishStrandedIntents(context: BillingContext, limit = 50): Promise<number> {
  // A minute: the request that made the intent may still be waiting for its answer.
  const until = new Date(context.clock.now().getTime() - MINUTE_MS)
  const stranded = await listPendingIntents(context.db, { until, limit })
  for (const intent of stranded) {
    if (intent.organizationId === null) {
      await finishIntent(context, context.db, intent, 'background')
    } else {
      const { organizationId } = intent
      await tryOrganizationLock(context, organizationId, (session) =>
        finishPendingIntents(context, session, organizationId, 'background'),
      )
    }
  }
  return stranded.length
}

/** null when it was refused, or was never done and is not wanted any more. */
async function finishIntent(
  context: BillingContext,
  db: IntentDb,
  intent: Intent,
  priority: CallPriority,
): Promise<FinishedIntent | null> {
  const finish = (result: MutationResult) => db.transaction((tx) => settleDone(tx, { intent, result }, context.clock.now()))
  const ageMs = context.clock.now().getTime() - intent.createdAt.getTime()
  let wasMade = false
  if (ageMs < KEY_LIFE_MS && intent.attempts < MOST_REPEATS) {
    try {
      const result = await carryOut(context, db, intent, priority)
      await finish(result)
      return { intent, result }
    } catch (error) {
      if (error instanceof StripeCallError && error.outcome === 'refused') return null
      if (!isKeyUsed(error)) throw error
      wasMade = true
    }
  }
  // The key may be forgotten, or stands for other words: asking again could do it twice. Look for what it made; if there is nothing, leave it at that.
  const found = await findResult(context, db, intent)
  if (found === null) await settleIntent(db, intent.id, { state: 'abandoned' }, context.clock.now())
  else await finish(found)
  context.log.warn(
    { event: 'stripe.intent_looked_up', intent_id: intent.id, kind: intent.kind, found: found !== null },
    'the end of a call to Stripe was looked up',
  )
  if (found !== null) return { intent, result: found }
  // Nothing is said of how it ended: whoever asks again is answered by what the mirror then has.
  return wasMade
    ? { intent: { ...intent, audit: null }, result: { id: intent.id, status: null, url: null, clientSecret: null } }
    : null
}

async function findResult(context: BillingContext, db: Queryable, intent: Intent): Promise<MutationResult | null> {
  const reads = requireGateway(context).backgroundReads
  const is = <Kind extends MutationKind>(kind: Kind, any: Intent): any is Intent<Kind> => any.kind === kind
  if (is('create_customer', intent)) {
    const { email, testClockId } = intent.params
    const customers = await reads.findCustomers({ email, testClockId })
    return toResult(customers.find(({ metadata }) => metadata[INTENT_METADATA] === intent.id))
  }
  if (is('create_subscription', intent) && intent.organizationId !== null) {
    const subscriptions = await listSubscriptions(context, db, intent.organizationId)
    return toResult(subscriptions.find(({ metadata }) => metadata[INTENT_METADATA] === intent.id))
  }
  if (is('cancel_subscription', intent) && intent.organizationId !== null) {
    const subscriptions = await listSubscriptions(context, db, intent.organizationId)
    return toResult(subscriptions.find(({ id, status }) => id === intent.params.subscriptionId && status === 'canceled'))
  }
  if (is('credit_customer', intent)) {
    const transactions = await reads.listBalanceTransactions(intent.params.customerId)
    return toResult(transactions.find(({ metadata }) => metadata[INTENT_METADATA] === intent.id))
  }
  if (is('create_payment', intent)) {
    // A charge carries the metadata of its payment.
    const charges = await reads.listCharges(intent.params.customerId, null)
    const made = charges.find(({ data }) => metadataOf(data.toJSON())[INTENT_METADATA] === intent.id)
    return toResult(made && { id: made.paymentIntentId ?? made.id, status: made.status })
  }
  // What else there is either shows in the mirror after a refetch (a plan change, a payment) or is worthless
  // by now (a checkout session, a portal session).
  return null
}

async function listSubscriptions(context: BillingContext, db: Queryable, organizationId: string) {
  const { customerId } = await readOrganization(db, organizationId)
  const listed = customerId === null ? [] : await requireGateway(context).backgroundReads.listSubscriptions(customerId)
  return listed.map(({ subscription }) => subscription)
}

function metadataOf({ metadata }: StripeObject): Readonly<Record<string, unknown>> {
  return typeof metadata === 'object' && metadata !== null ? { ...metadata } : {}
}

function toResult(found: { id: string; status?: string } | undefined): MutationResult | null {
  return found === undefined ? null : { id: found.id, status: found.status ?? null, url: null, clientSecret: null }
}
