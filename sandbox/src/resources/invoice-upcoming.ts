/** The invoice that a subscription's next renewal will make, as it stands now. Nothing is stored. */
import type { Ctx } from '../engine/context.ts'
import { composeInvoice, type StoredInvoice } from './invoice-compose.ts'
import { linesOfItems, pendingItems } from './invoice-item-store.ts'
import { inheritedDiscounts } from './subscription-create.ts'
import { nextRenewalOf } from './subscription-items-params.ts'
import { renewalLines, rollsAt } from './subscription-renewal.ts'
import { isEnded, type StoredSubscription } from './subscription-status.ts'

/** The upcoming invoice of a subscription; null when no more is to come. */
export function previewRenewal(ctx: Ctx, subscription: StoredSubscription): StoredInvoice | null {
  if (isEnded(subscription)) return null
  const at = nextRenewalOf(subscription._.items)
  const taken = pendingItems(ctx, subscription.customer, { subscription: subscription.id, currency: subscription.currency })
  const ends = subscription.cancel_at !== null && subscription.cancel_at <= at
  const rolls = ends ? [] : rollsAt(ctx, subscription, at)
  const afterTrial = subscription.status === 'trialing' && subscription.trial_end === at
  const lines = [...linesOfItems(ctx, taken), ...renewalLines(ctx, subscription, rolls, { afterTrial })]
  if (lines.length === 0) return null
  const start = Math.min(...subscription._.items.map((item) => item.current_period_start))
  return upcoming(
    composeInvoice(ctx, {
      customer: subscription.customer,
      subscription,
      lines,
      currency: subscription.currency,
      billingReason: 'upcoming',
      period: { start, end: at },
      collectionMethod: subscription.collection_method,
      autoAdvance: true,
      automaticallyFinalizesAt: null,
      discounts: inheritedDiscounts(ctx, subscription),
      defaultTaxRates: subscription.default_tax_rates,
      offSession: true,
      now: at,
      fields: subscription.collection_method === 'charge_automatically' ? { next_payment_attempt: at + 3600 } : {},
    }),
  )
}

/** A preview has an id that says what it is, and names no invoice. */
export function upcoming(invoice: StoredInvoice): StoredInvoice {
  const id = `upcoming_${invoice.id}`
  return { ...invoice, id, _: { ...invoice._, lines: invoice._.lines.map((line) => ({ ...line, invoice: id })) } }
}
