import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { billingTimeOf, isBilledAt, lateUseOf, takenBackFrom, type BilledTime } from './late.ts'

const day = (n: number) => new Date(Date.UTC(2026, 0, n))
const line = (id: string, from: number, until: number, state: BilledTime['state']) => {
  return { id, balanceKey: 'calls', startsAt: day(from), endsAt: day(until), state }
}
const part = (lineId: string, quantity: bigint, late = false) => ({ lineId, quantity, late })
const grant = (from: number, until: number | null) => ({ startsAt: day(from), expiresAt: until === null ? null : day(until) })

describe('what is taken back', () => {
  const [closed, closing, running] = [
    line('first', 1, 10, 'closed'),
    line('second', 10, 20, 'closing'),
    line('third', 20, 30, 'open'),
  ]
  const lines = [closed, closing, running]
  const taken = (parts: Parameters<typeof takenBackFrom>[1], quantity: bigint) =>
    takenBackFrom(lines, parts, quantity).map(({ lineId, late, quantity: less, isClosed }) => [lineId, late, less, isClosed])

  test('comes off the lines whose invoice is not closed before it is a credit, and of either off the last one first', () => {
    const parts = [part('first', 4n), part('second', 3n), part('third', 2n)]
    expect(taken(parts, 2n)).toEqual([['third', false, 2n, false]])
    expect(taken(parts, 4n)).toEqual([
      ['third', false, 2n, false],
      ['second', false, 2n, false],
    ])
    expect(taken(parts, 9n)).toEqual([
      ['third', false, 2n, false],
      ['second', false, 3n, false],
      ['first', false, 4n, true],
    ])
    // A line that is not closed goes before a closed one that began after it.
    const later = { ...running, state: 'closed' as const }
    expect(takenBackFrom([closing, later], [part('third', 2n), part('second', 3n)], 1n)).toMatchObject([{ lineId: 'second' }])
  })

  test('comes off what was late on a line before what was counted in its time', () => {
    expect(taken([part('third', 5n), part('third', 1n, true)], 3n)).toEqual([
      ['third', true, 1n, false],
      ['third', false, 2n, false],
    ])
  })

  test('comes off no line that bills nothing of it, or that nobody knows', () => {
    expect(taken([part('third', 0n), part('second', -1n), part('unknown', 7n), part('first', 2n)], 5n)).toEqual([
      ['first', false, 2n, true],
    ])
    expect(taken([part('third', 2n)], 0n)).toEqual([])
  })

  test('is never more than lines bill, and all of it as far as they do', () => {
    const any = fc.record({
      lineId: fc.constantFrom('first', 'second', 'third'),
      quantity: fc.bigInt({ min: 0n, max: 9n }),
      late: fc.boolean(),
    })
    fc.assert(
      fc.property(
        fc.uniqueArray(any, { selector: ({ lineId, late }) => `${lineId} ${late}` }),
        fc.bigInt({ min: 0n, max: 60n }),
        (parts, less) => {
          const sum = (all: readonly { quantity: bigint }[]) => all.reduce((total, { quantity }) => total + quantity, 0n)
          const all = takenBackFrom(lines, parts, less)
          expect(sum(all)).toBe(less < sum(parts) ? less : sum(parts))
          for (const each of all) {
            const own = parts.find(({ lineId, late }) => lineId === each.lineId && late === each.late)!
            expect(each.quantity > 0n && each.quantity <= own.quantity).toBe(true)
            expect(each.isClosed).toBe(each.lineId === 'first')
          }
        },
      ),
    )
  })
})

describe('late use', () => {
  const times = [line('first', 1, 10, 'closed'), line('second', 10, 20, 'closing'), line('third', 20, 30, 'open')]

  test('is billed by the last line that its allowance touches and whose invoice is not closed, else by the next one', () => {
    expect(billingTimeOf(times, grant(5, 25))).toMatchObject({ time: { id: 'third' }, isLate: false })
    expect(billingTimeOf(times, grant(5, 20))).toMatchObject({ time: { id: 'second' }, isLate: false })
    expect(billingTimeOf(times, grant(5, 10))).toMatchObject({ time: { id: 'second' }, isLate: true })
    expect(billingTimeOf(times, grant(20, null))).toMatchObject({ time: { id: 'third' }, isLate: false })
    expect(billingTimeOf(times, grant(30, 40))).toBeNull()
    expect(billingTimeOf(times, grant(30, null))).toBeNull()
  })

  test('is free where nothing billed its moment, and told by whether its invoice is still open', () => {
    expect([day(0), day(1), day(30)].map((at) => isBilledAt(times, at))).toEqual([false, true, false])
    expect(lateUseOf(times, grant(1, 10), day(0))).toBe('free')
    expect(lateUseOf(times, grant(10, 20), day(12))).toBe('open')
    expect(lateUseOf(times, grant(1, 10), day(9))).toBe('closed')
    expect(lateUseOf(times.slice(0, 1), grant(1, 10), day(9))).toBe('ended')
  })
})
