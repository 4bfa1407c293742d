import { describe, expect, test } from 'vitest'
import { TEST_POLICY } from '../../test/billing.ts'
import { checkRedirect } from './redirects.ts'

const live = {
  ...TEST_POLICY,
  successUrl: 'https://app.example.com/paid',
  redirectOrigins: ['https://admin.example.com'],
  allowLoopbackRedirects: false,
}
const check = (given: string | undefined) => checkRedirect(live, given, { field: 'success_url', fallback: live.successUrl })

describe('where a payment page may send people', () => {
  test('to the default, to its origin, to the origins that are configured', () => {
    expect(check(undefined)).toBe('https://app.example.com/paid')
    expect(check('https://app.example.com/thanks?session={CHECKOUT_SESSION_ID}')).toBe(
      'https://app.example.com/thanks?session={CHECKOUT_SESSION_ID}',
    )
    expect(check('https://admin.example.com/')).toBe('https://admin.example.com/')
  })

  test.each([
    'https://evil.example/',
    'https://app.example.com.evil.example/',
    'https://app.example.com@evil.example/',
    'http://app.example.com/paid',
    'https://app.example.com:8443/',
    'javascript:alert(1)',
    'data:text/html,hello',
    '//evil.example',
    'paid',
    'http://localhost:3001/',
    'https://app.example.com\\@evil.example/',
    'https://app.example.com/\nhttps://evil.example/',
  ])('never to %s', (given) => {
    expect(() => check(given)).toThrow(/success_url/)
  })

  test('and says which variables name the places where it may', () => {
    expect(() => check('https://shop.example.com/paid')).toThrow(
      /^success_url leads to shop\.example\.com, .*TOLLGATE_PUBLIC_URL, STRIPE_SUCCESS_URL, STRIPE_CANCEL_URL or STRIPE_PORTAL_RETURN_URL/,
    )
  })

  test('to pages on this machine while the sandbox stands in for Stripe', () => {
    expect(checkRedirect(TEST_POLICY, 'http://localhost:9999/x', { field: 'cancel_url', fallback: '' })).toBe(
      'http://localhost:9999/x',
    )
    expect(() => checkRedirect(TEST_POLICY, 'http://localhost.evil.example/', { field: 'cancel_url', fallback: '' })).toThrow(
      /cancel_url/,
    )
  })
})
