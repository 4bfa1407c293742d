/** Items of a subscription, from the parameters that name them. */
import { type Anchor, boundary, type Interval, periodContaining, type Span } from '../../billing/periods.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, missing } from '../../engine/errors.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import type { StoredSubscriptionItem } from '../../model/billing.ts'
import type { Params } from '../../wire.gen.ts'
import { type DiscountParam, redeemDiscounts } from '../catalog/discount-rules.ts'
import { createPrice } from '../catalog/price-create.ts'
import { isMetered, recurrenceOf, type StoredPrice } from '../catalog/price-terms.ts'
import { requireCurrency } from '../customers/customer-balance.ts'
import type { StoredSubscription } from './stored.ts'

export type NewItemParam = NonNullable<Params['POST /v1/subscriptions']['items']>[number]

interface PriceParam {
  readonly price?: string
  readonly plan?: string
  readonly price_data?: {
    currency: string
    product: string
    recurring?: { interval: Interval; interval_count?: number }
    tax_behavior?: 'exclusive' | 'inclusive' | 'unspecified'
    unit_amount?: number
    unit_amount_decimal?: string
  }
}

/** The price that a parameter names or describes; an inline price is made, inactive, as on Stripe. */
export function resolvePrice(ctx: Ctx, param: PriceParam, at: string): StoredPrice | null {
  const given = [param.price, param.plan, param.price_data].filter((value) => value !== undefined)
  if (given.length > 1) throw invalidRequest('You may only specify one of these parameters: price, price_data.', { param: at })
  if (param.price_data !== undefined) return createPrice(ctx, { ...param.price_data, active: false })
  const id = param.price ?? param.plan
  if (id === undefined) return null
  const price = ctx.require('price', id, `${at}[price]`)
  if (!price.active) {
    throw invalidRequest('The price specified is inactive. This field only accepts active prices.', { param: `${at}[price]` })
  }
  return price
}

/** The same, for a place that takes recurring prices only. */
export function resolveRecurringPrice(ctx: Ctx, param: PriceParam, at: string): StoredPrice | null {
  const price = resolvePrice(ctx, param, at)
  if (price !== null && price.recurring === null) {
    throw invalidRequest(
      'The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`.',
      { param: `${at}[price]` },
    )
  }
  return price
}

export interface ItemOwner {
  readonly id: string
  readonly customer: string
  readonly currency: string
}

/** A new item. Its period is set by the caller. */
export function newItem(ctx: Ctx, param: NewItemParam, owner: ItemOwner, at: string): StoredSubscriptionItem {
  const price = resolveRecurringPrice(ctx, param, at)
  if (price === null) throw missing(`${at}[price]`)
  const id = ctx.newId('si')
  const now = ctx.now(owner.customer)
  return {
    id,
    object: 'subscription_item',
    billing_thresholds: null,
    created: now,
    current_period_end: now,
    current_period_start: now,
    current_trial: null,
    discounts: itemDiscounts(ctx, param.discounts ?? [], owner, id),
    metadata: mergeMetadata({}, param.metadata),
    price: price.id,
    ...quantityOf(price, param.quantity, at),
    subscription: owner.id,
    tax_rates: checkedTaxRates(ctx, param.tax_rates ?? []),
    _: { debits: [] },
  }
}

/** The discounts of an item; `''` is none. */
export function itemDiscounts(ctx: Ctx, params: '' | readonly DiscountParam[], owner: ItemOwner, item: string): string[] {
  const redeemed = params === '' ? [] : params
  return redeemDiscounts(ctx, redeemed, { customer: owner.customer, currency: owner.currency, subscriptionItem: item })
}

/** Licensed items have a quantity, 1 unless told; metered ones have none. */
export function quantityOf(price: StoredPrice, quantity: number | undefined, at: string): { quantity?: number } {
  if (isMetered(price)) {
    if (quantity !== undefined) {
      throw invalidRequest('You cannot set the quantity for a metered price.', { param: `${at}[quantity]` })
    }
    return {}
  }
  if (quantity !== undefined && quantity < 0) {
    throw invalidRequest('This value must be greater than or equal to 0.', {
      param: `${at}[quantity]`,
      code: 'parameter_invalid_integer',
    })
  }
  return { quantity: quantity ?? 1 }
}

/** Tax rates must exist. */
export function checkedTaxRates(ctx: Ctx, rates: '' | readonly string[]): string[] {
  if (rates === '') return []
  return rates.map((rate) => ctx.require('tax_rate', rate, 'tax_rates').id)
}

const MAX_ITEMS = { classic: 20, flexible: 100 } as const

/** Rules about a subscription's items together. Source: docs.stripe.com/billing/subscriptions/multiple-products. */
export function checkItems(
  ctx: Ctx,
  items: readonly StoredSubscriptionItem[],
  mode: 'classic' | 'flexible',
  currency: string,
): void {
  if (items.length === 0) {
    throw invalidRequest('A subscription must have at least one active item. To cancel it, cancel the subscription instead.', {
      param: 'items',
    })
  }
  if (items.length > MAX_ITEMS[mode]) {
    throw invalidRequest(`A subscription can have at most ${MAX_ITEMS[mode]} items.`, { param: 'items' })
  }
  const prices = items.map((item) => ctx.require('price', item.price))
  for (const price of prices) checkCurrency(price, currency)
  if (new Set(prices.map((price) => price.id)).size < prices.length) {
    throw invalidRequest('Cannot add multiple subscription items with the same price. Use `quantity` instead.', {
      param: 'items',
    })
  }
  const intervals = new Set(prices.map((price) => JSON.stringify(recurrenceOf(price))))
  if (mode === 'classic' && intervals.size > 1) {
    throw invalidRequest(
      'Currently, all items on a subscription in classic billing mode must have the same recurring interval.',
      { param: 'items' },
    )
  }
}

function checkCurrency(price: StoredPrice, currency: string): void {
  if (price.currency === currency || price.currency_options?.[currency] !== undefined) return
  throw invalidRequest(
    `The price \`${price.id}\` only supports \`${price.currency}\`. This doesn't match the expected currency: \`${currency}\`.`,
    { param: 'items' },
  )
}

/** The currency of a new subscription: the one asked for, else the customer's where the price has it, else the price's. */
export function subscriptionCurrency(ctx: Ctx, customerId: string, price: StoredPrice, asked: string | undefined): string {
  const customer = ctx.require('customer', customerId)
  const bound = customer.currency ?? null
  const own = bound !== null && price.currency_options?.[bound] !== undefined ? bound : price.currency
  const currency = asked?.toLowerCase() ?? own
  requireCurrency(customer, currency)
  return currency
}

/** The anchor of a subscription's periods. */
export function anchorOf(subscription: StoredSubscription): Anchor {
  return { at: subscription.billing_cycle_anchor, dayOfMonth: subscription._.anchorDay ?? undefined }
}

/** The whole period of an item that holds an instant. */
export function itemPeriod(ctx: Ctx, anchor: Anchor, item: StoredSubscriptionItem, at: number): Span {
  return periodContaining(anchor, recurrenceOf(ctx.require('price', item.price)), at)
}

/** An item with its period set. */
export function withPeriod(item: StoredSubscriptionItem, period: Span): StoredSubscriptionItem {
  return { ...item, current_period_start: period.start, current_period_end: period.end }
}

/**
 * A metered item that counts from now on: one that is added or re-priced within a period bills no usage of before.
 * Source: docs.stripe.com/billing/subscriptions/usage-based/manage-billing-setup (update prices mid-cycle).
 */
export function countingFrom(ctx: Ctx, item: StoredSubscriptionItem, now: number): StoredSubscriptionItem {
  return isMetered(ctx.require('price', item.price)) ? { ...item, _: { ...item._, usageFrom: now } } : item
}

/** The first instant, counted from a start, at which some item would be billed again. */
export function naturalBillingDate(ctx: Ctx, items: readonly StoredSubscriptionItem[], start: number): number {
  return Math.min(...items.map((item) => boundary({ at: start }, recurrenceOf(ctx.require('price', item.price)), 1)))
}

/** The earliest end of the items' periods: the next renewal. */
export function nextRenewalOf(items: readonly StoredSubscriptionItem[]): number {
  return Math.min(...items.map((item) => item.current_period_end))
}

/** The latest end of the items' periods. */
export function lastPeriodEndOf(items: readonly StoredSubscriptionItem[]): number {
  return Math.max(...items.map((item) => item.current_period_end))
}

/** The span that the periods of all items share. */
export function sharedPeriodOf(items: readonly StoredSubscriptionItem[]): Span {
  const start = Math.max(...items.map((item) => item.current_period_start))
  return { start, end: Math.max(start, nextRenewalOf(items)) }
}
