import type { Queryable } from '../../db/database.ts'
import { requireGateway, type BillingContext } from '../context.ts'
import { isMissingAtStripe } from '../gateway/errors.ts'
import type { StripeReads } from '../gateway/gateway.ts'
import type { CallPriority } from '../gateway/limiter.ts'
import type { MutationKind, MutationResult, StripeMutations } from '../gateway/mutations.ts'
import type { ScheduleSnapshot } from '../gateway/schedule-snapshots.ts'
import type { SubscriptionSnapshot } from '../gateway/snapshots.ts'
import { toUnix, type StripeObject } from '../gateway/wire.ts'
import { readOrganization } from '../organizations.ts'
import type { Intent } from './intent.ts'
import { INTENT_METADATA } from './intents.ts'

/**
 * What a customer pays for, or loses: it is never made by anybody but who asks for it. Of the others, which prepare, tidy up, or open a page
 * that nobody has to pay, the repeat under the same key does no harm and tells what they made.
 */
const ASKED_AFTER: ReadonlySet<MutationKind> = new Set([
  'create_subscription',
  'update_subscription',
  'cancel_subscription',
  'pause_subscription',
  'resume_subscription',
  'schedule_switch',
  'schedule_end',
  'release_schedule',
  'create_payment',
  'pay_invoice',
  'void_invoice',
] satisfies MutationKind[])

/** Whether an intent whose end is not known is looked for at Stripe, rather than repeated. What follows on a call that is done has to be done. */
export function isAskedAfter({ kind, isDuty }: Pick<Intent, 'kind' | 'isDuty'>): boolean {
  return ASKED_AFTER.has(kind) && !isDuty
}

/** What became of an intent: `refused` is a payment that was tried and declined. */
export type Found = { readonly kind: 'made'; readonly result: MutationResult } | { readonly kind: 'refused' | 'not_made' }

const NOT_MADE: Found = { kind: 'not_made' }

/**
 * Looks at Stripe for what an intent was to make: an object that names it, or the state that was wished, since what is so already need not be
 * made, whoever made it. A kind that is neither asked after nor leaves anything to be found (a session) counts as not made.
 */
export async function findOutcome(
  context: BillingContext,
  db: Queryable,
  intent: Intent,
  priority: CallPriority,
): Promise<Found> {
  try {
    return await look(context, db, intent, priority)
  } catch (error) {
    // Of a customer who was deleted since, say: there is nothing left that it could have made.
    if (isMissingAtStripe(error)) return NOT_MADE
    throw error
  }
}

async function look(context: BillingContext, db: Queryable, intent: Intent, priority: CallPriority): Promise<Found> {
  const gateway = requireGateway(context)
  const reads = priority === 'interactive' ? gateway.reads : gateway.backgroundReads
  const is = <Kind extends MutationKind>(kind: Kind, any: Intent): any is Intent<Kind> => any.kind === kind
  const subscriptions = async (): Promise<SubscriptionSnapshot[]> => {
    const { customerId } =
      intent.organizationId === null ? { customerId: null } : await readOrganization(db, intent.organizationId)
    const listed = customerId === null ? [] : await reads.listSubscriptions(customerId)
    return listed.map(({ subscription }) => subscription)
  }
  if (is('create_customer', intent)) {
    const { email, testClockId } = intent.params
    return madeIf((await reads.findCustomers({ email, testClockId })).find(({ metadata }) => names(metadata, intent)))
  }
  if (is('credit_customer', intent)) {
    return madeIf((await reads.listBalanceTransactions(intent.params.customerId)).find(({ metadata }) => names(metadata, intent)))
  }
  if (is('create_invoice_item', intent)) {
    return madeIf((await reads.listInvoiceItems(intent.params.customerId)).find(({ metadata }) => names(metadata, intent)))
  }
  if (is('create_payment', intent)) return findPayment(reads, intent)
  if (is('create_subscription', intent)) {
    return madeIf((await subscriptions()).find(({ metadata }) => names(metadata, intent)))
  }
  if (is('schedule_switch', intent) || is('schedule_end', intent) || is('release_schedule', intent)) {
    const schedule = await reads.retrieveSchedule(intent.params.scheduleId)
    if (schedule === null) return NOT_MADE
    const isReleased = schedule.status === 'released'
    if (is('release_schedule', intent)) return madeIf(isReleased ? schedule : undefined)
    const isSo = is('schedule_end', intent) ? endsAt(schedule, intent.params) : switchesTo(schedule, intent.params)
    return madeIf(isSo && !isReleased ? schedule : undefined)
  }
  if (is('pay_invoice', intent) || is('void_invoice', intent)) {
    const invoice = await reads.retrieveInvoice(intent.params.invoiceId)
    return madeIf(invoice?.status === (intent.kind === 'pay_invoice' ? 'paid' : 'void') ? invoice : undefined)
  }
  if (!('subscriptionId' in intent.params)) return NOT_MADE
  const { subscriptionId } = intent.params
  const found = (await subscriptions()).find(({ id }) => id === subscriptionId)
  if (found === undefined) return NOT_MADE
  if (is('update_subscription', intent))
    return madeIf(isAsWished(found, intent.params) ? found : undefined, found.latestInvoiceId)
  if (is('resume_subscription', intent) && found.status === 'paused' && found.latestInvoiceId !== null) {
    // It waits for the bank; its invoice is the only one of a paused subscription that is of a change.
    const invoice = await reads.retrieveInvoice(found.latestInvoiceId)
    const waits = invoice?.status === 'open' && invoice.billingReason === 'subscription_update'
    return madeIf(waits ? found : undefined)
  }
  return madeIf(IS_SO[intent.kind]?.(found.status) === true ? found : undefined)
}

const IS_SO: Partial<Record<MutationKind, (status: SubscriptionSnapshot['status']) => boolean>> = {
  cancel_subscription: (status) => status === 'canceled' || status === 'incomplete_expired',
  pause_subscription: (status) => status === 'paused',
  resume_subscription: (status) => status !== 'paused' && status !== 'canceled',
}

/** A charge carries the metadata of its payment. One that was declined says that the payment was tried, and is over. */
async function findPayment(reads: StripeReads, intent: Intent<'create_payment'>): Promise<Found> {
  const charges = await reads.listCharges(intent.params.customerId, null)
  const own = charges.filter(({ data }) => names(metadataOf(data.toJSON()), intent))
  const good = own.find(({ status }) => status !== 'failed')
  if (good === undefined) return own.length > 0 ? { kind: 'refused' } : NOT_MADE
  return madeIf({ id: good.paymentIntentId ?? good.id, status: good.status })
}

function endsAt({ endBehavior, phases }: ScheduleSnapshot, { endAtUnix }: StripeMutations['schedule_end']): boolean {
  const last = phases.at(-1)
  return endBehavior === 'cancel' && last !== undefined && toUnix(last.endsAt) === endAtUnix
}

function switchesTo({ phases }: ScheduleSnapshot, { switchAtUnix, next }: StripeMutations['schedule_switch']): boolean {
  const phase = phases.find(({ startsAt }) => toUnix(startsAt) === switchAtUnix)
  return (
    phase !== undefined &&
    phase.items.length === next.length &&
    next.every((wished) => phase.items.some((item) => isSame(item, wished)))
  )
}

/** A metered price has no quantity. */
function isSame(
  item: { priceId: string; quantity: number | null },
  wished: { priceId: string; quantity: number | null },
): boolean {
  return item.priceId === wished.priceId && (wished.quantity === null || item.quantity === wished.quantity)
}

/** Whether a subscription is as an update wished it to be, or waits for the bank to become so. Pure. */
export function isAsWished(
  subscription: Pick<
    SubscriptionSnapshot,
    'items' | 'cancelAt' | 'cancelAtPeriodEnd' | 'defaultPaymentMethodId' | 'pendingUpdateExpiresAt'
  >,
  wished: StripeMutations['update_subscription'],
): boolean {
  if (wished.paymentBehavior === 'pending_if_incomplete' && subscription.pendingUpdateExpiresAt !== null) return true
  const { cancelAtPeriodEnd, clearCancelAt, defaultPaymentMethodId } = wished
  if (cancelAtPeriodEnd !== undefined && subscription.cancelAtPeriodEnd !== cancelAtPeriodEnd) return false
  if (clearCancelAt === true && subscription.cancelAt !== null) return false
  if (defaultPaymentMethodId !== undefined && subscription.defaultPaymentMethodId !== defaultPaymentMethodId) return false
  return (wished.items ?? []).every((each) => {
    const present = subscription.items.filter(({ id }) => each.itemId === null || id === each.itemId)
    return each.removed === true ? present.length === 0 : present.some((item) => isSame(item, each))
  })
}

function names(metadata: Readonly<Record<string, unknown>>, { id }: Intent): boolean {
  return metadata[INTENT_METADATA] === id
}

function metadataOf({ metadata }: StripeObject): Readonly<Record<string, unknown>> {
  return typeof metadata === 'object' && metadata !== null ? { ...metadata } : {}
}

function madeIf(found: { id: string; status?: string } | undefined, invoiceId: string | null = null): Found {
  if (found === undefined) return NOT_MADE
  return { kind: 'made', result: { id: found.id, status: found.status ?? null, url: null, clientSecret: null, invoiceId } }
}
