import type { AppliedDiscount } from '../billing/discounts.ts'
import type { LineTotals, PipelineLine } from '../billing/invoice-totals.ts'
import { computeTotals } from '../billing/invoice-totals.ts'
import type { Ctx } from '../engine/context.ts'
import type { Stored } from '../model/index.ts'
import type { CheckoutItem } from '../model/payments.ts'
import { amountOf, isMetered } from '../resources/price-terms.ts'

export type Session = Stored<'checkout.session'>
type Coupon = Stored<'coupon'>

export interface SessionTotals {
  readonly subtotal: number
  readonly discount: number
  readonly tax: number
  /** What is paid on the page. */
  readonly total: number
  readonly lines: readonly LineTotals[]
  /** Coupon id → what it takes off, in the order of application. */
  readonly discounts: ReadonlyArray<{ readonly coupon: Coupon; readonly amount: number }>
}

/** Days of trial that the session's subscription begins with, and its end; null without one. */
export function trialOf(
  ctx: Ctx,
  session: Pick<Session, 'customer' | 'mode' | '_'>,
): { readonly days: number; readonly endsAt: number } | null {
  const { trial_end: end, trial_period_days: days } = session._.subscriptionData
  const now = ctx.now(session.customer)
  if (typeof end === 'number') return { days: Math.max(1, Math.round((end - now) / 86_400)), endsAt: end }
  return typeof days === 'number' ? { days, endsAt: now + days * 86_400 } : null
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

function pipelineLine(ctx: Ctx, item: CheckoutItem, input: { currency: string; onTrial: boolean }): PipelineLine {
  const price = ctx.require('price', item.price)
  const free = isMetered(price) || (input.onTrial && price.recurring !== null)
  return {
    amount: free ? 0 : amountOf(price, input.currency, item.quantity),
    discountable: true,
    itemDiscounts: [],
    itemKey: item.id,
    metered: isMetered(price),
    price: price.id,
    product: price.product,
    taxRates: item.taxRates.map((id) => {
      const rate = ctx.require('tax_rate', id)
      return { id, inclusive: rate.inclusive, percent: String(rate.percentage) }
    }),
  }
}

/** What the lines of a session come to today: recurring lines are free while a trial runs, metered ones until they are used. */
export function computeSession(
  ctx: Ctx,
  input: {
    readonly items: readonly CheckoutItem[]
    readonly currency: string
    readonly discounts: Session['discounts']
    readonly onTrial: boolean
  },
): SessionTotals {
  const coupons = couponsOf(ctx, input.discounts)
  const totals = computeTotals({
    credits: [],
    discounts: coupons.map((coupon) => ({
      id: coupon.id,
      products: coupon.applies_to?.products ?? null,
      reduction: reductionOf(coupon, input.currency),
    })),
    lines: input.items.map((item) => pipelineLine(ctx, item, input)),
  })
  const amountOfCoupon = (id: string): number => totals.discounts.find((share) => share.discount === id)?.amount ?? 0
  return {
    discount: totals.discounts.reduce((sum, share) => sum + share.amount, 0),
    discounts: coupons.map((coupon) => ({ amount: amountOfCoupon(coupon.id), coupon })),
    lines: totals.lines,
    subtotal: totals.subtotal,
    tax: totals.taxes.reduce((sum, tax) => sum + (tax.inclusive ? 0 : tax.amount), 0),
    total: totals.total,
  }
}

/** The totals of a stored session. */
export function totalsOf(ctx: Ctx, session: Session): SessionTotals {
  const { currency, discounts } = session
  return computeSession(ctx, {
    currency: currency ?? 'usd',
    discounts,
    items: session._.items,
    onTrial: trialOf(ctx, session) !== null,
  })
}

/** The session's amounts after its discounts changed. */
export function amountsPatch(totals: SessionTotals): Pick<Session, 'amount_subtotal' | 'amount_total' | 'total_details'> {
  return {
    amount_subtotal: totals.subtotal,
    amount_total: totals.total,
    total_details: { amount_discount: totals.discount, amount_shipping: 0, amount_tax: totals.tax },
  }
}
