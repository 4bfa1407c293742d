import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decimalOf, formatDecimal, parseDecimal, type Decimal } from './decimal.ts'
import { applyDiscounts, apportion, type AppliedDiscount, type DiscountableLine } from './discounts.ts'
import { evenShares } from './inferred.ts'
import { computeTotals, type PipelineLine, settleBalance } from './invoice-totals.ts'
import { anchorFromConfig, boundary, isWithinThreeYears, periodContaining, type Recurrence, type Span } from './periods.ts'
import { priceAmount, priceParts, type PriceTerms } from './pricing.ts'
import { creditsOfDebits, prorate, type Debit } from './proration.ts'
import { isHardDecline, nextRetryAt, smartRetries } from './retries.ts'
import { describePart, describeUnusedTime } from './descriptions.ts'
import { isChargeableAmount, minimumChargeAmount } from './currencies.ts'

const instant = fc.integer({ min: 1_500_000_000, max: 2_500_000_000 })
const recurrence = fc.record({
  interval: fc.constantFrom('day', 'week', 'month', 'year'),
  count: fc.integer({ min: 1, max: 36 }),
}) as fc.Arbitrary<Recurrence>
const amount = fc.integer({ min: 0, max: 10_000_000 })

describe('periods', () => {
  it('of one anchor neither overlap nor leave holes', () => {
    fc.assert(
      fc.property(instant, recurrence, fc.integer({ min: -30, max: 30 }), (at, every, n) => {
        const end = boundary({ at }, every, n + 1)
        const here = periodContaining({ at }, every, boundary({ at }, every, n))
        expect(here).toEqual({ start: boundary({ at }, every, n), end })
        expect(periodContaining({ at }, every, end).start).toBe(end)
        expect(periodContaining({ at }, every, end - 1)).toEqual(here)
      }),
    )
  })

  it('contain the instant they were asked for', () => {
    fc.assert(
      fc.property(instant, recurrence, instant, (anchor, every, at) => {
        const period = periodContaining({ at: anchor }, every, at)
        expect(period.start).toBeLessThanOrEqual(at)
        expect(period.end).toBeGreaterThan(at)
      }),
    )
  })

  it('return to the 31st when the anchor was put on a shorter month for lack of a day', () => {
    const february = Date.parse('2027-02-28T00:00:00Z') / 1000
    expect(new Date(boundary({ at: february, dayOfMonth: 31 }, { interval: 'month', count: 1 }, 1) * 1000).toISOString()).toBe(
      '2027-03-31T00:00:00.000Z',
    )
  })

  it('put a configured day at or after the start, keeping the time of day where none is given', () => {
    const start = Date.parse('2027-01-20T08:30:15Z') / 1000
    const iso = (config: Parameters<typeof anchorFromConfig>[0]) => new Date(anchorFromConfig(config, start) * 1000).toISOString()
    expect(iso({ dayOfMonth: 25 })).toBe('2027-01-25T08:30:15.000Z')
    expect(iso({ dayOfMonth: 20 })).toBe('2027-01-20T08:30:15.000Z')
    expect(iso({ dayOfMonth: 5 })).toBe('2027-02-05T08:30:15.000Z')
    expect(iso({ dayOfMonth: 31, month: 2 })).toBe('2027-02-28T08:30:15.000Z')
    expect(iso({ dayOfMonth: 20, hour: 8 })).toBe('2027-02-20T08:00:00.000Z')
    expect(iso({ dayOfMonth: 20, month: 1, hour: 8 })).toBe('2028-01-20T08:00:00.000Z')
  })

  it('are three years long at most', () => {
    for (const [interval, most] of [
      ['day', 1095],
      ['week', 156],
      ['month', 36],
      ['year', 3],
    ] as const) {
      expect([0, 1, most, most + 1].map((count) => isWithinThreeYears({ interval, count }))).toEqual([false, true, true, false])
    }
  })
})

describe('decimals', () => {
  it('are written as they were read', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(10n ** 24n), max: 10n ** 24n }), (value) => {
        expect(parseDecimal(formatDecimal(value as Decimal))).toBe(value)
      }),
    )
  })

  it('refuse more than twelve places and anything that is not a number', () => {
    for (const text of ['', '1e3', '0.1234567890123', '1.', 'NaN', '1,5']) expect(parseDecimal(text)).toBeNull()
  })
})

describe('proration', () => {
  const period = fc
    .tuple(instant, fc.integer({ min: 1, max: 100_000_000 }))
    .map(([start, length]) => ({ start, end: start + length }))

  it('credits and debits what is left, within half a unit of the exact fraction', () => {
    fc.assert(
      fc.property(amount, period, fc.double({ min: 0, max: 1, noNaN: true }), (value, span, share) => {
        const at = span.start + Math.floor((span.end - span.start) * share)
        const exact = (value * (span.end - at)) / (span.end - span.start)
        expect(Math.abs(prorate(value, span, at) - exact)).toBeLessThanOrEqual(0.5001)
        expect(Math.abs(prorate(-value, span, at) + exact)).toBeLessThanOrEqual(0.5001)
      }),
    )
  })

  it('is the whole amount at the start and nothing at the end', () => {
    fc.assert(
      fc.property(amount, period, (value, span) => {
        expect(prorate(value, span, span.start)).toBe(value)
        expect(prorate(value, span, span.end)).toBe(0)
      }),
    )
  })

  it('puts a tie on the lower side, so a credit is never less than the debit it mirrors', () => {
    expect(prorate(1, { start: 0, end: 2 }, 1)).toBe(0)
    expect(prorate(-1, { start: 0, end: 2 }, 1)).toBe(-1)
  })

  const debitOf = (value: number, span: Span): Debit => ({
    amount: value,
    period: span,
    quantity: 1,
    invoice: null,
    lines: [],
    invoiceItem: 'ii',
    price: 'p',
  })

  it('credits a debit for its own time only: one that begins later, whole', () => {
    const debits = [debitOf(300, { start: 0, end: 30 }), debitOf(100, { start: 20, end: 30 })]
    expect(creditsOfDebits(debits, 10).map(({ amount: credited, period: span }) => ({ credited, span }))).toEqual([
      { credited: -200, span: { start: 10, end: 30 } },
      { credited: -100, span: { start: 20, end: 30 } },
    ])
  })

  it('never credits more than was debited', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(amount, period)), instant, (debits, at) => {
        const list = debits.map(([value, span]) => debitOf(value, span))
        const credited = creditsOfDebits(list, at).reduce((sum, credit) => sum - credit.amount, 0)
        expect(credited).toBeLessThanOrEqual(list.reduce((sum, debit) => sum + debit.amount, 0))
      }),
    )
  })
})

describe('pricing', () => {
  const tiers = fc
    .array(fc.record({ size: fc.integer({ min: 1, max: 50 }), unit: amount, flat: fc.option(amount) }), {
      minLength: 1,
      maxLength: 5,
    })
    .map((list) => {
      let upTo = 0
      return list.map(({ size, unit, flat }, index) => {
        upTo += size
        return {
          upTo: index === list.length - 1 ? null : upTo,
          unitAmountDecimal: `${unit}`,
          flatAmountDecimal: flat === null ? null : `${flat}`,
        }
      })
    })

  it('graduated parts cover the quantity exactly once', () => {
    fc.assert(
      fc.property(tiers, fc.integer({ min: 0, max: 300 }), (list, quantity) => {
        const terms: PriceTerms = { scheme: 'tiered', mode: 'graduated', tiers: list }
        const units = priceParts(terms, decimalOf(quantity)).filter((part) => !part.flat)
        expect(units.reduce((sum, part) => sum + part.quantity, 0n)).toBe(decimalOf(quantity))
      }),
    )
  })

  it('graduated costs at least as much for more', () => {
    fc.assert(
      fc.property(tiers, fc.integer({ min: 0, max: 300 }), (list, quantity) => {
        const terms: PriceTerms = { scheme: 'tiered', mode: 'graduated', tiers: list }
        expect(priceAmount(terms, decimalOf(quantity + 1))).toBeGreaterThanOrEqual(priceAmount(terms, decimalOf(quantity)))
      }),
    )
  })

  it('names quantity, product and rate', () => {
    const terms: PriceTerms = { scheme: 'per_unit', unitAmountDecimal: '2900', transformQuantity: null }
    const price = {
      product: 'Pro',
      currency: 'usd',
      recurrence: { interval: 'month', count: 1 },
      tieredMode: null,
      divideBy: null,
    } as const
    expect(priceParts(terms, decimalOf(1)).map((part) => describePart(price, part))).toEqual(['1 × Pro (at $29.00 / month)'])
    expect(describeUnusedTime('Pro', 1, 1_795_219_200)).toBe('Unused time on Pro after 21 Nov 2026')
    expect(describeUnusedTime('Pro', 3, 1_795_219_200)).toBe('Unused time on 3 × Pro after 21 Nov 2026')
  })
})

const discount = fc.oneof(
  fc.record({
    id: fc.uuid(),
    reduction: fc.record({ kind: fc.constant('amount'), amount: fc.integer({ min: 1, max: 100_000 }) }),
    products: fc.constant(null),
  }),
  fc.record({
    id: fc.uuid(),
    reduction: fc.record({
      kind: fc.constant('percent'),
      percent: fc.integer({ min: 1, max: 10_000 }).map((n) => (n / 100).toFixed(2)),
    }),
    products: fc.option(fc.constant(['prod_a'])),
  }),
) as fc.Arbitrary<AppliedDiscount>

const discountable = fc.record({
  amount: fc.integer({ min: -100_000, max: 1_000_000 }),
  discountable: fc.boolean(),
  product: fc.constantFrom('prod_a', 'prod_b', null),
  itemDiscounts: fc.array(discount, { maxLength: 2 }),
  itemKey: fc.uuid(),
}) as fc.Arbitrary<DiscountableLine>

describe('discounts', () => {
  it('take no more than a line holds, and nothing from credits and lines that are not discountable', () => {
    fc.assert(
      fc.property(fc.array(discountable, { maxLength: 6 }), fc.array(discount, { maxLength: 4 }), (lines, discounts) => {
        for (const [index, shares] of applyDiscounts(lines, discounts).entries()) {
          const taken = shares.reduce((sum, share) => sum + share.amount, 0)
          const line = lines[index]
          expect(taken).toBeLessThanOrEqual(line?.discountable === true ? Math.max(line.amount, 0) : 0)
          expect(shares.every((share) => share.amount >= 0)).toBe(true)
        }
      }),
    )
  })

  it('of an amount that is spread evenly leave nothing over', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 10n ** 9n }), fc.integer({ min: 1, max: 8 }), (whole, parts) => {
        const shares = evenShares(whole, parts)
        expect(shares.reduce((sum, share) => sum + share, 0n)).toBe(whole)
        expect(shares.every((share) => share - whole / BigInt(parts) < BigInt(parts))).toBe(true)
      }),
    )
  })

  it('apportion the whole of an amount, or all that the lines hold', () => {
    const big = fc.bigInt({ min: 0n, max: 10n ** 9n })
    fc.assert(
      fc.property(big, fc.array(big, { minLength: 1, maxLength: 8 }), (whole, lines) => {
        const total = lines.reduce((sum, line) => sum + line, 0n)
        const shares = apportion(whole, lines)
        expect(shares.reduce((sum, share) => sum + share, 0n)).toBe(whole < total ? whole : total)
        expect(shares.every((share, index) => share <= (lines[index] ?? 0n))).toBe(true)
      }),
    )
  })
})

describe('invoice totals', () => {
  const rate = fc.record({
    id: fc.uuid(),
    percent: fc.integer({ min: 0, max: 2500 }).map((n) => (n / 100).toFixed(2)),
    inclusive: fc.boolean(),
  })
  const line = fc
    .tuple(discountable, fc.array(rate, { maxLength: 2 }), fc.boolean())
    .map(([base, taxRates, metered]): PipelineLine => ({ ...base, taxRates, metered, price: 'price_a' }))
  const credits = fc.array(fc.record({ grant: fc.uuid(), available: amount, prices: fc.constant(null) }), { maxLength: 3 })

  it('add up: Σ lines = subtotal, subtotal − discounts − credits + tax = total', () => {
    fc.assert(
      fc.property(fc.array(line, { maxLength: 6 }), fc.array(discount, { maxLength: 3 }), credits, (lines, discounts, grants) => {
        const totals = computeTotals({ lines, discounts, credits: grants })
        const sum = (parts: ReadonlyArray<{ amount: number }>): number => parts.reduce((all, part) => all + part.amount, 0)
        expect(sum(totals.lines)).toBe(totals.subtotal)
        const tax = sum(totals.taxes.filter((share) => !share.inclusive))
        expect(totals.subtotal - sum(totals.discounts) - sum(totals.credits) + tax).toBe(totals.total)
        for (const grant of grants) {
          expect(sum(totals.credits.filter((share) => share.grant === grant.grant))).toBeLessThanOrEqual(grant.available)
        }
      }),
    )
  })

  it('conserve money between invoice and balance', () => {
    const signed = fc.integer({ min: -1_000_000, max: 1_000_000 })
    fc.assert(
      fc.property(signed, signed, (total, startingBalance) => {
        const settled = settleBalance({ total, startingBalance, minimum: 50 })
        expect(settled.amountDue + settled.endingBalance).toBe(total + startingBalance)
        expect(settled.amountDue === 0 || settled.amountDue >= 50).toBe(true)
      }),
    )
  })

  it('are charged from the least that can be charged on', () => {
    expect(settleBalance({ total: 49, startingBalance: 0, minimum: 50 })).toMatchObject({ amountDue: 0, endingBalance: 49 })
    expect(settleBalance({ total: 50, startingBalance: 0, minimum: 50 })).toMatchObject({ amountDue: 50, endingBalance: 0 })
  })

  it('have credits pay for metered lines only', () => {
    const licensed = {
      amount: 1000,
      discountable: true,
      product: null,
      itemDiscounts: [],
      itemKey: 'a',
      price: 'p',
      taxRates: [],
    }
    const lines = [
      { ...licensed, metered: false },
      { ...licensed, itemKey: 'b', metered: true },
    ]
    const totals = computeTotals({ lines, discounts: [], credits: [{ grant: 'g', available: 1500, prices: null }] })
    expect(totals.lines.map((each) => each.credits)).toEqual([[], [{ grant: 'g', amount: 1000 }]])
    expect(totals.total).toBe(1000)
  })

  it('take inclusive tax out of the amount and put exclusive tax on top', () => {
    const base = { amount: 1200, discountable: true, product: null, itemDiscounts: [], itemKey: 'a', price: null, metered: false }
    const totals = (inclusive: boolean) =>
      computeTotals({ lines: [{ ...base, taxRates: [{ id: 'txr', percent: '20', inclusive }] }], discounts: [], credits: [] })
    expect(totals(true)).toMatchObject({ total: 1200, totalExcludingTax: 1000, taxes: [{ amount: 200, taxable: 1000 }] })
    expect(totals(false)).toMatchObject({ total: 1440, totalExcludingTax: 1200, taxes: [{ amount: 240, taxable: 1200 }] })
  })
})

describe('retries', () => {
  it('are eight within two weeks, each later than the one before', () => {
    const offsets = smartRetries().offsets
    expect(offsets).toHaveLength(8)
    expect(offsets.at(-1)).toBeLessThanOrEqual(14 * 86_400)
    expect(offsets.every((offset, index) => index === 0 || offset > (offsets[index - 1] ?? 0))).toBe(true)
    expect(nextRetryAt({ offsets }, 1000, 1)).toBe(1000 + 86_400)
    expect(nextRetryAt({ offsets }, 1000, 9)).toBeNull()
  })

  it('stop at a hard decline', () => {
    expect(isHardDecline('lost_card')).toBe(true)
    expect(isHardDecline('insufficient_funds')).toBe(false)
    expect(isHardDecline(null)).toBe(false)
  })
})

describe('currencies', () => {
  it('want a last digit of 0 where there are three places', () => {
    expect(isChargeableAmount(1005, 'kwd')).toBe(false)
    expect(isChargeableAmount(1010, 'kwd')).toBe(true)
    expect(isChargeableAmount(1005, 'usd')).toBe(true)
    expect(minimumChargeAmount('gbp')).toBe(30)
  })
})
