import { describe, expect, test } from 'vitest'
import { toStripeCallError, type WireError } from './errors.ts'

const errorOf = (error: Partial<WireError>) => toStripeCallError({ call: 'create_payment', type: 'StripeCardError', ...error })

describe('what is known after a call that failed', () => {
  // Taken for refused, what may have happened would be done a second time.
  test.each([
    [{ type: 'StripeConnectionError' }, 'unanswered'],
    [{ type: 'StripeConnectionError', detail: { code: 'ETIMEDOUT' } }, 'unanswered'],
    [{ type: 'StripeConnectionError', detail: { code: 'ECONNREFUSED' } }, 'later'],
    [{ type: 'StripeAPIError' }, 'unanswered'],
    [{ type: 'StripeAPIError', statusCode: 500 }, 'unknown'],
    [{ type: 'StripeAPIError', statusCode: 409 }, 'unanswered'],
    [{ type: 'StripeIdempotencyError', statusCode: 400 }, 'unknown'],
    [{ type: 'SomethingNew' }, 'unanswered'],
    [{ type: 'SomethingNew', statusCode: 503 }, 'unanswered'],
    [{ type: 'StripeAPIError', statusCode: 409, code: 'lock_timeout' }, 'later'],
    [{ type: 'StripeRateLimitError', statusCode: 429, code: 'lock_timeout' }, 'later'],
    [{ type: 'StripeIdempotencyError', statusCode: 409, code: 'idempotency_key_in_use' }, 'unanswered'],
    [{ type: 'SomethingNew', statusCode: 400 }, 'refused'],
    [{ type: 'StripeRateLimitError', statusCode: 429 }, 'later'],
    [{ type: 'StripeAuthenticationError', statusCode: 401 }, 'later'],
    [{ type: 'StripePermissionError', statusCode: 403 }, 'later'],
    [{ type: 'StripeInvalidRequestError', statusCode: 400 }, 'refused'],
    [{ type: 'StripeCardError', statusCode: 402 }, 'refused'],
  ])('of %j is that it is %s', (error, outcome) => {
    expect(errorOf(error).outcome).toBe(outcome)
  })
})

test('what is said of a repeat says nothing of an attempt that got no answer, but a refusal', () => {
  const after = (error: Partial<WireError>) => errorOf(error).afterUnanswered().outcome
  expect(after({ type: 'StripeRateLimitError', statusCode: 429 })).toBe('unanswered')
  expect(after({ type: 'StripeAPIError', statusCode: 500 })).toBe('unanswered')
  expect(after({ code: 'card_declined' })).toBe('refused')
})

describe('a declined card', () => {
  test.each(['lost_card', 'stolen_card', 'pickup_card', 'fraudulent', 'do_not_honor'])(
    'is not told to be a %s',
    (decline_code) => {
      const error = errorOf({ code: 'card_declined', decline_code })
      expect(error).toMatchObject({ code: 'payment_failed', message: 'The card was declined.' })
      expect(error.details).toEqual({ decline_code: 'generic_decline', requires_action: false })
    },
  )

  test('says what its holder can mend, and where the bank asks them', () => {
    expect(errorOf({ code: 'card_declined', decline_code: 'insufficient_funds' }).details).toMatchObject({
      decline_code: 'insufficient_funds',
    })
    expect(errorOf({ code: 'invoice_payment_intent_requires_action' }).details).toEqual({
      decline_code: 'authentication_required',
      requires_action: true,
    })
  })
})
