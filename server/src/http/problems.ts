import { maskCardNumbers } from '../lib/card-data.ts'
import type { DomainError, DomainErrorCode } from '../lib/errors.ts'

type ProblemKind = { readonly status: number; readonly title: string; readonly retryAfterSeconds?: number }

/** The one table: what each error is on the wire. `errors-page.ts` makes a page of it. */
export const PROBLEMS: Readonly<Record<DomainErrorCode, ProblemKind>> = {
  invalid_request: { status: 400, title: 'The request is not valid' },
  unauthenticated: { status: 401, title: 'Nobody is authenticated' },
  forbidden: { status: 403, title: 'The role or scope is missing' },
  not_found: { status: 404, title: 'There is no such thing' },
  conflict: { status: 409, title: 'The request conflicts with the present state' },
  idempotency_conflict: { status: 409, title: 'The idempotency key was used with another body' },
  unknown_meter: { status: 422, title: 'The catalog has no such meter' },
  unknown_plan: { status: 422, title: 'The catalog has no such plan' },
  unknown_feature: { status: 422, title: 'The catalog has no such feature' },
  unknown_price: { status: 422, title: 'No plan is sold at this price' },
  plan_not_offered: { status: 422, title: 'This plan cannot be bought' },
  invalid_quantity: { status: 422, title: 'The quantity cannot be counted exactly' },
  time_out_of_range: { status: 422, title: 'The time lies outside what is accepted' },
  subscription_missing: { status: 409, title: 'There is no subscription' },
  subscription_exists: { status: 409, title: 'There is a subscription already' },
  nothing_to_change: { status: 409, title: 'Nothing would change' },
  reservation_closed: { status: 409, title: 'The reservation is settled, released or expired' },
  test_clock_missing: { status: 409, title: 'The organization does not live on a test clock' },
  last_owner: { status: 409, title: 'An organization keeps an owner' },
  invitation_closed: { status: 409, title: 'The invitation is not open any more' },
  wrong_credentials: { status: 401, title: 'The sign-in is refused' },
  email_not_verified: { status: 403, title: 'The e-mail address is not verified' },
  too_many_attempts: { status: 429, title: 'Too many attempts', retryAfterSeconds: 10 },
  payment_failed: { status: 402, title: 'The payment failed' },
  tax_location_missing: { status: 422, title: 'Where the customer is taxed is not known' },
  payment_method_missing: { status: 402, title: 'There is no payment method' },
  method_not_allowed: { status: 405, title: 'The path does not take this method' },
  payload_too_large: { status: 413, title: 'The request is too large' },
  unsupported_media_type: { status: 415, title: 'The body is of a kind that is not read here' },
  invalid_signature: { status: 400, title: 'The signature is not valid' },
  billing_not_configured: { status: 503, title: 'Billing is not configured' },
  stripe_failed: { status: 502, title: 'Stripe refused or failed' },
  stripe_unavailable: { status: 503, title: 'Stripe is away', retryAfterSeconds: 5 },
  database_unavailable: { status: 503, title: 'The database is away', retryAfterSeconds: 1 },
  overloaded: { status: 503, title: 'Too much at once', retryAfterSeconds: 1 },
  starting: { status: 503, title: 'The server is starting', retryAfterSeconds: 1 },
  stopping: { status: 503, title: 'The server is stopping', retryAfterSeconds: 1 },
}

// Relative to the server, which serves the page from this very table (errors-page.ts).
export const ERRORS_PAGE = '/docs/errors'

/** A problem document (RFC 9457) for an error of the caller's or of something that is away. */
export function problemOf(
  error: DomainError,
  requestId: string,
): { status: number; headers: Record<string, string>; body: Record<string, unknown> } {
  const kind = PROBLEMS[error.code]
  const told = error.details['retry_after_seconds'] ?? error.details['retry_after']
  const retryAfter = typeof told === 'number' ? told : kind.retryAfterSeconds
  return {
    status: kind.status,
    headers: {
      'content-type': 'application/problem+json',
      ...(retryAfter === undefined ? {} : { 'retry-after': String(retryAfter) }),
    },
    body: {
      type: `${ERRORS_PAGE}#${error.code}`,
      title: kind.title,
      status: kind.status,
      code: error.code,
      detail: maskCardNumbers(error.message),
      ...error.details,
      request_id: requestId,
    },
  }
}

/** The problem document of a bug of ours: it says nothing about the inside; the log has it under the same request id. */
export function internalProblem(requestId: string): Record<string, unknown> {
  return {
    type: `${ERRORS_PAGE}#internal_error`,
    title: 'The server failed',
    status: 500,
    code: 'internal_error',
    detail: 'Something went wrong here. Name the request id when you report it.',
    request_id: requestId,
  }
}
