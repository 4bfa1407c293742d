/** Invoice items: stored until an invoice takes them. */
import { decimal, decimalOf, formatDecimal } from '../../billing/decimal.ts'
import type { Span } from '../../billing/periods.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest } from '../../engine/errors.ts'
import { mergeMetadata, type MetadataParam } from '../../engine/metadata.ts'
import type { StoredLine } from '../../model/billing.ts'
import type { Stored } from '../../model/stored.ts'
import type { Params } from '../../wire.gen.ts'
import { type Announce, announceNow } from '../announce.ts'
import { redeemDiscounts, type DiscountParam } from '../catalog/discount-rules.ts'
import { amountOf, unitAmountOf, type StoredPrice } from '../catalog/price-terms.ts'
import { checkedTaxRates, resolvePrice } from '../subscriptions/items-params.ts'
import { lineOfInvoiceItem, type LinePrice, pricingOf } from './lines.ts'

export type StoredInvoiceItem = Stored<'invoiceitem'>

export interface NewInvoiceItem {
  readonly customer: string
  readonly currency: string
  readonly amount: number
  readonly description: string | null
  readonly period: Span
  readonly quantity: number
  readonly price: LinePrice | null
  readonly subscription: string | null
  readonly subscriptionItem?: string
  readonly proration?: boolean
  readonly prorationDetails?: NonNullable<StoredInvoiceItem['proration_details']>
  readonly discountable?: boolean
  readonly discounts?: readonly string[]
  readonly taxRates?: readonly string[]
  readonly taxBehavior?: string | null
  readonly taxCode?: string | null
  readonly metadata?: Record<string, string>
  readonly invoice?: string | null
  readonly quantityDecimal?: string
}

/** Stores an invoice item and announces it. */
export function createInvoiceItem(
  ctx: Ctx,
  item: NewInvoiceItem,
  announce: Announce = announceNow(ctx),
  id = ctx.newId('ii', 24),
): StoredInvoiceItem {
  const customer = ctx.require('customer', item.customer)
  if ((customer.currency ?? null) === null) ctx.change('customer', customer.id, { currency: item.currency }, 'customer.updated')
  const created = ctx.create('invoiceitem', {
    id,
    object: 'invoiceitem',
    amount: item.amount,
    currency: item.currency,
    customer: item.customer,
    customer_account: null,
    date: ctx.now(item.customer),
    description: item.description,
    discountable: item.discountable ?? true,
    discounts: [...(item.discounts ?? [])],
    invoice: item.invoice ?? null,
    livemode: false,
    metadata: item.metadata ?? {},
    net_amount: item.amount,
    parent: parentOf(item),
    period: { start: item.period.start, end: item.period.end },
    pricing: pricingOf(item.price),
    proration: item.proration ?? false,
    ...(item.prorationDetails === undefined ? {} : { proration_details: item.prorationDetails }),
    quantity: item.quantity,
    quantity_decimal: item.quantityDecimal ?? `${item.quantity}`,
    tax_rates: item.taxRates ?? [],
    test_clock: customer.test_clock ?? null,
    _: {
      subscription: item.subscription,
      product: item.price?.product ?? null,
      metered: false,
      taxBehavior: item.taxBehavior ?? null,
      taxCode: item.taxCode ?? null,
    },
  })
  announce('invoiceitem.created', created)
  return created
}

function parentOf(item: NewInvoiceItem): StoredInvoiceItem['parent'] {
  if (item.subscription === null) return null
  return {
    type: 'subscription_details',
    subscription_details: {
      subscription: item.subscription,
      ...(item.subscriptionItem === undefined ? {} : { subscription_item: item.subscriptionItem }),
    },
  }
}

/** Items that the next invoice of a subscription (or, with null, of the customer alone) takes, oldest first. */
export function pendingItems(
  ctx: Ctx,
  customer: string,
  options: { subscription: string | null; currency: string },
): StoredInvoiceItem[] {
  return ctx.store.by('invoiceitem', 'pending', customer).filter((item) => {
    const fits = item._.subscription === null || item._.subscription === options.subscription
    return fits && item.currency === options.currency
  })
}

/** Lines of items that an invoice takes; `attachItems` then ties them to it. */
export function linesOfItems(ctx: Ctx, items: readonly StoredInvoiceItem[]): StoredLine[] {
  return items.map((item) => lineOfInvoiceItem(ctx, item))
}

/** Ties items to the invoice that took them. */
export function attachItems(ctx: Ctx, items: readonly StoredInvoiceItem[], invoice: string): void {
  for (const item of items) ctx.update('invoiceitem', item.id, { invoice })
}

type AddInvoiceItem = NonNullable<Params['POST /v1/subscriptions']['add_invoice_items']>[number]

/** `add_invoice_items` of a subscription: one-off items for its next invoice. */
export function addOneOffItems(
  ctx: Ctx,
  params: readonly AddInvoiceItem[],
  owner: { customer: string; subscription: string; currency: string; period: Span },
  announce: Announce,
): StoredInvoiceItem[] {
  return params.map((param, index) => {
    const at = `add_invoice_items[${index}]`
    const price = resolvePrice(ctx, param, at)
    if (price === null)
      throw invalidRequest(`Missing required param: ${at}[price].`, { param: `${at}[price]`, code: 'parameter_missing' })
    if (price.recurring !== null) {
      throw invalidRequest(
        'The price specified is set to `type=recurring` but this field only accepts prices with `type=one_time`.',
        {
          param: `${at}[price]`,
        },
      )
    }
    const period = oneOffPeriod(param.period, owner.period, ctx.now(owner.customer))
    return oneOffItem(ctx, { ...param, price }, { ...owner, period }, announce)
  })
}

/** From the latest start to the earliest end of the items' periods, unless told otherwise. */
function oneOffPeriod(param: AddInvoiceItem['period'], item: Span, now: number): Span {
  if (param === undefined) return item
  const start = param.start.type === 'timestamp' ? (param.start.timestamp ?? now) : param.start.type === 'now' ? now : item.start
  const end = param.end.type === 'timestamp' ? (param.end.timestamp ?? now) : item.end
  return { start, end }
}

interface OneOffFields {
  readonly price: StoredPrice
  readonly quantity?: number
  readonly discountable?: boolean
  readonly discounts?: '' | readonly DiscountParam[]
  readonly metadata?: MetadataParam
  readonly tax_rates?: '' | readonly string[]
}

function oneOffItem(
  ctx: Ctx,
  param: OneOffFields,
  owner: { customer: string; subscription: string | null; currency: string; period: Span },
  announce: Announce,
): StoredInvoiceItem {
  const { price } = param
  const id = ctx.newId('ii', 24)
  const quantity = param.quantity ?? 1
  const discounts = param.discounts === '' ? [] : (param.discounts ?? [])
  return createInvoiceItem(
    ctx,
    {
      customer: owner.customer,
      currency: owner.currency,
      amount: amountOf(price, owner.currency, quantity),
      description: ctx.get('product', price.product)?.name ?? null,
      period: owner.period,
      quantity,
      price: { id: price.id, product: price.product, unitAmountDecimal: unitAmountOf(price, owner.currency) },
      subscription: owner.subscription,
      discountable: param.discountable ?? true,
      discounts: redeemDiscounts(ctx, discounts, { customer: owner.customer, currency: owner.currency, invoiceItem: id }),
      taxRates: checkedTaxRates(ctx, param.tax_rates ?? []),
      metadata: mergeMetadata({}, param.metadata),
    },
    announce,
    id,
  )
}

/** A quantity as text with up to twelve places, and the whole number that older fields show. */
export function quantityPair(
  quantity: number | undefined,
  text: string | undefined,
): { quantity: number; quantityDecimal: string } {
  if (text === undefined) return { quantity: quantity ?? 1, quantityDecimal: formatDecimal(decimalOf(quantity ?? 1)) }
  const exact = formatDecimal(decimal(text))
  return { quantity: Math.trunc(Number(exact)), quantityDecimal: exact }
}
