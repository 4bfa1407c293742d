/** Billing credits on invoices: which grants may pay, and what they paid. */
import type { AvailableCredit } from '../../billing/invoice-totals.ts'
import type { Ctx } from '../../engine/context.ts'
import { drawCredit, returnCredit, usableGrants } from '../usage/credit-balance.ts'
import type { StoredInvoice } from './compose.ts'

type PretaxAmount = NonNullable<StoredInvoice['total_pretax_credit_amounts']>[number]

/** The customer's grants that may pay for this invoice now, in the order in which they are drawn. */
export function availableCredits(ctx: Ctx, invoice: StoredInvoice, now: number): AvailableCredit[] {
  const hasUsage = invoice._.lines.some((line) => line._.metered && line.amount > 0)
  return hasUsage && invoice.customer !== null ? usableGrants(ctx, invoice.customer, invoice.currency, now) : []
}

/** Draws what the totals gave to each grant; the invoice's credit amounts then name the transactions. */
export function drawCredits(ctx: Ctx, invoice: StoredInvoice): Partial<StoredInvoice> {
  if (invoice._.credits.length === 0) return {}
  const credits = invoice._.credits.map((credit) => ({
    ...credit,
    transaction: drawCredit(ctx, { grant: credit.grant, amount: credit.amount, invoice: invoice.id, line: credit.line }),
  }))
  const named = (line: string): PretaxAmount[] =>
    credits
      .filter((credit) => credit.line === line)
      .map(({ amount, transaction }) => ({ amount, credit_balance_transaction: transaction, type: 'credit_balance_transaction' }))
  const discounts = (amounts: readonly PretaxAmount[] | null): PretaxAmount[] =>
    (amounts ?? []).filter((amount) => amount.type === 'discount')
  return {
    total_pretax_credit_amounts: [
      ...credits.map(({ amount, transaction }): PretaxAmount => ({
        amount,
        credit_balance_transaction: transaction,
        type: 'credit_balance_transaction',
      })),
      ...discounts(invoice.total_pretax_credit_amounts),
    ],
    _: {
      ...invoice._,
      credits,
      lines: invoice._.lines.map((line) => ({
        ...line,
        pretax_credit_amounts: [...named(line.id), ...discounts(line.pretax_credit_amounts)],
      })),
    },
  }
}

/** What grants paid of a voided invoice goes back to them. */
export function returnCredits(ctx: Ctx, invoice: StoredInvoice): void {
  for (const { grant, amount, line } of invoice._.credits) returnCredit(ctx, { grant, amount, invoice: invoice.id, line })
}
