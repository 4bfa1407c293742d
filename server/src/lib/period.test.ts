import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DomainError } from './errors.ts'
import {
  addMonths,
  anchoredMonthOf,
  calendarDayOf,
  calendarMonthOf,
  calendarPeriodOf,
  calendarYearOf,
  DAY_MS,
  parseDuration,
  readTimeZone,
  startOfDate,
} from './period.ts'

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

describe('calendar periods of a time zone', () => {
  const at = (text: string): Date => new Date(text)
  const spans = (unit: 'day' | 'month' | 'year', zone: string, now: string): string[] => {
    const { start, end, date } = calendarPeriodOf(unit, zone, at(now))
    return [start.toISOString(), end.toISOString(), date.toISOString().slice(0, 10)]
  }

  it('begin at local midnight, and a month with a change of the clock is an hour shorter or longer', () => {
    expect(spans('month', 'Europe/Berlin', '2026-03-10T12:00:00Z')).toEqual([
      '2026-02-28T23:00:00.000Z',
      '2026-03-31T22:00:00.000Z',
      '2026-03-01',
    ])
    expect(spans('day', 'Europe/Berlin', '2026-03-29T12:00:00Z')).toEqual([
      '2026-03-28T23:00:00.000Z',
      '2026-03-29T22:00:00.000Z',
      '2026-03-29',
    ])
    expect(spans('year', 'Pacific/Kiritimati', '2025-12-31T10:00:00Z')).toEqual([
      '2025-12-31T10:00:00.000Z',
      '2026-12-31T10:00:00.000Z',
      '2026-01-01',
    ])
  })

  it('begin with the first moment of a date whose midnight the clock leaps over', () => {
    expect(spans('day', 'America/Sao_Paulo', '2018-11-04T12:00:00Z')).toEqual([
      '2018-11-04T03:00:00.000Z',
      '2018-11-05T02:00:00.000Z',
      '2018-11-04',
    ])
  })

  it('leave out a date that a zone never had', () => {
    expect(spans('day', 'Pacific/Apia', '2011-12-30T09:59:59.999Z')[2]).toBe('2011-12-29')
    expect(spans('day', 'Pacific/Apia', '2011-12-30T10:00:00Z')[2]).toBe('2011-12-31')
  })

  it('do not begin twice where the clock is put back over midnight', () => {
    // In St. John's, until 2011, the clock was put back at 00:01: midnight came, went, and came again.
    expect(spans('day', 'America/St_Johns', '2010-11-07T03:00:00Z')[2]).toBe('2010-11-07')
    expect(spans('day', 'America/St_Johns', '2010-11-07T02:29:59Z')[2]).toBe('2010-11-06')
    expect(spans('day', 'America/St_Johns', '2010-11-07T02:30:30Z')[2]).toBe('2010-11-07')
  })

  it('hold the moment, meet without gap or overlap, and never come twice, in every zone of the last half century', () => {
    const zone = fc.constantFrom(...Intl.supportedValuesOf('timeZone'))
    const moment = fc.date({ min: at('1970-01-02T00:00:00Z'), max: at('2040-01-01T00:00:00Z'), noInvalidDate: true })
    fc.assert(
      fc.property(fc.constantFrom('day', 'month', 'year' as const), zone, moment, (unit, timeZone, now) => {
        const period = calendarPeriodOf(unit, timeZone, now)
        expect(period.start <= now && now < period.end).toBe(true)
        const next = calendarPeriodOf(unit, timeZone, period.end)
        expect(next.start).toEqual(period.end)
        expect(next.date > period.date).toBe(true)
        expect(calendarPeriodOf(unit, timeZone, new Date(period.end.getTime() - 1))).toEqual(period)
        expect(calendarPeriodOf(unit, timeZone, period.start)).toEqual(period)
      }),
    )
  })

  it('of a date begins where the day of its zone does, in every zone', () => {
    const zone = fc.constantFrom(...Intl.supportedValuesOf('timeZone'))
    fc.assert(
      fc.property(zone, instant, (timeZone, moment) => {
        const { start, date } = calendarPeriodOf('day', timeZone, moment)
        expect(startOfDate(date.toISOString().slice(0, 10), timeZone)).toEqual(start)
      }),
    )
    expect(startOfDate('2011-12-30', 'Pacific/Apia')).toEqual(startOfDate('2011-12-31', 'Pacific/Apia'))
  })

  it('are asked for by IANA names only', () => {
    expect(readTimeZone('europe/berlin')).toBe('Europe/Berlin')
    expect(readTimeZone('asia/kolkata')).toBe('Asia/Kolkata')
    expect(readTimeZone('Asia/Calcutta')).toBe('Asia/Calcutta')
    expect(['UTC', 'etc/utc', 'GMT'].map(readTimeZone)).toEqual(['UTC', 'UTC', 'UTC'])
    for (const text of ['', '+02:00', 'Berlin', 'Mars/Olympus']) expect(() => readTimeZone(text)).toThrow(DomainError)
  })
})

it('reads durations and refuses what is none', () => {
  expect(parseDuration('31d')).toBe(31 * DAY_MS)
  expect(parseDuration('90m')).toBe(5_400_000)
  expect(['45s', '36h', '2w'].map(parseDuration)).toEqual([45_000, 1.5 * DAY_MS, 14 * DAY_MS])
  for (const text of ['31', 'd', '-1d', '1.5d', '1y', '']) expect(() => parseDuration(text)).toThrow(/not a duration/)
})
