import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { periodContaining } from '../../../sandbox/src/billing/periods.ts'
import { addMonths, DAY_MS } from '../lib/period.ts'
import { allowanceSpanOf, spanBefore, type BillingCycle } from './periods.ts'

const at = (text: string) => new Date(text)
const cycle = (start: string, end: string, anchor: string | null = null) => ({
  anchor: at('2020-01-31T10:00:00Z'),
  current: { start: at(start), end: at(end), anchor: anchor === null ? null : at(anchor) },
  timeZone: 'UTC',
})
const periodOf = ({ current: { start, end } }: ReturnType<typeof cycle>) => ({ start, end })
const noSubscription: BillingCycle = { anchor: at('2025-01-31T10:00:00Z'), current: null, timeZone: 'UTC' }
const spanOf = (...asked: Parameters<typeof allowanceSpanOf>) => {
  const { start, end } = allowanceSpanOf(...asked)
  return { start, end }
}

describe('the span of an allowance', () => {
  test('a calendar month starts again on the first, whatever the subscription does (CB-3)', () => {
    expect(
      spanOf('calendar_month', cycle('2026-02-15T00:00:00Z', '2026-03-15T00:00:00Z'), at('2026-02-28T23:59:59.999Z')),
    ).toEqual({
      start: at('2026-02-01T00:00:00Z'),
      end: at('2026-03-01T00:00:00Z'),
    })
  })

  test('a billing cycle is the subscription’s own period, also when the month end was clamped', () => {
    const clamped = cycle('2026-02-28T10:00:00Z', '2026-03-31T10:00:00Z')
    expect(spanOf('billing_cycle', clamped, at('2026-03-30T00:00:00Z'))).toEqual(periodOf(clamped))
  })

  test('a renewal whose webhook is late has begun at the old end, so that the webhook finds the same span', () => {
    const known = cycle('2026-01-15T00:00:00Z', '2026-02-15T00:00:00Z')
    expect(allowanceSpanOf('billing_cycle', known, at('2026-02-15T00:00:00Z')).start).toEqual(at('2026-02-15T00:00:00Z'))
    expect(allowanceSpanOf('billing_cycle', known, at('2026-03-20T00:00:00Z')).start).toEqual(at('2026-03-15T00:00:00Z'))
  })

  test('a yearly subscription gets its allowance every month, the last one ending with the year', () => {
    const year = cycle('2025-01-31T10:00:00Z', '2026-01-31T10:00:00Z')
    expect(spanOf('billing_cycle', year, at('2025-03-01T00:00:00Z'))).toEqual({
      start: at('2025-02-28T10:00:00Z'),
      end: at('2025-03-31T10:00:00Z'),
    })
    expect(allowanceSpanOf('billing_cycle', year, at('2026-01-31T09:59:59Z')).end).toEqual(at('2026-01-31T10:00:00Z'))
  })

  test('a year from 29 February keeps the day of its anchor in years that lack it', () => {
    const year = cycle('2029-02-28T12:00:00Z', '2030-02-28T12:00:00Z', '2028-02-29T12:00:00Z')
    expect(spanOf('billing_cycle', year, at('2029-03-28T13:30:00Z'))).toEqual({
      start: at('2029-02-28T12:00:00Z'),
      end: at('2029-03-29T12:00:00Z'),
    })
  })

  test('whatever the anchor, allowances and bills of use have the same months, also past the cycle that is known', () => {
    const instant = fc.integer({ min: Date.UTC(2024, 0, 1) / 1_000, max: Date.UTC(2034, 0, 1) / 1_000 })
    const edge = fc
      .constantFrom('2024-01-31T23:00:00Z', '2024-02-29T12:00:00Z', '2025-12-30T00:00:00Z')
      .map((text) => at(text).getTime() / 1_000)
    const interval = fc.constantFrom('month', 'year' as const)
    fc.assert(
      fc.property(fc.oneof(instant, edge), interval, instant, fc.integer({ min: 0, max: 420 }), (anchor, billed, heard, days) => {
        const known = periodContaining({ at: anchor }, { interval: billed, count: 1 }, heard)
        const now = heard + days * 86_400
        const dates = { start: new Date(known.start * 1_000), end: new Date(known.end * 1_000) }
        const facts = {
          anchor: at('2020-01-31T10:00:00Z'),
          current: { ...dates, anchor: new Date(anchor * 1_000) },
          timeZone: 'UTC',
        }
        const { start, end } = periodContaining({ at: anchor }, { interval: 'month', count: 1 }, now)
        expect(spanOf('billing_cycle', facts, new Date(now * 1_000))).toEqual({
          start: new Date(start * 1_000),
          end: new Date(end * 1_000),
        })
      }),
    )
  })

  test('a clock behind Stripe’s sees the cycle that is about to begin', () => {
    const soon = cycle('2026-02-15T00:00:00Z', '2026-03-15T00:00:00Z')
    expect(spanOf('billing_cycle', soon, at('2026-02-14T23:59:58Z'))).toEqual(periodOf(soon))
    const year = cycle('2026-02-15T00:00:00Z', '2027-02-15T00:00:00Z')
    expect(spanOf('billing_cycle', year, at('2026-02-14T23:59:58Z'))).toEqual({
      start: at('2026-02-15T00:00:00Z'),
      end: at('2026-03-15T00:00:00Z'),
    })
  })

  test('a cycle of seven weeks is cut into months, the last one ending with it', () => {
    const weeks = cycle('2026-01-10T00:00:00Z', '2026-02-28T00:00:00Z')
    expect(spanOf('billing_cycle', weeks, at('2026-02-10T00:00:00Z'))).toEqual({
      start: at('2026-02-10T00:00:00Z'),
      end: at('2026-02-28T00:00:00Z'),
    })
  })

  test('before a subscription’s present cycle there is none that is known, and before a lifetime none at all', () => {
    const march = cycle('2026-03-15T00:00:00Z', '2026-04-15T00:00:00Z')
    const [present, next] = ['2026-03-20', '2026-04-20'].map((day) =>
      allowanceSpanOf('billing_cycle', march, at(`${day}T00:00:00Z`)),
    )
    expect([spanBefore('billing_cycle', march, present!), spanBefore('billing_cycle', march, next!)]).toEqual([null, present])
    const lifetime = allowanceSpanOf('lifetime', noSubscription, at('2026-03-20T00:00:00Z'))
    expect(spanBefore('lifetime', noSubscription, lifetime)).toBeNull()
  })

  test('after February comes March, a month and not 28 days', () => {
    const february = cycle('2026-02-01T00:00:00Z', '2026-03-01T00:00:00Z')
    expect(spanOf('billing_cycle', february, at('2026-03-30T00:00:00Z'))).toEqual({
      start: at('2026-03-01T00:00:00Z'),
      end: at('2026-04-01T00:00:00Z'),
    })
  })

  test('without a subscription the months are counted from the day the organization came', () => {
    expect(allowanceSpanOf('billing_cycle', noSubscription, at('2026-02-28T09:00:00Z')).start).toEqual(at('2026-01-31T10:00:00Z'))
    expect(spanOf('lifetime', noSubscription, at('2030-01-01T00:00:00Z'))).toEqual({
      start: noSubscription.anchor,
      end: null,
    })
  })

  test('spans follow each other without hole or overlap, for every kind of cycle', () => {
    const instant = fc.integer({ min: Date.UTC(2024, 0, 1), max: Date.UTC(2026, 11, 31) }).map((ms) => new Date(ms))
    const length = fc.oneof(
      fc.constantFrom(7, 14).map((days) => (start: Date) => new Date(start.getTime() + days * DAY_MS)),
      fc.constantFrom(1, 3, 12).map((months) => (start: Date) => addMonths(start, months)),
    )
    const period = fc.constantFrom('billing_cycle', 'calendar_month', 'day', 'year' as const)
    const zone = fc.constantFrom('UTC', 'Europe/Berlin', 'America/New_York', 'Pacific/Chatham', 'Asia/Tokyo')
    fc.assert(
      fc.property(period, zone, instant, instant, length, fc.boolean(), (kind, timeZone, start, now, endOf, subscribed) => {
        const facts: BillingCycle = {
          anchor: start,
          current: subscribed ? { start, end: endOf(start), anchor: null } : null,
          timeZone,
        }
        const moment = subscribed && now < start ? start : now
        const span = allowanceSpanOf(kind, facts, moment)
        expect(span.start <= moment && span.end !== null && moment < span.end).toBe(true)
        expect(allowanceSpanOf(kind, facts, new Date(span.end!.getTime() - 1)).start).toEqual(span.start)
        expect(allowanceSpanOf(kind, facts, span.end!).start).toEqual(span.end)
      }),
    )
  })

  test('a calendar period keeps its name when the time zone changes within it, and gets the new zone’s end', () => {
    const now = at('2026-11-10T12:00:00Z')
    const utc = allowanceSpanOf('calendar_month', noSubscription, now)
    const tokyo = allowanceSpanOf('calendar_month', { ...noSubscription, timeZone: 'Asia/Tokyo' }, now)
    expect(tokyo.name).toEqual(utc.name)
    expect(tokyo.end).toEqual(at('2026-11-30T15:00:00Z'))
  })

  test('names never go back while time goes on, whatever zones an organization changes to within a day of each other', () => {
    const zones = fc.array(fc.constantFrom('UTC', 'Europe/Berlin', 'America/New_York', 'Asia/Tokyo'), {
      minLength: 2,
      maxLength: 6,
    })
    const start = fc.integer({ min: Date.UTC(2024, 0, 1), max: Date.UTC(2026, 11, 31) })
    fc.assert(
      fc.property(fc.constantFrom('calendar_month', 'day', 'year' as const), start, zones, (kind, from, changes) => {
        // A change every two days: longer than zones lie apart, so that the local date goes on in each.
        const names = changes.map((timeZone, step) => {
          const now = new Date(from + step * 2 * DAY_MS)
          return allowanceSpanOf(kind, { ...noSubscription, timeZone }, now).name.getTime()
        })
        expect(names).toEqual(names.toSorted((a, b) => a - b))
      }),
    )
  })
})
