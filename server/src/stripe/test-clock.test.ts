import { describe, expect, it } from 'vitest'
import { furthestStep } from './test-clock.ts'

describe('the furthest step of a test clock', () => {
  const now = new Date('2026-01-31T00:00:00Z')

  it('is two intervals of the shortest subscription', () => {
    const recurrences = [
      { interval: 'year', count: 1 },
      { interval: 'month', count: 1 },
      { interval: 'month', count: 3 },
    ]
    expect(furthestStep(now, recurrences)?.toISOString()).toBe('2026-03-31T00:00:00.000Z')
    expect(furthestStep(now, [{ interval: 'week', count: 2 }])?.toISOString()).toBe('2026-02-28T00:00:00.000Z')
    expect(furthestStep(now, [{ interval: 'day', count: 1 }])?.toISOString()).toBe('2026-02-02T00:00:00.000Z')
    expect(furthestStep(now, [{ interval: 'year', count: 1 }])?.toISOString()).toBe('2028-01-31T00:00:00.000Z')
  })

  it('has no end without a subscription', () => {
    expect(furthestStep(now, [])).toBeNull()
  })
})
