/** What becomes of a subscription when its invoice is paid, fails, is voided, or its time is over. */
import type { Ctx } from '../../engine/context.ts'
import type { Stored } from '../../model/stored.ts'
import { invoicePayments } from '../../payments/contract.ts'
import { debitUnderWayActivates } from '../../payments/inferred.ts'
import { type Announce, announceDifference, announceNow } from '../announce.ts'
import { billingSettings } from '../billing-settings.ts'
import { cancellationPatch } from './fields.ts'
import { followInSchedule } from './schedule-phases.ts'
import { isEnded, type StoredSubscription } from './stored.ts'

type StoredInvoice = Stored<'invoice'>
type CancellationReason = NonNullable<NonNullable<StoredSubscription['cancellation_details']>['reason']>

/** How long an unpaid first invoice keeps a subscription `incomplete`. Source: docs.stripe.com/billing/subscriptions/overview. */
export const INCOMPLETE_SECONDS = 23 * 3600

/** The newest invoice of a subscription that is no draft: the one that its status follows. */
function latestFinalized(ctx: Ctx, subscription: StoredSubscription): string | null {
  return ctx.store.by('invoice', 'subscription', subscription.id).findLast((invoice) => invoice.status !== 'draft')?.id ?? null
}

function subscriptionOf(ctx: Ctx, invoice: StoredInvoice): StoredSubscription | undefined {
  return invoice._.subscription === null ? undefined : ctx.get('subscription', invoice._.subscription)
}

/** A paid invoice: `incomplete`, `past_due` and `unpaid` become active again when it is the latest finalized one; a change that waited is made. */
export function followPaidInvoice(ctx: Ctx, invoice: StoredInvoice, paymentMethod: string | null): void {
  const subscription = subscriptionOf(ctx, invoice)
  if (subscription === undefined || isEnded(subscription)) return
  const isWaited = subscription._.pendingUpdate?.invoice === invoice.id
  if (subscription.status === 'paused' && subscription.latest_invoice === invoice.id) {
    resumeNow(ctx, subscription)
    return
  }
  const before = ctx.present(subscription)
  const after = ctx.update('subscription', subscription.id, {
    ...statusPatch(ctx, subscription, invoice),
    ...savedMethodPatch(ctx, subscription, paymentMethod),
    ...(isWaited ? pendingPatch(subscription, ctx.nowOf(subscription)) : {}),
  })
  announceDifference(ctx, announceNow(ctx), 'customer.subscription.updated', after, before)

  if (!isWaited) return
  followInSchedule(ctx, after)
  ctx.emit('customer.subscription.pending_update_applied', after)
}

function statusPatch(ctx: Ctx, subscription: StoredSubscription, invoice: StoredInvoice): Partial<StoredSubscription> {
  const isLatest = latestFinalized(ctx, subscription) === invoice.id
  const recovers = subscription.status === 'incomplete' || subscription.status === 'past_due' || subscription.status === 'unpaid'
  if (!isLatest || !recovers) return {}
  return { status: 'active', _: { ...subscription._, incompleteUntil: null } }
}

function savedMethodPatch(ctx: Ctx, subscription: StoredSubscription, method: string | null): Partial<StoredSubscription> {
  if (method === null || subscription.payment_settings?.save_default_payment_method !== 'on_subscription') return {}
  return ctx.get('payment_method', method)?.customer === subscription.customer ? { default_payment_method: method } : {}
}

function pendingPatch(subscription: StoredSubscription, now: number): Partial<StoredSubscription> {
  const pending = subscription._.pendingUpdate
  if (pending === null) return {}
  const changed = { ...subscription, _: { ...subscription._, items: pending.items ?? subscription._.items } }
  return {
    ...(pending.cancelAtPeriodEnd === null
      ? {}
      : cancellationPatch(changed, { cancel_at_period_end: pending.cancelAtPeriodEnd }, now)),
    ...(pending.billingCycleAnchor === null ? {} : { billing_cycle_anchor: pending.billingCycleAnchor }),
    ...(pending.trialEnd === null ? {} : { trial_end: pending.trialEnd }),
    _: { ...changed._, pendingUpdate: null, incompleteUntil: null },
  }
}

/** A first invoice whose payment is under way. */
export function followPendingInvoice(ctx: Ctx, invoice: StoredInvoice): void {
  const subscription = subscriptionOf(ctx, invoice)
  if (subscription?.status !== 'incomplete' || !debitUnderWayActivates()) return
  ctx.change('subscription', subscription.id, statusPatch(ctx, subscription, invoice), 'customer.subscription.updated')
}

/** A failed payment of the latest invoice: active becomes past due; after the last try the account's setting decides. */
export function followFailedInvoice(ctx: Ctx, invoice: StoredInvoice, isLastTry: boolean): void {
  const subscription = subscriptionOf(ctx, invoice)
  if (subscription === undefined || isEnded(subscription) || latestFinalized(ctx, subscription) !== invoice.id) return
  if (subscription._.pendingUpdate?.invoice === invoice.id) return
  if (subscription.status === 'active' || subscription.status === 'trialing') {
    ctx.change('subscription', subscription.id, { status: 'past_due' }, 'customer.subscription.updated')
  }
  if (!isLastTry || ctx.require('subscription', subscription.id).status !== 'past_due') return
  const { afterRetries, invoiceAfterRetries } = billingSettings(ctx)
  if (afterRetries === 'unpaid')
    ctx.change('subscription', subscription.id, { status: 'unpaid' }, 'customer.subscription.updated')
  if (afterRetries !== 'cancel') return
  endSubscription(ctx, subscription.id, { reason: 'payment_failed' })
  if (invoiceAfterRetries === 'uncollectible') markUncollectibleAfterRetries(ctx, invoice.id)
}

function markUncollectibleAfterRetries(ctx: Ctx, id: string): void {
  const invoice = ctx.require('invoice', id)
  ctx.change(
    'invoice',
    id,
    {
      status: 'uncollectible',
      status_details: { uncollectible: { reason: 'max_payment_attempts' } },
      status_transitions: { ...invoice.status_transitions, marked_uncollectible_at: ctx.nowOf(invoice) },
    },
    'invoice.marked_uncollectible',
  )
}

/**
 * A voided or written-off invoice: `incomplete` expires, `past_due` becomes active when it was the latest; what was to resume stays
 * paused after a void and becomes active after a write-off.
 */
export function followWaivedInvoice(ctx: Ctx, invoice: StoredInvoice): void {
  const subscription = subscriptionOf(ctx, invoice)
  if (subscription === undefined) return
  if (subscription._.pendingUpdate?.invoice === invoice.id) {
    // A change that waits for its invoice is called off with it. Source: docs.stripe.com/billing/subscriptions/pending-updates.
    const dropped = ctx.update('subscription', subscription.id, { _: { ...subscription._, pendingUpdate: null } })
    ctx.emit('customer.subscription.pending_update_expired', dropped)
    return
  }
  if (latestFinalized(ctx, subscription) !== invoice.id) return
  if (subscription.status === 'incomplete') expireSubscription(ctx, subscription.id)
  if (subscription.status === 'past_due') {
    ctx.change('subscription', subscription.id, { status: 'active' }, 'customer.subscription.updated')
  }
  if (subscription.status === 'paused' && subscription._.incompleteUntil !== null) {
    const patch = { _: { ...subscription._, incompleteUntil: null } }
    if (invoice.status === 'void') ctx.update('subscription', subscription.id, patch)
    else resumeNow(ctx, ctx.update('subscription', subscription.id, patch))
  }
}

/** A paused subscription runs again. */
export function resumeNow(ctx: Ctx, subscription: StoredSubscription, status: StoredSubscription['status'] = 'active'): void {
  const { status_details: _paused, ...rest } = subscription
  const before = ctx.present(subscription)
  ctx.store.put('subscription', { ...rest, status, _: { ...subscription._, incompleteUntil: null } })
  const resumed = ctx.require('subscription', subscription.id)
  ctx.emit('customer.subscription.updated', resumed, { before })
  ctx.emit('customer.subscription.resumed', resumed)
}

/** Ends a subscription whose first invoice was never paid. */
export function expireSubscription(ctx: Ctx, id: string): void {
  const subscription = ctx.require('subscription', id)
  const patch: Partial<StoredSubscription> = {
    status: 'incomplete_expired',
    ended_at: ctx.nowOf(subscription),
    pending_setup_intent: null,
    _: { ...subscription._, incompleteUntil: null },
  }
  ctx.change('subscription', id, patch, 'customer.subscription.updated')
}

/**
 * Ends a subscription now and emits `customer.subscription.deleted`. Its drafts and open invoices are collected no more by themselves.
 * Source: docs.stripe.com/billing/subscriptions/cancel.
 */
export function endSubscription(
  ctx: Ctx,
  id: string,
  options: {
    reason: CancellationReason
    details?: Partial<NonNullable<StoredSubscription['cancellation_details']>>
    announce?: Announce
  },
): StoredSubscription {
  const subscription = ctx.require('subscription', id)
  const now = ctx.nowOf(subscription)
  stopCollection(ctx, id)
  const ended = ctx.update('subscription', id, {
    status: 'canceled',
    canceled_at: subscription.canceled_at ?? now,
    ended_at: now,
    cancellation_details: {
      comment: null,
      feedback: null,
      feedback_option: null,
      ...subscription.cancellation_details,
      reason: subscription.cancellation_details?.reason ?? options.reason,
      ...options.details,
    },
    pending_setup_intent: null,
    next_pending_invoice_item_invoice: null,
    _: { ...subscription._, pendingUpdate: null, incompleteUntil: null },
  })
  const announce = options.announce ?? announceNow(ctx)
  announce('customer.subscription.deleted', ended)
  cancelScheduleOf(ctx, subscription)
  return ended
}

/** A canceled subscription takes its schedule with it. */
function cancelScheduleOf(ctx: Ctx, subscription: StoredSubscription): void {
  const schedule = subscription.schedule === null ? undefined : ctx.get('subscription_schedule', subscription.schedule)
  if (schedule?.status !== 'active' && schedule?.status !== 'not_started') return
  const patch = { status: 'canceled' as const, canceled_at: ctx.nowOf(subscription), current_phase: null }
  ctx.emit('subscription_schedule.canceled', ctx.update('subscription_schedule', schedule.id, patch))
}

function stopCollection(ctx: Ctx, subscription: string): void {
  for (const invoice of ctx.store.by('invoice', 'subscription', subscription)) {
    if (invoice.status !== 'draft' && invoice.status !== 'open') continue
    ctx.change(
      'invoice',
      invoice.id,
      { auto_advance: false, automatically_finalizes_at: null, next_payment_attempt: null, _: { ...invoice._, retryAt: null } },
      'invoice.updated',
    )
  }
}

/** The intent that a waived invoice leaves behind is canceled. */
export function cancelIntentsOf(ctx: Ctx, invoice: string): void {
  for (const payment of ctx.store.by('invoice_payment', 'invoice', invoice)) {
    const intent = payment.payment.payment_intent
    if (payment.status !== 'open') continue
    if (intent !== undefined) invoicePayments().cancelInvoiceIntent(ctx, { paymentIntent: intent, reason: 'void_invoice' })
    ctx.update('invoice_payment', payment.id, {
      status: 'canceled',
      status_transitions: { ...payment.status_transitions, canceled_at: ctx.now(ctx.get('invoice', invoice)?.customer) },
    })
  }
}
