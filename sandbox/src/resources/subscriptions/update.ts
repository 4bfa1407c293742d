/** Updating a subscription: the change, told of, and its invoice collected. */
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest } from '../../engine/errors.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import { announceDifference, announceNow, LaterEvents } from '../announce.ts'
import { collectInvoice, settleIfNothingDue } from '../invoices/collect.ts'
import type { StoredInvoice } from '../invoices/compose.ts'
import { finalizeInvoice } from '../invoices/finalize.ts'
import { requireTaxPlace } from '../tax/automatic-tax.ts'
import { type Change, changeSubscription, type UpdateParams } from './change.ts'
import { refuseUnpaid, requireSomePaymentMethod } from './create.ts'
import { detailsPatch } from './fields.ts'
import { nextRenewalOf } from './items-params.ts'
import { followInSchedule, scheduleOf } from './schedule-phases.ts'
import { INCOMPLETE_SECONDS } from './status.ts'
import { isEnded, type StoredSubscription } from './stored.ts'

/** `POST /v1/subscriptions/{id}`. Source: docs.stripe.com/api/subscriptions/update. */
export function updateSubscription(ctx: Ctx, id: string, params: UpdateParams): StoredSubscription {
  const subscription = ctx.require('subscription', id)
  if (isEnded(subscription)) return updateEnded(ctx, subscription, params)
  checkPending(params)
  const shown = ctx.present(subscription)
  const events = new LaterEvents(ctx)
  if (params.automatic_tax?.enabled === true) requireTaxPlace(ctx, subscription.customer)
  const change = changeSubscription(ctx, id, params, events.announce)
  if (params.payment_behavior === 'pending_if_incomplete' && change.invoice !== null) {
    return collectPendingChange(ctx, params, change, change.invoice, shown, events)
  }
  announceDifference(ctx, announceNow(ctx), 'customer.subscription.updated', change.after, shown)
  if (params.items !== undefined) followInSchedule(ctx, change.after)
  events.flush()
  if (change.invoice !== null) {
    ctx.emit('invoice.created', change.invoice)
    collectChange(ctx, change.after, change.invoice, params)
  }
  return ctx.require('subscription', id)
}

/** What a schedule manages is not cancelled, nor kept, directly. Source: the words of Stripe's own refusal. */
export function refuseManagedEnd(ctx: Ctx, id: string, params: UpdateParams): void {
  if (params.cancel_at === undefined && params.cancel_at_period_end === undefined) return
  const schedule = scheduleOf(ctx, ctx.require('subscription', id))
  if (schedule === undefined) return
  throw invalidRequest(
    `The subscription is managed by the subscription schedule \`${schedule.id}\`, and updating any cancelation behavior directly is not allowed. Please update the schedule instead.`,
  )
}

/** An ended subscription keeps its past; only what is said about it may change. */
function updateEnded(ctx: Ctx, subscription: StoredSubscription, params: UpdateParams): StoredSubscription {
  const { metadata, cancellation_details, ...others } = params
  if (Object.values(others).some((value) => value !== undefined)) {
    throw invalidRequest('A canceled subscription can only update its cancellation_details and metadata.', {
      code: 'invalid_canceled_subscription_fields',
    })
  }
  const patch = { metadata: mergeMetadata(subscription.metadata, metadata), ...detailsPatch(subscription, cancellation_details) }
  return ctx.change('subscription', subscription.id, patch, 'customer.subscription.updated')
}

/** With `pending_if_incomplete` only what can be undone may change. Source: docs.stripe.com/billing/subscriptions/pending-updates-reference. */
function checkPending(params: UpdateParams): void {
  if (params.payment_behavior !== 'pending_if_incomplete') return
  const allowed = new Set([
    'billing_cycle_anchor',
    // Source: docs.stripe.com/changelog/endive/2026-09-30/scheduled-subscription-cancellation.
    'cancel_at_period_end',
    'expand',
    'items',
    'off_session',
    'payment_behavior',
    'proration_behavior',
    'proration_date',
    'trial_end',
    'trial_from_plan',
  ])
  for (const [name, value] of Object.entries(params)) {
    if (value !== undefined && !allowed.has(name)) {
      throw invalidRequest(`You cannot update \`${name}\` with \`payment_behavior=pending_if_incomplete\`.`, { param: name })
    }
  }
}

/** Finalizes the invoice of a change and collects it as `payment_behavior` says. */
export function collectChange(
  ctx: Ctx,
  subscription: StoredSubscription,
  invoice: StoredInvoice,
  params: Pick<UpdateParams, 'payment_behavior' | 'off_session'>,
): void {
  finalizeInvoice(ctx, invoice.id, { daysUntilDue: subscription.days_until_due })
  if (settleIfNothingDue(ctx, invoice.id)) return
  const offSession = params.off_session === true
  if (subscription.collection_method === 'send_invoice') {
    collectInvoice(ctx, invoice.id, { confirm: false, offSession, automatic: false })
    return
  }
  if (params.payment_behavior === 'default_incomplete') {
    collectInvoice(ctx, invoice.id, { confirm: false, offSession, automatic: false })
    const current = ctx.require('subscription', subscription.id)
    if (current.status === 'active')
      ctx.change('subscription', current.id, { status: 'past_due' }, 'customer.subscription.updated')
    return
  }
  requireSomePaymentMethod(ctx, ctx.require('invoice', invoice.id))
  const outcome = collectInvoice(ctx, invoice.id, { offSession, automatic: true })
  if (params.payment_behavior === 'error_if_incomplete') refuseUnpaid(outcome)
}

/** After 23 hours, or with the period or the trial, whichever comes first. Source: docs.stripe.com/billing/subscriptions/pending-updates. */
function expiryOf({ trial_end, _: { items } }: StoredSubscription, now: number): number {
  const trialEnd = trial_end !== null && trial_end > now ? trial_end : Infinity
  return Math.min(now + INCOMPLETE_SECONDS, trialEnd, nextRenewalOf(items))
}

/** The change waits until its invoice is paid; until then the subscription stays as it was. */
function collectPendingChange(
  ctx: Ctx,
  params: UpdateParams,
  change: Change,
  invoice: StoredInvoice,
  shown: Record<string, unknown>,
  events: LaterEvents,
): StoredSubscription {
  const { before, after } = change
  const id = before.id
  events.announce('invoice.created', invoice)
  finalizeInvoice(ctx, invoice.id, { announce: events.announce })
  if (!settleIfNothingDue(ctx, invoice.id, { announce: events.announce, followSubscription: false })) {
    requireSomePaymentMethod(ctx, ctx.require('invoice', invoice.id))
    collectInvoice(ctx, invoice.id, { offSession: false, automatic: false, announce: events.announce, followSubscription: false })
  }
  if (ctx.require('invoice', invoice.id).status !== 'paid') {
    ctx.update('subscription', id, {
      billing_cycle_anchor: before.billing_cycle_anchor,
      cancel_at: before.cancel_at,
      cancel_at_period_end: before.cancel_at_period_end,
      canceled_at: before.canceled_at,
      cancellation_details: before.cancellation_details,
      status: before.status,
      trial_end: before.trial_end,
      trial_start: before.trial_start,
      _: {
        ...before._,
        pendingUpdate: {
          expiresAt: expiryOf(before, ctx.nowOf(before)),
          invoice: invoice.id,
          items: after._.items,
          billingCycleAnchor: after.billing_cycle_anchor === before.billing_cycle_anchor ? null : after.billing_cycle_anchor,
          cancelAtPeriodEnd: params.cancel_at_period_end ?? null,
          trialEnd: after.trial_end === before.trial_end ? null : after.trial_end,
        },
      },
    })
  }
  announceDifference(ctx, announceNow(ctx), 'customer.subscription.updated', ctx.require('subscription', id), shown)
  events.flush()
  return ctx.require('subscription', id)
}
