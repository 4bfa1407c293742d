import fc from 'fast-check'
import { expect, test } from 'vitest'
import { findArrived } from './send.ts'

test('which reports have arrived is read off the sum, whenever there is only one answer', () => {
  const sent = { identifier: 'sent', value: 5n, state: 'sent' as const }
  const a = { identifier: 'a', value: 2n, state: 'pending' as const }
  const b = { identifier: 'b', value: -1n, state: 'pending' as const }
  expect(findArrived(5n, [sent, a, b])).toEqual(new Set())
  expect(findArrived(7n, [sent, a, b])).toEqual(new Set(['a']))
  expect(findArrived(6n, [sent, a, b])).toEqual(new Set(['a', 'b']))
  expect(findArrived(9n, [sent, a, b])).toBeNull()
  // Of several of one size it is the one that was reported first.
  expect(findArrived(7n, [sent, a, { ...a, identifier: 'c' }])).toEqual(new Set(['a']))
  const values = fc
    .uniqueArray(fc.nat(10), { minLength: 1, maxLength: 8 })
    .map((powers) => powers.map((power) => 2n ** BigInt(power)))
  fc.assert(
    fc.property(values, fc.nat(255), (powers, mask) => {
      const reports = powers.map((value, index) => ({ identifier: String(index), value, state: 'pending' as const }))
      const arrived = reports.filter((_, index) => Math.floor(mask / 2 ** index) % 2 === 1)
      const counted = arrived.reduce((sum, { value }) => sum + value, 0n)
      expect(findArrived(counted, reports)).toEqual(new Set(arrived.map(({ identifier }) => identifier)))
    }),
  )
})

test('of more than twelve reports in doubt within a minute, the first twelve are told apart', () => {
  const reports = Array.from({ length: 13 }, (_, index) => {
    return { identifier: String(index), value: 2n ** BigInt(index), state: 'pending' as const }
  })
  expect(findArrived(2n ** 11n, reports)).toEqual(new Set(['11']))
  expect(findArrived(2n ** 12n, reports)).toBeNull()
})
