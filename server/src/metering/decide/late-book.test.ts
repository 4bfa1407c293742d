import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { grantOf, now, termsOf } from '../../../test/decisions.ts'
import { normalizeCatalog } from '../../catalog/normalize.ts'
import { BalanceBook, GrantLine } from '../../grants/book.ts'
import { DEFAULT_PRIORITY, openedGrant, planGrantOf, regrant, type Draw, type Grant, type PlanTerms } from '../../grants/rules.ts'
import { assert } from '../../lib/errors.ts'
import { MICRO, type Quantity } from '../../lib/quantity.ts'
import { drawTold, giveBackTold, LateBook, type KnownLateUse } from './late-book.ts'
import { sharesOf } from './told-late.ts'

const AMOUNTS = { none: 0, small: 30, middle: 60, large: 150 }
type PlanKey = keyof typeof AMOUNTS
const PLAN_KEYS = Object.keys(AMOUNTS) as PlanKey[]
const catalog = normalizeCatalog({
  meters: { calls: {} },
  plans: Object.fromEntries(
    PLAN_KEYS.map((key) => [
      key,
      {
        name: key,
        allowances: { calls: { amount: AMOUNTS[key], limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: 1 } } },
      },
    ]),
  ),
  defaultPlan: 'none',
})
const termsFor = (planKey: PlanKey): PlanTerms => ({ ...termsOf(planKey), catalog, newerMeters: catalog.meters })
const planOf = (planKey: PlanKey) => planGrantOf(termsFor(planKey), 'calls', now)

/** One allowance that goes on under one plan after another, as it is stored: each change ends a line of its use. */
class Allowance {
  plan: Grant
  others: Grant[] = []
  planKey: PlanKey
  readonly lines: KnownLateUse[] = []
  /** What each line that has ended bills. */
  readonly billed: Quantity[] = []

  constructor(planKey: PlanKey) {
    this.planKey = planKey
    this.plan = openedGrant('org', planOf(planKey), now)
  }

  give(amount: number, kind: Given): void {
    const id = `${kind} ${this.others.length}`
    this.others.push(grantOf(id, String(amount), { kind, priority: DEFAULT_PRIORITY[kind], balanceKey: 'calls' }))
  }

  use(quantity: Quantity): void {
    this.#decide((book) => book.draw('calls', quantity))
  }

  tell(line: number, cost: Quantity): Draw[] {
    return this.#decide((book, late) => drawTold(late, { book, meter: 'calls', lineId: String(line), cost }))
  }

  takeBack(line: number, quantity: Quantity, drawn: readonly Draw[]): Draw[] {
    return this.#decide((book, late, lineOf) =>
      giveBackTold(late, { book, meter: 'calls', lineId: String(line), quantity, drawn, lineOf }),
    )
  }

  /** As `followBilling` and `reconcilePlanGrants` do it. */
  change(planKey: PlanKey): void {
    const { passed } = sharesOf(this.lines)
    const { book } = this.#open()
    const { before: roomBefore, after: roomAfter } = book.othersFor('calls')
    const { used, usedElsewhere, available: room } = book.plan
    const ended = { room, roomBefore, roomAfter, drawn: used, drawnElsewhere: usedElsewhere, told: 0n }
    const line = { lineId: String(this.lines.length), grantId: this.plan.id, startsAt: now }
    this.billed.push(this.present)
    this.lines.push({ ...line, ...ended, passed: passed.plan, passedElsewhere: passed.others })
    this.plan = regrant(this.plan, planOf(planKey), catalog)
    this.planKey = planKey
  }

  /** What the line of the present plan bills. */
  get present(): Quantity {
    return this.plan.overage - this.plan.pricedOverage
  }

  get told() {
    const { book } = this.#open()
    return { billed: [...this.billed, this.present], sums: book.totalsFor(null) }
  }

  #open() {
    const plan = new GrantLine(this.plan, planOf(this.planKey).amount)
    const lines = [plan, ...this.others.map((grant) => new GrantLine(grant))]
    const lineOf = (id: string): GrantLine => lines.find(({ grant }) => grant.id === id)!
    return { book: new BalanceBook(lines, plan), late: new LateBook(this.lines), lineOf, lines }
  }

  #decide(decide: (book: BalanceBook, late: LateBook, lineOf: (id: string) => GrantLine) => Draw[]): Draw[] {
    const { book, late, lineOf, lines } = this.#open()
    const draws = decide(book, late, lineOf)
    const before = new Map(lines.map(({ grant }) => [grant.id, grant.used]))
    const [plan, ...others] = lines.map(({ grant, used, overage, usedElsewhere, amount }) => ({
      ...grant,
      used,
      overage,
      usedElsewhere,
      amount,
    }))
    let counted = 0n
    for (const change of late.changesAt(now)) {
      const index = Number(change.lineId)
      this.lines[index] = { ...this.lines[index]!, told: this.lines[index]!.told + change.told }
      this.billed[index]! += change.counted
      counted += change.counted
    }
    for (const [id, used] of before) assert(lineOf(id).used - used === sumOf(draws, id, 'amount'), 'draws tell what is used')
    assert(plan!.overage - this.plan.overage === sumOf(draws, plan!.id, 'overage'), 'draws tell what goes beyond')
    this.plan = { ...plan!, pricedOverage: this.plan.pricedOverage + counted }
    this.others = others
    return draws
  }
}

const sumOf = (draws: readonly Draw[], id: string, part: 'amount' | 'overage'): Quantity =>
  draws.reduce((sum, draw) => (draw.grantId === id ? sum + draw[part] : sum), 0n)
const quantityOf = (count: number): Quantity => BigInt(count) * MICRO

const use = fc.record({
  count: fc.integer({ min: 1, max: 80 }),
  /** How many plans later it is told. */
  later: fc.integer({ min: 0, max: 3 }),
  /** Told too much of it. */
  mistaken: fc.constantFrom(0, 0, 25),
})
const stay = fc.record({
  plan: fc.constantFrom(...PLAN_KEYS),
  given: fc.constantFrom(0, 0, 20),
  uses: fc.array(use, { maxLength: 4 }),
})
type Stay = typeof stay extends fc.Arbitrary<infer S> ? S : never
type Given = 'promotion' | 'top_up'

function live(stays: readonly Stay[], kind: Given, isInTime: boolean) {
  const allowance = new Allowance(stays[0]!.plan)
  const waiting: { line: number; count: number; mistaken: number; when: number }[] = []
  for (const [index, { plan, given, uses }] of stays.entries()) {
    if (index > 0) allowance.change(plan)
    if (given > 0) allowance.give(given, kind)
    for (const { count, later, mistaken } of uses) {
      const when = Math.min(index + later, stays.length - 1)
      if (isInTime || when === index) allowance.use(quantityOf(count))
      // What was displaced from a promotion into the plan's allowance stays there (decision 0130).
      else waiting.push({ line: index, count, mistaken: kind === 'promotion' ? 0 : mistaken, when })
    }
    const told = waiting.filter(({ when }) => when === index)
    const drawn = told.map(({ line, count, mistaken }) => allowance.tell(line, quantityOf(count + mistaken)))
    for (const [nth, { line, mistaken }] of told.entries()) {
      if (mistaken > 0) allowance.takeBack(line, quantityOf(mistaken), drawn[nth]!)
    }
  }
  return allowance.told
}

describe('use of lines that changes have ended', () => {
  test('of an allowance that ended in the time of such a line fits into what that had left, and is known from then on', () => {
    const line = { grantId: 'day', lineId: 'line', startsAt: now, room: 10n, roomBefore: 2n, roomAfter: 3n }
    const late = new LateBook([])
    expect([late.has('day', 'line'), late.toldOf('day', 'line')]).toEqual([false, 0n])
    late.open(line)
    expect([late.has('day', 'line'), late.has('day', 'other'), late.has('other', 'line')]).toEqual([true, false, false])
    expect(late.tell(line, 12n)).toEqual({ counted: 0n, passed: { plan: 10n, others: 2n } })
    expect(late.tell(line, 5n)).toEqual({ counted: 2n, passed: { plan: 0n, others: 3n } })
    expect(late.toldOf('day', 'line')).toBe(17n)
    expect(late.changesAt(now)).toEqual([
      { ...line, drawn: 0n, drawnElsewhere: 0n, passed: 0n, passedElsewhere: 0n, told: 17n, counted: 2n, at: now },
    ])
  })

  test('taken back, is included again what it had displaced from a top-up', () => {
    const allowance = new Allowance('middle')
    allowance.give(20, 'top_up')
    allowance.use(quantityOf(35))
    allowance.change('none')
    allowance.use(quantityOf(20))
    const drawn = allowance.tell(0, quantityOf(26))
    expect(allowance.told.billed).toEqual([0n, quantityOf(1)])
    allowance.takeBack(0, quantityOf(25), drawn)
    expect(allowance.told.billed).toEqual([0n, 0n])
  })

  test('taken back, leaves of a top-up what the rest of it does not need, whichever of it had drawn from that', () => {
    const allowance = new Allowance('middle')
    allowance.give(20, 'top_up')
    allowance.change('none')
    const first = allowance.tell(0, quantityOf(26))
    allowance.tell(0, quantityOf(35))
    expect(allowance.told.sums.remaining).toBe(quantityOf(19))
    allowance.takeBack(0, quantityOf(25), first)
    expect(allowance.told.sums.remaining).toBe(quantityOf(20))
  })

  test.each<Given>(['promotion', 'top_up'])(
    'told late, and what of it is taken back, leaves lines and balance as they would be had it been told in time, with a %s',
    (kind) => {
      fc.assert(
        fc.property(fc.array(stay, { minLength: 2, maxLength: 4 }), (all) => {
          const stays = all.filter(({ plan }, index) => plan !== all[index - 1]?.plan)
          expect(live(stays, kind, false)).toEqual(live(stays, kind, true))
        }),
        { numRuns: 1_000 },
      )
    },
  )
})
