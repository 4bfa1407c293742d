/** Invoice lines: made from subscription items, prorations, one-off prices and pending invoice items. */
import { type Decimal, decimalOf, formatDecimal } from '../../billing/decimal.ts'
import { describePart, describeTrial } from '../../billing/descriptions.ts'
import type { Span } from '../../billing/periods.ts'
import { priceParts, type PricePart } from '../../billing/pricing.ts'
import { prorateSpan } from '../../billing/proration.ts'
import type { Ctx } from '../../engine/context.ts'
import type { StoredLine, StoredSubscriptionItem } from '../../model/billing.ts'
import type { Stored } from '../../model/stored.ts'
import { describedPrice, isMetered, type StoredPrice, termsOf, unitAmountOf } from '../catalog/price-terms.ts'

/** What lines need to know of the subscription that they bill. */
export interface BilledSubscription {
  /** Null in a preview of one that does not exist. */
  readonly id: string | null
  readonly customer: string
  readonly currency: string
  readonly metadata: Readonly<Record<string, string>>
}

/** A price as lines and invoice items name it. */
export interface LinePrice {
  readonly id: string
  readonly product: string
  readonly unitAmountDecimal: string | null
}

interface LineFields {
  readonly amount: number
  readonly currency: string
  readonly description: string | null
  readonly discountable?: boolean
  readonly discounts?: readonly string[]
  readonly metadata?: Readonly<Record<string, string>>
  readonly parent: StoredLine['parent']
  readonly period: Span
  readonly price: LinePrice | null
  readonly quantity: Decimal | null
  readonly subscription: string | null
  readonly metered?: boolean
  readonly itemKey: string
  readonly taxRates: readonly string[]
  readonly debit?: boolean
  readonly taxBehavior?: string | null
  readonly taxCode?: string | null
}

export function pricingOf(price: LinePrice | null): StoredLine['pricing'] {
  if (price === null) return null
  const { id, product, unitAmountDecimal } = price
  return { type: 'price_details', price_details: { price: id, product }, unit_amount_decimal: unitAmountDecimal }
}

/** A line with its sums still open: totals are computed with the whole invoice. */
export function newLine(ctx: Ctx, fields: LineFields): StoredLine {
  const { price, quantity } = fields
  const isWhole = quantity !== null && quantity % decimalOf(1) === 0n
  return {
    id: ctx.newId('il', 24),
    object: 'line_item',
    amount: fields.amount,
    currency: fields.currency,
    description: fields.description,
    discount_amounts: [],
    discountable: fields.discountable ?? true,
    discounts: [...(fields.discounts ?? [])],
    invoice: null,
    livemode: false,
    metadata: { ...fields.metadata },
    parent: fields.parent,
    period: { start: fields.period.start, end: fields.period.end },
    pretax_credit_amounts: [],
    pricing: pricingOf(price),
    quantity: isWhole ? Number(formatDecimal(quantity)) : null,
    quantity_decimal: quantity === null ? null : formatDecimal(quantity),
    subscription: fields.subscription,
    subtotal: fields.amount,
    taxes: [],
    _: {
      product: price?.product ?? null,
      metered: fields.metered ?? false,
      itemKey: fields.itemKey,
      taxRates: fields.taxRates,
      debit: fields.debit ?? false,
      taxAmounts: null,
      ...(fields.taxBehavior == null ? {} : { taxBehavior: fields.taxBehavior }),
      ...(fields.taxCode == null ? {} : { taxCode: fields.taxCode }),
    },
  }
}

type ItemParent = NonNullable<NonNullable<StoredLine['parent']>['subscription_item_details']>

function itemParent(
  owner: BilledSubscription,
  item: StoredSubscriptionItem,
  details: Partial<ItemParent> = {},
): StoredLine['parent'] {
  return {
    type: 'subscription_item_details',
    invoice_item_details: null,
    subscription_item_details: {
      invoice_item: null,
      proration: false,
      proration_details: { credited_items: null },
      subscription: owner.id,
      subscription_item: item.id,
      ...details,
    },
  }
}

/**
 * The lines of an item for a period, in advance: one per part of its price. With `of`, the period is a part of that whole
 * period, and each amount is prorated.
 */
export function licensedLines(
  ctx: Ctx,
  owner: BilledSubscription,
  item: StoredSubscriptionItem,
  period: Span,
  of?: Span,
): StoredLine[] {
  const price = ctx.require('price', item.price)
  const described = describedPrice(ctx, price, owner.currency)
  return priceParts(termsOf(price, owner.currency), decimalOf(item.quantity ?? 1)).map((part) =>
    newLine(ctx, {
      ...itemLineFields(owner, item, price, part),
      amount: of === undefined ? part.amount : prorateSpan(part.amount, of, period),
      description: describePart(described, part),
      parent: itemParent(owner, item, { proration: of !== undefined }),
      period,
      debit: true,
    }),
  )
}

/** The lines of a metered item for a period that is over. */
export function meteredLines(
  ctx: Ctx,
  owner: BilledSubscription,
  item: StoredSubscriptionItem,
  usage: { readonly period: Span; readonly quantity: Decimal },
): StoredLine[] {
  const price = ctx.require('price', item.price)
  const described = describedPrice(ctx, price, owner.currency)
  return priceParts(termsOf(price, owner.currency), usage.quantity).map((part) =>
    newLine(ctx, {
      ...itemLineFields(owner, item, price, part),
      amount: part.amount,
      description: describePart(described, part),
      parent: itemParent(owner, item),
      period: usage.period,
      metered: true,
    }),
  )
}

/** The line of a trial: nothing to pay. */
export function trialLine(ctx: Ctx, owner: BilledSubscription, item: StoredSubscriptionItem, period: Span): StoredLine {
  const price = ctx.require('price', item.price)
  const quantity = decimalOf(item.quantity ?? 1)
  return newLine(ctx, {
    ...itemLineFields(owner, item, price, { quantity, unitAmountDecimal: '0', amount: 0, tier: null, flat: false }),
    amount: 0,
    description: describeTrial(describedPrice(ctx, price, owner.currency).product, quantity),
    parent: itemParent(owner, item),
    period,
  })
}

function itemLineFields(
  owner: BilledSubscription,
  item: StoredSubscriptionItem,
  price: StoredPrice,
  part: PricePart,
): Pick<LineFields, 'currency' | 'discounts' | 'itemKey' | 'metadata' | 'price' | 'quantity' | 'subscription' | 'taxRates'> {
  return {
    currency: owner.currency,
    discounts: item.discounts,
    itemKey: item.id,
    metadata: { ...owner.metadata, ...item.metadata },
    price: { id: price.id, product: price.product, unitAmountDecimal: part.unitAmountDecimal },
    quantity: part.quantity,
    subscription: owner.id,
    taxRates: item.tax_rates,
  }
}

/** The line that a pending invoice item becomes. */
export function lineOfInvoiceItem(ctx: Ctx, item: Stored<'invoiceitem'>): StoredLine {
  const details = item.parent?.subscription_details ?? null
  const credited = creditedItems(item)
  const parent: StoredLine['parent'] =
    details?.subscription_item === undefined
      ? {
          type: 'invoice_item_details',
          subscription_item_details: null,
          invoice_item_details: {
            invoice_item: item.id,
            proration: item.proration,
            proration_details: { credited_items: credited },
            subscription: details?.subscription ?? null,
          },
        }
      : {
          type: 'subscription_item_details',
          invoice_item_details: null,
          subscription_item_details: {
            invoice_item: item.id,
            proration: item.proration,
            proration_details: { credited_items: credited },
            subscription: details.subscription,
            subscription_item: details.subscription_item,
          },
        }
  const pricing = item.pricing?.price_details
  return newLine(ctx, {
    amount: item.amount,
    currency: item.currency,
    description: item.description,
    discountable: item.discountable,
    discounts: item.discounts ?? [],
    metadata: item.metadata ?? {},
    parent,
    period: item.period,
    price:
      pricing === undefined
        ? null
        : { id: pricing.price, product: pricing.product, unitAmountDecimal: item.pricing?.unit_amount_decimal ?? null },
    quantity: decimalOf(item.quantity),
    subscription: details?.subscription ?? null,
    metered: item._.metered,
    itemKey: item.id,
    taxRates: item.tax_rates,
    debit: item.proration && item.amount > 0,
    taxBehavior: item._.taxBehavior,
    taxCode: item._.taxCode,
  })
}

function creditedItems(item: Stored<'invoiceitem'>): { invoice: string; invoice_line_items: string[] } | null {
  return item.proration_details?.credited_items?.invoice_line_item_details ?? null
}

/** The whole amount of an item for a full period, in minor units; 0 for a metered one. */
export function fullAmountOf(ctx: Ctx, item: StoredSubscriptionItem, currency: string): number {
  const price = ctx.require('price', item.price)
  if (isMetered(price)) return 0
  return priceParts(termsOf(price, currency), decimalOf(item.quantity ?? 1)).reduce((sum, part) => sum + part.amount, 0)
}

/** The unit amount that a proration of an item shows. */
export function unitAmountOfItem(ctx: Ctx, item: StoredSubscriptionItem, currency: string): string | null {
  return unitAmountOf(ctx.require('price', item.price), currency)
}
