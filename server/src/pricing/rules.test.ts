import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseDecimal } from '../../../sandbox/src/billing/decimal.ts'
import { priceParts as stripeParts, type PriceTerms } from '../../../sandbox/src/billing/pricing.ts'
import type { UsagePrice } from '../catalog/catalog.ts'
import { formatQuantity, parseQuantity, type Quantity } from '../lib/quantity.ts'
import { formatUnitAmount, parseUnitAmount } from '../lib/unit-amount.ts'
import { chargedShareOf, creditedMinorOf, freeReasonOf, overageCost, priceOf, priceParts } from './rules.ts'

const perUnit = (amount: string): UsagePrice => ({ model: 'per_unit', unitAmount: parseUnitAmount(amount, 'unitAmountMinor') })
const tier = (upTo: string | null, unitAmount: string, flatAmountMinor = 0) => ({
  upTo: upTo === null ? null : parseQuantity(upTo),
  unitAmount: parseUnitAmount(unitAmount, 'unitAmountMinor'),
  flatAmountMinor,
})
// docs.stripe.com/products-prices/pricing-models: 1–5 at 7.00, 6–10 at 6.50, from 11 at 6.00.
const tiers = [tier('5', '700'), tier('10', '650'), tier(null, '600')]

describe('what use costs', () => {
  it('OC-4: 85 at 2.00 per 1000 cost 0.17', () => {
    expect(priceOf(perUnit('0.2'), parseQuantity(85))).toBe(17)
  })

  it('rounds once per part, half a minor unit up', () => {
    expect(priceOf(perUnit('0.5'), parseQuantity(1))).toBe(1)
    expect(priceOf(perUnit('0.5'), parseQuantity('0.999999'))).toBe(0)
    expect(priceOf(perUnit('0.000000000001'), parseQuantity('0.000001'))).toBe(0)
  })

  it('KF-1: 1000 calls are one package, and one call more is another that counts whole', () => {
    const calls: UsagePrice = { model: 'package', size: parseQuantity(1000), amountMinor: 10 }
    const used = [0, 1, 1000, '1000.000001', 1001, 2000]
    expect(used.map((quantity) => priceOf(calls, parseQuantity(quantity)))).toEqual([0, 10, 10, 20, 20, 20])
  })

  it('has no part for a flat amount that a tier has not', () => {
    expect(priceParts({ model: 'volume', tiers: [tier(null, '10')] }, parseQuantity(3))).toEqual([
      { quantity: parseQuantity(3), amountMinor: 30, tier: 1, flat: false },
    ])
  })

  it('charges each unit at its own tier, or all at one', () => {
    expect(priceOf({ model: 'graduated', tiers }, parseQuantity(12))).toBe(5 * 700 + 5 * 650 + 2 * 600)
    expect(priceOf({ model: 'volume', tiers }, parseQuantity(12))).toBe(12 * 600)
    expect(priceOf({ model: 'volume', tiers }, parseQuantity(5))).toBe(5 * 700)
    expect(priceParts({ model: 'graduated', tiers: [tier('1', '100', 50), tier(null, '10', 30)] }, parseQuantity(3))).toEqual([
      { quantity: parseQuantity(1), amountMinor: 100, tier: 1, flat: false },
      { quantity: 0n, amountMinor: 50, tier: 1, flat: true },
      { quantity: parseQuantity(2), amountMinor: 20, tier: 2, flat: false },
      { quantity: 0n, amountMinor: 30, tier: 2, flat: true },
    ])
  })

  it('credits what a part cost, and nothing where less would have cost more', () => {
    const twelve = { quantity: parseQuantity(12), credited: parseQuantity(2), minor: 12 * 600 }
    expect(creditedMinorOf({ model: 'volume', tiers }, twelve)).toBe(12 * 600 - 10 * 650)
    // 11 cost 110, and 10 would cost 1,000.
    const steep = [tier('10', '100'), tier(null, '10')]
    const eleven = { quantity: parseQuantity(11), credited: parseQuantity(1), minor: 110 }
    expect(creditedMinorOf({ model: 'volume', tiers: steep }, eleven)).toBe(0)
  })

  it('bills of overage neither what is free nor what an earlier plan has priced again', () => {
    const overage = {
      overage: parseQuantity(10),
      freeOverage: parseQuantity(4),
      pricedOverage: parseQuantity(2),
      pricedMinor: 7n,
    }
    expect(overageCost(perUnit('5'), overage)).toBe(7 + 4 * 5)
  })

  it('is billed while Stripe charges for the subscription, and free in a trial, a pause and without one', () => {
    const reasons = (...statuses: (string | null)[]) => statuses.map((subscriptionStatus) => freeReasonOf({ subscriptionStatus }))
    expect(reasons('active', 'past_due', 'unpaid')).toEqual([null, null, null])
    expect(reasons('trialing', 'paused', 'canceled', 'incomplete', null)).toEqual([
      'trial',
      'no_subscription',
      'no_subscription',
      'no_subscription',
      'no_subscription',
    ])
  })

  it('never costs less than nothing', () => {
    expect(priceOf(perUnit('100'), parseQuantity(-3))).toBe(0)
  })

  it('refuses an amount that no number holds exactly', () => {
    expect(() => priceOf(perUnit('999999999999'), parseQuantity('9000000000000'))).toThrow('costs more than can be counted')
  })
})

const unitAmounts = fc.bigInt({ min: 0n, max: 10n ** 15n })
const quantities = fc.bigInt({ min: 0n, max: 10n ** 12n })
const tierLists = fc
  .array(fc.record({ width: fc.integer({ min: 1, max: 50_000 }), unitAmount: unitAmounts, flatAmountMinor: fc.nat(5_000) }), {
    minLength: 1,
    maxLength: 5,
  })
  .map((steps) => {
    let upTo = 0
    return steps.map(({ width, ...step }, index) => {
      upTo += width
      return { ...step, upTo: index === steps.length - 1 ? null : parseQuantity(upTo) }
    })
  })
const prices: fc.Arbitrary<UsagePrice> = fc.oneof(
  fc.record({ model: fc.constant('per_unit' as const), unitAmount: unitAmounts }),
  fc.record({
    model: fc.constant('package' as const),
    size: fc.integer({ min: 1, max: 10_000 }).map((size) => parseQuantity(size)),
    amountMinor: fc.nat(100_000),
  }),
  fc.record({ model: fc.constantFrom('graduated' as const, 'volume' as const), tiers: tierLists }),
)

/** The same terms as Stripe has them. */
function asStripeHasIt(price: UsagePrice): PriceTerms {
  switch (price.model) {
    case 'per_unit':
      return { scheme: 'per_unit', unitAmountDecimal: formatUnitAmount(price.unitAmount), transformQuantity: null }
    case 'package':
      return {
        scheme: 'per_unit',
        unitAmountDecimal: String(price.amountMinor),
        transformQuantity: { divideBy: Number(formatQuantity(price.size)), round: 'up' },
      }
    case 'graduated':
    case 'volume':
      return {
        scheme: 'tiered',
        mode: price.model,
        tiers: price.tiers.map(({ upTo, unitAmount, flatAmountMinor }) => ({
          upTo: upTo === null ? null : Number(formatQuantity(upTo)),
          unitAmountDecimal: formatUnitAmount(unitAmount),
          flatAmountDecimal: flatAmountMinor === 0 ? null : String(flatAmountMinor),
        })),
      }
  }
}

/** What fills a tier to its end: chance hardly ever finds it. */
function endsOfTiers(price: UsagePrice): Quantity[] {
  return 'tiers' in price ? price.tiers.flatMap(({ upTo }) => upTo ?? []) : []
}

describe('what was charged for a part of a line', () => {
  it('has its share of discounts and tax, rounded half up, and is never more than the whole', () => {
    const line = { amountMinor: 1_000, discountMinor: 200, taxMinor: 152 }
    expect([500, 1, 3, 1_000, 2_000].map((part) => chargedShareOf(line, part))).toEqual([476, 1, 3, 952, 952])
    expect(chargedShareOf({ amountMinor: 4, discountMinor: 2, taxMinor: 0 }, 1)).toBe(1)
  })

  it('is the whole of a line that came to the least there is', () => {
    expect(chargedShareOf({ amountMinor: 1, discountMinor: 0, taxMinor: 0 }, 1)).toBe(1)
  })

  it('is nothing of a line that came to nothing, or that discounts took whole', () => {
    expect(chargedShareOf({ amountMinor: 0, discountMinor: 0, taxMinor: 0 }, 5)).toBe(0)
    expect(chargedShareOf({ amountMinor: 100, discountMinor: 120, taxMinor: 0 }, 50)).toBe(0)
  })
})

describe('for any price and quantity', () => {
  it('each part is that of Stripe’s invoice line', () => {
    fc.assert(
      fc.property(prices, quantities, (price, any) => {
        for (const quantity of [any, ...endsOfTiers(price)]) {
          const theirs = stripeParts(asStripeHasIt(price), parseDecimal(formatQuantity(quantity))!)
          expect(priceParts(price, quantity).map((part) => [part.amountMinor, part.tier, part.flat, part.quantity])).toEqual(
            theirs.map((part) => [part.amount, part.tier, part.flat, part.quantity / 1_000_000n]),
          )
        }
      }),
    )
  })

  it('more use never costs less, but for a volume price', () => {
    const rising = prices.filter((price) => price.model !== 'volume')
    fc.assert(
      fc.property(rising, quantities, quantities, (price, a, b) => {
        expect(priceOf(price, a + b)).toBeGreaterThanOrEqual(priceOf(price, a))
      }),
    )
  })
})
