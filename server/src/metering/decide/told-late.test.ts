import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { displacedBy, drawnIn, sharesOf, type ChangedLine } from './told-late.ts'

/** The time of one plan: what it includes, what others give from its beginning on (a top-up), what is used in it in time, and what is told late of it. */
type Stay = { readonly amount: bigint; readonly given: bigint; readonly used: bigint; readonly late: bigint }

/** What happens where all is told in its time, plan by plan: the allowance never falls below what was used of it. */
function inTime(stays: readonly Stay[], useOf: (stay: Stay) => bigint) {
  let [plan, others, given] = [0n, 0n, 0n]
  return stays.map((stay) => {
    given += stay.given
    const own = least(useOf(stay), least0(stay.amount - plan))
    plan += own
    const elsewhere = least(useOf(stay) - own, given - others)
    others += elsewhere
    return { plan, others, given, over: useOf(stay) - own - elsewhere }
  })
}

const least = (a: bigint, b: bigint): bigint => (a < b ? a : b)
const least0 = (a: bigint): bigint => (a > 0n ? a : 0n)

/** The lines as changes of plan found them, nothing having been told late before the last. */
function changedLines(stays: readonly Stay[]): ChangedLine[] {
  return inTime(stays, ({ used }) => used).map(({ plan, others, given }, index) => ({
    room: least0(stays[index]!.amount - plan),
    roomBefore: 0n,
    roomAfter: given - others,
    drawn: plan,
    drawnElsewhere: others,
    passed: 0n,
    passedElsewhere: 0n,
    told: stays[index]!.late,
  }))
}

const quantity = fc.bigInt({ min: 0n, max: 60n })
const stay = fc.record({ amount: quantity, given: fc.constantFrom(0n, 0n, 25n), used: quantity, late: quantity })

describe('what is told late of lines that changes have ended', () => {
  test('counts on each of them, and passes on, as it would have counted in time', () => {
    fc.assert(
      fc.property(fc.array(stay, { minLength: 1, maxLength: 4 }), (stays) => {
        const { counted, passed } = sharesOf(changedLines(stays))
        const without = inTime(stays, ({ used }) => used)
        const all = inTime(stays, ({ used, late }) => used + late)
        expect(counted).toEqual(all.map(({ over }, index) => over - without[index]!.over))
        const drawn = (sides: { plan: bigint; others: bigint }): bigint => sides.plan + sides.others
        expect(drawn(passed)).toBe(drawn(all.at(-1)!) - drawn(without.at(-1)!))
      }),
      { numRuns: 2_000 },
    )
  })

  test('is included without end where the plan of its time was unlimited', () => {
    const unlimited = { ...changedLines([{ amount: 5n, given: 0n, used: 5n, late: 9n }])[0]!, room: null }
    expect(sharesOf([unlimited])).toEqual({ counted: [0n], passed: { plan: 9n, others: 0n } })
  })

  test('displaces no more than was used since: a smaller plan keeps what was included before it', () => {
    const drawn = { plan: 3n, others: 0n }
    const smaller = displacedBy({ plan: 10n, others: 0n }, { room: { plan: 2n, others: 0n }, drawn })
    expect(smaller).toEqual({ taken: { plan: 7n, others: 0n }, displaced: 3n })
    // What does not fit into the plan any more is paid for by what is left of a top-up.
    const withTopUp = displacedBy({ plan: 10n, others: 0n }, { room: { plan: 2n, others: 1n }, drawn })
    expect(withTopUp).toEqual({ taken: { plan: 7n, others: 1n }, displaced: 2n })
  })

  test('what a line’s own time drew is without what came late from before it', () => {
    const before = { drawn: 10n, drawnElsewhere: 1n, passed: 0n, passedElsewhere: 0n }
    const line = { drawn: 18n, drawnElsewhere: 4n, passed: 5n, passedElsewhere: 2n }
    expect(drawnIn(line, before)).toEqual({ plan: 3n, others: 1n })
    expect(drawnIn(line, undefined)).toEqual({ plan: 13n, others: 2n })
  })
})
