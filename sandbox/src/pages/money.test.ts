import { describe, expect, it } from 'vitest'
import { formatDate, formatInstant, formatInterval, formatMoney, formatUnitPrice } from './money.ts'

describe('money in words', () => {
  it.each([
    [2900, 'usd', '$29.00'],
    [5, 'usd', '$0.05'],
    [-667, 'usd', '-$6.67'],
    [500, 'jpy', '¥500'],
    [1230, 'kwd', 'KWD 1.230'],
    [123456789, 'eur', '€1,234,567.89'],
  ])('writes %s %s as %s', (amount, currency, words) => {
    expect(formatMoney(amount, currency)).toBe(words)
  })

  it('shows prices finer than a cent in full', () => {
    expect(formatUnitPrice('0.125', 'usd')).toBe('$0.00125')
    expect(formatUnitPrice('12.5', 'usd')).toBe('$0.125')
    expect(formatUnitPrice('1200.00', 'usd')).toBe('$12.00')
    expect(formatUnitPrice('1.5', 'jpy')).toBe('¥1.5')
  })

  it('writes dates in UTC and intervals in words', () => {
    expect(formatDate(1_795_224_900)).toBe('November 21, 2026')
    expect(formatInstant(1_795_224_900)).toBe('2026-11-21 01:35:00 UTC')
    expect(formatInterval('month', 1)).toBe('per month')
    expect(formatInterval('month', 3)).toBe('every 3 months')
  })
})
