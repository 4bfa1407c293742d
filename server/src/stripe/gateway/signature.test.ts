import fc from 'fast-check'
import { Stripe } from 'stripe'
import { expect, test } from 'vitest'
import { isSigned } from './signature.ts'

const NOW = new Date('2026-11-21T12:00:00Z')
const seconds = NOW.getTime() / 1000
const stripe = new Stripe('sk_test_signatures')
const sign = (payload: string, secret: string, timestamp = seconds) =>
  stripe.webhooks.generateTestHeaderString({ payload, secret, timestamp })

test('whatever Stripe’s own package signs is taken, as text and as bytes, and nothing else', () => {
  const secrets = fc.string({ minLength: 1 })
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), secrets, secrets, (body, secret, other) => {
      const header = sign(body, secret)
      expect(isSigned(body, header, [other, secret], NOW)).toBe(true)
      expect(isSigned(Buffer.from(body), header, [secret], NOW)).toBe(true)
      expect(isSigned(`${body} `, header, [secret], NOW)).toBe(false)
      expect(isSigned(body, header.replace(/t=\d/, 't=9'), [secret], NOW)).toBe(false)
      expect(isSigned(body, header, [`${secret}${other}`], NOW)).toBe(false)
    }),
  )
})

test('one of several signatures is enough: the secret may be being rolled', () => {
  const [, old] = sign('{}', 'whsec_old').split(',')
  expect(isSigned('{}', `${sign('{}', 'whsec_new')},${old}`, ['whsec_old'], NOW)).toBe(true)
})

test('a signature of five minutes ago is too old, and an empty secret signs nothing', () => {
  expect(isSigned('{}', sign('{}', 'whsec', seconds - 300), ['whsec'], NOW)).toBe(true)
  expect(isSigned('{}', sign('{}', 'whsec', seconds - 301), ['whsec'], NOW)).toBe(false)
  for (const header of ['', 'nonsense', 't=,v1=', `t=${seconds}`, `t=${seconds},v1=`, `t=${seconds},v0=abc`]) {
    expect(isSigned('{}', header, ['whsec', ''], NOW), header).toBe(false)
  }
  expect(isSigned('{}', sign('{}', ''), [''], NOW)).toBe(false)
})
