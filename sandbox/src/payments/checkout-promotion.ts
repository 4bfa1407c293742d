import type { Ctx } from '../engine/context.ts'
import { invalidRequest } from '../engine/errors.ts'
import { isCouponValid } from '../resources/catalog/discount-rules.ts'
import type { Session } from './checkout-totals.ts'

function refuse(words: string): Error {
  return invalidRequest(words, { code: 'promotion_code_not_applicable', param: 'promotion_code' })
}

/** Puts the code that a visitor entered on a session. Throws with the field's name when it cannot be used. */
export function applyPromotionCode(ctx: Ctx, session: Session, code: string): Session {
  const now = ctx.now(session.customer)
  const found = ctx.store.by('promotion_code', 'code', code.toLowerCase()).find((candidate) => candidate.active)
  if (found === undefined) throw refuse('This code is not valid.')
  const coupon = found.promotion.coupon === null ? undefined : ctx.get('coupon', found.promotion.coupon)
  const used = found.max_redemptions !== null && found.times_redeemed >= found.max_redemptions
  const over = found.expires_at !== null && found.expires_at <= now
  if (coupon === undefined || used || over || !isCouponValid(coupon, now)) throw refuse('This code has expired.')
  if (found.customer !== null && found.customer !== session.customer) throw refuse('This code is not valid for this customer.')
  const currency = session.currency ?? ''
  if (coupon.percent_off === null && coupon.currency !== currency && coupon.currency_options?.[currency] === undefined) {
    throw refuse('This code is not valid in this currency.')
  }
  return ctx.update('checkout.session', session.id, {
    discounts: [{ coupon: null, promotion_code: found.id }],
    _: { ...session._, promotionCode: found.id },
  })
}

/** Takes the visitor's code off again. */
export function removePromotionCode(ctx: Ctx, session: Session): Session {
  if (session._.promotionCode === null) return session
  return ctx.update('checkout.session', session.id, { discounts: [], _: { ...session._, promotionCode: null } })
}
