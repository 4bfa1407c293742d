/** Discounts as objects: made from coupons and promotion codes, ended when they run out, read as what they take off. */
import type { AppliedDiscount, Reduction } from '../../billing/discounts.ts'
import { announcesSubscriptionDiscounts, repeatingCouponEnd } from '../../billing/inferred.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest } from '../../engine/errors.ts'
import type { Stored } from '../../model/stored.ts'

export type StoredDiscount = Stored<'discount'>
type Coupon = Stored<'coupon'>
type PromotionCode = Stored<'promotion_code'>

export interface DiscountParam {
  readonly coupon?: string
  readonly discount?: string
  readonly promotion_code?: string
}

/** What a new discount belongs to. */
export interface DiscountOwner {
  readonly customer: string
  readonly subscription?: string
  readonly subscriptionItem?: string
  readonly invoice?: string
  readonly invoiceItem?: string
  readonly checkoutSession?: string | null
  readonly currency: string
  /** Amount that a promotion code's minimum is compared with; null when it is not known yet. */
  readonly orderAmount?: number | null
}

const MAX_DISCOUNTS = 20

/** Whether a coupon may still be redeemed: before `redeem_by`, and not too often. */
export function isCouponValid(coupon: Coupon, now: number): boolean {
  if (coupon.redeem_by !== null && coupon.redeem_by <= now) return false
  return coupon.max_redemptions === null || coupon.times_redeemed < coupon.max_redemptions
}

/**
 * Turns `discounts` parameters into discounts; an existing discount keeps its id, a coupon or promotion code makes a new one and
 * counts as redeemed. Returns the ids in order.
 */
export function redeemDiscounts(ctx: Ctx, params: readonly DiscountParam[], owner: DiscountOwner): string[] {
  if (params.length > MAX_DISCOUNTS) {
    throw invalidRequest(`You may not apply more than ${MAX_DISCOUNTS} discounts.`, { param: 'discounts' })
  }
  return params.map((param, index) => redeemDiscount(ctx, param, owner, `discounts[${index}]`))
}

function redeemDiscount(ctx: Ctx, param: DiscountParam, owner: DiscountOwner, at: string): string {
  const given = [param.coupon, param.discount, param.promotion_code].filter((value) => value !== undefined)
  if (given.length !== 1) {
    throw invalidRequest('You must specify exactly one of these parameters: coupon, discount, promotion_code.', { param: at })
  }
  if (param.discount !== undefined) return ctx.require('discount', param.discount, `${at}[discount]`).id
  const promotion =
    param.promotion_code === undefined ? null : checkedPromotion(ctx, param.promotion_code, owner, `${at}[promotion_code]`)
  const coupon = ctx.require('coupon', promotion?.promotion.coupon ?? param.coupon ?? '', `${at}[coupon]`)
  checkCoupon(ctx, coupon, owner, at)
  const discount = createDiscount(ctx, coupon, promotion, owner)
  ctx.change('coupon', coupon.id, { times_redeemed: coupon.times_redeemed + 1 }, 'coupon.updated')
  if (promotion !== null) {
    ctx.change('promotion_code', promotion.id, { times_redeemed: promotion.times_redeemed + 1 }, 'promotion_code.updated')
  }
  return discount.id
}

function createDiscount(ctx: Ctx, coupon: Coupon, promotion: PromotionCode | null, owner: DiscountOwner): StoredDiscount {
  const start = ctx.now(owner.customer)
  const discount: StoredDiscount = {
    id: ctx.newId('di', 24),
    object: 'discount',
    checkout_session: owner.checkoutSession ?? null,
    customer: owner.customer,
    customer_account: null,
    end: coupon.duration === 'repeating' ? repeatingCouponEnd(start, coupon.duration_in_months ?? 1) : null,
    invoice: owner.invoice ?? null,
    invoice_item: owner.invoiceItem ?? null,
    promotion_code: promotion?.id ?? null,
    source: { coupon: coupon.id, type: 'coupon' },
    start,
    subscription: owner.subscription ?? null,
    subscription_item: owner.subscriptionItem ?? null,
    _: { ended: false, usedBy: null },
  }
  const isLasting = isAnnounced({
    invoice: owner.invoice ?? null,
    item: owner.invoiceItem ?? null,
    subscription: owner.subscription ?? owner.subscriptionItem ?? null,
  })
  return ctx.create('discount', discount, isLasting ? 'customer.discount.created' : undefined)
}

/** Discounts of invoices and their items are part of them; the others have events of their own. */
function isAnnounced(owner: { invoice: string | null; item: string | null; subscription: string | null }): boolean {
  if (owner.invoice !== null || owner.item !== null) return false
  return owner.subscription === null || announcesSubscriptionDiscounts()
}

function checkCoupon(ctx: Ctx, coupon: Coupon, owner: DiscountOwner, param: string): void {
  if (!isCouponValid(coupon, ctx.now(owner.customer))) {
    throw invalidRequest(`Coupon ${coupon.id} is used up and cannot be applied.`, {
      param: `${param}[coupon]`,
      code: 'coupon_expired',
    })
  }
  if (coupon.percent_off === null && amountOffIn(coupon, owner.currency) === null) {
    throw invalidRequest(
      `The coupon's currency (${coupon.currency ?? ''}) must match the currency of what it is applied to (${owner.currency}).`,
      { param: `${param}[coupon]` },
    )
  }
}

function checkedPromotion(ctx: Ctx, id: string, owner: DiscountOwner, param: string): PromotionCode {
  const promotion = ctx.require('promotion_code', id, param)
  const now = ctx.now(owner.customer)
  const refuse = (message: string): never => {
    throw invalidRequest(message, { param })
  }
  if (!promotion.active) refuse(`This promotion code is not active: ${promotion.code}`)
  if (promotion.expires_at !== null && promotion.expires_at <= now) refuse('This promotion code has expired.')
  if (promotion.max_redemptions !== null && promotion.times_redeemed >= promotion.max_redemptions) {
    refuse('This promotion code has been redeemed the maximum number of times.')
  }
  if (promotion.customer !== null && promotion.customer !== owner.customer)
    refuse('This promotion code cannot be redeemed by this customer.')
  if (promotion.restrictions.first_time_transaction && hasPaidBefore(ctx, owner.customer)) {
    refuse('This promotion code cannot be redeemed because the associated customer has prior transactions.')
  }
  const minimum = minimumIn(promotion, owner.currency)
  if (minimum !== null && owner.orderAmount != null && owner.orderAmount < minimum) {
    refuse('This promotion code cannot be redeemed because the total is less than the minimum amount of the promotion code.')
  }
  return promotion
}

function hasPaidBefore(ctx: Ctx, customer: string): boolean {
  return ctx.store.by('invoice', 'customer', customer).some((invoice) => invoice.status === 'paid' && invoice.amount_paid > 0)
}

function minimumIn(promotion: PromotionCode, currency: string): number | null {
  const { minimum_amount, minimum_amount_currency, currency_options } = promotion.restrictions
  if (minimum_amount !== null && minimum_amount_currency === currency) return minimum_amount
  return currency_options?.[currency]?.minimum_amount ?? null
}

function amountOffIn(coupon: Coupon, currency: string): number | null {
  if (coupon.amount_off !== null && coupon.currency === currency) return coupon.amount_off
  return coupon.currency_options?.[currency]?.amount_off ?? null
}

/** Whether a discount takes something off an invoice of this time. */
export function isDiscountRunning(discount: StoredDiscount, now: number): boolean {
  return !discount._.ended && discount._.usedBy === null && (discount.end === null || discount.end > now)
}

/** What running discounts take off, in order; those in another currency take nothing. */
export function appliedDiscounts(ctx: Ctx, ids: readonly string[], input: { currency: string; now: number }): AppliedDiscount[] {
  return ids.flatMap((id) => {
    const discount = ctx.get('discount', id)
    if (discount === undefined || !isDiscountRunning(discount, input.now)) return []
    return appliedDiscount(ctx, discount, input.currency)
  })
}

function appliedDiscount(ctx: Ctx, discount: StoredDiscount, currency: string): AppliedDiscount[] {
  const coupon = discount.source.coupon === null ? undefined : ctx.get('coupon', discount.source.coupon)
  if (coupon === undefined) return []
  const reduction = reductionOf(coupon, currency)
  if (reduction === null) return []
  return [{ id: discount.id, reduction, products: coupon.applies_to?.products ?? null }]
}

function reductionOf(coupon: Coupon, currency: string): Reduction | null {
  if (coupon.percent_off !== null) return { kind: 'percent', percent: `${coupon.percent_off}` }
  const amount = amountOffIn(coupon, currency)
  return amount === null ? null : { kind: 'amount', amount }
}

/** Whether the discount's coupon is for one invoice only. */
export function isOnce(ctx: Ctx, discount: StoredDiscount): boolean {
  return discount.source.coupon !== null && ctx.get('coupon', discount.source.coupon)?.duration === 'once'
}

/** Marks a discount as ended and announces it; whoever holds it takes it off its list. */
export function markDiscountEnded(ctx: Ctx, id: string, usedBy: string | null = null): void {
  const discount = ctx.get('discount', id)
  if (discount === undefined || discount._.ended) return
  const ended = ctx.update('discount', id, { _: { ended: true, usedBy } })
  const owner = {
    invoice: discount.invoice,
    item: discount.invoice_item,
    subscription: discount.subscription ?? discount.subscription_item,
  }
  if (isAnnounced(owner)) ctx.emit('customer.discount.deleted', ended)
}

/** A discount as `DELETE …/discount` answers it. */
export function deletedDiscount(discount: StoredDiscount): Record<string, unknown> {
  const { end: _end, _: _state, ...rest } = discount
  return { ...rest, deleted: true }
}
