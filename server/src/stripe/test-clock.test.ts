import { describe, expect, it } from 'vitest'
import { furthestStep } from './test-clock.ts'

describe('the furthest step of a test clock', () => {
  const now = new Date('2026-01-31T00:00:00Z')

  it('is less than an interval of the shortest subscription, so that it passes one end of a period at most', () => {
    const recurrences = [
      { interval: 'year', count: 1 },
      { interval: 'month', count: 1 },
      { interval: 'month', count: 3 },
    ]
    expect(furthestStep(now, recurrences)?.toISOString()).toBe('2026-02-25T04:48:00.000Z')
    expect(furthestStep(now, [{ interval: 'week', count: 2 }])?.toISOString()).toBe('2026-02-12T14:24:00.000Z')
    expect(furthestStep(now, [{ interval: 'day', count: 1 }])?.toISOString()).toBe('2026-01-31T21:36:00.000Z')
  })

  it('has no end without a subscription', () => {
    expect(furthestStep(now, [])).toBeNull()
  })
})
