/** Invoices as the API answers them. */
import type { Ctx } from '../../engine/context.ts'
import { pageOf, wholeList } from '../../engine/lists.ts'
import { presenter } from '../../engine/module.ts'
import { invoicePayments } from '../../payments/contract.ts'
import type { StoredInvoice } from './compose.ts'

/** The client secret with which a page pays the invoice; null once nothing is to be paid. */
function confirmationSecret(invoice: StoredInvoice, ctx: Ctx): object | null {
  const open = ctx.store.by('invoice_payment', 'invoice', invoice.id).find((payment) => payment.status === 'open')
  const intent = open?.payment.payment_intent
  if (intent === undefined) return null
  return { client_secret: invoicePayments().clientSecretOf(ctx, intent), type: 'payment_intent' }
}

export const invoicePresenters = [
  presenter('invoice', {
    compose: (invoice, ctx) => {
      const lines = pageOf(invoice._.lines, { limit: 10 }, `/v1/invoices/${invoice.id}/lines`)
      return {
        lines: { ...lines, data: lines.data.map((line) => ctx.present(line)) },
        default_tax_rates: invoice.default_tax_rates.map((rate) => ctx.present(ctx.require('tax_rate', rate))),
      }
    },
    onExpand: {
      payments: (invoice, ctx) => {
        const payments = ctx.store.by('invoice_payment', 'invoice', invoice.id).map((payment) => ctx.present(payment))
        return wholeList(payments.toReversed(), `/v1/invoice_payments?invoice=${invoice.id}`)
      },
      confirmation_secret: confirmationSecret,
    },
  }),
]
