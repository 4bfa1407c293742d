import { roundHalfUp } from '../lib/apportion.ts'
import { DomainError } from '../lib/errors.ts'
import { MICRO, type Quantity } from '../lib/quantity.ts'
import type { Tier, UsagePrice } from '../catalog/catalog.ts'

/**
 * One amount of a price, as an invoice line shows it: a quantity at a unit amount, or the flat amount of a tier.
 * `tier` counts from 1 and is null for a price without tiers.
 */
export type PricePart = {
  readonly quantity: Quantity
  readonly amountMinor: number
  readonly tier: number | null
  readonly flat: boolean
}

/** Unit amounts are trillionths of a minor unit, quantities millionths of a unit. */
const PRODUCT_SCALE = 10n ** 12n * MICRO

/**
 * Splits what a quantity costs into its parts; each is rounded by itself to whole minor units, ties away from zero, as an
 * invoice line of Stripe is. A quantity below zero costs what zero costs: Stripe bills no negative use.
 * - `package`: begun packages count whole;
 * - `graduated`: one part per tier reached, and one for its flat amount; `volume`: all at the tier that the quantity falls in.
 * - With nothing used, a tiered price has the flat amount of its first tier.
 *
 * Sources: https://docs.stripe.com/products-prices/pricing-models,
 * https://docs.stripe.com/billing/subscriptions/usage-based/pricing-models. Which way a tie is rounded is not stated there.
 */
export function priceParts(price: UsagePrice, quantity: Quantity): readonly PricePart[] {
  const used = quantity > 0n ? quantity : 0n
  switch (price.model) {
    case 'per_unit':
      return [{ quantity: used, amountMinor: amountOf(price.unitAmount, used), tier: null, flat: false }]
    case 'package': {
      const packages = (used + price.size - 1n) / price.size
      return [{ quantity: used, amountMinor: toMinor(packages * BigInt(price.amountMinor)), tier: null, flat: false }]
    }
    case 'graduated':
      return graduatedParts(price.tiers, used)
    case 'volume':
      return volumeParts(price.tiers, used)
  }
}

/** What a quantity costs in whole minor units: the sum of its rounded parts. */
export function priceOf(price: UsagePrice, quantity: Quantity): number {
  return priceParts(price, quantity).reduce((sum, { amountMinor }) => sum + amountMinor, 0)
}

/**
 * What comes back of a line whose invoice is closed: what it cost less than what it costs without what was taken back of it, never
 * below zero (under a price by volume less can cost more).
 * @param minor what it cost
 */
export function creditedMinorOf(
  price: UsagePrice,
  line: { readonly quantity: Quantity; readonly credited: Quantity; readonly minor: number },
): number {
  return Math.max(0, line.minor - priceOf(price, line.quantity - line.credited))
}

/** What the invoice says of a line in minor units: its amount, what discounts and credit grants took off it, what tax came upon it. */
export type InvoicedLine = { readonly amountMinor: number; readonly discountMinor: number; readonly taxMinor: number }

/** What was charged for so much of an invoiced line: with its share of discounts and tax, and never more than the whole. */
export function chargedShareOf({ amountMinor, discountMinor, taxMinor }: InvoicedLine, partMinor: number): number {
  if (amountMinor <= 0) return 0
  const part = Math.min(partMinor, amountMinor)
  return Math.max(0, Number(roundHalfUp(BigInt(part) * BigInt(amountMinor - discountMinor + taxMinor), BigInt(amountMinor))))
}

function graduatedParts(tiers: readonly Tier[], quantity: Quantity): PricePart[] {
  const parts: PricePart[] = []
  let below = 0n
  for (const [index, tier] of tiers.entries()) {
    if (quantity <= below && index > 0) break
    const top = tier.upTo === null || quantity < tier.upTo ? quantity : tier.upTo
    parts.push(...tierParts(tier, index + 1, top - below))
    below = top
  }
  return parts
}

function volumeParts(tiers: readonly Tier[], quantity: Quantity): PricePart[] {
  const index = tiers.findIndex(({ upTo }) => upTo === null || quantity <= upTo)
  return index < 0 ? [] : tierParts(tiers[index]!, index + 1, quantity)
}

function tierParts(tier: Tier, number: number, quantity: Quantity): PricePart[] {
  const units = { quantity, amountMinor: amountOf(tier.unitAmount, quantity), tier: number, flat: false }
  if (tier.flatAmountMinor === 0) return [units]
  return [units, { quantity: 0n, amountMinor: tier.flatAmountMinor, tier: number, flat: true }]
}

/** Both are zero or more, so that half up is half away from zero. */
function amountOf(unitAmount: bigint, quantity: Quantity): number {
  return toMinor((2n * unitAmount * quantity + PRODUCT_SCALE) / (2n * PRODUCT_SCALE))
}

function toMinor(amount: bigint): number {
  const minor = Number(amount)
  if (Number.isSafeInteger(minor)) return minor
  throw new DomainError('invalid_quantity', 'The use costs more than can be counted in minor units.')
}

/** Why overage with a price is not billed. `unbilled_time`: it was used before the balance was billed, or nothing bills it any more. */
export type FreeReason = 'trial' | 'no_subscription' | 'unbilled_time'

/** The states of a subscription in which Stripe charges what was used. */
const CHARGED: ReadonlySet<string> = new Set(['active', 'past_due', 'unpaid'])

/** Why nothing that is used now is billed; null where it is: a trial, a paused or an ended subscription bills nothing. */
export function freeReasonOf({ subscriptionStatus }: { readonly subscriptionStatus: string | null }): FreeReason | null {
  if (subscriptionStatus === 'trialing') return 'trial'
  return subscriptionStatus !== null && CHARGED.has(subscriptionStatus) ? null : 'no_subscription'
}

/** The overage of a grant, as far as its price goes. */
export type PricedOverage = {
  readonly overage: Quantity
  readonly freeOverage: Quantity
  readonly pricedOverage: Quantity
  readonly pricedMinor: bigint
}

/** What of a grant's overage the present price bills: neither what is free nor what an earlier plan has priced. */
export function presentOverageOf({ overage, freeOverage, pricedOverage }: PricedOverage): Quantity {
  return overage - freeOverage - pricedOverage
}

/** What overage costs: what was used before its plan changed by the price of then, the rest by the present one. */
export function overageCost(price: UsagePrice, overage: PricedOverage): number {
  return Number(overage.pricedMinor) + priceOf(price, presentOverageOf(overage))
}
