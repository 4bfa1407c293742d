/**
 * The invoice pipeline: line amounts → discounts → credit grants → tax on what is left → customer balance → amount due.
 * Sources: docs.stripe.com/api/invoices/object, docs.stripe.com/billing/customer/balance,
 * docs.stripe.com/billing/subscriptions/usage-based/billing-credits.
 */
import { type AppliedDiscount, applyDiscounts, type DiscountableLine, type DiscountShare } from './discounts.ts'
import type { TaxReason } from './automatic-tax.ts'
import { type Decimal, decimal, toSafeInteger } from './decimal.ts'
import { belowMinimumMovesToBalance, taxableAmountOf, taxOfLine } from './inferred.ts'

/** A tax rate as it applies to a line. `percent` is decimal text. */
export interface AppliedTaxRate {
  readonly id: string
  readonly percent: string
  readonly inclusive: boolean
  /** Why automatic tax decided on this rate; absent for a rate that was set by hand. */
  readonly reason?: TaxReason
}

export interface PipelineLine extends DiscountableLine {
  readonly taxRates: readonly AppliedTaxRate[]
  /** The price of the line, for credit grants that are limited to some prices; null for a plain amount. */
  readonly price: string | null
  /** Credit grants pay for metered lines only. */
  readonly metered: boolean
}

/** A credit grant that may pay for lines, in the order in which grants are drawn. `available` is in minor units. */
export interface AvailableCredit {
  readonly grant: string
  readonly available: number
  /** Only lines of these prices; null for every metered line. */
  readonly prices: readonly string[] | null
}

export interface CreditShare {
  readonly grant: string
  readonly amount: number
}

export interface TaxShare {
  readonly rate: string
  readonly amount: number
  readonly taxable: number
  readonly inclusive: boolean
  readonly reason?: TaxReason
}

export interface LineTotals {
  readonly amount: number
  readonly discounts: readonly DiscountShare[]
  readonly credits: readonly CreditShare[]
  readonly taxes: readonly TaxShare[]
}

export interface InvoiceTotals {
  readonly lines: readonly LineTotals[]
  /** Σ of the line amounts. */
  readonly subtotal: number
  readonly subtotalExcludingTax: number
  /** subtotal − discounts − credits + exclusive tax. May be negative. */
  readonly total: number
  readonly totalExcludingTax: number
  readonly discounts: readonly DiscountShare[]
  readonly credits: readonly CreditShare[]
  readonly taxes: readonly TaxShare[]
}

/** Runs the pipeline up to the total; `settleBalance` does the rest. */
export function computeTotals(input: {
  readonly lines: readonly PipelineLine[]
  readonly discounts: readonly AppliedDiscount[]
  readonly credits: readonly AvailableCredit[]
}): InvoiceTotals {
  const { lines } = input
  const discountShares = applyDiscounts(lines, input.discounts)
  const nets = lines.map((line, index) => line.amount - sumAmounts(discountShares[index] ?? []))
  const creditShares = applyCredits(lines, nets, input.credits)
  const totals = lines.map((line, index): LineTotals => {
    const credits = creditShares[index] ?? []
    const taxable = (nets[index] ?? 0) - sumAmounts(credits)
    return { amount: line.amount, discounts: discountShares[index] ?? [], credits, taxes: applyTaxes(taxable, line.taxRates) }
  })
  return sumLines(totals)
}

function sumLines(lines: readonly LineTotals[]): InvoiceTotals {
  const subtotal = sumAmounts(lines)
  const taxes = lines.flatMap((line) => line.taxes)
  const inclusive = sumAmounts(taxes.filter((tax) => tax.inclusive))
  const exclusive = sumAmounts(taxes.filter((tax) => !tax.inclusive))
  const reductions = sumAmounts(lines.flatMap((line) => [...line.discounts, ...line.credits]))
  const total = subtotal - reductions + exclusive
  return {
    lines,
    subtotal,
    subtotalExcludingTax: subtotal - inclusive,
    total,
    totalExcludingTax: total - exclusive - inclusive,
    discounts: groupAmounts(
      lines.flatMap((line) => line.discounts),
      (share) => share.discount,
    ),
    credits: groupAmounts(
      lines.flatMap((line) => line.credits),
      (share) => share.grant,
    ),
    taxes: groupTaxes(taxes),
  }
}

/** Draws grants in their order over metered lines in line order. */
function applyCredits(
  lines: readonly PipelineLine[],
  nets: readonly number[],
  credits: readonly AvailableCredit[],
): CreditShare[][] {
  const shares: CreditShare[][] = lines.map(() => [])
  const left = nets.map((net) => Math.max(net, 0))
  for (const { grant, available, prices } of credits) {
    let open = available
    for (const [index, line] of lines.entries()) {
      const allowed = line.metered && (prices === null || (line.price !== null && prices.includes(line.price)))
      const amount = allowed ? Math.min(open, left[index] ?? 0) : 0
      if (amount <= 0) continue
      left[index] = (left[index] ?? 0) - amount
      open -= amount
      shares[index]?.push({ grant, amount })
    }
  }
  return shares
}

function applyTaxes(amount: number, rates: readonly AppliedTaxRate[]): TaxShare[] {
  const included = rates.filter((rate) => rate.inclusive).reduce((sum, rate) => sum + decimal(rate.percent), 0n) as Decimal
  const shares = rates.map(({ id, percent, inclusive, reason }) => ({
    rate: id,
    amount: toSafeInteger(taxOfLine(BigInt(amount), decimal(percent), inclusive ? included : decimal('0'))),
    inclusive,
    ...(reason === undefined ? {} : { reason }),
  }))
  const includedTax = sumAmounts(shares.filter((share) => share.inclusive))
  return shares.map((share) => ({
    ...share,
    taxable: taxableAmountOf(share.inclusive ? amount - includedTax : amount, share.reason),
  }))
}

function sumAmounts(parts: ReadonlyArray<{ readonly amount: number }>): number {
  return parts.reduce((sum, { amount }) => sum + amount, 0)
}

function groupAmounts<T extends { readonly amount: number }>(parts: readonly T[], keyOf: (part: T) => string): T[] {
  const groups = new Map<string, T>()
  for (const part of parts) {
    const before = groups.get(keyOf(part))
    groups.set(keyOf(part), before === undefined ? part : { ...before, amount: before.amount + part.amount })
  }
  return [...groups.values()]
}

function groupTaxes(taxes: readonly TaxShare[]): TaxShare[] {
  const groups = new Map<string, TaxShare>()
  for (const tax of taxes) {
    const key = `${tax.rate} ${tax.reason ?? ''}`
    const before = groups.get(key)
    const merged = before && { ...before, amount: before.amount + tax.amount, taxable: before.taxable + tax.taxable }
    groups.set(key, merged ?? tax)
  }
  return [...groups.values()]
}

export interface BalanceSettlement {
  /** What the customer must pay now; never negative. */
  readonly amountDue: number
  /** The customer's balance afterwards; negative is credit. */
  readonly endingBalance: number
  /** True when a positive amount was too small to charge and went to the balance. */
  readonly movedBelowMinimum: boolean
}

/**
 * Applies the customer's balance to a total: credit (negative) pays, debt (positive) is collected with it; a negative result
 * becomes credit; an amount below the currency's minimum waits on the balance.
 * @param minimum the least that can be charged, in minor units.
 */
export function settleBalance(input: { total: number; startingBalance: number; minimum: number }): BalanceSettlement {
  const owed = input.total + input.startingBalance
  if (owed <= 0) return { amountDue: 0, endingBalance: owed, movedBelowMinimum: false }
  if (belowMinimumMovesToBalance(owed, input.minimum)) return { amountDue: 0, endingBalance: owed, movedBelowMinimum: true }
  return { amountDue: owed, endingBalance: 0, movedBelowMinimum: false }
}
