import fc from 'fast-check'
import { expect, it } from 'vitest'
import { formatMajor, settleInvoice, toMajorNumber } from './money.ts'

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

it.each([
  ['a credit', -5, 'usd', { dueMinor: 0, balanceMinor: -5 }],
  ['nothing', 0, 'usd', { dueMinor: 0, balanceMinor: 0 }],
  ['less than can be charged', 49, 'USD', { dueMinor: 0, balanceMinor: 49 }],
  ['the least that can be charged', 50, 'usd', { dueMinor: 50, balanceMinor: 0 }],
  ['the least of a currency without decimal places', 50, 'jpy', { dueMinor: 50, balanceMinor: 0 }],
  ['an amount of a currency whose least is not known', 1, 'isk', { dueMinor: 1, balanceMinor: 0 }],
])('asks for what can be charged, and leaves the rest on the balance: %s', (_, amountMinor, currency, settled) => {
  expect(settleInvoice({ amountMinor, currency })).toEqual(settled)
})
