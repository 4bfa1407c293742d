import { expect, test } from 'vitest'
import { parseClock, parseJson, parsePort, parseSpan, parseTime } from './options.ts'

test('reads clocks', () => {
  expect(parseClock('real')).toBe('real')
  expect(parseClock('2026-01-31')).toEqual({ frozen: Date.UTC(2026, 0, 31) / 1000 })
  expect(parseClock('60x')).toEqual({ rate: 60 })
  expect(parseClock('2026-01-31T12:00:00Z@3600x')).toEqual({ at: Date.UTC(2026, 0, 31, 12) / 1000, rate: 3600 })
})

test('reads times, spans and ports', () => {
  expect(parseTime('1767225600')).toBe(1_767_225_600)
  expect([parseSpan('90s'), parseSpan('15m'), parseSpan('24h'), parseSpan('31d'), parseSpan('2w')]).toEqual([
    90, 900, 86_400, 2_678_400, 1_209_600,
  ])
  expect([parsePort('0'), parsePort('65535')]).toEqual([0, 65_535])
})

test.each([
  ['a time', () => parseTime('soon')],
  ['a clock', () => parseClock('x')],
  ['a span', () => parseSpan('1y')],
  ['a port', () => parsePort('70000')],
  ['a JSON value', () => parseJson('--chaos', '{')],
])('refuses what is not %s, with a sentence', (_what, parse) => {
  expect(parse).toThrow(/^'.+' is not a/)
})
