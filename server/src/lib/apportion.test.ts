import fc from 'fast-check'
import { expect, it } from 'vitest'
import { roundHalfUp, roundToSum } from './apportion.ts'

const UNIT = 1_000_000n

it('rounds halves up, below nothing too', () => {
  expect([1_499_999n, 1_500_000n, -1_500_000n, -1_500_001n].map((value) => roundHalfUp(value, UNIT))).toEqual([1n, 2n, -1n, -2n])
})

it('parts add up to the difference of the rounded ends, each off by less than one, and what is whole stays', () => {
  const part = fc.bigInt({ min: -10_000_000n, max: 10_000_000n })
  fc.assert(
    fc.property(part, fc.array(part, { maxLength: 6 }), (start, parts) => {
      const end = parts.reduce((sum, value) => sum + value, start)
      const sum = roundHalfUp(end, UNIT) - roundHalfUp(start, UNIT)
      const rounded = roundToSum(parts, UNIT, sum)
      expect(rounded.reduce((total, value) => total + value, 0n)).toBe(sum)
      for (const [index, value] of parts.entries()) {
        const off = rounded[index]! * UNIT - value
        expect(off < UNIT && off > -UNIT).toBe(true)
        expect(off === 0n || value % UNIT !== 0n).toBe(true)
      }
    }),
  )
})

it('what is left over goes to the largest remainders, the first of equal ones', () => {
  const shares = (...parts: number[]) =>
    roundToSum(
      parts.map((part) => BigInt(part)),
      10n,
      1n,
    )
  expect([shares(4, 6), shares(6, 4), shares(5, 5), shares(3, 4, 3)]).toEqual([
    [0n, 1n],
    [1n, 0n],
    [1n, 0n],
    [0n, 1n, 0n],
  ])
})
