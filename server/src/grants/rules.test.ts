import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { grantOf, now, termsOf } from '../../test/decisions.ts'
import { normalizeCatalog } from '../catalog/normalize.ts'
import { DAY_MS, HOUR_MS } from '../lib/period.ts'
import { MICRO, type Quantity } from '../lib/quantity.ts'
import { BalanceBook, GrantLine } from './book.ts'
import {
  hasTermsOf,
  isActiveAt,
  isCarryDue,
  openedGrant,
  partsOf,
  planGrantOf,
  planGrantOn,
  regrant,
  UNTOUCHED,
  type Grant,
  type PlanTerms,
  type WantedGrant,
} from './rules.ts'
import { moveOn } from './rollover.ts'
import { thresholdsReached } from './thresholds.ts'

const priced = { amount: 100, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: 5 } } as const
const catalog = normalizeCatalog({
  meters: { calls: {}, seats: {} },
  plans: {
    free: { name: 'Free', allowances: { calls: { amount: 40 } } },
    hard: { name: 'Hard', allowances: { calls: { amount: 100 } } },
    soft: { name: 'Soft', allowances: { calls: { amount: 100, limit: 'soft' } } },
    priced: { name: 'Priced', allowances: { calls: priced } },
    rolling: {
      name: 'Rolling',
      allowances: { calls: { amount: 100, period: 'calendar_month', rollover: { max: 50, periods: 3 } } },
    },
    cycled: { name: 'Cycled', allowances: { calls: { amount: 100, rollover: { periods: 1 } } } },
    once: { name: 'Once', allowances: { calls: { amount: 100, period: 'calendar_month', rollover: { periods: 1 } } } },
    unlimited: { name: 'Unlimited', allowances: { calls: { amount: 'unlimited' } } },
  },
  addOns: {
    more: { name: 'More', prices: { monthly: { amountMinor: 500 } }, allowances: { calls: 250 } },
    team: { name: 'Team', prices: { monthly: { amountMinor: 500 } }, allowances: { seats: 5 } },
  },
  defaultPlan: 'free',
})
const on = (planKey: string, over: Partial<PlanTerms> = {}): PlanTerms => ({
  ...termsOf(planKey),
  catalog,
  newerMeters: catalog.meters,
  ...over,
})
const planOf = (planKey: string, over: Partial<PlanTerms> = {}) => planGrantOf(on(planKey, over), 'calls', now)
const units = (count: number): Quantity => BigInt(count) * MICRO
const opened = (planKey: string, over: Partial<Grant> = {}): Grant => ({ ...openedGrant('org', planOf(planKey), now), ...over })

describe('a plan’s allowance', () => {
  test('has what each add-on adds, as often as it was bought', () => {
    expect(planOf('hard', { addOns: { more: 3 } }).amount).toBe(units(100 + 3 * 250))
    expect(planOf('hard', { addOns: { team: 3 } }).amount).toBe(units(100))
  })

  test('is opened with nothing counted, and nothing held, free, priced or revoked', () => {
    expect(Object.values(UNTOUCHED).every((counter) => counter === 0n)).toBe(true)
    expect(opened('hard')).toMatchObject(UNTOUCHED)
  })

  test('into which something may move on is due until it is open, and no other is', () => {
    const due = (planKey: string, balanceKey: string | null, openIds: readonly string[] = []) =>
      isCarryDue(on(planKey), { balanceKey, now, isOpen: (id) => openIds.includes(id) })
    expect([due('rolling', 'calls'), due('rolling', null)]).toEqual([true, true])
    expect([due('rolling', 'seats'), due('hard', 'calls'), due('hard', null)]).toEqual([false, false, false])
    expect([due('rolling', 'calls', [planOf('rolling').id]), due('rolling', null, [planOf('rolling').id])]).toEqual([
      false,
      false,
    ])
  })

  test('is included where an add-on alone has it', () => {
    const seats = (addOns: Readonly<Record<string, number>>) => planGrantOf(on('hard', { addOns }), 'seats', now)
    expect(seats({ team: 2 })).toMatchObject({ included: true, amount: units(10) })
    expect(seats({ team: 0 })).toMatchObject({ included: false, amount: 0n })
  })

  test('of a subscription that ended follows the organization’s own month', () => {
    const period = { currentPeriodStart: new Date('2026-03-01T00:00:00Z'), currentPeriodEnd: new Date('2026-04-01T00:00:00Z') }
    const free = { ...on('free', period), standing: { ...termsOf('free').standing, state: 'free' as const } }
    expect(planOf('hard', period).span.start).toEqual(period.currentPeriodStart)
    expect(planGrantOf(free, 'calls', now).span.start).toEqual(new Date('2026-03-05T00:00:00Z'))
  })

  test('that ends at another time than the plan says has not the plan’s terms', () => {
    const plan = planOf('hard')
    const later = planGrantOn(plan, { ...plan.span, end: new Date(plan.span.end!.getTime() + DAY_MS) })
    expect([hasTermsOf(opened('hard'), plan), hasTermsOf(opened('hard'), later)]).toEqual([true, false])
  })
})

describe('a plan changed within its period', () => {
  test('never takes back what is held: the amount stays above what is used, held and moved on', () => {
    const grant = opened('hard', { used: units(30), reserved: units(50) })
    expect(regrant(grant, planOf('free'), catalog).amount).toBe(units(80))
    const moved = opened('hard', { used: units(70), revoked: units(25) })
    expect(regrant(moved, planOf('free'), catalog).amount).toBe(units(95))
  })

  test('includes the overage of a hard limit, and leaves that of a soft one, which may be on a bill', () => {
    const over = { used: units(100), overage: units(10) }
    expect(regrant(opened('hard', over), planOf('unlimited'), catalog)).toMatchObject({ used: units(110), overage: 0n })
    expect(regrant(opened('soft', over), planOf('unlimited'), catalog)).toMatchObject({ used: units(100), overage: units(10) })
  })

  test('leaves the overage of the same plan, whose amount alone grew, and takes what has moved on for room no more', () => {
    const over = { used: units(100), overage: units(10) }
    const more = planOf('hard', { addOns: { more: 1 } })
    expect(regrant(opened('hard', over), more, catalog)).toMatchObject({
      amount: units(350),
      used: units(100),
      overage: units(10),
    })
    const moved = opened('free', { used: units(70), revoked: units(25), overage: units(10) })
    expect(regrant(moved, planOf('hard'), catalog)).toMatchObject({ used: units(75), overage: units(5) })
  })

  test('includes no more of the overage than there is room for beside what is held', () => {
    const grant = opened('free', { used: units(20), reserved: units(20), overage: units(80) })
    expect(regrant(grant, planOf('hard'), catalog)).toMatchObject({ used: units(80), overage: units(20), reserved: units(20) })
  })

  test('leaves overage to the price under which it goes on: the same plan at the same price prices nothing apart', () => {
    const grant = opened('priced', { used: units(100), overage: units(10) })
    const more = planOf('priced', { addOns: { more: 1 } })
    expect(regrant(grant, more, catalog)).toMatchObject({ overage: units(10), pricedOverage: 0n, pricedMinor: 0n })
    const twin = { ...planOf('priced'), planKey: 'twin' }
    expect(regrant(grant, twin, catalog)).toMatchObject({ overage: units(10), pricedOverage: units(10), pricedMinor: 50n })
  })

  test('prices the overage so far by its old terms, without what is free', () => {
    const grant = opened('priced', { used: units(100), overage: units(10), freeOverage: units(4) })
    const after = regrant(grant, planOf('soft'), catalog)
    expect(after).toMatchObject({ pricedOverage: units(6), pricedMinor: 30n })
    // The plan in between has no price: what was priced before it stays as it was.
    expect(regrant(after, planOf('unlimited'), catalog)).toMatchObject({ pricedMinor: 30n })
  })

  test('keeps what is free free when it is included', () => {
    const grant = opened('hard', { used: units(100), overage: units(10), freeUsed: units(1), freeOverage: units(4) })
    expect(regrant(grant, planOf('unlimited'), catalog)).toMatchObject({ freeUsed: units(5), freeOverage: 0n })
    const stays = { used: units(100), overage: units(10), freeUsed: units(3), freeOverage: units(5) }
    expect(regrant(opened('soft', stays), planOf('priced'), catalog)).toMatchObject(stays)
  })
})

describe('what moves on into a period', () => {
  const month = (text: string) => new Date(`${text}-01T00:00:00Z`)
  const of = (over: Partial<PlanTerms> = {}) => {
    const terms = on('rolling', over)
    return { organizationId: 'org', terms, plan: planGrantOf(terms, 'calls', now), now }
  }
  const ended = (starts: string, ends: string, over: Partial<Grant> = {}) =>
    opened('rolling', { id: `plan of ${starts}`, startsAt: month(starts), expiresAt: month(ends), ...over })
  const amountsOf = (want: WantedGrant, previous: Grant | null) => {
    const { passed, moves } = moveOn(want, previous)
    return [passed.map(({ startsAt }) => startsAt), moves.map(({ to }) => [to.amount, to.expiresAt])]
  }

  test('is what is neither used nor held of the last, capped, for so many periods', () => {
    const used = { used: units(60), reserved: units(10) }
    expect(amountsOf(of(), ended('2026-02', '2026-03', used))).toEqual([[], [[units(30), month('2026-06')]]])
    expect(amountsOf(of(), ended('2026-02', '2026-03'))).toEqual([[], [[units(50), month('2026-06')]]])
    expect(amountsOf(of(), ended('2026-02', '2026-03', { used: units(100) }))).toEqual([[], []])
  })

  test('is taken from the last beside what was taken from it before', () => {
    const { moves } = moveOn(of(), ended('2026-02', '2026-03', { used: units(50), revoked: units(20) }))
    expect(moves.map(({ from, to }) => [from.revoked, to.amount])).toEqual([[units(50), units(30)]])
  })

  test('is that of the last also where the cycle is said to begin only in a moment', () => {
    const currentPeriodStart = new Date(now.getTime() + HOUR_MS)
    const currentPeriodEnd = new Date(now.getTime() + 31 * DAY_MS)
    const terms = on('cycled', { currentPeriodStart, currentPeriodEnd })
    const want = { organizationId: 'org', terms, plan: planGrantOf(terms, 'calls', now), now }
    const last = opened('cycled', { id: 'last', startsAt: month('2026-02'), expiresAt: now })
    expect(amountsOf(want, last)).toEqual([[], [[units(100), currentPeriodEnd]]])
  })

  test('is nothing of what would have ended by now', () => {
    const january = ended('2026-01', '2026-02', { planKey: 'once' })
    for (const at of [now, month('2026-03')]) {
      const terms = on('once')
      const { moves } = moveOn({ organizationId: 'org', terms, plan: planGrantOf(terms, 'calls', at), now: at }, january)
      expect(moves.map(({ from, to }) => [from.startsAt, to.expiresAt])).toEqual([[month('2026-02'), month('2026-04')]])
    }
  })

  test('is nothing of what another allowance of the same start took the place of', () => {
    expect(amountsOf(of(), ended('2026-03', '2026-04', { expiresAt: now }))).toEqual([[], []])
    expect(amountsOf(of(), ended('2026-02', '2026-04', { expiresAt: now }))).toEqual([[], [[units(50), month('2026-06')]]])
  })

  test('is nothing of a period in which the last allowance still stood for a part', () => {
    const broken = ended('2026-01', '2026-02', { expiresAt: new Date('2026-01-15T00:00:00Z') })
    expect(amountsOf(of(), broken)).toEqual([[month('2026-02')], [[units(50), month('2026-06')]]])
  })

  test('is nothing of what had no end, or no limit, nor under a plan that lets nothing move on', () => {
    for (const last of [opened('rolling', { expiresAt: null }), ended('2026-02', '2026-03', { amount: null })]) {
      expect(amountsOf(of(), last)).toEqual([[], []])
    }
    const terms = on('hard')
    const want = { organizationId: 'org', terms, plan: planGrantOf(terms, 'calls', now), now }
    expect(amountsOf(want, ended('2026-02', '2026-03'))).toEqual([[], []])
  })

  test('is nothing from before a time without an allowance', () => {
    const other = ended('2025-12', '2026-01', { planKey: 'hard' })
    expect(amountsOf(of(), other)).toEqual([[], []])
  })

  test('is that of periods that passed without use, as many as still count, since the organization came', () => {
    const free = { ...termsOf('rolling').standing, state: 'free' as const }
    const since = (anchor: string) => amountsOf(of({ standing: free, anchor: month(anchor) }), null)
    const months = ['2025-12', '2026-01', '2026-02'].map(month)
    expect(since('2020-01')).toEqual([months, ['2026-04', '2026-05', '2026-06'].map((end) => [units(50), month(end)])])
    expect(since('2026-02')).toEqual([[month('2026-02')], [[units(50), month('2026-06')]]])
    // Who subscribed just now had none of it before.
    expect(amountsOf(of(), null)).toEqual([[], []])
  })
})

describe('a grant', () => {
  test('counts from its start on, and at its end no more', () => {
    const grant = { startsAt: now, expiresAt: new Date(now.getTime() + 1) }
    const at = (ms: number) => isActiveAt(grant, new Date(now.getTime() + ms))
    expect([at(-1), at(0), at(1)]).toEqual([false, true, false])
    expect(isActiveAt({ ...grant, expiresAt: null }, new Date(now.getTime() + 1))).toBe(true)
  })

  test('that is unlimited never shows a rest, nor that something expired', () => {
    const grant = grantOf('gift', null, { used: units(3), expiresAt: now })
    for (const ms of [-1, 0]) expect(partsOf(grant, new Date(now.getTime() + ms))).toEqual({ remaining: null, expired: 0n })
  })

  test('has expired at its end, and not before', () => {
    const grant = grantOf('gift', '10', { expiresAt: now, used: units(4) })
    expect(partsOf(grant, now)).toEqual({ remaining: 0n, expired: units(6) })
    expect(partsOf(grant, new Date(now.getTime() - 1))).toEqual({ remaining: units(6), expired: 0n })
  })

  test('of which a smaller plan leaves less than is used gives nothing, and takes nothing from others', () => {
    const plan = new GrantLine(opened('hard', { used: units(100) }), units(40))
    const book = new BalanceBook([plan, new GrantLine(grantOf('gift', '10'))], plan)
    expect([plan.available, plan.amount, book.availableFor('calls')]).toEqual([0n, units(100), units(10)])
  })

  test('that was left over pays right after its plan, before what was bought', () => {
    const plan = new GrantLine(opened('hard', { used: units(100) }))
    const left = new GrantLine(grantOf('left', '5', { kind: 'rollover', priority: 99 }))
    const book = new BalanceBook([plan, new GrantLine(grantOf('bought', '5', { kind: 'top_up', priority: 60 }))], plan, left)
    expect(book.draw('calls', units(6)).map(({ grantId }) => grantId)).toEqual(['left', 'bought'])
  })

  test('that was left over pays right after its plan, also where something goes before that', () => {
    const plan = new GrantLine(opened('hard', { used: units(98) }))
    const [given, bought] = (['promotion', 'top_up'] as const).map(
      (kind, index) => new GrantLine(grantOf(kind, '1', { kind, priority: index * 90 })),
    )
    const left = new GrantLine(grantOf('left', '1', { kind: 'rollover', priority: 99 }))
    const draws = new BalanceBook([bought!, plan, given!], plan, left).draw('calls', units(5))
    expect(draws.map(({ grantId, amount }) => [grantId, amount])).toEqual([
      ['promotion', units(1)],
      [plan.grant.id, units(2)],
      ['left', units(1)],
      ['top_up', units(1)],
    ])
  })

  test('gives its last millionth, and what is used beyond is overage to the millionth', () => {
    const plan = new GrantLine(opened('soft', { used: units(100) - 1n }))
    const book = new BalanceBook([plan], plan)
    expect(plan.available).toBe(1n)
    expect(book.hold('calls', 1n)).toEqual([{ grantId: plan.grant.id, amount: 1n, overage: 0n }])
    plan.reserved = 0n
    expect(book.draw('calls', 1n)).toEqual([{ grantId: plan.grant.id, amount: 1n, overage: 0n }])
    expect(book.draw('calls', 1n)).toEqual([{ grantId: plan.grant.id, amount: 0n, overage: 1n }])
    expect([plan.available, plan.used, plan.overage]).toEqual([0n, units(100), 1n])
    expect(book.hold('calls', 1n)).toEqual([{ grantId: plan.grant.id, amount: 0n, overage: 1n }])
    expect(plan.heldOverage).toBe(1n)
  })

  test('is granted less what was revoked of it; without a limit neither is a number', () => {
    const revoked = new GrantLine(opened('hard', { revoked: units(30), used: units(10) }))
    expect([revoked.amount, revoked.granted, revoked.available]).toEqual([units(100), units(70), units(60)])
    const unlimited = new GrantLine(opened('unlimited', { used: units(5) }))
    expect([unlimited.amount, unlimited.granted, unlimited.available]).toEqual([null, null, null])
  })

  test('is in the sums of its balance: what is used, held and left add up to them, for one meter as for all', () => {
    const plan = new GrantLine(opened('hard', { used: units(10), reserved: units(5), usedElsewhere: units(3) }))
    const gift = new GrantLine(grantOf('gift', '10', { used: units(3), meters: ['calls'] }))
    const book = new BalanceBook([plan, gift], plan)
    const sums = { used: units(13), overage: 0n, reserved: units(5) }
    const all = { ...sums, amount: units(110), remaining: units(92) }
    expect([null, 'calls'].map((meter) => book.totalsFor(meter))).toEqual([all, all])
    expect(book.totalsFor('seats')).toEqual({ ...sums, amount: units(103), remaining: units(85) })
  })

  test('counts what is used of it and beyond, and what is held of either', () => {
    const plan = new GrantLine(opened('soft', { used: 1_000n, overage: 200n, reserved: 30n, heldOverage: 4n }))
    const gift = new GrantLine(grantOf('gift', '10', { used: 50_000n }))
    expect(new BalanceBook([plan, gift], plan).counted).toBe(51_234n)
  })
})

describe('what is given back', () => {
  const line = () =>
    new GrantLine(opened('priced', { used: units(10), overage: units(6), freeUsed: units(3), freeOverage: units(2) }))

  test.each([
    ['billed overage first', 5, false, { back: 4, used: 9, overage: 2, freeUsed: 3, freeOverage: 2 }],
    ['free overage last', 15, false, { back: 5, used: 0, overage: 1, freeUsed: 0, freeOverage: 1 }],
    ['of a free time free overage first', 5, true, { back: 5, used: 10, overage: 1, freeUsed: 3, freeOverage: 0 }],
    ['of a free time what was free of the rest', 8, true, { back: 6, used: 8, overage: 0, freeUsed: 1, freeOverage: 0 }],
  ])('is %s', (_, quantity, isFree, { back, ...left }) => {
    const own = line()
    expect(own.giveBack(units(quantity), isFree)).toBe(units(back))
    expect(own).toMatchObject(Object.fromEntries(Object.entries(left).map(([name, count]) => [name, units(count)])))
  })

  test('to another grant counts in the period no less than nothing, where that was drawn before such use was counted', () => {
    const plan = new GrantLine(opened('hard', { usedElsewhere: units(2) }))
    const gift = new GrantLine(grantOf('gift', '10', { used: units(5) }))
    const book = new BalanceBook([plan, gift], plan)
    book.countElsewhere(gift, units(-5))
    expect([plan.usedElsewhere, book.totalsFor('calls').used]).toEqual([0n, 0n])
    book.countElsewhere(plan, units(3))
    expect(plan.usedElsewhere).toBe(0n)
  })

  test('is given back once, and leaves nothing below zero', () => {
    const part = fc.bigInt({ min: 0n, max: 1_000n })
    fc.assert(
      fc.property(part, part, part, part, part, fc.boolean(), (used, overage, a, b, quantity, isFree) => {
        const [freeUsed, freeOverage] = [a < used ? a : used, b < overage ? b : overage]
        const own = new GrantLine(opened('priced', { used, overage, freeUsed, freeOverage }))
        const asked = quantity < used + overage ? quantity : used + overage
        const fromOverage = own.giveBack(asked, isFree)
        expect(own.used + own.overage).toBe(used + overage - asked)
        expect(own.overage).toBe(overage - fromOverage)
        expect(own.freeUsed >= 0n && own.freeUsed <= own.used).toBe(true)
        expect(own.freeOverage >= 0n && own.freeOverage <= own.overage).toBe(true)
      }),
    )
  })
})

describe('a share of an allowance', () => {
  const plan = planOf('hard')
  const shares = { ...plan, allowance: { ...plan.allowance, thresholds: [50, 80, 100, 120] } }
  const told = (before: Quantity, after: Quantity) =>
    thresholdsReached({ grant: opened('hard'), plan: shares, catalog, before, after }, now).flatMap(({ data }) =>
      'percent' in data ? data.percent : [],
    )

  test('is told when it is reached exactly, and not a millionth before', () => {
    expect([told(0n, units(80) - 1n), told(0n, units(80)), told(units(80), units(80) + 1n)]).toEqual([[50], [50, 80], []])
  })

  test('is told once, in however many steps it is reached', () => {
    fc.assert(
      fc.property(fc.array(fc.bigInt({ min: 0n, max: units(40) }), { maxLength: 12 }), (steps) => {
        let used = 0n
        const percents = steps.flatMap((step) => told(used, (used += step)))
        expect(percents).toEqual([50, 80, 100, 120].filter((percent) => used >= units(percent)))
      }),
    )
  })
})
