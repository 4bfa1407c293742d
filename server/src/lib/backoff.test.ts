import fc from 'fast-check'
import { expect, it } from 'vitest'
import { backoffMs } from './backoff.ts'

const limits = { firstMs: 1_000, mostMs: 60_000 }

it('waits twice as long after each failure, up to the most, less at most a quarter', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 200 }), fc.string(), (failures, seed) => {
      const full = Math.min(1_000 * 2 ** (failures - 1), 60_000)
      const waited = backoffMs(failures, limits, seed)
      expect(waited).toBeLessThanOrEqual(full)
      expect(waited).toBeGreaterThanOrEqual(full * 0.75 - 1)
      expect(backoffMs(failures, limits, seed)).toBe(waited)
    }),
  )
})

it('keeps apart what failed together', () => {
  const delays = new Set(Array.from({ length: 100 }, (_, index) => backoffMs(7, limits, `delivery ${index}`)))
  expect(delays.size).toBeGreaterThan(90)
})
