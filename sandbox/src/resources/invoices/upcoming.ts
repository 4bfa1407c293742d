/** The invoice that a subscription's next renewal will make, as it stands now. Nothing is stored. */
import type { Ctx } from '../../engine/context.ts'
import type { StoredSubscriptionItem } from '../../model/billing.ts'
import { isMetered, recurrenceOf } from '../catalog/price-terms.ts'
import { inheritedDiscounts } from '../subscriptions/create.ts'
import { nextRenewalOf } from '../subscriptions/items-params.ts'
import { renewalLines, rollsAt, type Roll } from '../subscriptions/renewal.ts'
import { isEnded, type StoredSubscription } from '../subscriptions/stored.ts'
import { composeInvoice, type StoredInvoice } from './compose.ts'
import { linesOfItems, pendingItems } from './item-store.ts'

/** The upcoming invoice of a subscription; null when no more is to come. */
export function previewRenewal(ctx: Ctx, subscription: StoredSubscription): StoredInvoice | null {
  if (isEnded(subscription)) return null
  const at = nextRenewalOf(subscription._.items)
  const taken = pendingItems(ctx, subscription.customer, { subscription: subscription.id, currency: subscription.currency })
  const ends = subscription.cancel_at !== null && subscription.cancel_at <= at
  const planned = plannedSubscription(ctx, subscription, at)
  // What was used until then is billed at the prices that it was used under, what comes then at those of the phase that begins.
  const isUsed = ({ item }: Roll): boolean => isMetered(ctx.require('price', item.price))
  const used = ends ? [] : rollsAt(ctx, subscription, at).filter(isUsed)
  const rolls = ends ? [] : [...rollsAt(ctx, planned, at).filter((roll) => !isUsed(roll)), ...used]
  const afterTrial = subscription.status === 'trialing' && subscription.trial_end === at
  const lines = [...linesOfItems(ctx, taken), ...renewalLines(ctx, planned, rolls, { afterTrial })]
  if (lines.length === 0) return null
  const start = Math.min(...subscription._.items.map((item) => item.current_period_start))
  return upcoming(
    composeInvoice(ctx, {
      customer: subscription.customer,
      subscription: { ...subscription, automatic_tax: planned.automatic_tax },
      lines,
      currency: subscription.currency,
      billingReason: 'upcoming',
      period: { start, end: at },
      collectionMethod: subscription.collection_method,
      autoAdvance: true,
      automaticallyFinalizesAt: null,
      discounts: inheritedDiscounts(ctx, planned),
      defaultTaxRates: subscription.default_tax_rates,
      offSession: true,
      now: at,
      fields: subscription.collection_method === 'charge_automatically' ? { next_payment_attempt: at + 3600 } : {},
    }),
  )
}

/** The subscription as a phase of its schedule that begins at the renewal will have made it. */
function plannedSubscription(ctx: Ctx, subscription: StoredSubscription, at: number): StoredSubscription {
  const schedule = subscription.schedule === null ? undefined : ctx.get('subscription_schedule', subscription.schedule)
  const phase = schedule?.status === 'active' ? schedule.phases.find((candidate) => candidate.start_date === at) : undefined
  if (phase === undefined) return subscription
  const spare = [...subscription._.items]
  const items = phase.items.map((wanted): StoredSubscriptionItem => {
    const same = spare.findIndex((item) => item.price === wanted.price)
    const [base] = spare.splice(Math.max(same, 0), 1)
    const { quantity: _quantity, ...rest } = base ?? newPhaseItem(subscription, at)
    return { ...rest, price: wanted.price, ...(wanted.quantity === undefined ? {} : { quantity: wanted.quantity }) }
  })
  const shapes = (list: readonly StoredSubscriptionItem[]): string =>
    [...new Set(list.map((item) => JSON.stringify(recurrenceOf(ctx.require('price', item.price)))))].sort().join()
  const moves = phase.billing_cycle_anchor === 'phase_start' || shapes(items) !== shapes(subscription._.items)
  const anchor = moves ? at : subscription.billing_cycle_anchor
  return {
    ...subscription,
    automatic_tax: phase.automatic_tax ?? schedule?.default_settings.automatic_tax ?? subscription.automatic_tax,
    billing_cycle_anchor: anchor,
    discounts: phase.discounts.flatMap(({ discount }) => discount ?? []),
    _: { ...subscription._, items, anchorDay: moves ? null : subscription._.anchorDay },
  }
}

function newPhaseItem(subscription: StoredSubscription, at: number): StoredSubscriptionItem {
  return {
    id: `si_${subscription.id}`,
    object: 'subscription_item',
    billing_thresholds: null,
    created: at,
    current_period_end: at,
    current_period_start: at,
    current_trial: null,
    discounts: [],
    metadata: {},
    price: '',
    subscription: subscription.id,
    tax_rates: [],
    _: { debits: [] },
  }
}

/** A preview has an id that says what it is, and names no invoice. */
export function upcoming(invoice: StoredInvoice): StoredInvoice {
  const id = `upcoming_${invoice.id}`
  return { ...invoice, id, _: { ...invoice._, lines: invoice._.lines.map((line) => ({ ...line, invoice: id })) } }
}
