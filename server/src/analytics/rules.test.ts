import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { movementOf, movementTime, revenueOf, WHOLE, type RevenueItem, type RevenueSubscription } from './rules.ts'
import { cohortsOf } from './cohorts.ts'
import { convertSeries, ratioOf, roundSpan, seriesOf } from './series.ts'
import { summaryOf } from './actions.ts'
import { splitPeriod } from './periods.ts'
import { toMovements } from './views.ts'

const NOW = new Date('2026-03-10T00:00:00Z')
const CENT = 10n ** 12n
const UNLIMITED = { itemId: null, products: null }

const item = (minor: bigint, given: Partial<RevenueItem> = {}): RevenueItem => ({
  id: 'si_1',
  productId: 'prod_1',
  includedTax: { parts: 0n, upon: WHOLE },
  unitAmount: minor * CENT,
  quantity: 1,
  interval: 'month',
  intervalCount: 1,
  metered: false,
  ...given,
})
const subscription = (items: readonly RevenueItem[], given: Partial<RevenueSubscription> = {}): RevenueSubscription => ({
  status: 'active',
  currency: 'usd',
  paused: false,
  createdAt: new Date('2026-01-05T00:00:00Z'),
  firstPaidAt: null,
  trialEnd: null,
  endedAt: null,
  items,
  discounts: [],
  ...given,
})
/** In millionths of a cent. */
const mrrOf = (...subscriptions: RevenueSubscription[]) => revenueOf(subscriptions, NOW).get('usd')?.mrr

describe('monthly recurring revenue', () => {
  it('counts a year as twelve months, a week as 12/52 of one, a day as 12/365, each exact to the millionth of a cent', () => {
    expect(mrrOf(subscription([item(10_000n, { interval: 'year' })]))).toBe(833_333_333n)
    expect(mrrOf(subscription([item(10_000n, { interval: 'month', intervalCount: 3 })]))).toBe(3_333_333_333n)
    expect(mrrOf(subscription([item(1_200n, { interval: 'week' })]))).toBe(5_200_000_000n)
    expect(mrrOf(subscription([item(120n, { interval: 'day' })]))).toBe(3_650_000_000n)
  })

  it('counts quantities, several items and fractions of a cent; not what is metered', () => {
    expect(mrrOf(subscription([item(500n, { quantity: 3 }), item(1_200n, { interval: 'year' })]))).toBe(1_600_000_000n)
    expect(mrrOf(subscription([item(900n), item(99n, { metered: true })]))).toBe(900_000_000n)
    expect(mrrOf(subscription([{ ...item(0n), unitAmount: CENT / 8n, quantity: 4 }]))).toBe(500_000n)
  })

  it('takes off what recurs, in percent and in money, and not what is taken off once or has ended', () => {
    const base = { ...UNLIMITED, percentOff: null, amountOffMinor: 0, duration: 'forever', endsAt: null } as const
    const discounted = (...discounts: RevenueSubscription['discounts']) => mrrOf(subscription([item(1_000n)], { discounts }))
    expect(discounted({ ...base, percentOff: 12_500_000n })).toBe(875_000_000n)
    expect(discounted({ ...base, amountOffMinor: 300 })).toBe(700_000_000n)
    expect(discounted({ ...base, amountOffMinor: 3_000 })).toBe(0n)
    expect(discounted({ ...base, percentOff: 50_000_000n, duration: 'once' })).toBe(1_000_000_000n)
    expect(discounted({ ...base, percentOff: 50_000_000n, duration: 'repeating', endsAt: NOW })).toBe(1_000_000_000n)
    expect(discounted({ ...base, percentOff: 50_000_000n }, { ...base, amountOffMinor: 100 })).toBe(400_000_000n)
    const yearly = subscription([item(12_000n, { interval: 'year' })], { discounts: [{ ...base, amountOffMinor: 1_200 }] })
    expect(mrrOf(yearly)).toBe(900_000_000n)
    // Twelfths: 83.3333333… and 83.9166666…
    expect([1_000n, 1_007n].map((a) => mrrOf(subscription([item(a, { interval: 'year' })])))).toEqual([83_333_333n, 83_916_667n])
  })

  it('takes an amount off its products’ lines in proportion, and the tax that they include off what is left', () => {
    const off = { ...UNLIMITED, percentOff: null, amountOffMinor: 300, duration: 'forever', endsAt: null } as const
    const items = [
      item(1_000n, { includedTax: { parts: WHOLE / 4n, upon: WHOLE } }),
      item(500n, { id: 'si_2', productId: 'prod_2' }),
      item(2_000n, { id: 'si_3', productId: 'prod_3' }),
    ]
    const discounted = (...discounts: RevenueSubscription['discounts']) => mrrOf(subscription(items, { discounts }))
    expect(discounted()).toBe(3_300_000_000n)
    // 200 of the first and 100 of the second.
    expect(discounted({ ...off, products: ['prod_1', 'prod_2'] })).toBe((640n + 400n + 2_000n) * 1_000_000n)
    expect(discounted({ ...off, itemId: 'si_2', products: ['prod_1'] })).toBe(3_300_000_000n)
    expect(discounted({ ...off, itemId: 'si_2', amountOffMinor: 900 })).toBe(2_800_000_000n)
    expect(discounted(...Array.from({ length: 20 }, () => ({ ...off, amountOffMinor: 7 })))).toBe(3_168_000_000n)
  })

  it('is 0 in trial, paused, unpaid, incomplete and ended, and goes on while a payment is retried', () => {
    for (const status of ['trialing', 'paused', 'unpaid', 'incomplete', 'incomplete_expired', 'canceled'] as const) {
      expect(mrrOf(subscription([item(1_000n)], { status }))).toBe(0n)
    }
    expect(mrrOf(subscription([item(1_000n)], { status: 'past_due' }))).toBe(1_000_000_000n)
    expect(mrrOf(subscription([item(1_000n)], { paused: true }))).toBe(0n)
  })

  it('keeps currencies apart, and names the best standing of each', () => {
    const eur = subscription([item(700n)], { currency: 'eur', status: 'past_due' })
    expect(revenueOf([subscription([item(1_000n)]), subscription([item(1n)], { status: 'canceled' }), eur], NOW)).toEqual(
      new Map([
        ['usd', { mrr: 1_000_000_000n, status: 'active' }],
        ['eur', { mrr: 700_000_000n, status: 'past_due' }],
      ]),
    )
    const tried = subscription([item(5n)], { status: 'trialing' })
    expect(revenueOf([tried, subscription([item(1n)])], NOW).get('usd')?.status).toBe('active')
    expect(revenueOf([eur, { ...tried, currency: 'eur' }], NOW).get('eur')?.status).toBe('trialing')
  })
})

describe('a movement', () => {
  const unseen = { movedAt: null, statusBefore: null, now: NOW }

  it('is named by what was before and what is after', () => {
    expect([movementOf(0n, 1n, false), movementOf(0n, 1n, true), movementOf(1n, 2n, true)]).toEqual([
      'new',
      'reactivation',
      'expansion',
    ])
    expect([movementOf(2n, 1n, true), movementOf(2n, 0n, true), movementOf(2n, 2n, true)]).toEqual(['contraction', 'churn', null])
  })

  it('is dated when it took place as Stripe knows, never after the organization’s time nor before the movement before it', () => {
    const began = subscription([item(1n)], { trialEnd: new Date('2026-02-01T00:00:00Z') })
    expect(movementTime('new', [began], unseen)).toEqual(new Date('2026-02-01T00:00:00Z'))
    const ended = { ...began, status: 'canceled', endedAt: new Date('2026-03-01T00:00:00Z') } as const
    expect(movementTime('churn', [ended], unseen)).toEqual(ended.endedAt)
    expect(movementTime('churn', [ended], { ...unseen, movedAt: NOW })).toEqual(NOW)
    expect(movementTime('churn', [ended], { ...unseen, movedAt: began.createdAt })).toEqual(ended.endedAt)
    expect(movementTime('churn', [began], unseen)).toEqual(NOW)
    expect(movementTime('churn', [ended], { ...unseen, now: new Date('2026-02-20T00:00:00Z') })).toEqual(
      new Date('2026-02-20T00:00:00Z'),
    )
  })

  it('that is the first is dated now where a subscription ran or stood still before and brought nothing, else when its paid part began', () => {
    const trialEnd = new Date('2026-02-01T00:00:00Z')
    const began = subscription([item(1n)], { trialEnd })
    const datedAfter = (statusBefore: RevenueSubscription['status']) => movementTime('new', [began], { ...unseen, statusBefore })
    for (const status of ['active', 'past_due', 'unpaid', 'paused'] as const) expect(datedAfter(status)).toEqual(NOW)
    for (const status of ['trialing', 'incomplete', 'incomplete_expired', 'canceled'] as const) {
      expect(datedAfter(status)).toEqual(trialEnd)
    }
  })

  it('that is the first of several subscriptions is dated when the earliest of those began that are paid for', () => {
    const began = (day: string, given: Partial<RevenueSubscription> = {}) =>
      subscription([item(1n)], { createdAt: new Date(`2026-02-${day}T00:00:00Z`), ...given })
    const all = [began('09'), began('05'), began('01', { status: 'incomplete_expired' }), began('02', { status: 'trialing' })]
    expect(movementTime('new', all, unseen)).toEqual(new Date('2026-02-05T00:00:00Z'))
    const left = ['2026-03-03', '2026-03-01'].map((day) => began('01', { status: 'canceled', endedAt: new Date(day) }))
    expect(movementTime('churn', left, unseen)).toEqual(new Date('2026-03-03T00:00:00Z'))
    const waited = [began('05', { firstPaidAt: new Date('2026-02-06T00:00:00Z') }), began('09')]
    expect(movementTime('new', waited, unseen)).toEqual(new Date('2026-02-06T00:00:00Z'))
    // What is lost with one that has not ended is lost now, whenever another did.
    expect(movementTime('churn', [...left, began('01', { status: 'paused' })], unseen)).toEqual(NOW)
  })
})

/** What organizations bring, step by step; each step sets one organization's revenue in one currency. */
const step = fc.record({
  organization: fc.integer({ min: 0, max: 4 }),
  currency: fc.constantFrom('usd', 'eur', 'jpy'),
  mrr: fc.oneof(fc.constant(0n), fc.bigInt({ min: 1n, max: 10_000_000_000n })),
  day: fc.integer({ min: 0, max: 89 }),
})
const FROM = new Date('2026-01-01T00:00:00Z')
const TO = new Date('2026-04-01T00:00:00Z')

it('MRR(t1) − MRR(t0) = new + expansion + reactivation − contraction − churn, in each currency, each span, in all, and converted', () => {
  const table = {
    currency: 'usd',
    rates: new Map([
      ['eur', 1_083_217n],
      ['jpy', 6_731n],
    ]),
  }
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.constantFrom('day', 'week', 'month', null), (steps, interval) => {
      const boundaries = interval === null ? [FROM, TO] : splitPeriod(FROM, TO, interval)
      const held = new Map<string, { mrr: bigint; moved: boolean }>()
      const sums: { bucket: number; currency: string; kind: 'new'; amount: bigint; count: number; leavers: number }[] = []
      for (const { organization, currency, mrr, day } of steps.toSorted((a, b) => a.day - b.day)) {
        const key = `${organization} ${currency}`
        const before = held.get(key) ?? { mrr: 0n, moved: false }
        const kind = movementOf(before.mrr, mrr, before.moved) as 'new' | null
        if (kind === null) continue
        const at = FROM.getTime() + day * 86_400_000
        const bucket = boundaries.findLastIndex((boundary) => boundary.getTime() <= at)
        const sum = sums.find((one) => one.bucket === bucket && one.currency === currency && one.kind === kind)
        if (sum) Object.assign(sum, { amount: sum.amount + mrr - before.mrr, count: sum.count + 1 })
        else sums.push({ bucket, currency, kind, amount: mrr - before.mrr, count: 1, leavers: 0 })
        held.set(key, { mrr, moved: true })
      }
      const series = seriesOf([], sums, boundaries)
      for (const { unit, spans, currency } of [...series, convertSeries(series, table).series]) {
        if (spans.length === 0) continue
        for (const span of spans) {
          const { openingMinor, closingMinor, amounts } = roundSpan(span, unit)
          const moved = toMovements(amounts)
          expect(closingMinor - openingMinor).toBe(
            moved.new_minor + moved.expansion_minor + moved.reactivation_minor - moved.contraction_minor - moved.churn_minor,
          )
        }
        if (currency !== 'usd' || unit !== 1_000_000n) continue
        const own = [...held].filter(([key, { mrr }]) => key.endsWith('usd') && mrr > 0n)
        expect(spans.at(-1)!.closing).toBe(own.reduce((sum, [, { mrr }]) => sum + mrr, 0n))
        expect(spans.at(-1)!.customersClosing).toBe(own.length)
      }
    }),
  )
})

it('revenue is converted by what a major unit is worth, however many decimal places its currency has', () => {
  const boundaries = [FROM, TO]
  const standing = [
    { currency: 'usd', mrr: 100_000_000n, customers: 1 },
    { currency: 'jpy', mrr: 1_000_000_000n, customers: 2 },
    { currency: 'kwd', mrr: 1_000_000_000n, customers: 3 },
    { currency: 'chf', mrr: 1_000_000_000n, customers: 4 },
  ]
  const rates = new Map([
    ['jpy', 6_500n],
    ['kwd', 3_250_000n],
  ])
  const { series, left } = convertSeries(seriesOf(standing, [], boundaries), { currency: 'usd', rates })
  // 1.00 and, of 1,000 yen at 0.0065, 6.50 and, of 1.000 dinar at 3.25, 3.25.
  expect(roundSpan(series.spans[0]!, series.unit)).toMatchObject({ openingMinor: 1_075, closingMinor: 1_075 })
  expect(series.spans[0]!.opening).toBe(1_075n * series.unit)
  expect(series.spans[0]!.customersClosing).toBe(6)
  expect(left).toEqual(['chf'])
  // Of one currency alone too.
  const [only] = convertSeries(seriesOf(standing.slice(1, 2), [], boundaries), { currency: 'usd', rates }).series.spans
  expect(only).toMatchObject({ opening: 650n * series.unit, customersOpening: 2 })
})

it('ARPU, lifetime value and churn are as docs/analytics.md works them out', () => {
  const boundaries = [new Date('2026-01-01T00:00:00Z'), new Date('2027-01-01T00:00:00Z')]
  const sums = [
    { bucket: 0, currency: 'usd', kind: 'churn', amount: -200_000_000n, count: 2, leavers: 2 },
    { bucket: 0, currency: 'usd', kind: 'expansion', amount: 100_000_000n, count: 1, leavers: 0 },
  ] as const
  const [series] = seriesOf([{ currency: 'usd', mrr: 1_000_000_000n, customers: 10 }], sums, boundaries)
  expect(summaryOf(series!)).toMatchObject({
    mrrMinor: 900,
    arrMinor: 10_800,
    customers: 8,
    // 900 / 8, a half goes up
    arpuMinor: 113,
    customerChurn: 0.2,
    grossRevenueChurn: 0.2,
    netRevenueChurn: 0.1,
    // 112.5 / (20 % a year, so 1.667 % a month: 365 days are 11.992 months)
    lifetimeValueMinor: 6_746,
  })
})

it('where all leave, there is no ARPU and no lifetime value; who comes back lowers what was lost net', () => {
  const churn = { bucket: 0, currency: 'usd', kind: 'churn', amount: -1_000_000_000n, count: 2, leavers: 2 } as const
  const back = { bucket: 0, currency: 'usd', kind: 'reactivation', amount: 250_000_000n, count: 1, leavers: 0 } as const
  const of = (...sums: (typeof churn | typeof back)[]) =>
    summaryOf(seriesOf([{ currency: 'usd', mrr: 1_000_000_000n, customers: 2 }], sums, [FROM, TO])[0]!)
  expect(of(churn)).toMatchObject({ customers: 0, customerChurn: 1, arpuMinor: null, lifetimeValueMinor: null })
  expect(of(churn, back)).toMatchObject({ customers: 1, grossRevenueChurn: 1, netRevenueChurn: 0.75 })
})

it('ARR is twelve times what MRR is exactly, and not what an answer rounds it to', () => {
  const [series] = seriesOf([{ currency: 'usd', mrr: 833_333_333n, customers: 1 }], [], [FROM, TO])
  expect(summaryOf(series!)).toMatchObject({ mrrMinor: 833, arrMinor: 10_000 })
})

it('where nobody leaves, nobody is counted as lost, whatever else moves', () => {
  const sums = [{ bucket: 0, currency: 'usd', kind: 'contraction', amount: -100_000_000n, count: 1, leavers: 0 }] as const
  const [series] = seriesOf([{ currency: 'usd', mrr: 1_000_000_000n, customers: 10 }], sums, [FROM, TO])
  expect(series!.spans[0]!.leavers).toBe(0)
  expect(summaryOf(series!)).toMatchObject({ customerChurn: 0, grossRevenueChurn: 0.1 })
})

it('a share of nothing is none, and of one is told', () => {
  expect([ratioOf(1n, 0n), ratioOf(0n, 1n), ratioOf(1n, 1n), ratioOf(1n, 3n)]).toEqual([null, 0, 1, 0.333_333])
})

it('a cohort is told month by month: who still pays, what they bring, and what share of its first month that is', () => {
  const at = (month: string) => new Date(`${month}-01T00:00:00Z`)
  const change = (month: string, offset: number, customers: number, minor: bigint, currency = 'usd') => {
    return { month: at(month), currency, offset, customers, mrr: minor * 1_000_000n }
  }
  const sizes = [
    { month: at('2026-01'), currency: 'usd', customers: 4 },
    { month: at('2026-02'), currency: 'usd', customers: 1 },
    { month: at('2026-01'), currency: 'eur', customers: 1 },
  ]
  const changes = [
    change('2026-01', 0, 4, 1_000n),
    change('2026-01', 2, -1, -300n),
    change('2026-02', 0, 1, 500n),
    change('2026-02', 1, 0, 250n),
    change('2026-01', 1, -1, -70n, 'eur'),
    change('2026-01', 0, 1, 70n, 'eur'),
  ]
  const told = cohortsOf(sizes, changes, at('2026-04')).map(({ months }) =>
    months.map((month) => [month.month, month.customers, month.mrrMinor, month.customerRetention, month.revenueRetention]),
  )
  expect(told).toEqual([
    [
      [0, 4, 1_000, 1, 1],
      [1, 4, 1_000, 1, 1],
      [2, 3, 700, 0.75, 0.7],
    ],
    [
      [0, 1, 500, 1, 1],
      [1, 1, 750, 1, 1.5],
    ],
    [
      [0, 1, 70, 1, 1],
      [1, 0, 0, 0, 0],
      [2, 0, 0, 0, 0],
    ],
  ])
  // Of a month that has begun it is told as far as it goes.
  expect(cohortsOf(sizes.slice(1, 2), changes, new Date('2026-02-10T00:00:00Z'))[0]!.months).toHaveLength(1)
})

it('a report has spans from its beginning, at each day, Monday or first of a month, to its end', () => {
  const at = (text: string) => new Date(`${text}T00:00:00Z`)
  const split = splitPeriod(new Date('2026-01-30T12:00:00Z'), at('2026-03-01'), 'month')
  expect(split).toEqual([new Date('2026-01-30T12:00:00Z'), at('2026-02-01'), at('2026-03-01')])
  expect(splitPeriod(at('2026-03-02'), at('2026-03-12'), 'week')).toEqual([at('2026-03-02'), at('2026-03-09'), at('2026-03-12')])
  expect(splitPeriod(at('2026-03-08'), at('2026-03-10'), 'week')).toEqual([at('2026-03-08'), at('2026-03-09'), at('2026-03-10')])
  expect(() => splitPeriod(at('2026-03-08'), at('2026-03-08'), 'day')).toThrow(/before/)
  expect(() => splitPeriod(at('2020-01-01'), at('2026-03-08'), 'day')).toThrow(/600/)
})
