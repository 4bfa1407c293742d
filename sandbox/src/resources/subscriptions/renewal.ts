/** Renewal: the items whose period is over roll on, and a draft invoice bills the next one. */
import { DRAFT_SECONDS, trialEndInvoiceIsDraftForAnHour } from '../../billing/inferred.ts'
import { addRecurrence, type Span } from '../../billing/periods.ts'
import type { Ctx } from '../../engine/context.ts'
import type { StoredLine, StoredSubscriptionItem } from '../../model/billing.ts'
import { isMetered, type StoredPrice } from '../catalog/price-terms.ts'
import { composeInvoice, type StoredInvoice } from '../invoices/compose.ts'
import { attachItems, linesOfItems, pendingItems } from '../invoices/item-store.ts'
import { licensedLines, meteredLines } from '../invoices/lines.ts'
import { usageOf } from '../usage/meter-usage.ts'
import { inheritedDiscounts } from './create.ts'
import { debitsOfLines } from './debits.ts'
import { anchorOf, itemPeriod, withPeriod } from './items-params.ts'
import type { StoredSubscription } from './stored.ts'

/** An item that rolls: the period that ended and the one that begins. */
export interface Roll {
  readonly item: StoredSubscriptionItem
  readonly ended: Span
  readonly next: Span
}

/** The items whose period is over at an instant, with their next period. */
export function rollsAt(ctx: Ctx, subscription: StoredSubscription, at: number): Roll[] {
  return subscription._.items
    .filter((item) => item.current_period_end <= at)
    .map((item) => ({
      item,
      ended: { start: item.current_period_start, end: item.current_period_end },
      next: { start: item.current_period_end, end: itemPeriod(ctx, anchorOf(subscription), item, item.current_period_end).end },
    }))
}

/** Lines of rolling items: what was used in the ended period, what the next one costs in advance. */
export function renewalLines(
  ctx: Ctx,
  subscription: StoredSubscription,
  rolls: readonly Roll[],
  options: { afterTrial: boolean },
): StoredLine[] {
  return rolls.flatMap(({ item, ended, next }) => {
    const price = ctx.require('price', item.price)
    if (isMetered(price)) return options.afterTrial ? [] : usageLines(ctx, subscription, item, price, ended)
    const whole = itemPeriod(ctx, anchorOf(subscription), item, next.start)
    // A date to cancel at within the next period: only the time until then is billed.
    const billed = { start: next.start, end: Math.min(next.end, subscription.cancel_at ?? next.end) }
    const isWhole = whole.start === billed.start && whole.end === billed.end
    return licensedLines(ctx, subscription, item, billed, isWhole ? undefined : whole)
  })
}

/** The lines of a metered item for a span of its usage, as far as the item counts it. */
export function usageLines(
  ctx: Ctx,
  subscription: StoredSubscription,
  item: StoredSubscriptionItem,
  price: StoredPrice,
  period: Span,
): StoredLine[] {
  const meter = price.recurring?.meter ?? null
  if (meter === null) return []
  const counted = { start: Math.max(period.start, item._.usageFrom ?? 0), end: period.end }
  const quantity = usageOf(ctx, { meter, customer: subscription.customer, from: counted.start, to: counted.end })
  return meteredLines(ctx, subscription, item, { period: counted, quantity })
}

/** How the invoice of a renewal is collected: as `pause_collection` and the status say. */
function collectionOf(subscription: StoredSubscription): { autoAdvance: boolean; voids: boolean; writesOff: boolean } {
  const paused = subscription.pause_collection?.behavior ?? null
  return {
    autoAdvance: subscription.status !== 'unpaid' && paused === null,
    voids: paused === 'void',
    writesOff: paused === 'mark_uncollectible',
  }
}

export interface RenewalOptions {
  /** The periods ended with a trial. */
  readonly afterTrial: boolean
  readonly status?: StoredSubscription['status']
}

/**
 * Rolls the items whose period is over and makes the draft that bills them. Emits `customer.subscription.updated` and
 * `invoice.created`. Returns the invoice, or null when there was nothing to bill.
 */
export function renewSubscription(ctx: Ctx, id: string, options: RenewalOptions): StoredInvoice | null {
  const subscription = ctx.require('subscription', id)
  const now = ctx.nowOf(subscription)
  const rolls = rollsAt(ctx, subscription, now)
  const before = ctx.present(subscription)
  const rolled = rolledSubscription(ctx, subscription, rolls, now, options.status ?? subscription.status)
  const taken = pendingItems(ctx, subscription.customer, { subscription: id, currency: subscription.currency })
  const lines = [...linesOfItems(ctx, taken), ...renewalLines(ctx, rolled, rolls, options)]
  const invoice = lines.length === 0 ? null : draftRenewal(ctx, rolled, lines, rolls, now, options)
  if (invoice !== null) {
    attachItems(ctx, taken, invoice.id)
    ctx.update('subscription', id, {
      latest_invoice: invoice.id,
      _: { ...rolled._, items: debitsOfLines(rolled._.items, invoice) },
    })
  }
  ctx.emit('customer.subscription.updated', ctx.require('subscription', id), { before })
  if (invoice !== null) ctx.emit('invoice.created', invoice)
  return invoice
}

function rolledSubscription(
  ctx: Ctx,
  subscription: StoredSubscription,
  rolls: readonly Roll[],
  now: number,
  status: StoredSubscription['status'],
): StoredSubscription {
  const items = subscription._.items.map((item) => {
    const roll = rolls.find((candidate) => candidate.item.id === item.id)
    if (roll === undefined) return item
    const { usageFrom: _counted, ...kept } = item._
    const debits = item._.debits.filter((debit) => debit.period.end > now)
    return { ...withPeriod(item, roll.next), _: { ...kept, debits } }
  })
  return ctx.update('subscription', subscription.id, { status, _: { ...subscription._, items } })
}

function draftRenewal(
  ctx: Ctx,
  subscription: StoredSubscription,
  lines: readonly StoredLine[],
  rolls: readonly Roll[],
  now: number,
  options: RenewalOptions,
): StoredInvoice {
  const collection = collectionOf(subscription)
  const isCollected = collection.autoAdvance || collection.writesOff || collection.voids
  const waits = !options.afterTrial || trialEndInvoiceIsDraftForAnHour()
  const finalizesAt = isCollected ? now + (waits ? DRAFT_SECONDS : 0) : null
  const start = rolls.length === 0 ? now : Math.min(...rolls.map((roll) => roll.ended.start))
  const invoice = composeInvoice(ctx, {
    customer: subscription.customer,
    subscription,
    lines,
    currency: subscription.currency,
    billingReason: 'subscription_cycle',
    period: { start, end: now },
    collectionMethod: subscription.collection_method,
    autoAdvance: isCollected,
    automaticallyFinalizesAt: finalizesAt,
    discounts: inheritedDiscounts(ctx, subscription),
    defaultTaxRates: subscription.default_tax_rates,
    offSession: true,
    now,
    fields: subscription.collection_method === 'charge_automatically' ? { next_payment_attempt: finalizesAt } : {},
  })
  return ctx.create('invoice', invoice)
}

/**
 * Invoices the pending items of a subscription between its renewals, and sets the next time.
 * Source: docs.stripe.com/api/subscriptions/create (pending_invoice_item_interval).
 */
export function invoicePendingItems(ctx: Ctx, subscription: StoredSubscription): void {
  const now = ctx.nowOf(subscription)
  const every = subscription.pending_invoice_item_interval
  const next = every === null ? null : addRecurrence(now, { interval: every.interval, count: every.interval_count })
  const before = ctx.present(subscription)
  const taken = pendingItems(ctx, subscription.customer, { subscription: subscription.id, currency: subscription.currency })
  const lines = linesOfItems(ctx, taken)
  const invoice = lines.length === 0 ? null : draftRenewal(ctx, subscription, lines, [], now, { afterTrial: false })
  const reason = 'automatic_pending_invoice_item_invoice' as const
  const draft = invoice === null ? null : ctx.update('invoice', invoice.id, { billing_reason: reason })
  if (draft !== null) attachItems(ctx, taken, draft.id)
  const after = ctx.update('subscription', subscription.id, {
    next_pending_invoice_item_invoice: next,
    ...(draft === null ? {} : { latest_invoice: draft.id }),
  })
  ctx.emit('customer.subscription.updated', after, { before })
  if (draft !== null) ctx.emit('invoice.created', draft)
}
