import { expect, test } from 'vitest'
import { now, run, stateOf, termsOf, use } from '../../../test/decisions.ts'
import { normalizeCatalog } from '../../catalog/normalize.ts'
import { MICRO } from '../../lib/quantity.ts'
import type { RecordRequest, UsageProperties } from '../usage.ts'
import { countsAt, spansOfEvent } from './rollups.ts'

// In which hour and day a use is summed up, and under which labels.

const catalog = normalizeCatalog({
  meters: { calls: { groupBy: ['model', 'region'] }, plain: {} },
  plans: {
    free: {
      name: 'Free',
      allowances: {
        calls: { amount: 100, limit: 'soft', period: 'calendar_month' },
        plain: { amount: 1, period: 'calendar_month' },
      },
    },
  },
  defaultPlan: 'free',
})
const state = stateOf({ ...termsOf('free'), catalog, newerMeters: catalog.meters })
const called = (key: string, quantity: number, properties: UsageProperties | null = null): RecordRequest => ({
  ...(use('track', 'calls', quantity, key) as RecordRequest),
  properties,
})
const at = (text: string) => new Date(`2026-03-${text}Z`)
const event = (occurredAt: Date, periodStart: Date, periodEnd: Date | null = null) =>
  ({ occurredAt, after: { periodStart, periodEnd } }) as Parameters<typeof spansOfEvent>[0]

test('a use counts when it happened, within the period that it was booked to', () => {
  const [start, end] = [at('01T00:00:00'), at('10T00:00:00')]
  expect(countsAt(event(at('05T10:00:00'), start, end))).toEqual(at('05T10:00:00'))
  expect(countsAt(event(at('05T10:00:00'), start))).toEqual(at('05T10:00:00'))
  expect(countsAt(event(new Date(start.getTime() - 1), start, end))).toEqual(start)
  for (const after of [end, at('11T00:00:00')]) expect(countsAt(event(after, start, end))).toEqual(at('09T23:59:59.999'))
})

test('hours are counted from the beginning of the day of the zone, and the first hour and day of a period begin with it', () => {
  const start = at('01T00:00:00')
  expect(spansOfEvent(event(at('05T10:20:00'), start), 'UTC')).toEqual({ hour: at('05T10:00:00'), day: at('05T00:00:00') })
  // Five hours and three quarters ahead of UTC.
  const kathmandu = { hour: at('05T10:15:00'), day: at('04T18:15:00') }
  expect(spansOfEvent(event(at('05T10:20:00'), start), 'Asia/Kathmandu')).toEqual(kathmandu)
  const cycle = at('05T10:12:34')
  expect(spansOfEvent(event(at('05T10:20:00'), cycle), 'UTC')).toEqual({ hour: cycle, day: cycle })
  expect(spansOfEvent(event(at('05T11:20:00'), cycle), 'UTC')).toEqual({ hour: at('05T11:00:00'), day: cycle })
  expect(spansOfEvent(event(at('06T11:20:00'), cycle), 'UTC')).toEqual({ hour: at('06T11:00:00'), day: at('06T00:00:00') })
})

test('uses are summed up by the hour, and by the values of what their meter is split by, by the hour and by the day', () => {
  const { hourlyChanges, groupedChanges } = run(state, [
    called('a', 60, { model: 'large', region: 'eu', other: 'x' }),
    called('b', 50, { model: 'large', region: 'eu' }),
    called('c', 4, { model: 5 }),
    called('d', 3, { model: '5' }),
    called('e', 2),
    use('track', 'plain', 3, 'f'),
    {
      verb: 'correct',
      organizationId: 'org',
      corrects: 'a',
      quantity: -20n * MICRO,
      idempotencyKey: 'g',
      properties: { reason: 'r' },
    },
  ])
  const sums = ({ events, quantity, drawn, overage }: (typeof hourlyChanges)[number] | (typeof groupedChanges)[number]) => [
    events,
    ...[quantity, drawn, overage].map((sum) => Number(sum) / 1e6),
  ]
  const hour = at('10T12:00:00')
  expect(now).toEqual(hour)
  expect(hourlyChanges.map((change) => [change.meter, change.hour, ...sums(change)])).toEqual([
    ['calls', hour, 5, 99, 99, 0],
    ['plain', hour, 1, 3, 3, 2],
  ])
  const grouped = (span: 'hour' | 'day') =>
    groupedChanges.filter((change) => change.span === span).map((change) => [change.labels, change.startsAt, ...sums(change)])
  // What is given back is the overage first, wherever that was counted.
  const byLabels = (startsAt: Date) => [
    ['{"model":"large","region":"eu"}', startsAt, 2, 90, 90, -9],
    ['{"model":"5"}', startsAt, 2, 7, 7, 7],
    ['{}', startsAt, 1, 2, 2, 2],
  ]
  expect(grouped('hour')).toEqual(byLabels(hour))
  expect(grouped('day')).toEqual(byLabels(at('10T00:00:00')))
})

test('of a value no more than 255 characters are kept, and no half of one', () => {
  const labelOf = (model: string) => {
    const [change] = run(state, [called('a', 1, { model })]).groupedChanges
    return (JSON.parse(change!.labels) as { model: string }).model
  }
  expect(labelOf('x'.repeat(255))).toBe('x'.repeat(255))
  expect(labelOf(`y${'x'.repeat(255)}`)).toBe(`y${'x'.repeat(254)}`)
  expect(labelOf(`${'x'.repeat(254)}😀`)).toBe('x'.repeat(254))
})
