/** The words of invoice lines. Source: invoices shown in docs.stripe.com/invoicing and docs.stripe.com/billing/subscriptions/prorations. */
import { formatAmount } from './currencies.ts'
import { type Decimal, formatDecimal } from './decimal.ts'
import { graduatedLineLabel } from './inferred.ts'
import type { Recurrence } from './periods.ts'
import type { PricePart } from './pricing.ts'

export interface DescribedPrice {
  /** The product's name. */
  readonly product: string
  readonly currency: string
  /** Null for a one-time price. */
  readonly recurrence: Recurrence | null
  readonly tieredMode: 'graduated' | 'volume' | null
  readonly divideBy: number | null
}

/** `/ month`, `every 3 months`. */
export function describeRecurrence({ interval, count }: Recurrence): string {
  return count === 1 ? `/ ${interval}` : `every ${count} ${interval}s`
}

/** `1 × Pro (at $29.00 / month)`; a one-time price shows the product's name alone. */
export function describePart(price: DescribedPrice, part: PricePart): string {
  if (price.recurrence === null) return price.product
  const rate = `${rateText(price, part)} ${describeRecurrence(price.recurrence)}`
  return `${describeQuantity(part.quantity)} × ${price.product} (${tierText(price, part)}at ${rate})`
}

function rateText(price: DescribedPrice, part: PricePart): string {
  const amount = formatAmount(part.unitAmountDecimal, price.currency)
  return price.divideBy === null ? amount : `${amount} per ${price.divideBy} units`
}

function tierText(price: DescribedPrice, part: PricePart): string {
  if (part.tier === null) return ''
  return price.tieredMode === 'graduated' || part.flat ? `${graduatedLineLabel(part.tier, part.flat)} ` : ''
}

/** `Free trial for 1 × Pro`. */
export function describeTrial(product: string, quantity: Decimal): string {
  return `Free trial for ${describeQuantity(quantity)} × ${product}`
}

/** `Unused time on 3 × Pro after 21 Nov 2026`; a quantity of one is not written. */
export function describeUnusedTime(product: string, quantity: number | null, at: number): string {
  return `Unused time on ${countedProduct(product, quantity)} after ${describeDate(at)}`
}

/** `Remaining time on Pro after 21 Nov 2026`. */
export function describeRemainingTime(product: string, quantity: number | null, at: number): string {
  return `Remaining time on ${countedProduct(product, quantity)} after ${describeDate(at)}`
}

function countedProduct(product: string, quantity: number | null): string {
  return quantity === null || quantity === 1 ? product : `${quantity} × ${product}`
}

function describeQuantity(quantity: Decimal): string {
  return formatDecimal(quantity)
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']

/** `21 Nov 2026`, in UTC. */
export function describeDate(at: number): string {
  const date = new Date(at * 1000)
  return `${date.getUTCDate().toString().padStart(2, '0')} ${MONTHS[date.getUTCMonth()]} ${date.getUTCFullYear()}`
}
