import type { Ctx } from '../engine/context.ts'
import { cardError, invalidRequest, StripeError } from '../engine/errors.ts'
import type { Stored } from '../model/stored.ts'
import { authorize } from './authorization.ts'
import { declineFields } from './cards.ts'
import { authenticationFailure, challengeAction } from './confirm.ts'
import { invoiceSettlement } from './contract.ts'
import { attachApproved, behaviourOf, requireUsableBy, resolvePaymentMethod, type PaymentMethod } from './payment-methods.ts'
import { describeDecline } from './test-cards.ts'

export type SetupIntent = Stored<'setup_intent'>
type SetupAttempt = Stored<'setup_attempt'>

/** What a new setup intent is made from. */
export interface SetupDraft {
  readonly customer: string | null
  readonly paymentMethod: string | null
  readonly description?: string | null
  readonly metadata?: Record<string, string>
  readonly usage?: 'off_session' | 'on_session'
  readonly automatic?: SetupIntent['automatic_payment_methods']
  readonly allowed?: SetupIntent['allowed_payment_method_types']
  readonly requestThreeDSecure?: 'any' | 'automatic' | 'challenge'
  readonly subscription?: string | null
  readonly checkoutSession?: string | null
}

/** Makes a setup intent. Emits `setup_intent.created`. */
export function createSetupIntent(ctx: Ctx, draft: SetupDraft): SetupIntent {
  const id = ctx.newId('seti', 24)
  const intent: SetupIntent = {
    id,
    object: 'setup_intent',
    allowed_payment_method_types: draft.allowed ?? null,
    application: null,
    automatic_payment_methods: draft.automatic ?? null,
    cancellation_reason: null,
    client_secret: `${id}_secret_${ctx.token(29)}`,
    created: ctx.now(draft.customer),
    customer: draft.customer,
    customer_account: null,
    description: draft.description ?? null,
    excluded_payment_method_types: null,
    flow_directions: null,
    last_setup_error: null,
    latest_attempt: null,
    livemode: false,
    mandate: null,
    metadata: draft.metadata ?? {},
    next_action: null,
    on_behalf_of: null,
    payment_method: draft.paymentMethod,
    payment_method_configuration_details: null,
    payment_method_options: {
      card: { mandate_options: null, network: null, request_three_d_secure: draft.requestThreeDSecure ?? 'automatic' },
    },
    payment_method_types: ['card'],
    single_use_mandate: null,
    status: draft.paymentMethod === null ? 'requires_payment_method' : 'requires_confirmation',
    usage: draft.usage ?? 'off_session',
    _: { subscription: draft.subscription ?? null, checkoutSession: draft.checkoutSession ?? null, returnUrl: null },
  }
  return ctx.create('setup_intent', intent, 'setup_intent.created')
}

/** 400 `setup_intent_unexpected_state`, with the intent. */
export function unexpectedSetupState(ctx: Ctx, intent: SetupIntent, message: string): StripeError {
  return new StripeError(400, {
    type: 'invalid_request_error',
    code: 'setup_intent_unexpected_state',
    message,
    setup_intent: ctx.present(intent),
  })
}

function recordAttempt(
  ctx: Ctx,
  intent: SetupIntent,
  method: PaymentMethod,
  result: { status: string; error: Record<string, unknown> | null; authenticated: boolean },
): string {
  const card = method.card
  const three_d_secure = result.authenticated
    ? {
        authentication_flow: 'challenge' as const,
        electronic_commerce_indicator: '05' as const,
        result: 'authenticated' as const,
        result_reason: null,
        transaction_id: null,
        version: '2.2.0' as const,
      }
    : null
  const attempt: SetupAttempt = {
    id: ctx.newId('setatt', 24),
    object: 'setup_attempt',
    application: null,
    created: ctx.now(intent.customer),
    customer: intent.customer,
    customer_account: null,
    flow_directions: null,
    livemode: false,
    on_behalf_of: null,
    payment_method: method.id,
    payment_method_details: {
      type: method.type,
      ...(card === undefined
        ? {}
        : {
            card: {
              brand: card.brand,
              checks: card.checks,
              country: card.country,
              exp_month: card.exp_month,
              exp_year: card.exp_year,
              fingerprint: card.fingerprint ?? null,
              funding: card.funding,
              last4: card.last4,
              network: card.brand,
              three_d_secure,
              wallet: null,
            },
          }),
    },
    setup_error: result.error as unknown as SetupAttempt['setup_error'],
    setup_intent: intent.id,
    status: result.status,
    usage: intent.usage,
  }
  return ctx.create('setup_attempt', attempt).id
}

/** What came of a confirmation. */
export type SetupConfirmed =
  | { readonly kind: 'succeeded' | 'requires_action'; readonly intent: SetupIntent }
  | { readonly kind: 'declined'; readonly intent: SetupIntent; readonly error: Record<string, unknown> }

function fail(ctx: Ctx, intent: SetupIntent, method: PaymentMethod, error: Record<string, unknown>): SetupConfirmed {
  const latest_attempt = recordAttempt(ctx, intent, method, { status: 'failed', error, authenticated: false })
  const patch: Partial<SetupIntent> = {
    last_setup_error: error as unknown as SetupIntent['last_setup_error'],
    latest_attempt,
    next_action: null,
    payment_method: null,
    status: 'requires_payment_method',
  }
  return { kind: 'declined', error, intent: ctx.change('setup_intent', intent.id, patch, 'setup_intent.setup_failed') }
}

function succeed(ctx: Ctx, intent: SetupIntent, method: PaymentMethod, authenticated: boolean): SetupConfirmed {
  const kept = intent.customer === null ? method : attachApproved(ctx, method.id, intent.customer)
  const setUp = kept._.setUp || intent.usage === 'off_session'
  ctx.update('payment_method', kept.id, { _: { ...kept._, setUp } })
  const latest_attempt = recordAttempt(ctx, intent, method, { status: 'succeeded', error: null, authenticated })
  const patch: Partial<SetupIntent> = {
    last_setup_error: null,
    latest_attempt,
    next_action: null,
    payment_method: method.id,
    status: 'succeeded',
  }
  const done = ctx.change('setup_intent', intent.id, patch, 'setup_intent.succeeded')
  const subscription = intent._.subscription
  if (subscription !== null) {
    invoiceSettlement().subscriptionSetupSucceeded(ctx, { subscription, setupIntent: intent.id, paymentMethod: method.id })
  }
  return { kind: 'succeeded', intent: done }
}

function challenge(ctx: Ctx, intent: SetupIntent, method: PaymentMethod): SetupConfirmed {
  const latest_attempt = recordAttempt(ctx, intent, method, { status: 'requires_action', error: null, authenticated: false })
  const next_action = challengeAction(ctx, intent.client_secret, intent._.returnUrl)
  const patch: Partial<SetupIntent> = { latest_attempt, next_action, payment_method: method.id, status: 'requires_action' }
  return { kind: 'requires_action', intent: ctx.change('setup_intent', intent.id, patch, 'setup_intent.requires_action') }
}

function requireConfirmable(ctx: Ctx, intent: SetupIntent): void {
  if (intent.status !== 'succeeded' && intent.status !== 'canceled') return
  const why = intent.status === 'succeeded' ? 'it has already succeeded.' : 'it has a status of canceled.'
  throw unexpectedSetupState(ctx, intent, `You cannot confirm this SetupIntent because ${why}`)
}

/** Confirms a setup intent: asks the card's bank and records attempt, events and state. A decline is an outcome, not an error. */
export function confirmSetupIntent(
  ctx: Ctx,
  id: string,
  confirmation: { readonly paymentMethod: string | null; readonly returnUrl: string | null; readonly authenticated: boolean },
): SetupConfirmed {
  const before = ctx.require('setup_intent', id)
  requireConfirmable(ctx, before)
  const methodId = confirmation.paymentMethod ?? before.payment_method
  if (methodId === null) {
    throw unexpectedSetupState(ctx, before, "You cannot confirm this SetupIntent because it's missing a payment method.")
  }
  const method = resolvePaymentMethod(ctx, methodId, 'payment_method')
  requireUsableBy(method, before.customer, 'payment_method')
  const intent = ctx.update('setup_intent', id, {
    payment_method: method.id,
    _: { ...before._, returnUrl: confirmation.returnUrl ?? before._.returnUrl },
  })
  const requested = intent.payment_method_options?.card?.request_three_d_secure
  const answer = authorize(behaviourOf(method), {
    authenticated: confirmation.authenticated,
    challengeRequested: requested === 'any' || requested === 'challenge',
    offSession: false,
    purpose: 'setup',
    setUp: method._.setUp,
  })
  switch (answer.kind) {
    case 'approved':
      return succeed(ctx, intent, method, confirmation.authenticated)
    case 'challenge':
      return challenge(ctx, intent, method)
    case 'declined': {
      const fields = declineFields(describeDecline(answer.reason))
      return fail(ctx, intent, method, { ...fields, payment_method: ctx.present(method), type: 'card_error' })
    }
  }
}

/** The 402 of a declined confirmation. What was recorded stays. */
export function setupDeclinedError(ctx: Ctx, declined: SetupConfirmed & { kind: 'declined' }): StripeError {
  const message = typeof declined.error['message'] === 'string' ? declined.error['message'] : 'Your card was declined.'
  const setup_intent = ctx.present(ctx.require('setup_intent', declined.intent.id))
  return cardError({ ...declined.error, message, setup_intent })
}

/** Answers a challenge that stands. Throws when none does. */
export function answerSetupChallenge(ctx: Ctx, id: string, outcome: 'complete' | 'fail'): SetupConfirmed {
  const intent = ctx.require('setup_intent', id)
  if (intent.status !== 'requires_action' || intent.payment_method === null) {
    throw invalidRequest('This SetupIntent has no authentication to answer.')
  }
  if (outcome === 'complete') return confirmSetupIntent(ctx, id, { authenticated: true, paymentMethod: null, returnUrl: null })
  const method = ctx.require('payment_method', intent.payment_method)
  return fail(ctx, intent, method, authenticationFailure(ctx, 'setup_intent_authentication_failure', method.id))
}

/** Cancels a setup intent. Emits `setup_intent.canceled`. */
export function cancelSetupIntent(ctx: Ctx, id: string, reason: SetupIntent['cancellation_reason']): SetupIntent {
  const intent = ctx.require('setup_intent', id)
  if (intent.status === 'succeeded' || intent.status === 'canceled') {
    throw unexpectedSetupState(ctx, intent, `You cannot cancel this SetupIntent because it has a status of ${intent.status}.`)
  }
  return ctx.change(
    'setup_intent',
    id,
    { cancellation_reason: reason, next_action: null, status: 'canceled' },
    'setup_intent.canceled',
  )
}
