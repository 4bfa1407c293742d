import { DomainError, type DomainErrorCode } from '../../lib/errors.ts'

/**
 * What is known after a call to Stripe failed: `refused` is Stripe's answer about what was asked for, and nothing happened; `later` says
 * nothing about it (too many calls, a key that is not good, a connection that never came about); `unknown` that Stripe failed on it, so
 * that it may have happened; `unanswered` that it may have happened, or may yet (time-out, connection lost). See `intents/intents.ts`.
 */
export type CallOutcome = 'refused' | 'later' | 'unknown' | 'unanswered'

/** A failed call to Stripe, with a message fit to be shown. Stripe's own words are logged where it is made, not carried along. */
export class StripeCallError extends DomainError {
  readonly outcome: CallOutcome

  constructor(code: DomainErrorCode, message: string, outcome: CallOutcome, details: Record<string, unknown> = {}) {
    super(code, message, details)
    this.name = 'StripeCallError'
    this.outcome = outcome
  }

  /** The same of a call of which an attempt before this one got no answer: only a refusal says anything about that one too. */
  afterUnanswered(): StripeCallError {
    return this.outcome === 'refused' || this.outcome === 'unanswered' ? this : unanswered()
  }
}

/** What is read of an error of the SDK. */
export type WireError = {
  /** Which of our calls it was. */
  readonly call: string
  readonly type: string
  readonly statusCode?: number
  readonly code?: string
  readonly decline_code?: string
  readonly param?: string
  /** What the connection failed with; its `code` is the system's. */
  readonly detail?: unknown
}

/** Seconds after which a caller may try again when Stripe is away. */
export const STRIPE_RETRY_AFTER_SECONDS = 5

const UNAVAILABLE = 'Stripe cannot be reached at the moment; nothing was done, please try again.'
const LOCKED = 'Stripe is at work on the same thing for another request; nothing was done, please try again.'
const FAILED = 'Stripe could not carry this out.'
// Said of reads as well, of which nothing has to be looked up.
const LOOKED_UP = 'It is looked up before anything else is changed; what was not done is done only if you ask for it again.'
const UNSETTLED = `Stripe failed, and did not say whether this was carried out. ${LOOKED_UP}`
const UNANSWERED = `Stripe did not answer: whether this was carried out is not known yet. ${LOOKED_UP}`
const IN_USE = `Stripe is still at work on this: whether it is carried out is not known yet. ${LOOKED_UP}`

/** Failures of a connection before anything was sent. */
const UNSENT = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH'])

/**
 * Maps an error of the SDK to one of ours. Pure.
 * Away, throttled or at work on the same thing → `stripe_unavailable` (503 with Retry-After); a declined card → `payment_failed` with the decline code;
 * a thing named by the caller that Stripe does not know → `invalid_request`; everything else → `stripe_failed` (OC-10).
 */
export function toStripeCallError(error: WireError): StripeCallError {
  // Another request holds the object, and this one was not looked at; said with 429, and with 409.
  if (error.code === 'lock_timeout') return away(LOCKED)
  if (error.statusCode === 409) return unanswered(IN_USE)
  switch (error.type) {
    case 'StripeConnectionError':
      return wasSent(error) ? unanswered() : away()
    case 'StripeRateLimitError':
      return away()
    case 'StripeAuthenticationError':
    case 'StripePermissionError':
      return new StripeCallError('stripe_failed', FAILED, 'later')
    case 'StripeIdempotencyError':
      // Its key was used, for the same wish in other words.
      return new StripeCallError('stripe_failed', UNSETTLED, 'unknown', { key_used: true })
    case 'StripeCardError':
      return toPaymentFailed(error)
    case 'StripeInvalidRequestError':
      return toRefused(error)
    default:
      return toFailed(error)
  }
}

function away(sentence = UNAVAILABLE): StripeCallError {
  return new StripeCallError('stripe_unavailable', sentence, 'later', { retry_after: STRIPE_RETRY_AFTER_SECONDS })
}

function unanswered(sentence = UNANSWERED): StripeCallError {
  return new StripeCallError('stripe_unavailable', sentence, 'unanswered', { retry_after: STRIPE_RETRY_AFTER_SECONDS })
}

function wasSent({ detail }: WireError): boolean {
  const code = typeof detail === 'object' && detail !== null && 'code' in detail ? detail.code : null
  return !UNSENT.has(String(code))
}

/** A 500 is Stripe's own end of a call, kept under its key. Others (502 to 504, no JSON) are said before Stripe. */
function toFailed({ type, statusCode }: WireError): StripeCallError {
  if (statusCode === undefined || statusCode > 500) return unanswered()
  return type === 'StripeAPIError' || statusCode === 500
    ? new StripeCallError('stripe_failed', UNSETTLED, 'unknown')
    : new StripeCallError('stripe_failed', FAILED, 'refused')
}

const DECLINES: Readonly<Record<string, string>> = {
  insufficient_funds: 'The card was declined: insufficient funds.',
  expired_card: 'The card was declined: it has expired.',
  incorrect_cvc: 'The card was declined: its security code is wrong.',
  incorrect_number: 'The card was declined: its number is wrong.',
  processing_error: 'The card could not be processed; please try again.',
  authentication_required: 'The bank asks for authentication of this payment.',
}

/** Codes by which Stripe says that the payment waits for the customer (3-D Secure). */
const ACTION_CODES = new Set([
  'authentication_required',
  'subscription_payment_intent_requires_action',
  'invoice_payment_intent_requires_action',
])

function toPaymentFailed(error: WireError): StripeCallError {
  const reason = error.decline_code ?? error.code ?? 'card_declined'
  // Lost, stolen and suspected cards are not told apart to the caller: Stripe's advice is to show a plain decline.
  const shown = reason in DECLINES ? reason : 'generic_decline'
  const action = ACTION_CODES.has(error.code ?? '') || ACTION_CODES.has(reason)
  return new StripeCallError('payment_failed', DECLINES[reason] ?? 'The card was declined.', 'refused', {
    decline_code: action ? 'authentication_required' : shown,
    requires_action: action,
  })
}

function toRefused(error: WireError): StripeCallError {
  const { code = '', param = '' } = error
  const namesMethod = /payment_method|source/.test(param) || (error.call.endsWith('_payment_method') && param !== 'customer')
  // One that belongs to somebody else looks like one that is not there: Stripe refuses it with a plain sentence.
  const isForeign = error.call === 'attach_payment_method' && code === '' && param === '' && error.statusCode === 400
  if (isForeign || (code === 'resource_missing' && namesMethod)) {
    return new StripeCallError('invalid_request', 'There is no such payment method.', 'refused', { field: 'payment_method_id' })
  }
  if (code === 'resource_missing' && /coupon|promotion_code|discount/.test(param)) {
    return new StripeCallError('invalid_request', 'There is no such discount.', 'refused', { field: 'discount_code' })
  }
  if (code === 'coupon_expired' || code === 'resource_already_exists') {
    const sentence = code === 'coupon_expired' ? 'The discount has run out.' : 'There is such a thing already.'
    return new StripeCallError('conflict', sentence, 'refused', { reason: code })
  }
  if (ACTION_CODES.has(code)) return toPaymentFailed(error)
  // A charge without any payment method is a 400 that names no parameter; an unknown object a 404, or a 400 that names it.
  if (code === 'resource_missing' && param === '' && error.statusCode === 400) {
    return new StripeCallError('payment_method_missing', 'There is no payment method to charge; add one first.', 'refused')
  }
  if (code === 'customer_tax_location_invalid') {
    const sentence = 'Where the customer is taxed cannot be told: set their address first (PUT /api/v1/billing/details).'
    return new StripeCallError('tax_location_missing', sentence, 'refused')
  }
  if (code === 'tax_id_invalid' || (error.call === 'create_tax_id' && /^(type|value)$/.test(param))) {
    return new StripeCallError('invalid_request', 'This is no tax id of that type.', 'refused', { field: 'tax_id' })
  }
  if (code === 'invoice_upcoming_none') {
    return new StripeCallError('stripe_failed', 'Stripe foretells no invoice.', 'refused', { none_upcoming: true })
  }
  const missing = code === 'resource_missing' || error.statusCode === 404
  return new StripeCallError('stripe_failed', 'Stripe refused this request.', 'refused', missing ? { missing: true } : {})
}

/** Whether a failed call says that the thing asked for does not exist at Stripe. */
export function isMissingAtStripe(error: unknown): boolean {
  return error instanceof StripeCallError && error.details['missing'] === true
}

/** Whether a preview found that no invoice is to come. */
export function isNoneUpcoming(error: unknown): boolean {
  return error instanceof StripeCallError && error.details['none_upcoming'] === true
}

/** Whether a repeated call was made before under its key, though worded otherwise, as by an earlier version of the server. */
export function isKeyUsed(error: unknown): boolean {
  return error instanceof StripeCallError && error.details['key_used'] === true
}
