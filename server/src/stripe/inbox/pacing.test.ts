import { expect, test } from 'vitest'
import { createPacing, RUSH, RUSH_WINDOW_MS } from './pacing.ts'

test('very many at once are a rush, which is over as soon as they are fewer', () => {
  const pacing = createPacing()
  expect(pacing.rushMs(0)).toBe(0)
  for (let count = 1; count < RUSH; count += 1) pacing.came(1_000)
  expect(pacing.rushMs(1_000)).toBe(0)
  pacing.came(1_005)
  expect(pacing.rushMs(1_005)).toBe(RUSH_WINDOW_MS - 5)
  expect(pacing.rushMs(1_024)).toBe(1)
  expect(pacing.rushMs(1_025)).toBe(0)
})

test('a steady trickle is no rush, however long it lasts', () => {
  const pacing = createPacing()
  for (let ms = 0; ms < 2_000; ms += 4) {
    pacing.came(ms)
    expect(pacing.rushMs(ms)).toBe(0)
  }
})
