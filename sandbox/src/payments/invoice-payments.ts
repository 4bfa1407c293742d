import type { Ctx } from '../engine/context.ts'
import { invalidRequest } from '../engine/errors.ts'
import type { Confirmed } from './confirm.ts'
import { confirmIntent } from './confirm.ts'
import type { InvoiceCharge, InvoiceChargeOutcome, InvoicePayments } from './contract.ts'
import { provideInvoicePayments } from './contract.ts'
import type { PaymentIntent } from './payment-intents.ts'
import { cancelIntent, createIntent } from './payment-intents.ts'
import { resolvePaymentMethod } from './payment-methods.ts'
import { createRefund } from './refunds.ts'
import { confirmSetupIntent, createSetupIntent } from './setup-intents.ts'

function outcomeOf(confirmed: Confirmed): InvoiceChargeOutcome {
  const paymentIntent = confirmed.intent.id
  switch (confirmed.kind) {
    case 'succeeded':
      return {
        kind: 'succeeded',
        charge: confirmed.charge.id,
        paymentIntent,
        paymentMethod: confirmed.charge.payment_method ?? '',
      }
    case 'processing':
    case 'requires_capture':
      return { kind: 'processing', paymentIntent, paymentMethod: confirmed.charge.payment_method ?? '' }
    case 'requires_action':
      return { kind: 'requires_action', paymentIntent }
    case 'declined': {
      const { code, declineCode, message } = confirmed.decline
      return { kind: 'declined', charge: confirmed.charge.id, code, declineCode, message, paymentIntent }
    }
  }
}

/** The intent of an earlier try when it can still be used, else a new one. */
function intentFor(ctx: Ctx, charge: InvoiceCharge, paymentMethod: string | null): PaymentIntent {
  const earlier = charge.paymentIntent === null ? undefined : ctx.get('payment_intent', charge.paymentIntent)
  if (earlier !== undefined && earlier.status !== 'canceled' && earlier.status !== 'succeeded') {
    return ctx.update('payment_intent', earlier.id, { amount: charge.amount })
  }
  return createIntent(ctx, {
    amount: charge.amount,
    currency: charge.currency,
    customer: charge.customer,
    description: charge.description,
    invoice: charge.invoice,
    paymentMethod: charge.confirm ? paymentMethod : null,
    setupFutureUsage: charge.setupFutureUsage,
    statementDescriptor: charge.statementDescriptor,
  })
}

function chargeInvoice(ctx: Ctx, charge: InvoiceCharge): InvoiceChargeOutcome {
  const method = charge.paymentMethod === null ? null : resolvePaymentMethod(ctx, charge.paymentMethod, 'payment_method')
  const usable = method !== null && !method._.spent && (method.customer === null || method.customer === charge.customer)
  const intent = intentFor(ctx, charge, usable ? method.id : null)
  const paymentIntent = intent.id
  if (!usable) return { kind: 'requires_payment_method', paymentIntent }
  if (!charge.confirm)
    return { kind: intent.status === 'requires_action' ? 'requires_action' : 'requires_payment_method', paymentIntent }
  const confirmation = { authenticated: false, offSession: charge.offSession, paymentMethod: method.id, returnUrl: null }
  return outcomeOf(confirmIntent(ctx, intent.id, confirmation))
}

const isFinal = (intent: PaymentIntent): boolean => intent.status === 'succeeded' || intent.status === 'canceled'

function refundInvoicePayment(ctx: Ctx, refund: Parameters<InvoicePayments['refundInvoicePayment']>[1]): string {
  const intent = ctx.require('payment_intent', refund.paymentIntent, 'payment_intent')
  const charge = intent.latest_charge === null ? undefined : ctx.get('charge', intent.latest_charge)
  if (charge === undefined)
    throw invalidRequest(`The PaymentIntent ${intent.id} has no charge to refund.`, { param: 'refund_amount' })
  return createRefund(ctx, { amount: refund.amount, charge, metadata: {}, reason: refund.reason }).id
}

const payments: InvoicePayments = {
  chargeInvoice,
  updateInvoiceIntentAmount(ctx, { amount, paymentIntent }) {
    const intent = ctx.require('payment_intent', paymentIntent)
    if (!isFinal(intent)) ctx.update('payment_intent', paymentIntent, { amount })
  },
  cancelInvoiceIntent(ctx, { paymentIntent, reason }) {
    const intent = ctx.get('payment_intent', paymentIntent)
    if (intent !== undefined && !isFinal(intent)) cancelIntent(ctx, paymentIntent, reason)
  },
  clientSecretOf(ctx, paymentIntent) {
    return ctx.require('payment_intent', paymentIntent).client_secret ?? ''
  },
  createSubscriptionSetupIntent(ctx, setup) {
    const { customer, paymentMethod, subscription } = setup
    const intent = createSetupIntent(ctx, { customer, paymentMethod, subscription, usage: 'off_session' })
    if (!setup.confirm || paymentMethod === null) return { setupIntent: intent.id, status: openStatus(intent.status) }
    const confirmed = confirmSetupIntent(ctx, intent.id, { authenticated: false, paymentMethod: null, returnUrl: null })
    return { setupIntent: intent.id, status: openStatus(confirmed.intent.status) }
  },
  refundInvoicePayment,
  requirePaymentMethodOf(ctx, { customer, param, paymentMethod }) {
    const method = ctx.require('payment_method', paymentMethod, param)
    if (method.customer === customer) return
    const words = `The customer does not have a payment method with the ID ${paymentMethod}. The payment method must be attached to the customer.`
    throw invalidRequest(words, { param, code: 'resource_missing' })
  },
}

type OpenStatus = ReturnType<InvoicePayments['createSubscriptionSetupIntent']>['status']

function openStatus(status: string): OpenStatus {
  const known: readonly OpenStatus[] = ['succeeded', 'requires_action', 'requires_payment_method', 'requires_confirmation']
  const found = known.find((candidate) => candidate === status)
  if (found === undefined) throw new Error(`A new setup intent cannot be ${status}`)
  return found
}

provideInvoicePayments(payments)
