import { insertAuditEntry } from '../audit/store.ts'
import type { Queryable } from '../db/database.ts'
import { DomainError } from '../lib/errors.ts'
import { requireGateway, type BillingContext } from '../stripe/context.ts'
import { StripeCallError } from '../stripe/gateway/errors.ts'
import type { CouponSnapshot } from '../stripe/gateway/gateway.ts'
import { askBriefly } from '../stripe/intents/ask-briefly.ts'
import { performIntent } from '../stripe/intents/intents.ts'
import { withOrganizationLock } from '../stripe/intents/lock.ts'
import type { Asker } from './actions.ts'
import { findDiscount, insertDiscount, updateDiscountUse, type DiscountRow, type DiscountTerms } from './discount-store.ts'
import type { Discount } from './plan-change.ts'

/**
 * Makes a discount (KF-12): a coupon at Stripe, which enforces its limits whoever redeems it where, and a code to type in.
 * Asked for again with the same terms, it answers the one that is there.
 * @throws DomainError `conflict` when the code has other terms
 */
export async function createDiscount(context: BillingContext, given: DiscountTerms, asker: Asker): Promise<DiscountRow> {
  requireGateway(context)
  const terms = { ...given, code: normalizeCode(given.code) }
  return withOrganizationLock(context, `discount ${terms.code}`, async (session) => {
    const known = await findDiscount(session, terms.code)
    if (known !== null) return sameOrConflict(known, terms)
    const couponId = terms.code
    await orExisting(context, terms, () =>
      performIntent(context, session, {
        organizationId: null,
        kind: 'create_coupon',
        params: { ...terms, couponId, name: terms.code },
      }),
    )
    await orExisting(context, terms, () =>
      performIntent(context, session, {
        organizationId: null,
        kind: 'create_promotion_code',
        params: { couponId, code: terms.code },
      }),
    )
    const now = context.clock.now()
    return session.transaction(async (tx) => {
      const row = await insertDiscount(tx, { ...terms, couponId }, now)
      const { code } = terms
      await insertAuditEntry(tx, {
        organizationId: null,
        ...asker,
        action: 'discount.created',
        target: code,
        before: null,
        after: terms,
        at: now,
      })
      return row
    })
  })
}

/** A creation that was cut off before its row was written finds its coupon at Stripe: that one is taken if it is the same. */
async function orExisting(context: BillingContext, terms: DiscountTerms, make: () => Promise<unknown>): Promise<void> {
  try {
    await make()
  } catch (error) {
    if (!(error instanceof StripeCallError) || error.outcome !== 'refused') throw error
    const coupon = await requireGateway(context).reads.retrieveCoupon(terms.code)
    if (coupon === null) throw error
    if (!isSame(fromCoupon(coupon), terms)) throw otherTerms(terms.code)
  }
}

/**
 * A discount with how often it was redeemed: Stripe's own count, or the last one known while Stripe is away.
 * @throws DomainError `not_found`
 */
export async function readDiscountUse(context: BillingContext, code: string): Promise<DiscountRow> {
  const row = await findDiscount(context.db, normalizeCode(code))
  if (row === null) throw new DomainError('not_found', 'There is no such discount.')
  const { gateway } = context
  const coupon = gateway === null ? undefined : await askBriefly(gateway.reads.retrieveCoupon(row.couponId))
  if (coupon === undefined) return row
  // A coupon that was deleted at Stripe cannot be redeemed any more.
  const use = { timesRedeemed: coupon?.timesRedeemed ?? row.timesRedeemed, valid: coupon?.valid ?? false }
  await updateDiscountUse(context.db, row.code, use, context.clock.now())
  return { ...row, ...use }
}

/**
 * The discount of a code that somebody wants to redeem on what is sold in a currency. Whether it still can be is for Stripe to say, in
 * the moment of the purchase.
 * @throws DomainError `invalid_request` when there is none, or when it takes off an amount of another currency
 */
export async function readDiscount(db: Queryable, code: string, { currency }: { readonly currency: string }): Promise<Discount> {
  const row = await findDiscount(db, normalizeCode(code))
  if (row === null) throw new DomainError('invalid_request', 'There is no such discount.', { field: 'discount_code' })
  if (row.currency !== null && row.currency !== currency) {
    const words = `The discount takes off an amount in ${row.currency}; what is bought is sold in ${currency}.`
    throw new DomainError('invalid_request', words, { field: 'discount_code' })
  }
  return {
    code: row.code,
    couponId: row.couponId,
    basisPointsOff: row.percentOff === null ? null : Math.round(Number(row.percentOff) * 100),
    amountOffMinor: row.amountOffMinor,
  }
}

function normalizeCode(code: string): string {
  return code.trim().toUpperCase()
}

function sameOrConflict(known: DiscountRow, terms: DiscountTerms): DiscountRow {
  if (!isSame(known, terms)) throw otherTerms(terms.code)
  return known
}

function otherTerms(code: string): DomainError {
  return new DomainError('conflict', `There is a discount "${code}" already, with other terms.`, { field: 'code' })
}

function isSame(known: Omit<DiscountTerms, 'code'>, wanted: Omit<DiscountTerms, 'code'>): boolean {
  return (
    asNumber(known.percentOff) === asNumber(wanted.percentOff) &&
    known.amountOffMinor === wanted.amountOffMinor &&
    known.currency === wanted.currency &&
    known.duration === wanted.duration &&
    known.durationInMonths === wanted.durationInMonths &&
    known.maxRedemptions === wanted.maxRedemptions
  )
}

function asNumber(percent: string | null): number | null {
  return percent === null ? null : Number(percent)
}

function fromCoupon(coupon: CouponSnapshot): Omit<DiscountTerms, 'code'> {
  return { ...coupon, duration: coupon.duration as DiscountTerms['duration'] }
}
