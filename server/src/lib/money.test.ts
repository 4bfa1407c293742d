import fc from 'fast-check'
import { expect, it } from 'vitest'
import { formatMajor, toMajorNumber } from './money.ts'

it('writes minor units in the currency’s own places', () => {
  expect(formatMajor({ amountMinor: 2900, currency: 'usd' })).toBe('29.00')
  expect(formatMajor({ amountMinor: -5, currency: 'EUR' })).toBe('-0.05')
  expect(formatMajor({ amountMinor: 0, currency: 'eur' })).toBe('0.00')
  expect(formatMajor({ amountMinor: 2900, currency: 'jpy' })).toBe('2900')
  expect(formatMajor({ amountMinor: 2900, currency: 'kwd' })).toBe('2.900')
  expect(toMajorNumber({ amountMinor: 4900, currency: 'usd' })).toBe(49)
})

it('loses nothing on the way to major units', () => {
  fc.assert(
    fc.property(fc.maxSafeInteger(), fc.constantFrom('usd', 'jpy', 'kwd'), (amountMinor, currency) => {
      const digits = formatMajor({ amountMinor, currency }).replace('.', '')
      return BigInt(digits) === BigInt(amountMinor)
    }),
  )
})
