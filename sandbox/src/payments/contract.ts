import type { Ctx } from '../engine/context.ts'

/**
 * The seam between billing (invoices, subscriptions) and payments (payment intents, charges, refunds).
 *
 * Both sides need the other: billing charges an invoice, and a payment intent that is confirmed later (a hosted page, a
 * 3-D-Secure challenge, `paymentIntents.confirm`) settles its invoice. Neither imports the other: each provides its half
 * here when its module is loaded, and asks for the other half when it needs it. The halves hold no state; the sandbox they
 * work on is in the context, so any number of sandboxes run in one process.
 *
 * Amounts are integers in the currency's minor unit and always positive. Neither half writes the other's objects.
 */

/** What every function here receives first: the engine's operation context. */
export type SeamContext = Ctx

/** A charge that billing asks for, for the whole of what an invoice still owes. */
export interface InvoiceCharge {
  readonly customer: string
  /** The payment method to try; null when the customer has none: the intent is then made and left `requires_payment_method`. */
  readonly paymentMethod: string | null
  readonly amount: number
  readonly currency: string
  readonly invoice: string
  /** The intent of an earlier try, to be confirmed again; null makes a new one. */
  readonly paymentIntent: string | null
  /** True for renewals and retries: an authentication challenge then declines with `authentication_required`. */
  readonly offSession: boolean
  /** False makes the intent and does not confirm it (`payment_behavior: default_incomplete`). */
  readonly confirm: boolean
  readonly description: string | null
  readonly statementDescriptor: string | null
  readonly setupFutureUsage: 'off_session' | null
}

/** What came of a charge. Every kind names the intent, so that billing can record it as the invoice's payment. */
export type InvoiceChargeOutcome =
  | { readonly kind: 'succeeded'; readonly paymentIntent: string; readonly charge: string; readonly paymentMethod: string }
  | { readonly kind: 'requires_action'; readonly paymentIntent: string }
  | { readonly kind: 'requires_payment_method'; readonly paymentIntent: string }
  | { readonly kind: 'requires_confirmation'; readonly paymentIntent: string }
  | { readonly kind: 'processing'; readonly paymentIntent: string; readonly paymentMethod: string }
  | {
      readonly kind: 'declined'
      readonly paymentIntent: string
      /** Absent when no charge was attempted (authentication wanted off session). */
      readonly charge: string | null
      /** The card error's `code`, for example `card_declined` or `authentication_required`. */
      readonly code: string
      /** The issuer's reason, for example `insufficient_funds`; decides whether the retry schedule runs. */
      readonly declineCode: string | null
      readonly message: string
    }

/** Billing calls these; payments provides them. Each emits its own events (payment_intent.*, charge.*, refund.*, …). */
export interface InvoicePayments {
  /** Makes or reuses the invoice's payment intent, confirms it when asked, and says what came of it. Never throws for a decline. */
  chargeInvoice(ctx: SeamContext, charge: InvoiceCharge): InvoiceChargeOutcome
  /** Changes the amount of an intent that is not yet paid (the open invoice's total went down by a credit note). */
  updateInvoiceIntentAmount(ctx: SeamContext, intent: { paymentIntent: string; amount: number }): void
  /** Cancels the intent of a voided invoice, or of one that was paid another way. Does nothing when it is final already. */
  cancelInvoiceIntent(
    ctx: SeamContext,
    intent: { paymentIntent: string; reason: 'void_invoice' | 'abandoned' | 'automatic' | 'duplicate' },
  ): void
  /** The client secret of an intent, for `invoice.confirmation_secret`. */
  clientSecretOf(ctx: SeamContext, paymentIntent: string): string
  /** An off-session setup intent for a subscription that owes nothing yet (`pending_setup_intent`); answers its id. */
  createSubscriptionSetupIntent(
    ctx: SeamContext,
    setup: { customer: string; paymentMethod: string | null; confirm: boolean; subscription: string },
  ): {
    readonly setupIntent: string
    readonly status: 'succeeded' | 'requires_action' | 'requires_payment_method' | 'requires_confirmation'
  }
  /** Refunds part of a paid invoice's intent, for a credit note; answers the refund's id. */
  refundInvoicePayment(
    ctx: SeamContext,
    refund: { paymentIntent: string; amount: number; reason: 'duplicate' | 'fraudulent' | 'requested_by_customer' | null },
  ): string
  /** Makes the method the one used for the customer's later payments of this subscription; throws Stripe's error when it is not attached. */
  requirePaymentMethodOf(ctx: SeamContext, owner: { paymentMethod: string; customer: string; param: string }): void
}

/** Payments calls these when an invoice's intent changes outside of `chargeInvoice`; billing provides them. */
export interface InvoiceSettlement {
  /** The intent succeeded: the invoice is paid, and its subscription follows (incomplete → active, past_due → active). */
  invoiceIntentSucceeded(
    ctx: SeamContext,
    paid: { invoice: string; paymentIntent: string; charge: string; amount: number; paymentMethod: string },
  ): void
  /** The intent is under way: the invoice is tried, and paid or failed later. */
  invoiceIntentProcessing(ctx: SeamContext, underWay: { invoice: string }): void
  /** A confirmation of the intent failed: `invoice.payment_failed`. Does not count as an automatic attempt. */
  invoiceIntentFailed(
    ctx: SeamContext,
    failed: { invoice: string; paymentIntent: string; code: string; declineCode: string | null },
  ): void
  /** A setup intent made for a subscription succeeded: it is no longer pending. */
  subscriptionSetupSucceeded(ctx: SeamContext, setup: { subscription: string; setupIntent: string; paymentMethod: string }): void
}

const halves: { payments: InvoicePayments | null; settlement: InvoiceSettlement | null } = { payments: null, settlement: null }

/** Payments provides its half, once, when its module is loaded. */
export function provideInvoicePayments(payments: InvoicePayments): void {
  halves.payments = payments
}

/** Billing provides its half, once, when its module is loaded. */
export function provideInvoiceSettlement(settlement: InvoiceSettlement): void {
  halves.settlement = settlement
}

/** The payments half. Fails when the payments module is not part of the program: a fault in its composition. */
export function invoicePayments(): InvoicePayments {
  if (halves.payments === null) throw new Error('The payments module is not loaded: nothing can charge an invoice')
  return halves.payments
}

/** The billing half. Fails when the billing module is not part of the program: a fault in its composition. */
export function invoiceSettlement(): InvoiceSettlement {
  if (halves.settlement === null) throw new Error('The billing module is not loaded: nothing can settle an invoice')
  return halves.settlement
}
