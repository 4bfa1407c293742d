import { beforeAll, describe, expect, test } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { keepRow, type Row } from '../../test/rows.ts'
import type { UsagePrice } from '../catalog/catalog.ts'
import { parseQuantity } from '../lib/quantity.ts'
import { creditedWith, lateMinorOf, NO_CREDIT, readWholes, type Whole } from './late-lines.ts'
import { listSpansById } from './span-store.ts'

const { db } = testDatabase()
const now = new Date('2026-03-10T12:00:00Z')
const units = (count: number) => parseQuantity(count)

/** Ten cents each up to a hundred, and five beyond: each for itself, or all of them. */
const TIERS = [
  { upTo: '100', unitAmount: '10', flatAmountMinor: 0 },
  { upTo: null, unitAmount: '5', flatAmountMinor: 0 },
]

const line = (id: string, quantity: number, over: Row = {}) =>
  keepRow(db, 'billing_spans', {
    organization_id: 'acme',
    id,
    kind: 'usage',
    subscription_id: 'sub',
    item_id: 'si',
    stripe_price_id: 'graduated',
    starts_at: now,
    ends_at: now,
    whole: true,
    quantity: units(quantity),
    balance: 'calls',
    state: 'closed',
    collected_at: now,
    period_start: now,
    period_end: now,
    unit_amount_minor: 0,
    ...over,
  })
const late = (id: string, quantity: number, amountMinor: number | null, over: Row = {}) =>
  line(id, quantity, { kind: 'late', late_of: 'line', amount_minor: amountMinor, ...over })
let credits = 0
const credit = (spanId: string, quantity: number, amountMinor: number, organizationId = 'acme') =>
  keepRow(db, 'use_credits', {
    organization_id: organizationId,
    id: `credit ${++credits}`,
    span_id: spanId,
    grant_id: 'grant',
    late: true,
    quantity: units(quantity),
    amount_minor: amountMinor,
    state: 'given',
    created_at: now,
  })

const spansOf = (...ids: readonly string[]) => listSpansById(db, { organizationId: 'acme', ids })
let graduated: UsagePrice
let volume: UsagePrice

beforeAll(async () => {
  for (const model of ['graduated', 'volume']) {
    await keepRow(db, 'usage_prices', {
      stripe_price_id: model,
      plan_key: model,
      balance: 'calls',
      reports: 'overage',
      event_name: '',
      formula: 'sum',
      currency: 'usd',
      terms: { model, tiers: TIERS },
      catalog_version: 1,
      created_at: now,
    })
  }
  await line('line', 80)
  await late('fixed', 30, 250)
  await late('open', 7, null)
  await line('another', 1, { stripe_price_id: 'volume' })
  await late('of another', 2, 20, { late_of: 'another' })
  await late('theirs', 40, 400, { organization_id: 'other' })
  await credit('line', 10, 100)
  await credit('line', 1, 10)
  await credit('fixed', 5, 25)
  await credit('open', 3, 30)
  await credit('line', 50, 500, 'other')
  const wholes = await readWholes(db, 'acme', { spans: await spansOf('line', 'another') })
  graduated = wholes.get('line')!.price
  volume = wholes.get('another')!.price
})

describe('the whole of a line', () => {
  const whole = () => ({
    price: graduated,
    quantity: units(110),
    minor: 800 + 250,
    credited: { quantity: units(16), amountMinor: 135 },
  })

  test('is the line and what of late use is fixed, less what was credited of either', async () => {
    for (const ids of [['line'], ['open'], ['fixed', 'open'], ['line', 'fixed', 'open']]) {
      expect(await readWholes(db, 'acme', { spans: await spansOf(...ids) })).toEqual(new Map([['line', whole()]]))
    }
  })

  test('is each for itself, and nothing is credited of one of which nothing was taken back', async () => {
    const wholes = await readWholes(db, 'acme', { spans: await spansOf('open', 'of another') })
    expect(wholes).toEqual(
      new Map<string, Whole>([
        ['line', whole()],
        ['another', { price: volume, quantity: units(3), minor: 10 + 20, credited: { quantity: 0n, amountMinor: 0 } }],
      ]),
    )
  })

  test('has what waits for a line that still takes reports', async () => {
    const quantityOf = ({ quantity }: { quantity: bigint }) => quantity + units(25)
    const [spans, waiting] = [await spansOf('line'), { quantity: units(135), minor: 1000 + 25 + 250 }]
    expect((await readWholes(db, 'acme', { spans, quantityOf })).get('line')).toEqual({ ...whole(), ...waiting })
  })
})

test('late use costs what the whole costs with it, less what that came to', () => {
  const credited = { quantity: units(15), amountMinor: 125 }
  const whole = { price: graduated, quantity: units(110), minor: 1050, credited }
  expect(lateMinorOf(whole, units(20))).toBe(1075 - (1050 - 125))
  expect(lateMinorOf(whole, 0n)).toBe(0)
  // One more, and all of them cost the half.
  expect(lateMinorOf({ price: volume, quantity: units(100), minor: 1000, credited: NO_CREDIT }, units(1))).toBe(505 - 1000)
})

test('what is credited of a line never lessens, also where less of it costs more', () => {
  const line = { price: volume, quantity: units(101) }
  expect(creditedWith(NO_CREDIT, line, units(10))).toEqual({ quantity: units(10), amountMinor: 0 })
  const all = creditedWith({ quantity: units(10), amountMinor: 0 }, line, units(91))
  expect(all).toEqual({ quantity: units(101), amountMinor: 505 })
  expect(creditedWith({ quantity: units(60), amountMinor: 105 }, line, units(-50))).toEqual({
    quantity: units(10),
    amountMinor: 105,
  })
  expect(creditedWith(NO_CREDIT, { ...line, minor: 600 }, units(101))).toEqual({ quantity: units(101), amountMinor: 600 })
})
