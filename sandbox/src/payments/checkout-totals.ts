import type { AppliedDiscount } from '../billing/discounts.ts'
import type { LineTotals, PipelineLine } from '../billing/invoice-totals.ts'
import { computeTotals } from '../billing/invoice-totals.ts'
import { anchorFromConfig, periodContaining, type Anchor } from '../billing/periods.ts'
import { prorate } from '../billing/proration.ts'
import type { Ctx } from '../engine/context.ts'
import type { CheckoutItem } from '../model/payments.ts'
import type { Stored } from '../model/stored.ts'
import { isDiscountRunning } from '../resources/catalog/discount-rules.ts'
import { amountOf, isMetered, recurrenceOf } from '../resources/catalog/price-terms.ts'
import { automaticRates } from '../resources/tax/automatic-tax.ts'
import { saleOfSession, sessionTax } from './checkout-tax.ts'

export type Session = Stored<'checkout.session'>
type Coupon = Stored<'coupon'>

export interface SessionTotals {
  readonly subtotal: number
  readonly discount: number
  /** What tax adds to the prices. */
  readonly tax: number
  /** What of the prices is tax. */
  readonly includedTax: number
  readonly automaticTax: Session['automatic_tax']
  /** What is paid on the page. */
  readonly total: number
  readonly lines: readonly LineTotals[]
  /** Coupon id → what it takes off, in the order of application. */
  readonly discounts: ReadonlyArray<{ readonly coupon: Coupon; readonly amount: number }>
}

/** Days of trial that the session's subscription begins with, and its end; null without one. */
export function trialOf(
  ctx: Ctx,
  session: Pick<Session, 'customer' | '_'>,
): { readonly days: number; readonly endsAt: number } | null {
  const { trial_end: end, trial_period_days: days } = session._.subscriptionData
  const now = ctx.now(session.customer)
  if (end !== undefined) return { days: Math.max(1, Math.round((end - now) / 86_400)), endsAt: end }
  return days === undefined ? null : { days, endsAt: now + days * 86_400 }
}

/** The coupons that a session's discounts stand for. */
export function couponsOf(ctx: Ctx, discounts: Session['discounts']): Coupon[] {
  return (discounts ?? []).flatMap(({ coupon, promotion_code: code }) => {
    const id = code === null ? coupon : ctx.require('promotion_code', code).promotion.coupon
    return id === null ? [] : [ctx.require('coupon', id)]
  })
}

function reductionOf(coupon: Coupon, currency: string): AppliedDiscount['reduction'] {
  if (coupon.percent_off !== null) return { kind: 'percent', percent: String(coupon.percent_off) }
  const amount = coupon.currency === currency ? coupon.amount_off : coupon.currency_options?.[currency]?.amount_off
  return { kind: 'amount', amount: amount ?? 0 }
}

type Data = Session['_']['subscriptionData']
/** What the amounts of a session follow from. */
type Priced = Pick<Session, 'automatic_tax' | 'currency' | 'customer' | 'discounts' | 'mode' | '_'>

/** The instant from which the subscription's periods are counted, where the session asks for one. */
function anchorOf(data: Data, now: number): Anchor | null {
  const { billing_cycle_anchor: at, billing_cycle_anchor_config: config } = data
  if (at !== undefined) return { at }
  if (config === undefined) return null
  return { at: anchorFromConfig({ ...config, dayOfMonth: config.day_of_month }, now), dayOfMonth: config.day_of_month }
}

/** What a recurring price costs today: nothing on trial, the part up to the anchor where one is asked for, else a whole period. */
function firstPeriodAmount(
  session: Priced,
  price: Stored<'price'>,
  amount: number,
  input: { now: number; onTrial: boolean },
): number {
  if (input.onTrial) return 0
  const data = session._.subscriptionData
  const anchor = anchorOf(data, input.now)
  if (anchor === null) return amount
  const whole = periodContaining(anchor, recurrenceOf(price), input.now)
  if (whole.start === input.now) return amount
  return data.proration_behavior === 'none' ? 0 : prorate(amount, whole, input.now)
}

type RatesOf = (item: CheckoutItem, price: Stored<'price'>) => PipelineLine['taxRates']

/** The rates of each line: automatic ones where the session asks for them, else those set by hand. */
function ratesOf(ctx: Ctx, session: Priced): RatesOf {
  if (!session.automatic_tax.enabled) return (item) => manualRates(ctx, session, item)
  const automatic = automaticRates(ctx, saleOfSession(ctx, session))
  return (_item, price) => automatic({ price: price.id, product: price.product })
}

function manualRates(ctx: Ctx, session: Priced, item: CheckoutItem): PipelineLine['taxRates'] {
  const defaults = session._.subscriptionData.default_tax_rates ?? []
  const rates = item.taxRates.length > 0 ? item.taxRates : defaults
  return rates.map((id) => {
    const rate = ctx.require('tax_rate', id)
    return { id, inclusive: rate.inclusive, percent: String(rate.percentage) }
  })
}

function pipelineLine(
  ctx: Ctx,
  session: Priced,
  item: CheckoutItem,
  input: { now: number; onTrial: boolean; rates: RatesOf },
): PipelineLine {
  const price = ctx.require('price', item.price)
  const metered = isMetered(price)
  const whole = metered ? 0 : amountOf(price, session.currency ?? price.currency, item.quantity)
  return {
    amount: price.recurring === null ? whole : firstPeriodAmount(session, price, whole, input),
    discountable: true,
    itemDiscounts: [],
    itemKey: item.id,
    metered,
    price: price.id,
    product: price.product,
    taxRates: input.rates(item, price),
  }
}

/** The session's own discounts; a subscription without any inherits its customer's. */
function appliedCoupons(ctx: Ctx, session: Priced): Coupon[] {
  const own = couponsOf(ctx, session.discounts)
  if (own.length > 0 || session.mode !== 'subscription' || session.customer === null) return own
  const id = ctx.get('customer', session.customer)?.discount ?? null
  const discount = id === null ? undefined : ctx.get('discount', id)
  const coupon = discount?.source.coupon == null ? undefined : ctx.get('coupon', discount.source.coupon)
  const runs = discount !== undefined && isDiscountRunning(discount, ctx.now(session.customer))
  return coupon !== undefined && runs ? [coupon] : own
}

/** What the lines of a session come to today; metered lines cost nothing until they are used. */
export function totalsOf(ctx: Ctx, session: Priced): SessionTotals {
  const coupons = appliedCoupons(ctx, session)
  const input = { now: ctx.now(session.customer), onTrial: trialOf(ctx, session) !== null, rates: ratesOf(ctx, session) }
  const totals = computeTotals({
    credits: [],
    discounts: coupons.map((coupon) => ({
      id: coupon.id,
      products: coupon.applies_to?.products ?? null,
      reduction: reductionOf(coupon, session.currency ?? ''),
    })),
    lines: session._.items.map((item) => pipelineLine(ctx, session, item, input)),
  })
  const amountOfCoupon = (id: string): number => totals.discounts.find((share) => share.discount === id)?.amount ?? 0
  const taxOf = (inclusive: boolean): number =>
    totals.taxes.reduce((sum, tax) => sum + (tax.inclusive === inclusive ? tax.amount : 0), 0)
  return {
    automaticTax: sessionTax(ctx, session),
    discount: totals.discounts.reduce((sum, share) => sum + share.amount, 0),
    discounts: coupons.map((coupon) => ({ amount: amountOfCoupon(coupon.id), coupon })),
    includedTax: taxOf(true),
    lines: totals.lines,
    subtotal: totals.subtotal,
    tax: taxOf(false),
    total: totals.total,
  }
}

/** The session's amounts after what they follow from has changed. */
export function amountsPatch(
  totals: SessionTotals,
): Pick<Session, 'amount_subtotal' | 'amount_total' | 'automatic_tax' | 'total_details'> {
  return {
    amount_subtotal: totals.subtotal,
    amount_total: totals.total,
    automatic_tax: totals.automaticTax,
    total_details: { amount_discount: totals.discount, amount_shipping: 0, amount_tax: totals.tax + totals.includedTax },
  }
}
