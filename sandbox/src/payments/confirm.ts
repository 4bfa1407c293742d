import type { Ctx } from '../engine/context.ts'
import { cardError, invalidRequest, type StripeError } from '../engine/errors.ts'
import { authorize } from './authorization.ts'
import { declineFields } from './cards.ts'
import type { Charge, ChargeRequest } from './charges.ts'
import { openDisputeOfCard, recordApprovedCharge, recordFailedCharge } from './charges.ts'
import { invoiceSettlement } from './contract.ts'
import { startDebit } from './debits.ts'
import type { PaymentIntent } from './payment-intents.ts'
import { unexpectedState } from './payment-intents.ts'
import {
  accountOf,
  attachApproved,
  behaviourOf,
  requireUsableBy,
  resolvePaymentMethod,
  type PaymentMethod,
} from './payment-methods.ts'
import type { Decline } from './test-cards.ts'
import { describeDecline } from './test-cards.ts'

/** How an intent is confirmed. */
export interface Confirmation {
  /** Another method than the intent's own. */
  readonly paymentMethod: string | null
  readonly offSession: boolean
  readonly returnUrl: string | null
  /** The holder has just answered a challenge for this payment. */
  readonly authenticated: boolean
}

/** What came of a confirmation. */
export type Confirmed =
  | { readonly kind: 'succeeded' | 'requires_capture' | 'processing'; readonly intent: PaymentIntent; readonly charge: Charge }
  | { readonly kind: 'requires_action'; readonly intent: PaymentIntent }
  | { readonly kind: 'declined'; readonly intent: PaymentIntent; readonly charge: Charge; readonly decline: Decline }

const authenticatedMethods = new WeakMap<Ctx, Set<string>>()

/** Notes that the holder of a method answered a challenge within this transaction, for the charges that follow in it. */
export function markAuthenticated(ctx: Ctx, paymentMethod: string): void {
  const known = authenticatedMethods.get(ctx) ?? new Set()
  authenticatedMethods.set(ctx, known.add(paymentMethod))
}

const isAuthenticated = (ctx: Ctx, paymentMethod: string): boolean => authenticatedMethods.get(ctx)?.has(paymentMethod) ?? false

/** The address of the 3D Secure page that answers an intent's challenge. */
export function challengeUrl(ctx: Ctx, clientSecret: string | null): string {
  return `${ctx.baseUrl}/3ds/${clientSecret ?? ''}`
}

/** `next_action` of a challenge: a redirect where there is a way back, else what Stripe.js would handle. */
export function challengeAction(
  ctx: Ctx,
  clientSecret: string | null,
  returnUrl: string | null,
):
  | { type: 'redirect_to_url'; redirect_to_url: { return_url: string | null; url: string | null } }
  | { type: 'use_stripe_sdk'; use_stripe_sdk: Record<string, unknown> } {
  const url = challengeUrl(ctx, clientSecret)
  return returnUrl === null
    ? { type: 'use_stripe_sdk', use_stripe_sdk: { type: 'three_d_secure_redirect', stripe_js: url } }
    : { type: 'redirect_to_url', redirect_to_url: { return_url: returnUrl, url } }
}

function chargeRequest(intent: PaymentIntent, method: PaymentMethod, authenticated: boolean): ChargeRequest {
  return {
    amount: intent.amount,
    authenticated,
    capture: intent.capture_method !== 'manual',
    currency: intent.currency,
    customer: intent.customer,
    description: intent.description,
    metadata: intent.metadata,
    method,
    paymentIntent: intent.id,
    receiptEmail: intent.receipt_email,
    shipping: intent.shipping,
    statementDescriptor: intent.statement_descriptor,
    statementDescriptorSuffix: intent.statement_descriptor_suffix,
    transferGroup: intent.transfer_group,
  }
}

function decline(
  ctx: Ctx,
  intent: PaymentIntent,
  method: PaymentMethod,
  reason: Parameters<typeof describeDecline>[0],
): Confirmed {
  const words = describeDecline(reason)
  const charge = recordFailedCharge(ctx, chargeRequest(intent, method, false), words)
  const last_payment_error = {
    ...declineFields(words),
    charge: charge.id,
    payment_method: ctx.present(ctx.require('payment_method', method.id)),
    type: 'card_error',
  } as unknown as PaymentIntent['last_payment_error']
  const failed = ctx.change(
    'payment_intent',
    intent.id,
    {
      last_payment_error,
      latest_charge: charge.id,
      next_action: null,
      payment_method: null,
      status: 'requires_payment_method',
      _: { ...intent._, challenged: false },
    },
    'payment_intent.payment_failed',
  )
  return { kind: 'declined', charge, decline: words, intent: failed }
}

/** Keeps the method for later, if the payment says so; a method that stays without a customer is used up. */
function keepMethod(ctx: Ctx, intent: PaymentIntent, method: PaymentMethod, authenticated: boolean): void {
  const keeps = intent.customer !== null && intent.setup_future_usage !== null
  if (keeps && method.customer === null) attachApproved(ctx, method.id, intent.customer ?? '')
  const now = ctx.require('payment_method', method.id)
  const setUp = now._.setUp || (authenticated && intent.setup_future_usage === 'off_session')
  ctx.update('payment_method', method.id, { _: { ...now._, setUp, spent: now._.spent || now.customer === null } })
}

function approve(ctx: Ctx, intent: PaymentIntent, method: PaymentMethod, authenticated: boolean): Confirmed {
  const request = chargeRequest(intent, method, authenticated)
  const account = accountOf(method)
  if (account !== undefined) {
    const started = startDebit(ctx, intent, request, account)
    keepMethod(ctx, intent, method, authenticated)
    return { kind: 'processing', ...started }
  }
  const charge = recordApprovedCharge(ctx, request)
  keepMethod(ctx, intent, method, authenticated)
  const held = intent.capture_method === 'manual'
  const paid = ctx.change(
    'payment_intent',
    intent.id,
    {
      amount_capturable: held ? intent.amount : 0,
      amount_received: held ? 0 : intent.amount,
      last_payment_error: null,
      latest_charge: charge.id,
      next_action: null,
      payment_method: method.id,
      status: held ? 'requires_capture' : 'succeeded',
      _: { ...intent._, challenged: false },
    },
    held ? 'payment_intent.amount_capturable_updated' : 'payment_intent.succeeded',
  )
  openDisputeOfCard(ctx, charge.id)
  return { kind: held ? 'requires_capture' : 'succeeded', charge: ctx.require('charge', charge.id), intent: paid }
}

function challenge(ctx: Ctx, intent: PaymentIntent, method: PaymentMethod): Confirmed {
  const next_action = challengeAction(ctx, intent.client_secret, intent._.returnUrl)
  const patch: Partial<PaymentIntent> = {
    next_action,
    payment_method: method.id,
    status: 'requires_action',
    _: { ...intent._, challenged: true },
  }
  return { kind: 'requires_action', intent: ctx.change('payment_intent', intent.id, patch, 'payment_intent.requires_action') }
}

function requireConfirmable(ctx: Ctx, intent: PaymentIntent): void {
  const over: Partial<Record<PaymentIntent['status'], string>> = {
    succeeded: 'it has already succeeded after being previously confirmed.',
    requires_capture: 'it has already succeeded after being previously confirmed.',
    canceled: 'it has a status of canceled.',
    processing: 'it has a status of processing.',
  }
  const why = over[intent.status]
  if (why !== undefined) throw unexpectedState(ctx, intent, `You cannot confirm this PaymentIntent because ${why}`)
}

function methodOf(ctx: Ctx, intent: PaymentIntent, given: string | null): PaymentMethod {
  const id = given ?? intent.payment_method
  if (id === null) {
    const words = "You cannot confirm this PaymentIntent because it's missing a payment method."
    const rule =
      'You can either update the PaymentIntent with a payment method and then confirm it again, or confirm it again directly with a payment method or ConfirmationToken.'
    throw unexpectedState(ctx, intent, `${words} ${rule}`)
  }
  const method = resolvePaymentMethod(ctx, id, 'payment_method')
  requireUsableBy(method, intent.customer, 'payment_method')
  return method
}

/**
 * Confirms an intent: asks the card's bank, and records charge, events and state. A decline is an outcome, not an error; what makes
 * no sense in the intent's state throws. Does not settle the intent's invoice: see `settle`.
 */
export function confirmIntent(ctx: Ctx, id: string, confirmation: Confirmation): Confirmed {
  const before = ctx.require('payment_intent', id)
  requireConfirmable(ctx, before)
  const method = methodOf(ctx, before, confirmation.paymentMethod)
  const intent = ctx.update('payment_intent', id, {
    payment_method: method.id,
    _: { ...before._, offSession: confirmation.offSession, returnUrl: confirmation.returnUrl ?? before._.returnUrl },
  })
  const authenticated = confirmation.authenticated || isAuthenticated(ctx, method.id)
  const requested = intent.payment_method_options?.card?.request_three_d_secure
  const answer = authorize(behaviourOf(method), {
    authenticated,
    challengeRequested: requested === 'any' || requested === 'challenge',
    offSession: confirmation.offSession,
    purpose: 'payment',
    setUp: method._.setUp,
  })
  switch (answer.kind) {
    case 'approved':
      return approve(ctx, intent, method, authenticated)
    case 'challenge':
      return challenge(ctx, intent, method)
    case 'declined':
      return decline(ctx, intent, method, answer.reason)
  }
}

/** Tells billing what came of an intent that pays an invoice and was confirmed by someone else. */
export function settle(ctx: Ctx, confirmed: Confirmed): void {
  const invoice = confirmed.intent._.invoice
  if (invoice === null) return
  const paymentIntent = confirmed.intent.id
  if (confirmed.kind === 'succeeded') {
    const paymentMethod = confirmed.charge.payment_method ?? ''
    invoiceSettlement().invoiceIntentSucceeded(ctx, {
      amount: confirmed.charge.amount,
      charge: confirmed.charge.id,
      invoice,
      paymentIntent,
      paymentMethod,
    })
  } else if (confirmed.kind === 'processing') {
    invoiceSettlement().invoiceIntentProcessing(ctx, { invoice })
  } else if (confirmed.kind === 'declined') {
    const { code, declineCode } = confirmed.decline
    invoiceSettlement().invoiceIntentFailed(ctx, { code, declineCode, invoice, paymentIntent })
  }
}

/** The 402 of a declined confirmation. What was recorded stays. */
export function declinedError(ctx: Ctx, declined: Confirmed & { kind: 'declined' }): StripeError {
  return cardError({
    ...declineFields(declined.decline),
    charge: declined.charge.id,
    payment_intent: ctx.present(ctx.require('payment_intent', declined.intent.id)),
  })
}

/** The 402 of `error_on_requires_action`. */
export function actionRequiredError(ctx: Ctx, intent: PaymentIntent): StripeError {
  return cardError({
    code: 'authentication_required',
    decline_code: 'authentication_required',
    message: 'This payment required an authentication action to complete, but `error_on_requires_action` was set.',
    payment_intent: ctx.present(intent),
  })
}

const failedAuthentication =
  'We are unable to authenticate your payment method. Please choose a different payment method and try again.'

/** The last error of an intent whose challenge the holder failed. */
export function authenticationFailure(ctx: Ctx, code: string, method: string | null): Record<string, unknown> {
  const paymentMethod = method === null ? undefined : ctx.get('payment_method', method)
  return {
    code,
    doc_url: `https://stripe.com/docs/error-codes/${code.replaceAll('_', '-')}`,
    message: failedAuthentication,
    ...(paymentMethod === undefined ? {} : { payment_method: ctx.present(paymentMethod) }),
    type: 'invalid_request_error',
  }
}

/**
 * Answers a challenge that stands: `complete` goes on with the payment, `fail` ends it with `payment_intent_authentication_failure`.
 * Settles the invoice. Throws when no challenge stands.
 */
export function answerChallenge(
  ctx: Ctx,
  id: string,
  outcome: 'complete' | 'fail',
): Confirmed | { kind: 'failed'; intent: PaymentIntent } {
  const intent = ctx.require('payment_intent', id)
  if (!intent._.challenged) throw invalidRequest('This PaymentIntent has no authentication to answer.')
  if (outcome === 'complete') {
    const confirmation = { authenticated: true, offSession: false, paymentMethod: null, returnUrl: null }
    const confirmed = confirmIntent(ctx, id, confirmation)
    settle(ctx, confirmed)
    return confirmed
  }
  const error = authenticationFailure(ctx, 'payment_intent_authentication_failure', intent.payment_method)
  const failed = ctx.change(
    'payment_intent',
    id,
    {
      last_payment_error: error as unknown as PaymentIntent['last_payment_error'],
      next_action: null,
      payment_method: null,
      status: 'requires_payment_method',
      _: { ...intent._, challenged: false },
    },
    'payment_intent.payment_failed',
  )
  if (intent._.invoice !== null) {
    const code = 'payment_intent_authentication_failure'
    invoiceSettlement().invoiceIntentFailed(ctx, { code, declineCode: null, invoice: intent._.invoice, paymentIntent: id })
  }
  return { kind: 'failed', intent: failed }
}
