/**
 * Discounts: which line gets how much off. Item discounts come before those of the subscription or invoice, each set in
 * its order, each on what the ones before it have left.
 * Source: docs.stripe.com/billing/subscriptions/coupons (multiple discounts, order), docs.stripe.com/api/discounts.
 */
import { decimal, floorDivide, toSafeInteger } from './decimal.ts'
import { percentOfLine } from './inferred.ts'

/** What a coupon takes off: a percentage (decimal text, `25.5`) or an amount in minor units of one currency. */
export type Reduction =
  | { readonly kind: 'percent'; readonly percent: string }
  | { readonly kind: 'amount'; readonly amount: number }

/** A discount as it applies to one invoice. */
export interface AppliedDiscount {
  readonly id: string
  readonly reduction: Reduction
  /** Only lines of these products; null for all. */
  readonly products: readonly string[] | null
}

/** A line that discounts may apply to. `itemDiscounts` are its own, `amount` is signed and in minor units. */
export interface DiscountableLine {
  readonly amount: number
  readonly discountable: boolean
  readonly product: string | null
  readonly itemDiscounts: readonly AppliedDiscount[]
  /** Lines with the same key share one discount of their item: the tiers of one price. */
  readonly itemKey: string
}

export interface DiscountShare {
  readonly discount: string
  readonly amount: number
}

/**
 * The shares of every discount on every line, in line order; a line's shares never exceed its amount. Lines that are not
 * discountable or not positive get none.
 */
export function applyDiscounts(
  lines: readonly DiscountableLine[],
  invoiceDiscounts: readonly AppliedDiscount[],
): DiscountShare[][] {
  const shares: DiscountShare[][] = lines.map(() => [])
  const left = lines.map((line) => (line.discountable && line.amount > 0 ? BigInt(line.amount) : 0n))
  for (const [key, discounts] of itemGroups(lines)) {
    for (const discount of discounts) take(discount, lines, left, shares, (line) => line.itemKey === key)
  }
  for (const discount of invoiceDiscounts) take(discount, lines, left, shares, () => true)
  return shares
}

function itemGroups(lines: readonly DiscountableLine[]): Map<string, readonly AppliedDiscount[]> {
  const groups = new Map<string, readonly AppliedDiscount[]>()
  for (const line of lines) if (line.itemDiscounts.length > 0) groups.set(line.itemKey, line.itemDiscounts)
  return groups
}

function take(
  discount: AppliedDiscount,
  lines: readonly DiscountableLine[],
  left: bigint[],
  shares: DiscountShare[][],
  concerns: (line: DiscountableLine) => boolean,
): void {
  const indexes = lines.flatMap((line, index) => {
    const matches = discount.products === null || (line.product !== null && discount.products.includes(line.product))
    return concerns(line) && matches && (left[index] ?? 0n) > 0n ? [index] : []
  })
  const amounts = indexes.map((index) => left[index] ?? 0n)
  const taken =
    discount.reduction.kind === 'percent'
      ? percentShares(amounts, discount.reduction.percent)
      : apportion(BigInt(discount.reduction.amount), amounts)
  for (const [position, index] of indexes.entries()) {
    const amount = taken[position] ?? 0n
    left[index] = (left[index] ?? 0n) - amount
    shares[index]?.push({ discount: discount.id, amount: toSafeInteger(amount) })
  }
}

function percentShares(amounts: readonly bigint[], percent: string): bigint[] {
  return amounts.map((amount) => percentOfLine(amount, decimal(percent)))
}

/**
 * Splits an amount over lines in proportion to theirs: each gets the floor of its share, the last one what is left over;
 * never more than the lines hold. 500 over 1000 and 2000 is 166 and 334.
 */
export function apportion(amount: bigint, lines: readonly bigint[]): bigint[] {
  const total = lines.reduce((sum, line) => sum + line, 0n)
  const capped = amount > total ? total : amount
  if (total === 0n) return lines.map(() => 0n)
  const shares = lines.map((line) => floorDivide(capped * line, total))
  const rest = capped - shares.reduce((sum, share) => sum + share, 0n)
  return spreadRest(shares, lines, rest)
}

/** The remainder goes to the last line; where that would exceed the line, the one before it takes the excess. */
function spreadRest(shares: bigint[], lines: readonly bigint[], rest: bigint): bigint[] {
  let open = rest
  for (let index = shares.length - 1; index >= 0 && open > 0n; index -= 1) {
    const room = (lines[index] ?? 0n) - (shares[index] ?? 0n)
    const more = open < room ? open : room
    shares[index] = (shares[index] ?? 0n) + more
    open -= more
  }
  return shares
}
