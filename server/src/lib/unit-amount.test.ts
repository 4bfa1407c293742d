import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatUnitAmount, parseUnitAmount } from './unit-amount.ts'

describe('the price of one unit', () => {
  it('is exact to twelve places', () => {
    expect(parseUnitAmount('0.2', 'x')).toBe(200_000_000_000n)
    expect(parseUnitAmount('0.000000000001', 'x')).toBe(1n)
    expect(parseUnitAmount(5000, 'x')).toBe(5_000_000_000_000_000n)
  })

  it('refuses what it would have to round, and what is below zero', () => {
    for (const wrong of ['0.0000000000001', '-1', '', '1e3', 'x', 1e-7]) {
      expect(() => parseUnitAmount(wrong, 'the price')).toThrow('the price must be a decimal')
    }
  })

  it('reads what it wrote', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 10n ** 20n }), (amount) => {
        expect(parseUnitAmount(formatUnitAmount(amount), 'x')).toBe(amount)
      }),
    )
  })
})
