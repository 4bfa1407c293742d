import { expect, test } from 'vitest'
import { BUSY, CALM, createPacing, RUSH } from './pacing.ts'

test('events wait a moment for others of their customer, and longer only while very many come in', () => {
  const pacing = createPacing()
  expect(pacing.quietAt(0)).toEqual(CALM)
  for (let count = 1; count < RUSH; count += 1) pacing.came(1_000)
  expect(pacing.quietAt(1_000)).toEqual(CALM)
  pacing.came(1_010)
  expect(pacing.quietAt(1_010)).toEqual(BUSY)
  expect(pacing.quietAt(1_049)).toEqual(BUSY)
  expect(pacing.quietAt(1_050)).toEqual(CALM)
})

test('a steady trickle is no rush, however long it lasts', () => {
  const pacing = createPacing()
  for (let ms = 0; ms < 2_000; ms += 4) {
    pacing.came(ms)
    expect(pacing.quietAt(ms)).toEqual(CALM)
  }
})
