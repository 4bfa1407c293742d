/** What happens to subscriptions by itself, in the order in which things of one second happen. */
import { DAY_SECONDS } from '../../billing/periods.ts'
import type { Ctx } from '../../engine/context.ts'
import { timeRule } from '../../engine/module.ts'
import { defaultPaymentMethod } from '../../payments/payment-methods.ts'
import { billingSettings } from '../billing-settings.ts'
import { dropPendingUpdate, voidInvoice } from '../invoices/end.ts'
import { previewRenewal } from '../invoices/upcoming.ts'
import { cancelAtTheEnd } from './cancel.ts'
import { nextRenewalOf } from './items-params.ts'
import { invoicePendingItems, renewSubscription } from './renewal.ts'
import { endSubscription, expireSubscription } from './status.ts'
import type { StoredSubscription } from './stored.ts'

/** A trial's end is announced this long before. Source: docs.stripe.com/api/events/types#event_types-customer.subscription.trial_will_end. */
const TRIAL_NOTICE_SECONDS = 3 * DAY_SECONDS

const RENEWS: ReadonlySet<string> = new Set(['active', 'past_due', 'unpaid'])

function announceTrialEnd(ctx: Ctx, subscription: StoredSubscription): void {
  const announced = ctx.update('subscription', subscription.id, {
    _: { ...subscription._, trialEndAnnounced: subscription.trial_end },
  })
  ctx.emit('customer.subscription.trial_will_end', announced)
}

/** Without a payment method a trial ends as `trial_settings` says. Source: docs.stripe.com/billing/subscriptions/trials. */
function endTrial(ctx: Ctx, subscription: StoredSubscription): void {
  const behavior = subscription.trial_settings?.end_behavior.missing_payment_method ?? 'create_invoice'
  const lacksMethod =
    subscription.collection_method === 'charge_automatically' &&
    defaultPaymentMethod(ctx, subscription.customer, subscription.id) === null
  if (lacksMethod && behavior === 'cancel') {
    endSubscription(ctx, subscription.id, { reason: 'cancellation_requested' })
    return
  }
  if (lacksMethod && behavior === 'pause') {
    pauseAfterTrial(ctx, subscription)
    return
  }
  renewSubscription(ctx, subscription.id, { afterTrial: true, status: 'active' })
}

function pauseAfterTrial(ctx: Ctx, subscription: StoredSubscription): void {
  const paused = ctx.update('subscription', subscription.id, {
    status: 'paused',
    status_details: {
      paused: {
        subscription: { type: 'trial_end_without_payment_method' },
        transitioned_at: ctx.nowOf(subscription),
        type: 'subscription',
      },
    },
  })
  ctx.emit('customer.subscription.paused', paused)
}

function renew(ctx: Ctx, subscription: StoredSubscription): void {
  renewSubscription(ctx, subscription.id, { afterTrial: false })
}

/** The instant at which the next renewal is announced; null when it is too near to be announced. */
function noticeTime(ctx: Ctx, subscription: StoredSubscription): number | null {
  const renewal = nextRenewalOf(subscription._.items)
  const isFollowed = subscription.status === 'active' || subscription.status === 'trialing'
  if (!isFollowed || subscription._.renewalAnnounced === renewal) return null
  if (subscription.cancel_at !== null && subscription.cancel_at <= renewal) return null
  const notice = renewal - billingSettings(ctx).upcomingNotice
  const start = Math.min(...subscription._.items.map((item) => item.current_period_start))
  return notice > start ? notice : null
}

function announceRenewal(ctx: Ctx, subscription: StoredSubscription): void {
  const renewal = nextRenewalOf(subscription._.items)
  const announced = ctx.update('subscription', subscription.id, { _: { ...subscription._, renewalAnnounced: renewal } })
  const upcoming = previewRenewal(ctx, announced)
  if (upcoming !== null) ctx.emit('invoice.upcoming', upcoming)
}

/** An unpaid first invoice is voided, and that ends the subscription. */
function expireIncomplete(ctx: Ctx, subscription: StoredSubscription): void {
  const invoice = subscription.latest_invoice === null ? undefined : ctx.get('invoice', subscription.latest_invoice)
  if (invoice?.status === 'open') voidInvoice(ctx, invoice.id)
  if (ctx.require('subscription', subscription.id).status === 'incomplete') expireSubscription(ctx, subscription.id)
}

/** Nobody paid the invoice with which a subscription was to resume: it is voided, and the subscription stays paused. */
function giveUpResuming(ctx: Ctx, subscription: StoredSubscription): void {
  const given = ctx.update('subscription', subscription.id, { _: { ...subscription._, incompleteUntil: null } })
  const invoice = given.latest_invoice === null ? undefined : ctx.get('invoice', given.latest_invoice)
  if (invoice?.status === 'open') voidInvoice(ctx, invoice.id)
}

export const subscriptionRules = [
  timeRule({
    name: 'subscription: announce the end of the trial',
    object: 'subscription',
    order: 5,
    due: (subscription) =>
      subscription.status !== 'trialing' ||
      subscription.trial_end === null ||
      subscription._.trialEndAnnounced === subscription.trial_end
        ? null
        : Math.max(subscription.trial_end - TRIAL_NOTICE_SECONDS, subscription.trial_start ?? 0),
    run: (subscription, ctx) => announceTrialEnd(ctx, subscription),
  }),
  timeRule({
    name: 'subscription: drop an unpaid change',
    object: 'subscription',
    // Before anything that ends a period.
    order: 8,
    due: (subscription) => subscription._.pendingUpdate?.expiresAt ?? null,
    run: (subscription, ctx) => dropPendingUpdate(ctx, subscription),
  }),
  timeRule({
    name: 'subscription: cancel',
    object: 'subscription',
    order: 15,
    due: (subscription) => (subscription.ended_at === null ? subscription.cancel_at : null),
    run: (subscription, ctx) => cancelAtTheEnd(ctx, subscription),
  }),
  timeRule({
    name: 'subscription: end the trial',
    object: 'subscription',
    order: 20,
    due: (subscription) => (subscription.status === 'trialing' ? subscription.trial_end : null),
    run: (subscription, ctx) => endTrial(ctx, subscription),
  }),
  timeRule({
    name: 'subscription: resume collection',
    object: 'subscription',
    order: 25,
    due: (subscription) => (subscription.ended_at === null ? (subscription.pause_collection?.resumes_at ?? null) : null),
    run: (subscription, ctx) => {
      ctx.change('subscription', subscription.id, { pause_collection: null }, 'customer.subscription.updated')
    },
  }),
  timeRule({
    name: 'subscription: renew',
    object: 'subscription',
    order: 30,
    due: (subscription) => (RENEWS.has(subscription.status) ? nextRenewalOf(subscription._.items) : null),
    run: (subscription, ctx) => renew(ctx, subscription),
  }),
  timeRule({
    name: 'subscription: invoice pending items',
    object: 'subscription',
    order: 35,
    due: (subscription) => (subscription.ended_at === null ? subscription.next_pending_invoice_item_invoice : null),
    run: (subscription, ctx) => invoicePendingItems(ctx, subscription),
  }),
  timeRule({
    name: 'subscription: announce the renewal',
    object: 'subscription',
    order: 40,
    due: (subscription, ctx) => noticeTime(ctx, subscription),
    run: (subscription, ctx) => announceRenewal(ctx, subscription),
  }),
  timeRule({
    name: 'subscription: expire unpaid',
    object: 'subscription',
    order: 70,
    due: (subscription) => (subscription.status === 'incomplete' ? subscription._.incompleteUntil : null),
    run: (subscription, ctx) => expireIncomplete(ctx, subscription),
  }),
  timeRule({
    name: 'subscription: give up resuming',
    object: 'subscription',
    order: 71,
    due: (subscription) => (subscription.status === 'paused' ? subscription._.incompleteUntil : null),
    run: (subscription, ctx) => giveUpResuming(ctx, subscription),
  }),
]
