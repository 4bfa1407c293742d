import fc from 'fast-check'
import pg from 'pg'
import { expect, test } from 'vitest'
import { readTimestamp } from './timestamps.ts'

const readAny = pg.types.getTypeParser(1184)

test('reads what PostgreSQL writes as `pg` does, to the millisecond', () => {
  const date = fc.date({ min: new Date('0100-01-01'), max: new Date('9999-12-31'), noInvalidDate: true })
  const rest = fc.oneof(
    fc.constant(''),
    fc.integer({ min: 1, max: 999_999 }).map((micro) => `.${String(micro).padStart(6, '0').replace(/0+$/, '')}`),
  )
  fc.assert(
    fc.property(date, rest, (at, fraction) => {
      const text = `${at.toISOString().slice(0, 19).replace('T', ' ')}${fraction}+00`
      expect(readTimestamp(text)).toEqual(readAny(text))
    }),
    { numRuns: 2_000 },
  )
})

test.each(['infinity', '-infinity', '0044-03-15 12:00:00+00 BC', '2026-03-10 12:00:00+05:30', '12026-03-10 12:00:00+00'])(
  'leaves %s to `pg`',
  (text) => {
    expect(readTimestamp(text)).toEqual(readAny(text))
  },
)
