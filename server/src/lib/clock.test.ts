import { expect, test } from 'vitest'
import { isoTextOf } from './clock.ts'

test('a time is put into the same words however many others were asked for since', () => {
  const first = new Date('2026-03-10T12:00:00.123Z')
  const moments = [first, ...Array.from({ length: 3_000 }, (_, index) => new Date(index * 86_400_001)), new Date(first)]
  expect(moments.map(isoTextOf)).toEqual(moments.map((moment) => moment.toISOString()))
})
