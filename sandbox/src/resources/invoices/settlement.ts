/** Billing's half of the seam with payments: an invoice's intent that is confirmed elsewhere settles the invoice. */
import { isHardDecline } from '../../billing/retries.ts'
import type { Module } from '../../engine/module.ts'
import { type InvoiceSettlement, provideInvoiceSettlement } from '../../payments/contract.ts'
import { settleDeclined, settlePaid, settleUnderWay } from './collect.ts'

const settlement: InvoiceSettlement = {
  invoiceIntentSucceeded(ctx, paid) {
    const invoice = ctx.get('invoice', paid.invoice)
    if (invoice === undefined || (invoice.status !== 'open' && invoice.status !== 'uncollectible')) return
    settlePaid(ctx, invoice.id, { paymentIntent: paid.paymentIntent, paymentMethod: paid.paymentMethod })
  },
  invoiceIntentProcessing(ctx, underWay) {
    if (ctx.get('invoice', underWay.invoice)?.status === 'open') settleUnderWay(ctx, underWay.invoice)
  },
  invoiceIntentFailed(ctx, failed) {
    if (ctx.get('invoice', failed.invoice)?.status !== 'open') return
    settleDeclined(ctx, failed.invoice, isHardDecline(failed.declineCode ?? failed.code))
  },
  subscriptionSetupSucceeded(ctx, setup) {
    const subscription = ctx.get('subscription', setup.subscription)
    if (subscription === undefined || subscription.pending_setup_intent !== setup.setupIntent) return
    ctx.change(
      'subscription',
      subscription.id,
      {
        pending_setup_intent: null,
        default_payment_method: subscription.default_payment_method ?? setup.paymentMethod,
      },
      'customer.subscription.updated',
    )
  },
}

provideInvoiceSettlement(settlement)

/** Listed so that loading the billing modules provides this half. */
export const settlementModule: Module = {}
