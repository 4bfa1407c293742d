/**
 * What a quantity costs under a price: per unit, package, graduated, volume.
 * Source: docs.stripe.com/products-prices/pricing-models and docs.stripe.com/billing/subscriptions/usage-based/pricing-models.
 */
import { ceilDivide, type Decimal, decimal, decimalOf, DECIMAL_SCALE, floorDivide } from './decimal.ts'
import { chargesFirstFlatAtZero, roundLineAmount } from './inferred.ts'

/** A tier reaches from the one before it up to and including `upTo`; the last one has no upper end (null). */
export interface Tier {
  readonly upTo: number | null
  readonly unitAmountDecimal: string | null
  readonly flatAmountDecimal: string | null
}

/** The terms of a price, in one currency. Amounts are decimals of the minor unit. */
export type PriceTerms =
  | {
      readonly scheme: 'per_unit'
      readonly unitAmountDecimal: string
      readonly transformQuantity: { readonly divideBy: number; readonly round: 'up' | 'down' } | null
    }
  | { readonly scheme: 'tiered'; readonly mode: 'graduated' | 'volume'; readonly tiers: readonly Tier[] }

/** One amount of a price: an invoice line shows each part by itself. `amount` is in minor units, rounded. */
export interface PricePart {
  readonly quantity: Decimal
  readonly unitAmountDecimal: string
  readonly amount: number
  /** Counts from 1; null for a price without tiers. */
  readonly tier: number | null
  readonly flat: boolean
}

const PRODUCT_SCALE = DECIMAL_SCALE * DECIMAL_SCALE

/** Splits the cost of a quantity into its parts. A price without tiers has exactly one. Quantity is not negative. */
export function priceParts(terms: PriceTerms, quantity: Decimal): PricePart[] {
  if (terms.scheme === 'per_unit') {
    const units = terms.transformQuantity === null ? quantity : transformed(quantity, terms.transformQuantity)
    return [
      part(quantity, terms.unitAmountDecimal, roundLineAmount(decimal(terms.unitAmountDecimal) * units, PRODUCT_SCALE), null),
    ]
  }
  return terms.mode === 'volume' ? volumeParts(terms.tiers, quantity) : graduatedParts(terms.tiers, quantity)
}

/** The whole cost of a quantity, in minor units: the sum of its rounded parts. */
export function priceAmount(terms: PriceTerms, quantity: Decimal): number {
  return priceParts(terms, quantity).reduce((sum, { amount }) => sum + amount, 0)
}

function part(quantity: Decimal, unitAmountDecimal: string, amount: number, tier: number | null, flat = false): PricePart {
  return { quantity, unitAmountDecimal, amount, tier, flat }
}

function transformed(quantity: Decimal, { divideBy, round }: { divideBy: number; round: 'up' | 'down' }): Decimal {
  const divisor = decimalOf(divideBy)
  return decimalOf(round === 'up' ? ceilDivide(quantity, divisor) : floorDivide(quantity, divisor))
}

function unitPart(tier: Tier, number: number, units: Decimal): PricePart {
  const unit = tier.unitAmountDecimal ?? '0'
  return part(units, unit, roundLineAmount(decimal(unit) * units, PRODUCT_SCALE), number)
}

function flatPart(tier: Tier, number: number): PricePart[] {
  if (tier.flatAmountDecimal === null) return []
  const amount = roundLineAmount(decimal(tier.flatAmountDecimal), DECIMAL_SCALE)
  return [part(decimalOf(0), tier.flatAmountDecimal, amount, number, true)]
}

/** Σ over the tiers reached of units in the tier × its unit amount, plus the flat amount of each tier reached. */
function graduatedParts(tiers: readonly Tier[], quantity: Decimal): PricePart[] {
  const parts: PricePart[] = []
  let below = decimalOf(0)
  for (const [index, tier] of tiers.entries()) {
    if (quantity <= below && !(index === 0 && chargesFirstFlatAtZero())) break
    const top = tier.upTo === null ? quantity : smaller(quantity, decimalOf(tier.upTo))
    parts.push(unitPart(tier, index + 1, (top - below) as Decimal), ...flatPart(tier, index + 1))
    below = top
    if (tier.upTo === null || quantity <= decimalOf(tier.upTo)) break
  }
  return parts
}

/** All units at the one tier that the quantity falls in, plus that tier's flat amount. */
function volumeParts(tiers: readonly Tier[], quantity: Decimal): PricePart[] {
  const index = tiers.findIndex(({ upTo }) => upTo === null || quantity <= decimalOf(upTo))
  const tier = tiers[index]
  if (tier === undefined) return []
  if (quantity === 0n && !chargesFirstFlatAtZero()) return [unitPart(tier, index + 1, quantity)]
  return [unitPart(tier, index + 1, quantity), ...flatPart(tier, index + 1)]
}

function smaller(a: Decimal, b: Decimal): Decimal {
  return a < b ? a : b
}
