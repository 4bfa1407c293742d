import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { HOUR_MS } from '../lib/period.ts'
import { countsAt, spansOfEvent } from './decide/rollups.ts'
import type { UsageEvent } from './usage.ts'

const EPOCH = Date.parse('2026-03-01T00:00:00Z')
const moment = fc.integer({ min: 0, max: 90 * 24 * HOUR_MS }).map((ms) => new Date(EPOCH + ms))

function eventOf(occurredAt: Date, periodStart: Date, periodEnd: Date | null): Pick<UsageEvent, 'occurredAt' | 'after'> {
  return { occurredAt, after: { periodStart, periodEnd } as UsageEvent['after'] }
}

describe('the hour and the day of an event', () => {
  it('begin with its period where the period begins within them', () => {
    const start = new Date('2026-03-10T12:34:56Z')
    const end = new Date('2026-04-10T12:34:56Z')
    const at = (text: string): string[] => {
      const { hour, day } = spansOfEvent(eventOf(new Date(text), start, end), 'UTC')
      return [hour.toISOString(), day.toISOString()]
    }
    expect(at('2026-03-10T12:50:00Z')).toEqual(['2026-03-10T12:34:56.000Z', '2026-03-10T12:34:56.000Z'])
    expect(at('2026-03-10T13:10:00Z')).toEqual(['2026-03-10T13:00:00.000Z', '2026-03-10T12:34:56.000Z'])
    expect(at('2026-03-11T00:10:00Z')).toEqual(['2026-03-11T00:00:00.000Z', '2026-03-11T00:00:00.000Z'])
    // Told too late for its own period, and by a clock that runs ahead: it counts in the period that it was booked to.
    expect(at('2026-03-01T00:00:00Z')[0]).toBe('2026-03-10T12:34:56.000Z')
    expect(at('2026-04-10T12:36:00Z')[0]).toBe('2026-04-10T12:00:00.000Z')
  })

  it('are those of the organization’s zone, whose days do not begin on a full hour of UTC everywhere', () => {
    const event = eventOf(new Date('2026-03-10T18:45:00Z'), new Date('2026-02-28T18:30:00Z'), new Date('2026-03-31T18:30:00Z'))
    expect(spansOfEvent(event, 'Asia/Kolkata')).toEqual({
      hour: new Date('2026-03-10T18:30:00Z'),
      day: new Date('2026-03-10T18:30:00Z'),
    })
    expect(spansOfEvent(event, 'America/New_York')).toEqual({
      hour: new Date('2026-03-10T18:00:00Z'),
      day: new Date('2026-03-10T04:00:00Z'),
    })
  })

  it('lie in the period that the event was booked to and hold the event, whatever the times and the zone', () => {
    const zone = fc.constantFrom('UTC', 'Asia/Kathmandu', 'America/New_York', 'Australia/Lord_Howe', 'Pacific/Chatham')
    const length = fc.option(fc.integer({ min: 1, max: 40 * 24 * HOUR_MS }))
    fc.assert(
      fc.property(moment, moment, length, zone, (occurredAt, start, lengthMs, timeZone) => {
        const end = lengthMs === null ? null : new Date(start.getTime() + lengthMs)
        const event = eventOf(occurredAt, start, end)
        const { hour, day } = spansOfEvent(event, timeZone)
        const at = countsAt(event)
        expect(at >= start && (end === null || at < end)).toBe(true)
        expect(day >= start && hour >= day && at >= hour).toBe(true)
        expect(at.getTime() - hour.getTime()).toBeLessThan(HOUR_MS)
        expect(at.getTime() - day.getTime()).toBeLessThan(25.5 * HOUR_MS)
      }),
    )
  })
})
