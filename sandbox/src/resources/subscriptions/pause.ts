/** Pausing a subscription, and resuming it. Source: docs.stripe.com/api/subscriptions/pause, docs.stripe.com/api/subscriptions/resume. */
import { STATUS_AFTER_FAILED_RESUMPTION } from '../../billing/inferred.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest } from '../../engine/errors.ts'
import type { Params } from '../../wire.gen.ts'
import { isMetered } from '../catalog/price-terms.ts'
import { collectInvoice, settleIfNothingDue } from '../invoices/collect.ts'
import { composeInvoice, type StoredInvoice } from '../invoices/compose.ts'
import { finalizeInvoice } from '../invoices/finalize.ts'
import { createInvoiceItem, linesOfItems, pendingItems } from '../invoices/item-store.ts'
import { licensedLines } from '../invoices/lines.ts'
import { lastInvoice } from './cancel.ts'
import { inheritedDiscounts } from './create.ts'
import { storeInvoice } from './debits.ts'
import { anchorOf, itemPeriod, withPeriod } from './items-params.ts'
import { creditItem, prorationFields } from './prorations.ts'
import { usageLines } from './renewal.ts'
import { scheduleOf } from './schedule-phases.ts'
import { INCOMPLETE_SECONDS, resumeNow } from './status.ts'
import type { StoredSubscription } from './stored.ts'

export type PauseParams = Pick<Params['POST /v1/subscriptions/{id}/pause'], 'bill_for' | 'invoicing_behavior' | 'type'>
export type ResumeParams = Pick<
  Params['POST /v1/subscriptions/{id}/resume'],
  'billing_cycle_anchor' | 'payment_behavior' | 'proration_behavior' | 'proration_date'
>

/** `POST /v1/subscriptions/{id}/pause`: unused time is credited, usage billed, and nothing renews until it is resumed. */
export function pauseSubscription(ctx: Ctx, id: string, params: PauseParams): StoredSubscription {
  const subscription = ctx.require('subscription', id)
  if (subscription.status !== 'active' && subscription.status !== 'past_due' && subscription.status !== 'trialing') {
    throw invalidRequest(`You cannot pause a subscription that is ${subscription.status}.`)
  }
  if (scheduleOf(ctx, subscription) !== undefined) {
    throw invalidRequest('You cannot pause a subscription that is attached to a schedule.')
  }
  const now = ctx.nowOf(subscription)
  const from = params.bill_for?.unused_time_from?.type ?? 'now'
  if (from !== 'none' && subscription.status !== 'trialing') creditUnused(ctx, subscription, from === 'now' ? now : null)
  const usage = (params.bill_for?.outstanding_usage_through?.type ?? 'now') === 'now'
  if (params.invoicing_behavior === 'invoice') lastInvoice(ctx, subscription, { usage, now })
  else if (usage) keepUsage(ctx, subscription, now)
  const current = ctx.require('subscription', id)
  const before = ctx.present(current)
  const items = current._.items.map((item) =>
    pausedItem(ctx, item, { isCredited: from !== 'none', billedUntil: usage ? now : null }),
  )
  const paused = ctx.update('subscription', id, {
    status: 'paused',
    status_details: { paused: { subscription: { type: 'pause_requested' }, transitioned_at: now, type: 'subscription' } },
    _: { ...current._, items },
  })
  ctx.emit('customer.subscription.updated', paused, { before })
  ctx.emit('customer.subscription.paused', paused)
  return paused
}

type Item = StoredSubscription['_']['items'][number]

/** What was credited cannot be credited again by a later change; usage counts from where it was billed last. */
function pausedItem(
  ctx: Ctx,
  item: Item,
  { isCredited, billedUntil }: { isCredited: boolean; billedUntil: number | null },
): Item {
  const isBilled = billedUntil !== null && isMetered(ctx.require('price', item.price))
  const paused = { ...item._, ...(isCredited ? { debits: [] } : {}), ...(isBilled ? { usageFrom: billedUntil } : {}) }
  return { ...item, _: paused }
}

/** Credits from an instant on, or (null) for the whole of each item's period. */
function creditUnused(ctx: Ctx, subscription: StoredSubscription, from: number | null): void {
  for (const item of subscription._.items) creditItem(ctx, subscription, item, from ?? item.current_period_start)
}

function keepUsage(ctx: Ctx, subscription: StoredSubscription, now: number): void {
  for (const item of subscription._.items) {
    const price = ctx.require('price', item.price)
    if (!isMetered(price)) continue
    const period = { start: item.current_period_start, end: now }
    for (const line of usageLines(ctx, subscription, item, price, period)) {
      if (line.amount === 0) continue
      createInvoiceItem(ctx, {
        ...prorationFields(ctx, subscription, item),
        proration: false,
        discountable: true,
        amount: line.amount,
        description: line.description,
        period,
        quantity: line.quantity ?? 1,
      })
    }
  }
}

/** `POST /v1/subscriptions/{id}/resume`. */
export function resumeSubscription(ctx: Ctx, id: string, params: ResumeParams): StoredSubscription {
  const subscription = ctx.require('subscription', id)
  if (subscription.status !== 'paused') {
    throw invalidRequest(`Only a paused subscription can be resumed. This one is ${subscription.status}.`)
  }
  if (subscription.collection_method !== 'charge_automatically') {
    throw invalidRequest('Resume is only available for subscriptions that use `charge_automatically` collection.')
  }
  const now = ctx.nowOf(subscription)
  const invoice = prepareResumption(ctx, subscription, params)
  if (invoice === null) {
    resumeNow(ctx, ctx.require('subscription', id))
    return ctx.require('subscription', id)
  }
  ctx.emit('invoice.created', invoice)
  finalizeInvoice(ctx, invoice.id)
  if (settleIfNothingDue(ctx, invoice.id)) return ctx.require('subscription', id)
  const waiting = ctx.require('subscription', id)
  ctx.update('subscription', id, { _: { ...waiting._, incompleteUntil: now + INCOMPLETE_SECONDS } })
  const outcome = collectInvoice(ctx, invoice.id, { offSession: false, automatic: true })
  const resumesAnyway = params.payment_behavior !== 'resume_on_payment_success' && outcome.kind === 'declined'
  if (resumesAnyway) resumeNow(ctx, ctx.require('subscription', id), STATUS_AFTER_FAILED_RESUMPTION)
  return ctx.require('subscription', id)
}

/** Moves the periods of a paused subscription and makes the draft with which it resumes; null when nothing is to be invoiced. */
export function prepareResumption(ctx: Ctx, subscription: StoredSubscription, params: ResumeParams): StoredInvoice | null {
  const now = ctx.nowOf(subscription)
  const resets = params.billing_cycle_anchor?.type !== 'unchanged'
  const moved = ctx.update('subscription', subscription.id, movedPatch(ctx, subscription, resets, now))
  return resumptionInvoice(ctx, moved, params, resets, now)
}

function movedPatch(ctx: Ctx, subscription: StoredSubscription, resets: boolean, now: number): Partial<StoredSubscription> {
  const anchor = resets ? { at: now } : anchorOf(subscription)
  const items = subscription._.items.map((item) => withPeriod(item, itemPeriod(ctx, anchor, item, now)))
  return {
    billing_cycle_anchor: anchor.at,
    _: { ...subscription._, items, anchorDay: resets ? null : subscription._.anchorDay, renewalAnnounced: null },
  }
}

/** The draft that bills from now on; null when nothing is to be invoiced now. */
function resumptionInvoice(
  ctx: Ctx,
  subscription: StoredSubscription,
  params: ResumeParams,
  resets: boolean,
  now: number,
): StoredInvoice | null {
  const behavior = params.proration_behavior ?? 'create_prorations'
  if (!resets && behavior === 'none') return null
  const from = resets ? now : (params.proration_date ?? now)
  const lines = subscription._.items.flatMap((item) => {
    if (isMetered(ctx.require('price', item.price))) return []
    const whole = { start: item.current_period_start, end: item.current_period_end }
    return resets
      ? licensedLines(ctx, subscription, item, whole)
      : licensedLines(ctx, subscription, item, { start: from, end: whole.end }, whole)
  })
  const taken = pendingItems(ctx, subscription.customer, { subscription: subscription.id, currency: subscription.currency })
  const all = [...linesOfItems(ctx, taken), ...lines]
  if (all.length === 0) return null
  const invoice = composeInvoice(ctx, {
    customer: subscription.customer,
    subscription,
    lines: all,
    currency: subscription.currency,
    billingReason: 'subscription_update',
    period: { start: now, end: now },
    collectionMethod: subscription.collection_method,
    autoAdvance: true,
    automaticallyFinalizesAt: null,
    discounts: inheritedDiscounts(ctx, subscription),
    defaultTaxRates: subscription.default_tax_rates,
    offSession: false,
    now,
  })
  return storeInvoice(ctx, subscription, invoice, taken)
}
