import { defined } from '../engine/answer.ts'
import type { Ctx } from '../engine/context.ts'
import { invalidRequest } from '../engine/errors.ts'
import { mergeMetadata } from '../engine/metadata.ts'
import type { CheckoutItem } from '../model/payments.ts'
import type { Stored } from '../model/stored.ts'
import { createPrice } from '../resources/catalog/price-create.ts'
import { isMetered } from '../resources/catalog/price-terms.ts'
import type { Params } from '../wire.gen.ts'

type LineItems = NonNullable<Params['POST /v1/checkout/sessions']['line_items']>
type LineItem = LineItems[number]
type Mode = Stored<'checkout.session'>['mode']

const maximumItems = 100

/** A price made for this session alone: inactive, so that nothing else is sold at it. */
function inlinePrice(ctx: Ctx, data: NonNullable<LineItem['price_data']>): Stored<'price'> {
  return createPrice(
    ctx,
    defined({
      active: false,
      currency: data.currency,
      product: data.product,
      product_data: data.product_data && defined({ ...data.product_data, tax_details: undefined }),
      recurring: data.recurring,
      tax_behavior: data.tax_behavior,
      unit_amount: data.unit_amount,
      unit_amount_decimal: data.unit_amount_decimal,
    }),
  )
}

function priceOf(ctx: Ctx, item: LineItem, at: string): Stored<'price'> {
  if (item.price !== undefined && item.price_data !== undefined) {
    throw invalidRequest('You may only specify one of these parameters: price, price_data.', {
      param: at,
      code: 'parameters_exclusive',
    })
  }
  if (item.price_data !== undefined) return inlinePrice(ctx, item.price_data)
  if (item.price === undefined) {
    throw invalidRequest('You must specify either `price` or `price_data` when using prices.', {
      param: at,
      code: 'parameter_missing',
    })
  }
  const price = ctx.require('price', item.price, `${at}[price]`)
  if (price.active) return price
  throw invalidRequest('The price specified is inactive. This field only accepts active prices.', { param: `${at}[price]` })
}

function quantityOf(item: LineItem, price: Stored<'price'>, at: string): number {
  const param = `${at}[quantity]`
  if (isMetered(price)) {
    if (item.quantity === undefined) return 0
    throw invalidRequest(`Quantity should not be specified where usage_type is \`metered\`. Remove \`quantity\` from \`${at}\``, {
      param,
    })
  }
  if (item.quantity === undefined)
    throw invalidRequest(`Quantity is required. Add \`quantity\` to \`${at}\``, { param, code: 'parameter_missing' })
  if (item.quantity < 1) {
    throw invalidRequest('This value must be greater than or equal to 1.', { param, code: 'parameter_invalid_integer' })
  }
  return item.quantity
}

function makeItem(ctx: Ctx, item: LineItem, index: number): CheckoutItem {
  const at = `line_items[${index}]`
  const price = priceOf(ctx, item, at)
  const adjustable = item.adjustable_quantity
  for (const rate of item.tax_rates ?? []) ctx.require('tax_rate', rate, `${at}[tax_rates]`)
  return {
    id: ctx.newId('li', 24),
    price: price.id,
    quantity: quantityOf(item, price, at),
    adjustable:
      adjustable === undefined
        ? null
        : { enabled: adjustable.enabled, maximum: adjustable.maximum ?? null, minimum: adjustable.minimum ?? null },
    metadata: mergeMetadata({}, item.metadata),
    taxRates: item.tax_rates ?? [],
  }
}

function requireKindOfPrices(ctx: Ctx, mode: Mode, items: readonly CheckoutItem[]): void {
  const recurring = items.filter((item) => ctx.require('price', item.price).recurring !== null)
  if (mode === 'payment' && recurring.length > 0) {
    const words = 'You specified `payment` mode but passed a recurring price.'
    throw invalidRequest(`${words} Either switch to \`subscription\` mode or use only one-time prices.`, { param: 'mode' })
  }
  if (mode === 'subscription' && recurring.length === 0) {
    throw invalidRequest('You must provide at least one recurring price in `subscription` mode when using prices.', {
      param: 'line_items',
    })
  }
}

/** The currency of a session: that which was asked for, else the first price's; every price must know it. */
function currencyOf(ctx: Ctx, items: readonly CheckoutItem[], asked: string | undefined): string {
  const prices = items.map((item) => ctx.require('price', item.price))
  const currency = asked?.toLowerCase() ?? prices[0]?.currency ?? ''
  for (const [index, price] of prices.entries()) {
    if (price.currency === currency || price.currency_options?.[currency] !== undefined) continue
    throw invalidRequest('All line items must be in the same currency.', { param: `line_items[${index}][price]` })
  }
  return currency
}

/** Checks the line items of a session and makes the prices given inline. Throws Stripe's errors. */
export function makeItems(
  ctx: Ctx,
  input: { readonly mode: Mode; readonly lineItems: LineItems | undefined; readonly currency: string | undefined },
): { readonly items: readonly CheckoutItem[]; readonly currency: string | null } {
  if (input.mode === 'setup') {
    if (input.lineItems === undefined) return { currency: input.currency?.toLowerCase() ?? null, items: [] }
    throw invalidRequest('`line_items` are not supported in `setup` mode.', { param: 'line_items' })
  }
  if (input.lineItems === undefined || input.lineItems.length === 0) {
    throw invalidRequest('The `line_items` parameter is required in payment mode.'.replace('payment', input.mode), {
      param: 'line_items',
      code: 'parameter_missing',
    })
  }
  if (input.lineItems.length > maximumItems) {
    throw invalidRequest(`You may not pass more than ${maximumItems} line items.`, { param: 'line_items' })
  }
  const items = input.lineItems.map((item, index) => makeItem(ctx, item, index))
  requireKindOfPrices(ctx, input.mode, items)
  return { currency: currencyOf(ctx, items, input.currency), items }
}
