import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { assignCounts, followItems, reportTime, type BillingItem, type BillingSpan, type CountedGrant } from './spans.ts'

const day = (n: number) => new Date(Date.UTC(2026, 0, n))
const item = (overrides: Partial<BillingItem> = {}): BillingItem => ({
  subscriptionId: 'sub',
  itemId: 'si',
  priceId: 'price',
  quantity: 0n,
  unitAmountMinor: 0n,
  balanceKey: 'calls',
  periodStart: day(1),
  periodEnd: day(31),
  anchor: day(1),
  ...overrides,
})
const open = (items: readonly BillingItem[], now = day(1)) => followItems({ spans: [], ended: new Map(), items, now }).opened

function endedOf(spans: readonly BillingSpan[]): Map<string, Date> {
  const over = spans.filter(({ state }) => state !== 'open').map(({ endsAt }) => endsAt.getTime())
  return over.length === 0 ? new Map() : new Map([['sub', new Date(Math.max(...over))]])
}

describe('the spans of a subscription', () => {
  test('begin with its period, and stay as they are while nothing changes', () => {
    const spans = open([item()])
    expect(spans).toMatchObject([{ startsAt: day(1), endsAt: day(31), whole: true, state: 'open', quantity: 0n }])
    for (const quantity of [0n, 50n]) {
      const reported = spans.map((span) => ({ ...span, quantity }))
      expect(followItems({ spans: reported, ended: new Map(), items: [item()], now: day(9) })).toEqual({ ended: [], opened: [] })
    }
  })

  test('go over into the next period: the old one is closing, the new one whole', () => {
    const next = item({ periodStart: day(31), periodEnd: day(59) })
    const { ended, opened } = followItems({ ended: new Map(), spans: open([item()]), items: [next], now: day(31) })
    expect(ended).toMatchObject([{ endsAt: day(31), state: 'closing' }])
    expect(opened).toMatchObject([{ startsAt: day(31), endsAt: day(59), whole: true }])
  })

  test('leave no gap when two periods have passed at once', () => {
    const later = item({ periodStart: day(59), periodEnd: day(90) })
    const { opened } = followItems({ ended: new Map(), spans: open([item()]), items: [later], now: day(60) })
    expect(opened).toMatchObject([
      { startsAt: day(31), endsAt: day(59), whole: true, state: 'closing' },
      { startsAt: day(59), endsAt: day(90), whole: true, state: 'open' },
    ])
  })

  test('end now when the price is swapped, and the new one begins now within the period', () => {
    const { ended, opened } = followItems({
      ended: new Map(),
      spans: open([item()]),
      items: [item({ priceId: 'dear' })],
      now: day(10),
    })
    expect(ended).toMatchObject([{ endsAt: day(10), state: 'closed' }])
    expect(opened).toMatchObject([{ priceId: 'dear', startsAt: day(10), endsAt: day(31), whole: false }])
  })

  test('change at the second that a change fell in, as Stripe counts', () => {
    const now = new Date(day(10).getTime() + 600)
    const { ended, opened } = followItems({ ended: new Map(), spans: open([item()]), items: [item({ priceId: 'dear' })], now })
    expect([ended[0]?.endsAt, opened[0]?.startsAt]).toEqual([day(10), day(10)])
  })

  test('of a base fee end when the number of seats changes', () => {
    const seats = (quantity: bigint) => item({ balanceKey: null, quantity, unitAmountMinor: 100n })
    const { ended, opened } = followItems({ ended: new Map(), spans: open([seats(2n)]), items: [seats(5n)], now: day(10) })
    expect(ended).toMatchObject([{ kind: 'base', quantity: 2n, endsAt: day(10), state: 'closed' }])
    expect(opened).toMatchObject([{ kind: 'base', quantity: 5n, startsAt: day(10), whole: false }])
  })

  test('a year that becomes months in a later one of its months is billed the rest of that month, not a whole one', () => {
    const fee = (overrides: Partial<BillingItem>) => item({ balanceKey: null, quantity: 1n, unitAmountMinor: 100n, ...overrides })
    const spans = open([fee({ periodEnd: day(366) })])
    const monthly = fee({ priceId: 'monthly', periodStart: day(32), periodEnd: day(60) })
    const { ended, opened } = followItems({ ended: new Map(), spans, items: [monthly], now: day(50) })
    expect(ended).toMatchObject([{ endsAt: day(50), state: 'closed' }])
    expect(opened).toMatchObject([{ startsAt: day(50), endsAt: day(60), whole: false }])
    // An anchor that was moved begins a month, which is charged whole.
    const moved = fee({ priceId: 'monthly', periodStart: day(50), periodEnd: day(80), anchor: day(50) })
    const after = followItems({ ended: new Map(), spans, items: [moved], now: day(51) })
    expect(after.ended).toMatchObject([{ endsAt: day(50), state: 'closed' }])
    expect(after.opened).toMatchObject([{ startsAt: day(50), endsAt: day(80), whole: true }])
  })

  test('of a subscription beside another begin with its own period, which is charged whole', () => {
    const other = open([item({ subscriptionId: 'other', itemId: 'si_other', periodStart: day(5), periodEnd: day(35) })], day(5))
    const { ended, opened } = followItems({
      ended: new Map([['other', day(5)]]),
      spans: other,
      items: [item({ subscriptionId: 'other', itemId: 'si_other', periodStart: day(5), periodEnd: day(35) }), item()],
      now: day(6),
    })
    expect(ended).toEqual([])
    expect(opened).toMatchObject([{ subscriptionId: 'sub', startsAt: day(1), whole: true }])
  })

  test('at a price that came with the renewal begin with the period, which is charged whole, whenever it is heard of', () => {
    const renewed = item({ priceId: 'dear', periodStart: day(31), periodEnd: day(59) })
    const { ended, opened } = followItems({ ended: new Map(), spans: open([item()]), items: [renewed], now: day(33) })
    expect(ended).toMatchObject([{ endsAt: day(31), state: 'closed' }])
    expect(opened).toMatchObject([{ priceId: 'dear', startsAt: day(31), endsAt: day(59), whole: true }])
  })

  test('of what is added as the period turns begin with the new one, which is charged whole', () => {
    const next = item({ periodStart: day(31), periodEnd: day(59), anchor: day(31) })
    expect(followItems({ spans: [], ended: new Map([['sub', day(31)]]), items: [next], now: day(32) }).opened).toMatchObject([
      { startsAt: day(31), whole: true },
    ])
    expect(followItems({ spans: [], ended: new Map([['sub', day(32)]]), items: [next], now: day(33) }).opened).toMatchObject([
      { startsAt: day(33), whole: false },
    ])
  })

  test('end when the subscription ends, and not before its period does where that is over', () => {
    expect(followItems({ ended: new Map(), spans: open([item()]), items: [], now: day(10) }).ended).toMatchObject([
      { endsAt: day(10), state: 'closed' },
    ])
    expect(followItems({ ended: new Map(), spans: open([item()]), items: [], now: day(40) }).ended).toMatchObject([
      { endsAt: day(31), state: 'closed' },
    ])
  })

  test('whatever changes, never overlap for one item, and following again changes nothing', () => {
    const states = fc.array(fc.record({ price: fc.constantFrom('a', 'b', null), days: fc.integer({ min: 0, max: 20 }) }), {
      minLength: 1,
      maxLength: 12,
    })
    fc.assert(
      fc.property(states, (steps) => {
        const all = new Map<string, BillingSpan>()
        let now = 1
        for (const { price, days } of steps) {
          now += days
          const period = Math.floor((now - 1) / 30)
          const items =
            price === null ? [] : [item({ priceId: price, periodStart: day(1 + 30 * period), periodEnd: day(31 + 30 * period) })]
          const openNow = [...all.values()].filter(({ state }) => state === 'open')
          const { ended, opened } = followItems({ spans: openNow, ended: endedOf([...all.values()]), items, now: day(now) })
          for (const span of [...ended, ...opened]) all.set(span.id, span)
          const again = [...all.values()].filter(({ state }) => state === 'open')
          expect(followItems({ spans: again, ended: endedOf([...all.values()]), items, now: day(now) })).toEqual({
            ended: [],
            opened: [],
          })
        }
        const spans = [...all.values()]
          .filter(({ startsAt, endsAt }) => startsAt < endsAt)
          .toSorted((a, b) => a.startsAt.getTime() - b.startsAt.getTime())
        const overlaps = spans.filter((span, index) => index > 0 && spans[index - 1]!.endsAt > span.startsAt)
        expect(overlaps).toEqual([])
      }),
    )
  })
})

const grant = (overrides: Partial<CountedGrant> = {}): CountedGrant => ({
  grantId: 'plan',
  balanceKey: 'calls',
  startsAt: day(1),
  expiresAt: day(31),
  counted: 10n,
  reported: 4n,
  ...overrides,
})

describe('what has been counted since the last report', () => {
  const [first] = open([item()])
  const closing: BillingSpan = { ...first!, state: 'closing' }
  const second: BillingSpan = { ...first!, id: 'second', startsAt: day(31), endsAt: day(59) }

  test('goes to the span of its time, also while that is closing', () => {
    expect(assignCounts([closing, second], [grant()])).toMatchObject([{ span: { id: closing.id }, quantity: 6n, late: false }])
  })

  test('goes to the latest span that its time touches, in whatever order they are told', () => {
    const month = grant({ startsAt: day(25), expiresAt: day(40) })
    for (const spans of [
      [first!, second],
      [second, first!],
    ])
      expect(assignCounts(spans, [month])).toMatchObject([{ span: { id: 'second' }, late: false }])
  })

  test('is nothing to report where all of it was', () => {
    expect(assignCounts([first!], [grant({ reported: 10n })])).toEqual([])
  })

  test('goes to the next span, late, when its own is closed', () => {
    const closed: BillingSpan = { ...closing, state: 'closed' }
    expect(assignCounts([closed, second], [grant()])).toMatchObject([{ span: { id: 'second' }, quantity: 6n, late: true }])
  })

  test('waits when no span of its time has begun, or of its balance', () => {
    expect(assignCounts([{ ...first!, balanceKey: 'tokens' }], [grant()])).toEqual([])
    expect(assignCounts([closing], [grant({ startsAt: day(31), expiresAt: day(59) })])).toEqual([])
  })

  test('is summed up over the grants of a span: days within a month; what was taken back is told otherwise', () => {
    const days = [
      grant({ grantId: 'monday', counted: 3n, reported: 0n }),
      grant({ grantId: 'tuesday', counted: 2n, reported: 1n }),
      grant({ grantId: 'wednesday', counted: 1n, reported: 2n }),
    ]
    expect(assignCounts([first!], days)).toMatchObject([
      { quantity: 4n, grants: [{ grantId: 'monday' }, { grantId: 'tuesday' }] },
    ])
  })
})

describe('the time of a report', () => {
  const span = { startsAt: day(1), endsAt: day(31) }
  const seconds = (ms: number) => new Date(day(1).getTime() + ms)

  test('is the second that is over, within the span', () => {
    expect(reportTime(span, seconds(5_400))).toEqual(seconds(4_000))
    expect(reportTime(span, day(40))).toEqual(new Date(day(31).getTime() - 1_000))
  })

  test('is not there yet in the first second, unless nothing changes in it any more', () => {
    expect(reportTime(span, seconds(300))).toBeNull()
    expect(reportTime(span, seconds(300), { isStanding: true })).toEqual(day(1))
  })
})
