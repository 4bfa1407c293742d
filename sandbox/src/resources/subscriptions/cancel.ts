/** Canceling: at the end of a period, or now, with or without a last invoice. */
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest } from '../../engine/errors.ts'
import type { StoredLine } from '../../model/billing.ts'
import type { Params } from '../../wire.gen.ts'
import { isMetered } from '../catalog/price-terms.ts'
import { collectInvoice, settleIfNothingDue } from '../invoices/collect.ts'
import { composeInvoice, type StoredInvoice } from '../invoices/compose.ts'
import { finalizeInvoice } from '../invoices/finalize.ts'
import { attachItems, linesOfItems, pendingItems } from '../invoices/item-store.ts'
import { inheritedDiscounts } from './create.ts'
import { detailsPatch } from './fields.ts'
import { creditItem } from './prorations.ts'
import { usageLines } from './renewal.ts'
import { endSubscription } from './status.ts'
import { isEnded, type StoredSubscription } from './stored.ts'

type CancelParams = Pick<Params['DELETE /v1/subscriptions/{id}'], 'cancellation_details' | 'invoice_now' | 'prorate'>

/** Usage that was not billed, and pending items, are billed with a last invoice when a subscription ends at its period's end. */
export function cancelAtTheEnd(ctx: Ctx, subscription: StoredSubscription): void {
  lastInvoice(ctx, subscription, { usage: true, now: ctx.nowOf(subscription) })
  endSubscription(ctx, subscription.id, { reason: 'cancellation_requested' })
}

/** `DELETE /v1/subscriptions/{id}`. Source: docs.stripe.com/api/subscriptions/cancel. */
export function cancelSubscription(ctx: Ctx, id: string, params: CancelParams): StoredSubscription {
  const subscription = ctx.require('subscription', id)
  if (isEnded(subscription)) {
    throw invalidRequest(`No such subscription: '${id}'`, { param: 'id', code: 'resource_missing' })
  }
  const now = ctx.nowOf(subscription)
  if (params.prorate === true) creditUnusedTime(ctx, subscription, now)
  if (params.invoice_now === true) lastInvoice(ctx, subscription, { usage: true, now })
  else if (params.prorate !== true) dropPendingProrations(ctx, subscription)
  const details = detailsPatch(subscription, params.cancellation_details).cancellation_details ?? undefined
  return endSubscription(ctx, id, {
    reason: 'cancellation_requested',
    ...(details === undefined ? {} : { details: { ...details, reason: 'cancellation_requested' } }),
  })
}

/** The time of the running periods that is left is credited, as pending items. */
export function creditUnusedTime(ctx: Ctx, subscription: StoredSubscription, now: number): void {
  if (subscription.status === 'trialing' || subscription.status === 'incomplete') return
  for (const item of subscription._.items) creditItem(ctx, subscription, item, now)
}

/** Prorations that were not billed go with the subscription. */
function dropPendingProrations(ctx: Ctx, subscription: StoredSubscription): void {
  for (const item of ctx.store.by('invoiceitem', 'pending', subscription.customer)) {
    if (item._.subscription !== subscription.id || !item.proration) continue
    ctx.delete('invoiceitem', item.id)
    ctx.emit('invoiceitem.deleted', item)
  }
}

/** Bills what is left: usage up to now and pending items of this subscription. Null when nothing is. */
export function lastInvoice(
  ctx: Ctx,
  subscription: StoredSubscription,
  options: { usage: boolean; now: number; store?: boolean },
): StoredInvoice | null {
  const usage = options.usage && subscription.status !== 'trialing' ? unbilledUsage(ctx, subscription, options.now) : []
  const taken = pendingItems(ctx, subscription.customer, { subscription: subscription.id, currency: subscription.currency })
  const lines = [...linesOfItems(ctx, taken), ...usage]
  if (lines.length === 0) return null
  const invoice = composeInvoice(ctx, {
    customer: subscription.customer,
    subscription,
    lines,
    currency: subscription.currency,
    billingReason: 'subscription_update',
    period: { start: Math.min(...subscription._.items.map((item) => item.current_period_start)), end: options.now },
    collectionMethod: subscription.collection_method,
    autoAdvance: true,
    automaticallyFinalizesAt: null,
    discounts: inheritedDiscounts(ctx, subscription),
    defaultTaxRates: subscription.default_tax_rates,
    offSession: true,
    now: options.now,
  })
  if (options.store === false) return invoice
  ctx.create('invoice', invoice, 'invoice.created')
  attachItems(ctx, taken, invoice.id)
  ctx.update('subscription', subscription.id, { latest_invoice: invoice.id })
  finalizeInvoice(ctx, invoice.id, { daysUntilDue: subscription.days_until_due })
  const isSettled = settleIfNothingDue(ctx, invoice.id, { followSubscription: false })
  if (!isSettled && subscription.collection_method === 'charge_automatically') {
    collectInvoice(ctx, invoice.id, { offSession: true, automatic: true, followSubscription: false })
  }
  return ctx.require('invoice', invoice.id)
}

function unbilledUsage(ctx: Ctx, subscription: StoredSubscription, now: number): StoredLine[] {
  return subscription._.items.flatMap((item) => {
    const price = ctx.require('price', item.price)
    if (!isMetered(price) || item.current_period_start >= now) return []
    const lines = usageLines(ctx, subscription, item, price, { start: item.current_period_start, end: now })
    // Use was billed up to the pause: the time since then is a line only where something was used in it.
    const isBilled =
      subscription.status === 'paused' ? ({ quantity }: StoredLine) => quantity !== 0 : ({ amount }: StoredLine) => amount !== 0
    return lines.some(isBilled) ? lines : []
  })
}
