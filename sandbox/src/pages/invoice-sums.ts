import type { Ctx } from '../engine/context.ts'
import type { Stored } from '../model/stored.ts'
import type { InvoiceView } from './invoice-view.ts'

type Invoice = Stored<'invoice'>
type Sums = InvoiceView['sums']

const total = (parts: ReadonlyArray<{ readonly amount: number }> | null): number =>
  (parts ?? []).reduce((sum, { amount }) => sum + amount, 0)

const some = (label: string, amount: number): Sums => (amount === 0 ? [] : [{ amount, label }])

/** What lies between the lines and the total. */
export function totalSums(invoice: Invoice): Sums {
  const credits = (invoice.total_pretax_credit_amounts ?? []).filter(({ type }) => type === 'credit_balance_transaction')
  const onTop = (invoice.total_taxes ?? []).filter((tax) => tax.tax_behavior === 'exclusive')
  return [
    ...some('Discount', -total(invoice.total_discount_amounts)),
    ...some('Credits', -total(credits)),
    ...some('Tax', total(onTop)),
  ]
}

/** What lies between the total and what is due, payments aside. */
export function dueSums(invoice: Invoice): Sums {
  const balance = (invoice.ending_balance ?? invoice.starting_balance) - invoice.starting_balance
  return [...some('Credit notes', -invoice.pre_payment_credit_notes_amount), ...some('Applied balance', -balance)]
}

function refundedOf(ctx: Ctx, invoice: Invoice): number {
  const charges = ctx.store.by('invoice_payment', 'invoice', invoice.id).flatMap(({ payment }) => {
    const intent = payment.payment_intent === undefined ? undefined : ctx.get('payment_intent', payment.payment_intent)
    const charge = intent?.latest_charge == null ? undefined : ctx.get('charge', intent.latest_charge)
    return charge?.status === 'succeeded' ? [charge] : []
  })
  return charges.reduce((sum, charge) => sum + charge.amount_refunded, 0)
}

/** The sums below the lines: those that say something, what is due, and what was given back after it was paid. */
export function sumsOf(ctx: Ctx, invoice: Invoice): Sums {
  const included = (invoice.total_taxes ?? []).filter((tax) => tax.tax_behavior === 'inclusive')
  const due = dueSums(invoice)
  const waived = invoice.status === 'void' ? invoice.total + total(due) - invoice.amount_paid : 0
  return [
    { amount: invoice.subtotal, label: 'Subtotal' },
    ...totalSums(invoice),
    { amount: invoice.total, label: 'Total' },
    ...some('Tax included', total(included)),
    ...due,
    ...some('Amount paid', -invoice.amount_paid),
    ...some('Voided', -waived),
    { amount: invoice.amount_remaining, label: 'Amount due', strong: true },
    ...some('Credited afterwards', invoice.post_payment_credit_notes_amount),
    ...some('Refunded', refundedOf(ctx, invoice)),
  ]
}
