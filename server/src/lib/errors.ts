/**
 * What a caller can get wrong, and what can be away. `http/problems.ts` maps each code to its HTTP status and its
 * page of documentation; nothing else decides a status.
 */
export type DomainErrorCode =
  | 'invalid_request'
  | 'unauthenticated'
  | 'forbidden'
  | 'not_found'
  | 'conflict'
  | 'idempotency_conflict'
  | 'unknown_meter'
  | 'unknown_plan'
  | 'unknown_feature'
  | 'unknown_price'
  | 'plan_not_offered'
  | 'invalid_quantity'
  | 'time_out_of_range'
  | 'subscription_missing'
  | 'subscription_exists'
  | 'nothing_to_change'
  | 'reservation_closed'
  | 'test_clock_missing'
  | 'last_owner'
  | 'invitation_closed'
  | 'wrong_credentials'
  | 'email_not_verified'
  | 'too_many_attempts'
  | 'payment_failed'
  | 'payment_method_missing'
  | 'tax_location_missing'
  | 'method_not_allowed'
  | 'payload_too_large'
  | 'unsupported_media_type'
  | 'invalid_signature'
  | 'billing_not_configured'
  | 'stripe_failed'
  | 'stripe_unavailable'
  | 'database_unavailable'
  | 'overloaded'
  | 'starting'
  | 'stopping'

/**
 * An error that the caller can act on. `message` is a sentence fit to be shown; `details` are extra fields of the
 * problem document (RFC 9457), never secrets or another tenant's data.
 */
export class DomainError extends Error {
  readonly code: DomainErrorCode
  readonly details: Readonly<Record<string, unknown>>

  constructor(code: DomainErrorCode, message: string, details: Record<string, unknown> = {}, options?: ErrorOptions) {
    super(message, options)
    this.name = 'DomainError'
    this.code = code
    this.details = details
  }
}

/** What `read` makes, or the error by which it says that the caller got something wrong. @throws any other error */
export function orDomainError<Made>(read: () => Made): Made | DomainError {
  try {
    return read()
  } catch (error) {
    if (error instanceof DomainError) return error
    throw error
  }
}

/** States that a thing cannot happen; a failure is a bug of ours (a 500), never the caller's. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`Broken invariant: ${message}`)
}
