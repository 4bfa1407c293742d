import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { HOUR_MS } from '../lib/period.ts'
import { countsAt, hourOfEvent } from './rollups.ts'
import type { UsageEvent } from './usage.ts'

const EPOCH = Date.parse('2026-03-01T00:00:00Z')
const moment = fc.integer({ min: 0, max: 90 * 24 * HOUR_MS }).map((ms) => new Date(EPOCH + ms))

function eventOf(occurredAt: Date, periodStart: Date, periodEnd: Date | null): Pick<UsageEvent, 'occurredAt' | 'after'> {
  return { occurredAt, after: { periodStart, periodEnd } as UsageEvent['after'] }
}

describe('the hour of an event', () => {
  it('begins with its period where the period begins within the hour', () => {
    const start = new Date('2026-03-10T12:34:56Z')
    const end = new Date('2026-04-10T12:34:56Z')
    const at = (text: string): string => hourOfEvent(eventOf(new Date(text), start, end)).toISOString()
    expect(at('2026-03-10T12:50:00Z')).toBe('2026-03-10T12:34:56.000Z')
    expect(at('2026-03-10T13:10:00Z')).toBe('2026-03-10T13:00:00.000Z')
    // Told too late for its own period, and by a clock that runs ahead: it counts in the period that it was booked to.
    expect(at('2026-03-01T00:00:00Z')).toBe('2026-03-10T12:34:56.000Z')
    expect(at('2026-04-10T12:36:00Z')).toBe('2026-04-10T12:00:00.000Z')
  })

  it('lies in the period that the event was booked to, whatever the times', () => {
    fc.assert(
      fc.property(moment, moment, fc.option(fc.integer({ min: 1, max: 40 * 24 * HOUR_MS })), (occurredAt, start, length) => {
        const end = length === null ? null : new Date(start.getTime() + length)
        const event = eventOf(occurredAt, start, end)
        const hour = hourOfEvent(event)
        expect(hour.getTime()).toBeGreaterThanOrEqual(start.getTime())
        if (end) expect(hour.getTime()).toBeLessThan(end.getTime())
        expect(countsAt(event).getTime() - hour.getTime()).toBeLessThan(HOUR_MS)
        expect(countsAt(event) >= hour).toBe(true)
      }),
    )
  })
})
