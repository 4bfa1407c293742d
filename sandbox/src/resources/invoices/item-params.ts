/** Invoice items from parameters: an amount, a price, or a price described in place. */
import { decimal, DECIMAL_SCALE } from '../../billing/decimal.ts'
import { roundLineAmount } from '../../billing/inferred.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, missing } from '../../engine/errors.ts'
import { mergeMetadata, type MetadataParam } from '../../engine/metadata.ts'
import { type DiscountParam, redeemDiscounts } from '../catalog/discount-rules.ts'
import { amountOf, unitAmountOf } from '../catalog/price-terms.ts'
import { checkedTaxRates, resolvePrice } from '../subscriptions/items-params.ts'
import { createInvoiceItem, type NewInvoiceItem, quantityPair, type StoredInvoiceItem } from './item-store.ts'

/** What create, update and previews of invoice items share. */
export interface InvoiceItemParam {
  readonly amount?: number
  readonly currency?: string
  readonly description?: string
  readonly discountable?: boolean
  readonly discounts?: '' | readonly DiscountParam[]
  readonly metadata?: MetadataParam
  readonly period?: { start: number; end: number }
  readonly price?: string
  readonly price_data?: {
    currency: string
    product: string
    tax_behavior?: 'exclusive' | 'inclusive' | 'unspecified'
    unit_amount?: number
    unit_amount_decimal?: string
  }
  readonly quantity?: number
  readonly quantity_decimal?: string
  readonly tax_behavior?: string
  readonly tax_code?: string
  readonly tax_rates?: '' | readonly string[]
  readonly unit_amount?: number
  readonly unit_amount_decimal?: string
}

/** The currency that an item names, else its customer's. */
export function firstCurrencyOf(ctx: Ctx, customer: string, param: InvoiceItemParam): string {
  const named = param.currency ?? param.price_data?.currency
  const price = param.price === undefined ? undefined : ctx.get('price', param.price)
  const bound = ctx.get('customer', customer)?.currency ?? null
  return (
    named?.toLowerCase() ??
    (bound !== null && (price === undefined || price.currency_options?.[bound] !== undefined)
      ? bound
      : (price?.currency ?? 'usd'))
  )
}

/** Amount, quantity and price of an item. Exactly one of `amount`, `price`, `price_data`, `unit_amount(_decimal)` decides. */
export function pricedItem(
  ctx: Ctx,
  param: InvoiceItemParam,
  currency: string,
  at: string,
): Pick<NewInvoiceItem, 'amount' | 'price' | 'quantity' | 'quantityDecimal'> & { readonly name: string | null } {
  const quantity = quantityPair(param.quantity, param.quantity_decimal)
  const exact = decimal(quantity.quantityDecimal)
  const price = resolvePrice(ctx, param, at)
  if (price !== null) {
    if (price.recurring !== null) {
      throw invalidRequest(
        'The price specified is set to `type=recurring` but this field only accepts prices with `type=one_time`.',
        {
          param: at === '' ? 'pricing[price]' : `${at}[price]`,
        },
      )
    }
    return {
      ...quantity,
      amount: amountOf(price, currency, exact),
      price: { id: price.id, product: price.product, unitAmountDecimal: unitAmountOf(price, currency) },
      name: ctx.get('product', price.product)?.name ?? null,
    }
  }
  const unit = param.unit_amount_decimal ?? (param.unit_amount === undefined ? undefined : `${param.unit_amount}`)
  if (unit !== undefined) {
    return { ...quantity, amount: roundLineAmount(decimal(unit) * exact, DECIMAL_SCALE * DECIMAL_SCALE), price: null, name: null }
  }
  if (param.amount === undefined) throw missing('amount')
  if (param.quantity !== undefined || param.quantity_decimal !== undefined) {
    throw invalidRequest('You may only specify one of these parameters: amount, quantity.', { param: 'quantity' })
  }
  return { quantity: 1, quantityDecimal: '1', amount: param.amount, price: null, name: null }
}

/** Stores a pending invoice item (or one on a draft). */
export function addOneOffInvoiceItem(
  ctx: Ctx,
  param: InvoiceItemParam,
  owner: { customer: string; subscription: string | null; currency: string; at: string; invoice?: string | null },
): StoredInvoiceItem {
  const id = ctx.newId('ii', 24)
  const now = ctx.now(owner.customer)
  const { name, ...priced } = pricedItem(ctx, param, owner.currency, owner.at)
  const discounts = param.discounts === '' ? [] : (param.discounts ?? [])
  return createInvoiceItem(
    ctx,
    {
      ...priced,
      customer: owner.customer,
      currency: owner.currency,
      description: param.description ?? name,
      period: param.period ?? { start: now, end: now },
      subscription: owner.subscription,
      discountable: param.discountable ?? priced.amount >= 0,
      discounts: redeemDiscounts(ctx, discounts, { customer: owner.customer, currency: owner.currency, invoiceItem: id }),
      taxRates: checkedTaxRates(ctx, param.tax_rates ?? []),
      taxBehavior: param.tax_behavior ?? null,
      taxCode: param.tax_code || null,
      metadata: mergeMetadata({}, param.metadata),
      invoice: owner.invoice ?? null,
    },
    undefined,
    id,
  )
}
