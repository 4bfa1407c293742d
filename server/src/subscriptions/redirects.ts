import { DomainError } from '../lib/errors.ts'
import type { BillingPolicy } from '../stripe/context.ts'

const VARIABLES = 'TOLLGATE_PUBLIC_URL, STRIPE_SUCCESS_URL, STRIPE_CANCEL_URL or STRIPE_PORTAL_RETURN_URL'
const LOOPBACK = new Set(['localhost', '127.0.0.1', '[::1]'])

/**
 * Checks an address to which a hosted page is to send somebody: only places of this installation, so that nobody can use
 * a payment page to lead people elsewhere.
 * @returns the address, or the default where none is given
 * @throws DomainError `invalid_request`
 */
export function checkRedirect(
  policy: BillingPolicy,
  given: string | undefined,
  { field, fallback }: { field: string; fallback: string },
): string {
  if (given === undefined) return fallback
  const url = parse(given)
  if (url === null || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
    throw new DomainError('invalid_request', `${field} must be an http or https address.`, { field })
  }
  const allowed = new Set(
    [policy.successUrl, policy.cancelUrl, policy.portalReturnUrl, ...policy.redirectOrigins].map((each) => parse(each)?.origin),
  )
  if (allowed.has(url.origin)) return given
  if (policy.allowLoopbackRedirects && LOOPBACK.has(url.hostname)) return given
  throw new DomainError(
    'invalid_request',
    `${field} leads to ${url.host}, which this server does not send people to: the places are those of ${VARIABLES}.`,
    { field },
  )
}

// What readers of addresses take for different things: a browser goes to `a` for `https://a\\@b`, others to `b`.
const AMBIGUOUS = /[\\\s\p{Cc}]/u

// Stripe fills {CHECKOUT_SESSION_ID} in; URL keeps it, percent-encoded, so the address itself is passed on as it was given.
function parse(text: string): URL | null {
  return URL.canParse(text) && !AMBIGUOUS.test(text) ? new URL(text) : null
}

/** Where a page of Stripe's leads, paid and not. */
export type Pages = { readonly successUrl: string; readonly cancelUrl: string }

/** Both, checked; where none is asked for, the policy's. @throws as `checkRedirect` */
export function checkPages(
  policy: BillingPolicy,
  asked: { readonly successUrl: string | undefined; readonly cancelUrl: string | undefined },
): Pages {
  return {
    successUrl: checkRedirect(policy, asked.successUrl, { field: 'success_url', fallback: policy.successUrl }),
    cancelUrl: checkRedirect(policy, asked.cancelUrl, { field: 'cancel_url', fallback: policy.cancelUrl }),
  }
}
