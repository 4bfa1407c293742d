import fc from 'fast-check'
import { expect, test } from 'vitest'
import { statementPeriodOf } from './statement-periods.ts'

const day = (n: number) => new Date(Date.UTC(2026, 0, n))
const cycle = (start: number, end: number) => ({ start: day(start), end: day(end) })

test('is the month of use beside a yearly fee, the year where nothing is billed monthly', () => {
  const months = [cycle(1, 366), cycle(1, 32), cycle(32, 60)]
  expect(statementPeriodOf(months, day(40))).toEqual(cycle(32, 60))
  expect(statementPeriodOf([cycle(1, 366)], day(40))).toEqual(cycle(1, 366))
})

test('ends where a moved anchor begins the next', () => {
  const moved = [cycle(1, 32), cycle(10, 41)]
  expect(statementPeriodOf(moved, day(5))).toEqual(cycle(1, 10))
  expect(statementPeriodOf(moved, day(35))).toEqual(cycle(10, 41))
})

test('is what of the calendar month nothing bills, where nothing does', () => {
  const paused = [cycle(5, 20), cycle(25, 56)]
  expect(statementPeriodOf(paused, day(2))).toEqual(cycle(1, 5))
  expect(statementPeriodOf(paused, day(22))).toEqual(cycle(20, 25))
  expect(statementPeriodOf(paused, day(58))).toEqual(cycle(56, 60))
  expect(statementPeriodOf(paused, day(61))).toEqual(cycle(60, 91))
})

test('each moment lies in exactly one period, whatever the cycles', () => {
  const cycles = fc.array(
    fc
      .record({ start: fc.integer({ min: 1, max: 300 }), days: fc.constantFrom(1, 28, 31, 365) })
      .map(({ start, days }) => cycle(start, start + days)),
    { maxLength: 8 },
  )
  fc.assert(
    fc.property(cycles, fc.integer({ min: -60, max: 800 }), (own, n) => {
      const period = statementPeriodOf(own, day(n))
      expect(period.start <= day(n) && day(n) < period.end).toBe(true)
      for (const at of [period.start, new Date(period.end.getTime() - 1)]) expect(statementPeriodOf(own, at)).toEqual(period)
      expect(statementPeriodOf(own, period.end).start).toEqual(period.end)
    }),
  )
})
