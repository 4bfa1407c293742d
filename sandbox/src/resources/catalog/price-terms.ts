/** From stored prices to the terms that the billing rules compute with. */
import { decimalOf, type Decimal } from '../../billing/decimal.ts'
import type { DescribedPrice } from '../../billing/descriptions.ts'
import type { Recurrence } from '../../billing/periods.ts'
import { priceAmount, type PriceTerms } from '../../billing/pricing.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest } from '../../engine/errors.ts'
import type { Stored } from '../../model/stored.ts'

export type StoredPrice = Stored<'price'>

/** The terms of a price in a currency: its own, or one of its `currency_options`. */
export function termsOf(price: StoredPrice, currency: string): PriceTerms {
  const amounts = price.currency === currency ? price : price.currency_options?.[currency]
  if (amounts === undefined) {
    throw invalidRequest(`The price ${price.id} does not have a currency option for ${currency}.`, { param: 'currency' })
  }
  if (price.billing_scheme === 'per_unit') {
    const transform = price.transform_quantity
    return {
      scheme: 'per_unit',
      unitAmountDecimal: amounts.unit_amount_decimal ?? `${amounts.unit_amount ?? 0}`,
      transformQuantity: transform === null ? null : { divideBy: transform.divide_by, round: transform.round },
    }
  }
  const tiers = (amounts.tiers ?? []).map((tier) => ({
    upTo: tier.up_to,
    unitAmountDecimal: tier.unit_amount_decimal,
    flatAmountDecimal: tier.flat_amount_decimal,
  }))
  return { scheme: 'tiered', mode: price.tiers_mode ?? 'graduated', tiers }
}

/** How often a recurring price is billed. Throws Stripe's error for a one-time price. */
export function recurrenceOf(price: StoredPrice): Recurrence {
  if (price.recurring === null) throw new Error(`Price ${price.id} does not recur`)
  return { interval: price.recurring.interval, count: price.recurring.interval_count }
}

/** Whether usage decides the quantity. */
export function isMetered(price: StoredPrice): boolean {
  return price.recurring?.usage_type === 'metered'
}

/** What invoice lines say about a price. */
export function describedPrice(ctx: Ctx, price: StoredPrice, currency: string): DescribedPrice {
  return {
    product: ctx.get('product', price.product)?.name ?? price.product,
    currency,
    recurrence: price.recurring === null ? null : recurrenceOf(price),
    tieredMode: price.billing_scheme === 'tiered' ? price.tiers_mode : null,
    divideBy: price.transform_quantity?.divide_by ?? null,
  }
}

/** The whole cost of a licensed quantity in minor units. */
export function amountOf(price: StoredPrice, currency: string, quantity: number | Decimal): number {
  return priceAmount(termsOf(price, currency), typeof quantity === 'number' ? decimalOf(quantity) : quantity)
}

/** The unit amount that lines show: null for tiered prices. */
export function unitAmountOf(price: StoredPrice, currency: string): string | null {
  const terms = termsOf(price, currency)
  return terms.scheme === 'per_unit' ? terms.unitAmountDecimal : null
}
