import { StripeError } from '../engine/errors.ts'

/** What a caller may do: everything, or only what Stripe.js does in a browser. */
export type KeyKind = 'secret' | 'publishable'

/**
 * Reads the API key of `Authorization: Bearer …` or Basic (key as user name). Without a list of keys any `sk_test_…`, `rk_test_…` and
 * `pk_test_…` is accepted; with one, only its keys. Throws Stripe's 401.
 */
export function authenticate(header: string | undefined, accepted: readonly string[] | null): KeyKind {
  const key = keyOf(header)
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

function keyOf(header: string | undefined): string {
  const [scheme = '', value = ''] = (header ?? '').split(' ')
  if (scheme.toLowerCase() === 'bearer') return value.trim()
  if (scheme.toLowerCase() !== 'basic') return ''
  return Buffer.from(value, 'base64').toString().split(':')[0] ?? ''
}

function masked(key: string): string {
  return key.length <= 12 ? '*'.repeat(key.length) : `${key.slice(0, 8)}${'*'.repeat(key.length - 12)}${key.slice(-4)}`
}

function unauthorized(message: string): StripeError {
  return new StripeError(401, { type: 'invalid_request_error', message }, { beforeExecution: true })
}
