import fc from 'fast-check'
import { expect, test } from 'vitest'
import { RateWindows, type PacedUse, type RateWindow } from './decide/windows.ts'

const START = Date.parse('2026-03-10T12:00:00Z')
const useAt = (ms: number, quantity: bigint, seconds: number, limit = 10n): PacedUse => ({
  organizationId: 'org',
  meter: 'calls',
  limit: { limit, seconds },
  quantity,
  now: new Date(START + ms),
})

/** Tries a use, and counts it when it fits; every use sees what was stored before, as another server does. */
function attempt(stored: { window: RateWindow | null }, use: PacedUse): number | null {
  const windows = new RateWindows(stored.window === null ? [] : [stored.window])
  const waitMs = windows.waitMs(use)
  if (waitMs === 0) windows.add(use, use.now)
  stored.window = windows.changed[0] ?? stored.window
  return waitMs
}

test('in no span of the window is more than the limit accepted, and what fits by a window 2 % longer is never refused', () => {
  const steps = fc.array(fc.record({ after: fc.integer({ min: 0, max: 30_000 }), quantity: fc.bigInt({ min: 1n, max: 12n }) }), {
    minLength: 1,
    maxLength: 60,
  })
  fc.assert(
    fc.property(steps, fc.constantFrom(1, 60), (sequence, seconds) => {
      const stored = { window: null }
      const windowMs = seconds * 1_000
      const accepted: { ms: number; quantity: bigint }[] = []
      const sumSince = (ms: number): bigint => accepted.reduce((sum, use) => (use.ms > ms ? sum + use.quantity : sum), 0n)
      let ms = 0
      for (const { after, quantity } of sequence) {
        ms += seconds === 1 ? Math.floor(after / 60) : after
        const waitMs = attempt(stored, useAt(ms, quantity, seconds))
        // Accepted: it fits into the window that ends here. Refused: it does not fit into one a little longer.
        const fits = (spanMs: number): boolean => sumSince(ms - spanMs) + quantity <= 10n
        expect(waitMs === 0 ? fits(windowMs) : !fits(windowMs * 1.02)).toBe(true)
        if (waitMs === 0) accepted.push({ ms, quantity })
        expect(waitMs === null ? quantity > 10n : quantity <= 10n && waitMs <= windowMs * 1.02).toBe(true)
      }
    }),
  )
})

test('a refused use is accepted as soon as it was told, and not a slice before', () => {
  const stored = { window: null }
  expect(attempt(stored, useAt(0, 10n, 60))).toBe(0)
  const waitMs = attempt(stored, useAt(30_000, 4n, 60))
  expect(waitMs).toBe(30_000 + 60_000 / 50)
  expect(attempt(stored, useAt(30_000 + waitMs! - 1, 4n, 60))).toBe(1)
  expect(attempt(stored, useAt(30_000 + waitMs!, 4n, 60))).toBe(0)
})

test('what fits exactly once a use has left the window is told that moment, not that of the use after it', () => {
  const windows = new RateWindows([])
  windows.add(useAt(0, 6n, 60), new Date(START))
  windows.add(useAt(10_000, 4n, 60), new Date(START + 10_000))
  expect(windows.waitMs(useAt(10_000, 6n, 60))).toBe(50_000 + 60_000 / 50)
  // What needs both to leave is told the second.
  expect(windows.waitMs(useAt(10_000, 7n, 60))).toBe(60_000 + 800)
})

test('what is told late counts from when it happened, and leaves before what happened after it', () => {
  const windows = new RateWindows([])
  windows.add(useAt(30_000, 4n, 60), new Date(START + 30_000))
  windows.add(useAt(31_000, 6n, 60), new Date(START + 5_000))
  expect(windows.waitMs(useAt(31_000, 4n, 60))).toBe(6_000 + 60_000 - 31_000)
})

test('a level that falls gives no pace back, and what counts nothing takes none', () => {
  const windows = new RateWindows([])
  windows.add(useAt(0, 10n, 60), new Date(START))
  for (const quantity of [-10n, 0n]) windows.add(useAt(2_000, quantity, 60), new Date(START + 2_000))
  expect(windows.waitMs(useAt(3_000, 1n, 60))).toBeGreaterThan(0)
  expect(windows.changed[0]!.slots).toHaveLength(1)
})

test('around a full minute no more is accepted than within one', () => {
  const stored = { window: null }
  expect(attempt(stored, useAt(59_000, 10n, 60))).toBe(0)
  expect(attempt(stored, useAt(61_000, 1n, 60))).toBeGreaterThan(0)
})

test('what is told of a moment ahead counts from now on', () => {
  const windows = new RateWindows([])
  windows.add(useAt(0, 10n, 60), new Date(START + 120_000))
  expect(windows.waitMs(useAt(1_000, 1n, 60))).toBeGreaterThan(0)
  expect(windows.waitMs(useAt(62_000, 10n, 60))).toBe(0)
})

test('what is larger than the limit never fits', () => {
  expect(attempt({ window: null }, useAt(0, 11n, 60))).toBeNull()
})

test('a clock a little behind still counts what was accepted; one that has gone far back begins anew', () => {
  const stored = { window: null }
  expect(attempt(stored, useAt(3_600_000, 10n, 60))).toBe(0)
  expect(attempt(stored, useAt(3_595_000, 1n, 60))).toBeGreaterThan(0)
  expect(attempt(stored, useAt(0, 10n, 60))).toBe(0)
})
