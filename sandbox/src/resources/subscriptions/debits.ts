/** What a subscription's items were debited for: the basis of flexible mode's credits. */
import type { Debit } from '../../billing/proration.ts'
import type { StoredLine, StoredSubscriptionItem } from '../../model/billing.ts'
import type { Ctx } from '../../engine/context.ts'
import type { StoredInvoice } from '../invoices/compose.ts'
import { attachItems, type StoredInvoiceItem } from '../invoices/item-store.ts'
import type { StoredSubscription } from './stored.ts'

/** Stores the invoice of a subscription with the pending items that it takes; its lines are the debits that are credited later. */
export function storeInvoice(
  ctx: Ctx,
  subscription: StoredSubscription,
  invoice: StoredInvoice,
  taken: readonly StoredInvoiceItem[],
): StoredInvoice {
  ctx.create('invoice', invoice)
  attachItems(ctx, taken, invoice.id)
  ctx.update('subscription', subscription.id, {
    latest_invoice: invoice.id,
    _: { ...subscription._, items: debitsOfLines(subscription._.items, invoice) },
  })
  return invoice
}

/** The items with the debits that an invoice's lines are; earlier debits stay. */
export function debitsOfLines(items: readonly StoredSubscriptionItem[], invoice: StoredInvoice): StoredSubscriptionItem[] {
  return items.map((item) => {
    const debits = invoice._.lines.filter((line) => isDebitOf(line, item)).map((line) => debitOfLine(line, invoice.id))
    return debits.length === 0 ? item : { ...item, _: { ...item._, debits: [...item._.debits, ...debits] } }
  })
}

function isDebitOf(line: StoredLine, item: StoredSubscriptionItem): boolean {
  const details = line.parent?.subscription_item_details
  return line._.debit && details?.subscription_item === item.id && details.invoice_item === null
}

function debitOfLine(line: StoredLine, invoice: string): Debit {
  const discounted = (line.discount_amounts ?? []).reduce((sum, { amount }) => sum + amount, 0)
  return {
    amount: line.amount - discounted,
    period: line.period,
    quantity: line.quantity,
    invoice,
    lines: [line.id],
    invoiceItem: null,
    price: line.pricing?.price_details?.price ?? '',
  }
}
