import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { maskCardNumbers, refuseCardData } from './card-data.ts'

const CARDS = [
  '4242424242424242',
  '4000056655665556',
  '4222222222222',
  '5555555555554444',
  '2223003122003222',
  '378282246310005',
  '6011111111111117',
  '3056930009020004',
  '30569309025904',
  '3566002020360505',
  '6200000000000005',
]

describe('a card number', () => {
  it('is found as it is written: in one, in groups, in a sentence', () => {
    for (const card of CARDS) {
      expect(maskCardNumbers(`my card is ${card}, thanks`), card).toBe('my card is [card number], thanks')
    }
    for (const written of [
      '4242 4242 4242 4242',
      '4242-4242-4242-4242',
      '3782 822463 10005',
      '4242424242424242.',
      '(4242424242424242)',
    ]) {
      expect(maskCardNumbers(`a ${written} b`), written).toContain('[card number]')
    }
  })

  it('is not found in what only resembles one', () => {
    for (const text of [
      '4242424242424241',
      'evt_4242424242424242',
      'order4242424242424242',
      '42424242424242424242424242',
      '0.4242424242424242',
      '4242424242424242.5',
      '+4242424242424242',
      '1763700000000',
      '1763700000000000',
      'a1b2c3d4-4242-4242-4242-424242424242',
      '2026-11-21T06:00:00.000Z',
    ]) {
      expect(maskCardNumbers(text), text).toBe(text)
    }
  })

  it('is none in ids and times of ours', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uuid(),
          fc.date({ noInvalidDate: true }).map((date) => date.toISOString()),
        ),
        (text) => {
          expect(maskCardNumbers(text)).toBe(text)
        },
      ),
    )
    fc.assert(
      fc.property(fc.integer({ min: 1_000_000_000_000, max: 1_999_999_999_999 }), (milliseconds) => {
        expect(() => refuseCardData({ idempotency_key: `${milliseconds}` })).not.toThrow()
      }),
    )
  })
})

describe('what a caller sends', () => {
  it('is refused with the field that holds card data or a secret key, wherever it stands', () => {
    const refused = (value: unknown): string => {
      try {
        refuseCardData(value)
      } catch (error) {
        return String(error)
      }
      return ''
    }
    expect(refused({ a: [{ note: 'pay with 4242424242424242' }] })).toContain('a.0.note holds what looks like a card number')
    expect(refused({ a: 4242424242424242 })).toContain('a holds what looks like a card number')
    expect(refused({ '4242424242424242': 1 })).toContain('The request holds what looks like a card number')
    expect(refused({ card: { cvc: '123' } })).toContain('card.cvc holds what looks like a detail of a card')
    expect(refused({ cvv: 123 })).toContain('cvv holds')
    expect(refused({ key: `sk_live_${'x'.repeat(24)}` })).toContain('key holds what looks like a secret key of Stripe')
    expect(refused({ brand: 'visa', last4: '4242', exp_month: 12, cvc_check: 'pass' })).toBe('')
    for (const card of CARDS) expect(refused([card])).not.toContain(card)
  })

  it('is refused too when its JSON writes a character as an escape', () => {
    const refusesJson = (text: string): boolean => {
      try {
        refuseCardData(JSON.parse(text), text)
      } catch {
        return true
      }
      return false
    }
    expect(refusesJson('{"note": "4242424242424242"}')).toBe(true)
    expect(refusesJson('{"note": "\\u0034242424242424242"}')).toBe(true)
    expect(refusesJson('{"note": "4242\\u00204242 4242 4242"}')).toBe(true)
    expect(refusesJson('{"card": {"\\u0063vc": "123"}}')).toBe(true)
    expect(refusesJson('{"note": "sk\\u005Flive_xxxxxxxxxxxxxxxx"}')).toBe(true)
    expect(refusesJson('{"note": "caf\\u00e9 \\n \\u2026"}')).toBe(false)
  })
})
