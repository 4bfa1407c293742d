/** Prorations of a subscription's items: what is credited and debited when an item changes within its period. */
import { describeUnusedTime } from '../../billing/descriptions.ts'
import { applyDiscounts } from '../../billing/discounts.ts'
import { evenShares } from '../../billing/inferred.ts'
import type { Span } from '../../billing/periods.ts'
import { type Credit, creditsOfDebits, type Debit, prorateSpan } from '../../billing/proration.ts'
import type { Ctx } from '../../engine/context.ts'
import type { StoredSubscriptionItem } from '../../model/billing.ts'
import type { Announce } from '../announce.ts'
import { appliedDiscounts } from '../catalog/discount-rules.ts'
import { isMetered } from '../catalog/price-terms.ts'
import { createInvoiceItem, type NewInvoiceItem, type StoredInvoiceItem } from '../invoices/item-store.ts'
import { fullAmountOf, unitAmountOfItem } from '../invoices/lines.ts'
import { inheritedDiscounts } from './create.ts'
import type { StoredSubscription } from './stored.ts'

export interface ItemCredit {
  /** Negative. */
  readonly amount: number
  readonly period: Span
  readonly quantity: number | null
  readonly details: NonNullable<StoredInvoiceItem['proration_details']>
}

/** The name of an item's product. */
export function describedProduct(ctx: Ctx, item: StoredSubscriptionItem): string {
  const { product } = ctx.require('price', item.price)
  return ctx.get('product', product)?.name ?? product
}

/** What every proration of an item has in common. */
export function prorationFields(
  ctx: Ctx,
  subscription: StoredSubscription,
  item: StoredSubscriptionItem,
): Omit<NewInvoiceItem, 'amount' | 'description' | 'period' | 'quantity'> {
  const price = ctx.require('price', item.price)
  return {
    customer: subscription.customer,
    currency: subscription.currency,
    price: { id: price.id, product: price.product, unitAmountDecimal: unitAmountOfItem(ctx, item, subscription.currency) },
    subscription: subscription.id,
    subscriptionItem: item.id,
    proration: true,
    discountable: false,
    taxRates: item.tax_rates,
    metadata: { ...subscription.metadata },
  }
}

/** Credits for the time of an item that is left at an instant: by what was debited (flexible), or by the current price (classic). */
export function creditsOfItem(
  ctx: Ctx,
  subscription: StoredSubscription,
  item: StoredSubscriptionItem,
  at: number,
): ItemCredit[] {
  if (subscription.billing_mode.type === 'flexible')
    return creditsOfDebits(item._.debits, at).map((credit) => flexibleCredit(ctx, credit))
  const whole = { start: item.current_period_start, end: item.current_period_end }
  const period = { start: Math.max(at, whole.start), end: Math.min(whole.end, subscription.cancel_at ?? whole.end) }
  const amount = prorateSpan(-discountedAmount(ctx, subscription, item, at), whole, period)
  if (amount === 0) return []
  return [
    {
      amount,
      period,
      quantity: item.quantity ?? null,
      details: { credited_items: creditedLines(ctx, item._.debits), discount_amounts: [] },
    },
  ]
}

function flexibleCredit(ctx: Ctx, { debit, amount, period }: Credit): ItemCredit {
  return {
    amount,
    period,
    quantity: debit.quantity,
    details: { credited_items: creditedLines(ctx, [debit]), discount_amounts: [] },
  }
}

/** What a credit names: the line that was debited; a pending item once it is on an invoice, as that invoice's line. */
function creditedLines(ctx: Ctx, debits: readonly Debit[]): ItemCredit['details']['credited_items'] {
  const last = debits.at(-1)
  if (last === undefined) return null
  const invoiced = last.invoiceItem === null ? null : (ctx.get('invoiceitem', last.invoiceItem)?.invoice ?? null)
  if (invoiced !== null) {
    const lines = ctx.get('invoice', invoiced)?._.lines ?? []
    const line = lines.find((candidate) => candidate.parent?.subscription_item_details?.invoice_item === last.invoiceItem)
    if (line !== undefined) {
      return { type: 'invoice_line_items', invoice_line_item_details: { invoice: invoiced, invoice_line_items: [line.id] } }
    }
  }
  if (last.invoice !== null) {
    return {
      type: 'invoice_line_items',
      invoice_line_item_details: { invoice: last.invoice, invoice_line_items: [...last.lines] },
    }
  }
  return last.invoiceItem === null ? null : { type: 'invoice_item', invoice_item: last.invoiceItem }
}

/**
 * The full period's amount of an item after its own discounts and its share of the subscription's. Classic mode splits an amount-off
 * of the subscription evenly over the items, flexible mode in proportion.
 * Source: docs.stripe.com/billing/subscriptions/billing-mode/compare.
 */
export function discountedAmount(ctx: Ctx, subscription: StoredSubscription, item: StoredSubscriptionItem, now: number): number {
  const input = { currency: subscription.currency, now }
  const items = subscription._.items.some((member) => member.id === item.id)
    ? subscription._.items.map((member) => (member.id === item.id ? item : member))
    : [...subscription._.items, item]
  const lines = items.map((member) => ({
    amount: fullAmountOf(ctx, member, subscription.currency),
    discountable: true,
    product: ctx.require('price', member.price).product,
    itemDiscounts: appliedDiscounts(ctx, member.discounts, input),
    itemKey: member.id,
  }))
  const position = items.findIndex((member) => member.id === item.id)
  const discounts = appliedDiscounts(ctx, inheritedDiscounts(ctx, subscription), input)
  const isClassic = subscription.billing_mode.type === 'classic'
  const spread = isClassic ? discounts.filter(({ reduction }) => reduction.kind === 'percent') : discounts
  const shares = applyDiscounts(lines, spread)[position] ?? []
  const own = (lines[position]?.amount ?? 0) - shares.reduce((sum, share) => sum + share.amount, 0)
  if (!isClassic) return own
  const even = discounts.reduce((sum, { reduction }) => {
    return sum + (reduction.kind === 'amount' ? Number(evenShares(BigInt(reduction.amount), items.length)[position] ?? 0n) : 0)
  }, 0)
  return Math.max(0, own - even)
}

/** Credits what is left of an item's period from an instant on, as pending items. What is billed by its use has nothing to credit. */
export function creditItem(
  ctx: Ctx,
  subscription: StoredSubscription,
  item: StoredSubscriptionItem,
  at: number,
  announce?: Announce,
): void {
  if (isMetered(ctx.require('price', item.price))) return
  for (const credit of creditsOfItem(ctx, subscription, item, at)) {
    createInvoiceItem(
      ctx,
      {
        ...prorationFields(ctx, subscription, item),
        amount: credit.amount,
        description: describeUnusedTime(describedProduct(ctx, item), credit.quantity, at),
        period: credit.period,
        quantity: credit.quantity ?? 1,
        prorationDetails: credit.details,
      },
      announce,
    )
  }
}
