import type { Ctx } from '../engine/context.ts'
import { StripeError } from '../engine/errors.ts'

/** What a caller may do: everything, or only what Stripe.js does in a browser. */
export type KeyKind = 'secret' | 'publishable'

/**
 * Checks an API key. Without a list of keys any `sk_test_…`, `rk_test_…` and
 * `pk_test_…` is accepted; with one, only its keys. Throws Stripe's 401.
 */
export function authenticate(key: string, accepted: readonly string[] | null): KeyKind {
  if (key === '') {
    throw unauthorized(
      'You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer auth (e.g. ' +
        "'Authorization: Bearer YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication for details, or we can help at https://support.stripe.com/.",
    )
  }
  const wellFormed = /^(sk|rk|pk)_test_\w+$/.test(key)
  if (!wellFormed || (accepted !== null && !accepted.includes(key)))
    throw unauthorized(`Invalid API Key provided: ${masked(key)}`)
  return key.startsWith('pk_') ? 'publishable' : 'secret'
}

/** What Stripe answers when a publishable key asks for more than Stripe.js may do. */
export function secretKeyRequired(): StripeError {
  return new StripeError(
    401,
    {
      type: 'invalid_request_error',
      code: 'secret_key_required',
      message:
        'This API call cannot be made with a publishable API key. Please use a secret API key. You can find a list of your API keys at https://dashboard.stripe.com/account/apikeys.',
    },
    { beforeExecution: true },
  )
}

/** The key of `Authorization: Bearer …` or Basic (key as user name); empty when there is none. */
export function keyOf(header: string | undefined): string {
  const [scheme = '', value = ''] = (header ?? '').split(' ')
  if (scheme.toLowerCase() === 'bearer') return value.trim()
  if (scheme.toLowerCase() !== 'basic') return ''
  return Buffer.from(value, 'base64').toString().split(':')[0] ?? ''
}

/** Checks the token of a meter event session: known and not older than its 15 minutes. */
export function authenticateSession(key: string, ctx: Ctx): void {
  const session = ctx.store.lastBy('v2.billing.meter_event_session', 'token', key)
  if (session !== undefined && Date.parse(session.expires_at) > ctx.now() * 1000) return
  throw new StripeError(
    401,
    {
      type: 'invalid_request_error',
      code: session === undefined ? 'invalid_api_key' : 'billing_meter_event_session_expired',
      message: session === undefined ? 'Invalid authentication token.' : 'The meter event session has expired. Create a new one.',
    },
    { beforeExecution: true },
  )
}

function masked(key: string): string {
  return key.length <= 12 ? '*'.repeat(key.length) : `${key.slice(0, 8)}${'*'.repeat(key.length - 12)}${key.slice(-4)}`
}

function unauthorized(message: string): StripeError {
  return new StripeError(401, { type: 'invalid_request_error', message }, { beforeExecution: true })
}
