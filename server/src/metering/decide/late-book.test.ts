import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { grantOf, now, termsOf } from '../../../test/decisions.ts'
import { normalizeCatalog } from '../../catalog/normalize.ts'
import { BalanceBook, GrantLine } from '../../grants/book.ts'
import { DEFAULT_PRIORITY, openedGrant, planGrantOf, regrant, type Draw, type Grant, type PlanTerms } from '../../grants/rules.ts'
import { assert } from '../../lib/errors.ts'
import { formatQuantity, type Quantity } from '../../lib/quantity.ts'
import { drawTold, giveBackTold, LateBook, type KnownLateUse } from './late-book.ts'
import { sharesOf } from './told-late.ts'

/** In millionths. */
const AMOUNTS = { none: 0n, small: 30n, middle: 60n, large: 150n }
type PlanKey = keyof typeof AMOUNTS
const PLAN_KEYS = Object.keys(AMOUNTS) as PlanKey[]
const overage = { model: 'per_unit', unitAmountMinor: 1 } as const
const catalog = normalizeCatalog({
  meters: { calls: {} },
  plans: Object.fromEntries(
    PLAN_KEYS.map((key) => [
      key,
      { name: key, allowances: { calls: { amount: formatQuantity(AMOUNTS[key]), limit: 'soft', overage } } },
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
  /** Those that count no more. */
  ended: Grant[] = []
  planKey: PlanKey
  readonly lines: KnownLateUse[] = []
  /** What each line that has ended bills. */
  readonly billed: Quantity[] = []
  #decision: ReturnType<Allowance['begin']> | null = null

  constructor(planKey: PlanKey, over: Partial<Grant> = {}) {
    this.planKey = planKey
    this.plan = { ...openedGrant('org', planOf(planKey), now), ...over }
  }

  give(amount: Quantity, kind: Given): void {
    const id = `${kind} ${this.others.length}`
    this.others.push(grantOf(id, formatQuantity(amount), { kind, priority: DEFAULT_PRIORITY[kind], balanceKey: 'calls' }))
  }

  endOthers(): void {
    this.ended.push(...this.others.splice(0))
  }

  use(quantity: Quantity): void {
    this.#decide(({ book }) => book.draw('calls', quantity))
    this.store()
  }

  tell(line: number, cost: Quantity): Draw[] {
    return this.#decide(({ book, late }) => drawTold(late, { book, meter: 'calls', lineId: String(line), cost }))
  }

  takeBack(line: number, quantity: Quantity, drawn: readonly Draw[]): Draw[] {
    return this.#decide(({ book, late, lineOf }) =>
      giveBackTold(late, { book, meter: 'calls', lineId: String(line), quantity, drawn, lineOf }),
    )
  }

  /** As `followBilling` and `reconcilePlanGrants` do it. */
  change(planKey: PlanKey): void {
    const { passed } = sharesOf(this.lines)
    const { book } = this.begin()
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
    return this.plan.overage - this.plan.freeOverage - this.plan.pricedOverage
  }

  get told() {
    return { billed: [...this.billed, this.present], sums: this.begin().book.totalsFor(null) }
  }

  begin() {
    const plan = new GrantLine(this.plan, planOf(this.planKey).amount)
    const others = this.others.map((grant) => new GrantLine(grant))
    const lines = [plan, ...others, ...this.ended.map((grant) => new GrantLine(grant))]
    const lineOf = (id: string): GrantLine => lines.find(({ grant }) => grant.id === id)!
    return { book: new BalanceBook([plan, ...others], plan), late: new LateBook(this.lines), lineOf, lines }
  }

  /** Ends a decision, of one use or several, and keeps what it came to. */
  store(): void {
    if (this.#decision === null) return
    const { late, lines, lineOf } = this.#decision
    this.#decision = null
    let counted = 0n
    for (const change of late.changesAt(now)) {
      const index = Number(change.lineId)
      this.lines[index] = { ...this.lines[index]!, told: this.lines[index]!.told + change.told }
      this.billed[index]! += change.counted
      counted += change.counted
    }
    const storedOf = (grant: Grant): Grant => {
      const { used, overage: over, freeOverage, usedElsewhere, amount } = lineOf(grant.id)
      return { ...grant, used, overage: over, freeOverage, usedElsewhere, amount }
    }
    assert(
      lines.every(({ used }) => used >= 0n),
      'nothing is used less than not at all',
    )
    this.plan = { ...storedOf(this.plan), pricedOverage: this.plan.pricedOverage + counted }
    this.others = this.others.map(storedOf)
    this.ended = this.ended.map(storedOf)
  }

  #decide(decide: (decision: ReturnType<Allowance['begin']>) => Draw[]): Draw[] {
    this.#decision ??= this.begin()
    const { lines } = this.#decision
    const before = lines.map(({ used, overage: over }) => ({ used, overage: over }))
    const draws = decide(this.#decision)
    assert(
      draws.every(({ amount, overage: over }) => amount !== 0n || over !== 0n),
      'no draw is empty',
    )
    for (const [index, line] of lines.entries()) {
      const { amount, overage: over } = draws.find(({ grantId }) => grantId === line.grant.id) ?? { amount: 0n, overage: 0n }
      const isTold = line.used - before[index]!.used === amount && line.overage - before[index]!.overage === over
      assert(isTold, 'draws tell what is used of each grant, and what goes beyond')
    }
    return draws
  }
}

const use = fc.record({
  count: fc.bigInt({ min: 1n, max: 80n }),
  /** How many plans later it is told. */
  later: fc.integer({ min: 0, max: 3 }),
  /** Told too much of it. */
  mistaken: fc.constantFrom(0n, 0n, 25n),
})
const stay = fc.record({
  plan: fc.constantFrom(...PLAN_KEYS),
  given: fc.constantFrom(0n, 0n, 20n),
  uses: fc.array(use, { maxLength: 4 }),
})
type Stay = typeof stay extends fc.Arbitrary<infer S> ? S : never
type Given = 'promotion' | 'top_up'

/** `isTogether`: what is told late, and taken back, in a time is one decision. */
type Way = { readonly isInTime: boolean; readonly isTogether: boolean }

function live(stays: readonly Stay[], kind: Given, { isInTime, isTogether }: Way) {
  const allowance = new Allowance(stays[0]!.plan)
  const waiting: { line: number; count: bigint; mistaken: bigint; when: number }[] = []
  for (const [index, { plan, given, uses }] of stays.entries()) {
    if (index > 0) allowance.change(plan)
    if (given > 0n) allowance.give(given, kind)
    for (const { count, later, mistaken } of uses) {
      const when = Math.min(index + later, stays.length - 1)
      if (isInTime || when === index) allowance.use(count)
      // What was displaced from a promotion into the plan's allowance stays there (decision 0130).
      else waiting.push({ line: index, count, mistaken: kind === 'promotion' ? 0n : mistaken, when })
    }
    const told = waiting.filter(({ when }) => when === index)
    const drawn = told.map(({ line, count, mistaken }) => {
      const draws = allowance.tell(line, count + mistaken)
      if (!isTogether) allowance.store()
      return draws
    })
    for (const [nth, { line, mistaken }] of told.entries()) {
      if (mistaken > 0n) allowance.takeBack(line, mistaken, drawn[nth]!)
      if (!isTogether) allowance.store()
    }
    allowance.store()
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
    allowance.give(20n, 'top_up')
    allowance.use(35n)
    allowance.change('none')
    allowance.use(20n)
    const drawn = allowance.tell(0, 26n)
    allowance.store()
    expect(allowance.told.billed).toEqual([0n, 1n])
    allowance.takeBack(0, 25n, drawn)
    allowance.store()
    expect(allowance.told.billed).toEqual([0n, 0n])
  })

  test('taken back, leaves of a top-up what the rest of it does not need, whichever of it had drawn from that', () => {
    const allowance = new Allowance('middle')
    allowance.give(20n, 'top_up')
    allowance.change('none')
    const first = allowance.tell(0, 26n)
    allowance.tell(0, 35n)
    allowance.store()
    expect(allowance.told.sums.remaining).toBe(19n)
    allowance.takeBack(0, 25n, first)
    allowance.store()
    expect(allowance.told.sums.remaining).toBe(20n)
  })

  test('taken back, is not used of a top-up that has ended since, and what was used beyond the plan of now stays billed', () => {
    const allowance = new Allowance('none')
    allowance.give(20n, 'top_up')
    allowance.change('small')
    const drawn = allowance.tell(0, 5n)
    allowance.store()
    allowance.endOthers()
    allowance.use(33n)
    allowance.takeBack(0, 5n, drawn)
    allowance.store()
    expect(allowance.ended[0]!.used).toBe(0n)
    expect(allowance.told).toMatchObject({ billed: [0n, 3n], sums: { used: 30n } })
  })

  test('taken back, comes off what its line bills, and not off what was free before anything billed it', () => {
    const allowance = new Allowance('none', { overage: 7n, freeOverage: 7n })
    allowance.change('small')
    const drawn = allowance.tell(0, 9n)
    allowance.takeBack(0, 4n, drawn)
    allowance.store()
    expect(allowance.plan).toMatchObject({ overage: 12n, freeOverage: 7n })
    expect(allowance.told.billed).toEqual([5n, 0n])
  })

  test('taken back, comes back to what it drew of top-ups, the last first, and leaves billed what had gone beyond before one of them came', () => {
    const allowance = new Allowance('none')
    allowance.give(20n, 'top_up')
    allowance.change('small')
    allowance.use(55n)
    allowance.give(4n, 'top_up')
    allowance.give(3n, 'top_up')
    const drawn = allowance.tell(0, 6n)
    expect(drawn.map(({ amount }) => amount)).toEqual([4n, 2n])
    allowance.store()
    allowance.takeBack(0, 3n, drawn)
    allowance.store()
    expect(allowance.others.map(({ used }) => used)).toEqual([20n, 3n, 0n])
    expect(allowance.told.billed).toEqual([0n, 5n])
  })

  test('taken back, comes back to what it drew of itself, as far as that was not given back before', () => {
    const allowance = new Allowance('small')
    for (const amount of [20n, 5n, 20n]) allowance.give(amount, 'top_up')
    allowance.change('none')
    const [first, second, third] = [30n, 22n, 3n].map((count) => allowance.tell(0, count))
    expect([second, third].map((draws) => draws!.map(({ amount }) => amount))).toEqual([[20n, 2n], [3n]])
    allowance.store()
    const used = (): Quantity[] => allowance.others.map((grant) => grant.used)
    allowance.takeBack(0, 4n, second!)
    allowance.store()
    expect(used()).toEqual([18n, 3n, 0n])
    allowance.takeBack(0, 2n, first!)
    allowance.store()
    expect(used()).toEqual([18n, 1n, 0n])
    allowance.takeBack(0, 3n, third!)
    allowance.store()
    expect(used()).toEqual([16n, 0n, 0n])
  })

  test('taken back, makes room in the plan of now for what other late use had drawn of a top-up that has ended since', () => {
    const allowance = new Allowance('small')
    allowance.give(20n, 'top_up')
    allowance.change('middle')
    const [first] = [30n, 5n].map((count) => allowance.tell(0, count))
    allowance.store()
    allowance.endOthers()
    allowance.use(33n)
    allowance.give(20n, 'top_up')
    allowance.give(9n, 'top_up')
    // Of another meter's use nothing is given back.
    allowance.others[1] = { ...allowance.others[1]!, meters: ['other'], used: 9n }
    expect(allowance.told.billed).toEqual([0n, 3n])
    allowance.takeBack(0, 5n, first!)
    allowance.store()
    expect(allowance.told.billed).toEqual([0n, 0n])
    expect([allowance.plan.used, allowance.others[1].used]).toEqual([58n, 9n])
  })

  test.each<Given>(['promotion', 'top_up'])(
    'told late, and what of it is taken back, leaves lines and balance as they would be had it been told in time, with a %s',
    (kind) => {
      fc.assert(
        fc.property(fc.array(stay, { minLength: 2, maxLength: 4 }), fc.boolean(), (all, isTogether) => {
          const stays = all.filter(({ plan }, index) => plan !== all[index - 1]?.plan)
          const inTime = live(stays, kind, { isInTime: true, isTogether })
          expect(live(stays, kind, { isInTime: false, isTogether })).toEqual(inTime)
        }),
        { numRuns: 1_000 },
      )
    },
  )
})
