import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { addMonths, anchoredMonthOf, calendarDayOf, calendarMonthOf, calendarYearOf, DAY_MS, parseDuration } from './period.ts'

const instant = fc.date({ min: new Date('2000-01-01T00:00:00Z'), max: new Date('2099-12-31T23:59:59Z'), noInvalidDate: true })

describe('periods', () => {
  it('clamp to the end of a short month and come back', () => {
    const anchor = new Date('2026-01-31T10:20:30.456Z')
    expect(addMonths(anchor, 1).toISOString()).toBe('2026-02-28T10:20:30.456Z')
    expect(addMonths(anchor, 2).toISOString()).toBe('2026-03-31T10:20:30.456Z')
    expect(addMonths(new Date('2024-02-29T00:00:00Z'), 12).toISOString()).toBe('2025-02-28T00:00:00.000Z')
    expect(addMonths(anchor, -2).toISOString()).toBe('2025-11-30T10:20:30.456Z')
  })

  it.each([calendarMonthOf, calendarDayOf, calendarYearOf])(
    'hold the moment they are asked for, and meet without gap or overlap',
    (periodOf) => {
      fc.assert(
        fc.property(instant, (now) => {
          const period = periodOf(now)
          const next = periodOf(period.end)
          expect(period.start <= now && now < period.end).toBe(true)
          expect(next.start).toEqual(period.end)
          expect(periodOf(new Date(period.end.getTime() - 1))).toEqual(period)
        }),
      )
    },
  )

  it('counted from an anchor hold the moment and meet without gap or overlap', () => {
    fc.assert(
      fc.property(instant, instant, (anchor, now) => {
        const period = anchoredMonthOf(anchor, now)
        expect(period.start <= now && now < period.end).toBe(true)
        expect(anchoredMonthOf(anchor, period.end).start).toEqual(period.end)
        expect(anchoredMonthOf(anchor, new Date(period.end.getTime() - 1))).toEqual(period)
      }),
    )
  })
})

it('reads durations and refuses what is none', () => {
  expect(parseDuration('31d')).toBe(31 * DAY_MS)
  expect(parseDuration('90m')).toBe(5_400_000)
  for (const text of ['31', 'd', '-1d', '1.5d', '1y', '']) expect(() => parseDuration(text)).toThrow(/not a duration/)
})
