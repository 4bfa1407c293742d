/**
 * Worked examples of Stripe's documentation, as data: what goes in, what comes out, and where it is written.
 * `worked-examples.test.ts` runs each row. A row is never changed to fit the code.
 */
import type { AppliedDiscount } from './discounts.ts'
import type { Recurrence, Span } from './periods.ts'
import type { PriceTerms, Tier } from './pricing.ts'

interface Example {
  readonly name: string
  readonly source: string
}

export type WorkedExample =
  | (Example & {
      readonly kind: 'proration'
      readonly amount: number
      readonly period: Span
      readonly at: number
      readonly expect: number
    })
  | (Example & {
      readonly kind: 'price change'
      readonly from: number
      readonly to: number
      readonly period: Span
      readonly at: number
      readonly expect: readonly [credit: number, debit: number, net: number]
    })
  | (Example & {
      readonly kind: 'credit by mode'
      readonly debited: number
      readonly currentPrice: number
      readonly period: Span
      readonly at: number
      readonly expect: { readonly flexible: number; readonly classic: number }
    })
  | (Example & { readonly kind: 'price'; readonly terms: PriceTerms; readonly quantity: string; readonly expect: number })
  | (Example & {
      readonly kind: 'discounts'
      readonly lines: readonly number[]
      readonly discounts: readonly AppliedDiscount[]
      readonly expect: readonly number[]
    })
  | (Example & {
      readonly kind: 'boundaries'
      readonly anchor: string
      readonly recurrence: Recurrence
      readonly expect: readonly string[]
    })
  | (Example & { readonly kind: 'trial line'; readonly product: string; readonly quantity: string; readonly expect: string })
  | (Example & {
      readonly kind: 'balance'
      readonly total: number
      readonly startingBalance: number
      readonly minimum: number
      readonly expect: { readonly amountDue: number; readonly endingBalance: number }
    })
  | (Example & { readonly kind: 'number'; readonly prefix: string; readonly sequence: number; readonly expect: string })
  | (Example & { readonly kind: 'amount text'; readonly minor: string; readonly currency: string; readonly expect: string })

const PRORATIONS = 'docs.stripe.com/billing/subscriptions/prorations'
const MODES = 'docs.stripe.com/billing/subscriptions/billing-mode/compare'
const PRICING = 'docs.stripe.com/products-prices/pricing-models'
const CYCLE = 'docs.stripe.com/billing/subscriptions/billing-cycle'
const COUPONS = 'docs.stripe.com/billing/subscriptions/coupons'
const BALANCE = 'docs.stripe.com/billing/customer/balance'

/** A period of thirty days that begins at the epoch: fractions are easy to see. */
const THIRTY_DAYS: Span = { start: 0, end: 30 * 86_400 }
const day = (n: number): number => n * 86_400

/** 1–5 at $5 + $10, 6–10 at $4 + $20, from 11 at $3 + $30. */
const TIERS: readonly Tier[] = [
  { upTo: 5, unitAmountDecimal: '500', flatAmountDecimal: '1000' },
  { upTo: 10, unitAmountDecimal: '400', flatAmountDecimal: '2000' },
  { upTo: null, unitAmountDecimal: '300', flatAmountDecimal: '3000' },
]

const TIERS_WITHOUT_FLAT: readonly Tier[] = TIERS.map((tier) => ({ ...tier, flatAmountDecimal: null }))

const percent = (id: string, value: string): AppliedDiscount => ({
  id,
  reduction: { kind: 'percent', percent: value },
  products: null,
})
const amountOff = (id: string, amount: number): AppliedDiscount => ({ id, reduction: { kind: 'amount', amount }, products: null })

export const WORKED_EXAMPLES: readonly WorkedExample[] = [
  { kind: 'proration', name: 'half a period', source: PRORATIONS, amount: 1000, period: THIRTY_DAYS, at: day(15), expect: 500 },
  {
    kind: 'proration',
    name: 'half a period, credited',
    source: PRORATIONS,
    amount: -1000,
    period: THIRTY_DAYS,
    at: day(15),
    expect: -500,
  },
  {
    kind: 'price change',
    name: '$10 to $20 half-way costs $5 more',
    source: PRORATIONS,
    from: 1000,
    to: 2000,
    period: THIRTY_DAYS,
    at: day(15),
    expect: [-500, 1000, 500],
  },
  {
    kind: 'price change',
    name: 'each line is rounded, then they are summed',
    source: PRORATIONS,
    from: 1000,
    to: 500,
    period: THIRTY_DAYS,
    at: day(10),
    expect: [-667, 333, -334],
  },
  {
    kind: 'credit by mode',
    name: 'flexible credits what was debited, classic the current price',
    source: MODES,
    debited: 300,
    currentPrice: 500,
    period: THIRTY_DAYS,
    at: day(5),
    expect: { flexible: -250, classic: -417 },
  },
  {
    kind: 'credit by mode',
    name: 'flexible credits nothing that was never debited',
    source: MODES,
    debited: 0,
    currentPrice: 1000,
    period: THIRTY_DAYS,
    at: day(15),
    expect: { flexible: 0, classic: -500 },
  },
  {
    kind: 'price',
    name: 'per unit',
    source: PRICING,
    terms: { scheme: 'per_unit', unitAmountDecimal: '1500', transformQuantity: null },
    quantity: '3',
    expect: 4500,
  },
  {
    kind: 'price',
    name: 'package rounds up: 101 in packages of 100',
    source: PRICING,
    terms: { scheme: 'per_unit', unitAmountDecimal: '1000', transformQuantity: { divideBy: 100, round: 'up' } },
    quantity: '101',
    expect: 2000,
  },
  {
    kind: 'price',
    name: 'package rounds down: 199 in packages of 100',
    source: PRICING,
    terms: { scheme: 'per_unit', unitAmountDecimal: '1000', transformQuantity: { divideBy: 100, round: 'down' } },
    quantity: '199',
    expect: 1000,
  },
  {
    kind: 'price',
    name: 'graduated with flat amounts: 12 units are $111',
    source: PRICING,
    terms: { scheme: 'tiered', mode: 'graduated', tiers: TIERS },
    quantity: '12',
    expect: 11_100,
  },
  {
    kind: 'price',
    name: 'volume with a flat amount: 12 units are $66',
    source: PRICING,
    terms: { scheme: 'tiered', mode: 'volume', tiers: TIERS },
    quantity: '12',
    expect: 6600,
  },
  {
    kind: 'price',
    name: 'graduated without flat amounts: 5×5 + 5×4 + 2×3',
    source: PRICING,
    terms: { scheme: 'tiered', mode: 'graduated', tiers: TIERS_WITHOUT_FLAT },
    quantity: '12',
    expect: 5100,
  },
  {
    kind: 'price',
    name: 'volume without flat amounts: 12×3',
    source: PRICING,
    terms: { scheme: 'tiered', mode: 'volume', tiers: TIERS_WITHOUT_FLAT },
    quantity: '12',
    expect: 3600,
  },
  {
    kind: 'price',
    name: 'a tier reaches up to its end and includes it',
    source: PRICING,
    terms: { scheme: 'tiered', mode: 'volume', tiers: TIERS_WITHOUT_FLAT },
    quantity: '5',
    expect: 2500,
  },
  {
    kind: 'price',
    name: 'a fraction of a cent per unit',
    source: 'docs.stripe.com/api/prices/object#price_object-unit_amount_decimal',
    terms: { scheme: 'per_unit', unitAmountDecimal: '0.05', transformQuantity: null },
    quantity: '1000',
    expect: 50,
  },
  {
    kind: 'discounts',
    name: '$5 off over $10 and $20',
    source: COUPONS,
    lines: [1000, 2000],
    discounts: [amountOff('five', 500)],
    expect: [166, 334],
  },
  {
    kind: 'discounts',
    name: '20% off',
    source: COUPONS,
    lines: [1000, 2000],
    discounts: [percent('fifth', '20')],
    expect: [200, 400],
  },
  {
    kind: 'discounts',
    name: '20% off, then $5 off',
    source: COUPONS,
    lines: [2000],
    discounts: [percent('fifth', '20'), amountOff('five', 500)],
    expect: [900],
  },
  {
    kind: 'discounts',
    name: '$5 off, then 20% off',
    source: COUPONS,
    lines: [2000],
    discounts: [amountOff('five', 500), percent('fifth', '20')],
    expect: [800],
  },
  {
    kind: 'discounts',
    name: 'never more than the line',
    source: COUPONS,
    lines: [300],
    discounts: [amountOff('five', 500)],
    expect: [300],
  },
  {
    kind: 'boundaries',
    name: 'a month end clamps and returns',
    source: CYCLE,
    anchor: '2027-01-31',
    recurrence: { interval: 'month', count: 1 },
    expect: ['2027-02-28', '2027-03-31', '2027-04-30', '2027-05-31'],
  },
  {
    kind: 'boundaries',
    name: 'a month end in a leap year',
    source: CYCLE,
    anchor: '2028-01-31',
    recurrence: { interval: 'month', count: 1 },
    expect: ['2028-02-29', '2028-03-31'],
  },
  {
    kind: 'boundaries',
    name: 'the 2nd of September stays the 2nd',
    source: CYCLE,
    anchor: '2026-09-02',
    recurrence: { interval: 'month', count: 1 },
    expect: ['2026-10-02', '2026-11-02'],
  },
  {
    kind: 'boundaries',
    name: 'Friday, 3 June: every Friday',
    source: CYCLE,
    anchor: '2022-06-03',
    recurrence: { interval: 'week', count: 1 },
    expect: ['2022-06-10', '2022-06-17'],
  },
  {
    kind: 'boundaries',
    name: 'a leap day once a year',
    source: CYCLE,
    anchor: '2024-02-29',
    recurrence: { interval: 'year', count: 1 },
    expect: ['2025-02-28', '2026-02-28', '2027-02-28', '2028-02-29'],
  },
  {
    kind: 'boundaries',
    name: 'every quarter',
    source: CYCLE,
    anchor: '2026-11-30',
    recurrence: { interval: 'month', count: 3 },
    expect: ['2027-02-28', '2027-05-30', '2027-08-30'],
  },
  {
    kind: 'trial line',
    name: 'a trial is a line of $0',
    source: 'docs.stripe.com/billing/subscriptions/trials',
    product: 'Pro',
    quantity: '1',
    expect: 'Free trial for 1 × Pro',
  },
  {
    kind: 'balance',
    name: 'credit pays first',
    source: BALANCE,
    total: 2000,
    startingBalance: -500,
    minimum: 50,
    expect: { amountDue: 1500, endingBalance: 0 },
  },
  {
    kind: 'balance',
    name: 'more credit than total',
    source: BALANCE,
    total: 2000,
    startingBalance: -2500,
    minimum: 50,
    expect: { amountDue: 0, endingBalance: -500 },
  },
  {
    kind: 'balance',
    name: 'a debt is collected with the invoice',
    source: BALANCE,
    total: 2000,
    startingBalance: 500,
    minimum: 50,
    expect: { amountDue: 2500, endingBalance: 0 },
  },
  {
    kind: 'balance',
    name: 'a negative total becomes credit',
    source: BALANCE,
    total: -334,
    startingBalance: 0,
    minimum: 50,
    expect: { amountDue: 0, endingBalance: -334 },
  },
  {
    kind: 'balance',
    name: 'below the minimum waits on the balance',
    source: 'docs.stripe.com/api/invoices/object#invoice_object-amount_due',
    total: 30,
    startingBalance: 0,
    minimum: 50,
    expect: { amountDue: 0, endingBalance: 30 },
  },
  {
    kind: 'number',
    name: 'the first invoice of a customer',
    source: 'docs.stripe.com/invoicing/customize',
    prefix: 'ABCD1234',
    sequence: 1,
    expect: 'ABCD1234-0001',
  },
  {
    kind: 'amount text',
    name: 'two places',
    source: 'docs.stripe.com/currencies',
    minor: '2900',
    currency: 'usd',
    expect: '$29.00',
  },
  { kind: 'amount text', name: 'no places', source: 'docs.stripe.com/currencies', minor: '500', currency: 'jpy', expect: '¥500' },
  {
    kind: 'amount text',
    name: 'a fraction of a cent',
    source: 'docs.stripe.com/currencies',
    minor: '0.5',
    currency: 'usd',
    expect: '$0.005',
  },
]
