import type { Ctx } from '../engine/context.ts'
import { invalidRequest, StripeError } from '../engine/errors.ts'
import type { Stored } from '../model/stored.ts'
import { captureCharge, failPendingCharge, openDisputeOfCard } from './charges.ts'
import { requireUsableBy, resolvePaymentMethod } from './payment-methods.ts'
import { requireChargeable } from './amounts.ts'

export type PaymentIntent = Stored<'payment_intent'>
type Status = PaymentIntent['status']

/** What a new intent is made from; amounts in minor units. */
export interface IntentDraft {
  readonly amount: number
  readonly currency: string
  readonly customer: string | null
  readonly paymentMethod: string | null
  readonly description?: string | null
  readonly hooks?: NonNullable<PaymentIntent['hooks']>
  readonly metadata?: Record<string, string>
  readonly captureMethod?: PaymentIntent['capture_method']
  readonly confirmationMethod?: PaymentIntent['confirmation_method']
  readonly setupFutureUsage?: 'off_session' | 'on_session' | null
  readonly automatic?: PaymentIntent['automatic_payment_methods']
  readonly allowed?: PaymentIntent['allowed_payment_method_types']
  readonly receiptEmail?: string | null
  readonly shipping?: PaymentIntent['shipping']
  readonly statementDescriptor?: string | null
  readonly statementDescriptorSuffix?: string | null
  readonly transferGroup?: string | null
  readonly requestThreeDSecure?: 'any' | 'automatic' | 'challenge'
  readonly invoice?: string | null
  readonly checkoutSession?: string | null
}

/** Makes an intent. Emits `payment_intent.created`. */
export function createIntent(ctx: Ctx, draft: IntentDraft): PaymentIntent {
  const id = ctx.newId('pi', 24)
  const intent: PaymentIntent = {
    id,
    object: 'payment_intent',
    allowed_payment_method_types: draft.allowed ?? null,
    amount: draft.amount,
    amount_capturable: 0,
    amount_details: { tip: {} },
    amount_received: 0,
    application: null,
    application_fee_amount: null,
    automatic_payment_methods: draft.automatic ?? null,
    canceled_at: null,
    cancellation_reason: null,
    capture_method: draft.captureMethod ?? 'automatic_async',
    client_secret: `${id}_secret_${ctx.token(25)}`,
    confirmation_method: draft.confirmationMethod ?? 'automatic',
    created: ctx.now(draft.customer),
    currency: draft.currency,
    customer: draft.customer,
    customer_account: null,
    description: draft.description ?? null,
    excluded_payment_method_types: null,
    ...(draft.hooks === undefined ? {} : { hooks: draft.hooks }),
    last_payment_error: null,
    latest_charge: null,
    livemode: false,
    managed_payments: { enabled: false },
    metadata: draft.metadata ?? {},
    next_action: null,
    on_behalf_of: null,
    payment_method: draft.paymentMethod,
    payment_method_configuration_details: null,
    payment_method_options: {
      card: {
        installments: null,
        mandate_options: null,
        network: null,
        request_three_d_secure: draft.requestThreeDSecure ?? 'automatic',
      },
    },
    payment_method_types: ['card'],
    payment_record: null,
    processing: null,
    receipt_email: draft.receiptEmail ?? null,
    review: null,
    setup_future_usage: draft.setupFutureUsage ?? null,
    shipping: draft.shipping ?? null,
    source: null,
    statement_descriptor: draft.statementDescriptor ?? null,
    statement_descriptor_suffix: draft.statementDescriptorSuffix ?? null,
    status: draft.paymentMethod === null ? 'requires_payment_method' : 'requires_confirmation',
    transfer_group: draft.transferGroup ?? null,
    _: {
      invoice: draft.invoice ?? null,
      checkoutSession: draft.checkoutSession ?? null,
      returnUrl: null,
      offSession: false,
      challenged: false,
    },
  }
  return ctx.create('payment_intent', intent, 'payment_intent.created')
}

/** 400 `payment_intent_unexpected_state`, with the intent. */
export function unexpectedState(ctx: Ctx, intent: PaymentIntent, message: string): StripeError {
  return new StripeError(400, {
    type: 'invalid_request_error',
    code: 'payment_intent_unexpected_state',
    message,
    payment_intent: ctx.present(intent),
  })
}

const changeable: readonly Status[] = ['requires_payment_method', 'requires_confirmation', 'requires_action']

function requireChangeable(ctx: Ctx, intent: PaymentIntent, field: string): void {
  if (changeable.includes(intent.status)) return
  const words = `This PaymentIntent's ${field} could not be updated because it has a status of ${intent.status}.`
  const rule = `You may only update the ${field} of a PaymentIntent with one of the following statuses: ${changeable.join(', ')}.`
  throw unexpectedState(ctx, intent, `${words} ${rule}`)
}

/** Fields of an intent that a caller may change while it is not paid. */
export type IntentPatch = Partial<
  Pick<
    PaymentIntent,
    | 'amount'
    | 'currency'
    | 'hooks'
    | 'customer'
    | 'payment_method'
    | 'payment_method_options'
    | 'allowed_payment_method_types'
    | 'receipt_email'
    | 'setup_future_usage'
    | 'shipping'
    | 'statement_descriptor'
    | 'statement_descriptor_suffix'
    | 'transfer_group'
    | 'capture_method'
  >
>

/** Changes an intent that is not paid; a new payment method makes it ready to be confirmed. */
export function updateIntent(
  ctx: Ctx,
  id: string,
  patch: IntentPatch & Partial<Pick<PaymentIntent, 'description' | 'metadata'>>,
): PaymentIntent {
  const intent = ctx.require('payment_intent', id)
  for (const field of Object.keys(patch)) {
    if (field !== 'description' && field !== 'metadata' && field !== 'receipt_email') requireChangeable(ctx, intent, field)
  }
  if (patch.customer != null) ctx.require('customer', patch.customer, 'customer')
  requireChargeable(patch.amount ?? intent.amount, patch.currency ?? intent.currency)
  if (patch.payment_method == null) return ctx.update('payment_intent', id, patch)
  const method = resolvePaymentMethod(ctx, patch.payment_method, 'payment_method')
  requireUsableBy(method, patch.customer ?? intent.customer, 'payment_method')
  return ctx.update('payment_intent', id, {
    ...patch,
    next_action: null,
    payment_method: method.id,
    status: 'requires_confirmation',
    _: { ...intent._, challenged: false },
  })
}

/** Captures an authorized payment. Emits `charge.captured` and `payment_intent.succeeded`. */
export function captureIntent(
  ctx: Ctx,
  id: string,
  capture: { amount: number | null; metadata: Record<string, string> | null },
): PaymentIntent {
  const intent = ctx.require('payment_intent', id)
  if (intent.status !== 'requires_capture' || intent.latest_charge === null) {
    const words = `This PaymentIntent could not be captured because it has a status of ${intent.status}.`
    throw unexpectedState(
      ctx,
      intent,
      `${words} Only a PaymentIntent with one of the following statuses may be captured: requires_capture.`,
    )
  }
  const amount = capture.amount ?? intent.amount_capturable
  if (amount < 1 || amount > intent.amount_capturable) {
    const words = `The amount to capture must be between 1 and ${intent.amount_capturable}.`
    throw invalidRequest(words, { param: 'amount_to_capture', code: 'amount_too_large' })
  }
  captureCharge(ctx, intent.latest_charge, amount)
  const captured = ctx.change(
    'payment_intent',
    id,
    {
      amount_capturable: 0,
      amount_received: amount,
      status: 'succeeded',
      ...(capture.metadata === null ? {} : { metadata: capture.metadata }),
    },
    'payment_intent.succeeded',
  )
  openDisputeOfCard(ctx, intent.latest_charge)
  return captured
}

const cancelable: readonly Status[] = [
  'requires_payment_method',
  'requires_capture',
  'requires_confirmation',
  'requires_action',
  'processing',
]

/** Gives an authorization back, or calls a debit off. Emits `charge.refunded`, `charge.expired` when its time is over, or `charge.failed`. */
function releaseAuthorization(ctx: Ctx, intent: PaymentIntent, expired: boolean): void {
  if (intent.status === 'processing' && intent.latest_charge !== null) failPendingCharge(ctx, intent.latest_charge, null)
  if (intent.status !== 'requires_capture' || intent.latest_charge === null) return
  const charge = ctx.require('charge', intent.latest_charge)
  const patch = { amount_refunded: charge.amount, refunded: true }
  ctx.change('charge', charge.id, patch, expired ? 'charge.expired' : 'charge.refunded')
}

/** Cancels an intent that is not paid. Emits `payment_intent.canceled`. */
export function cancelIntent(ctx: Ctx, id: string, reason: PaymentIntent['cancellation_reason']): PaymentIntent {
  const intent = ctx.require('payment_intent', id)
  if (!cancelable.includes(intent.status)) {
    const words = `You cannot cancel this PaymentIntent because it has a status of ${intent.status}.`
    const rule = `Only a PaymentIntent with one of the following statuses may be canceled: ${cancelable.join(', ')}.`
    throw unexpectedState(ctx, intent, `${words} ${rule}`)
  }
  releaseAuthorization(ctx, intent, reason === 'automatic')
  const canceled: Partial<PaymentIntent> = {
    amount_capturable: 0,
    canceled_at: ctx.now(intent.customer),
    cancellation_reason: reason,
    next_action: null,
    status: 'canceled',
    _: { ...intent._, challenged: false },
  }
  return ctx.change('payment_intent', id, canceled, 'payment_intent.canceled')
}

/** Refuses to let a caller cancel what an invoice or a checkout session owns. */
export function requireOwnIntent(ctx: Ctx, intent: PaymentIntent): void {
  if (intent._.invoice !== null) {
    throw unexpectedState(ctx, intent, 'You cannot cancel a PaymentIntent that an Invoice created. Void the Invoice instead.')
  }
  const session = intent._.checkoutSession === null ? undefined : ctx.get('checkout.session', intent._.checkoutSession)
  if (session?.status === 'open') {
    throw unexpectedState(
      ctx,
      intent,
      'You cannot cancel the PaymentIntent of an open Checkout Session. Expire the Checkout Session instead.',
    )
  }
}
