import { defined } from '../engine/answer.ts'
import type { Ctx } from '../engine/context.ts'
import { invalidRequest } from '../engine/errors.ts'
import { isCouponValid } from '../resources/catalog/discount-rules.ts'
import { unitAmountOf } from '../resources/catalog/price-terms.ts'
import { settleIfNothingDue } from '../resources/invoices/collect.ts'
import { finalizeInvoice } from '../resources/invoices/finalize.ts'
import { addLines } from '../resources/invoices/line-edits.ts'
import { attachPayment, createInvoice } from '../resources/invoices/manual.ts'
import type { Session } from './checkout-totals.ts'
import { couponsOf } from './checkout-totals.ts'

type Discounts = ReadonlyArray<{ coupon: string } | { promotion_code: string }>

function discountParams(session: Session): Discounts {
  return (session.discounts ?? []).map(({ coupon, promotion_code }) =>
    promotion_code === null ? { coupon: coupon ?? '' } : { promotion_code },
  )
}

/** Counts the coupons and codes of a payment without an invoice; with one, the invoice redeems them. */
function redeem(ctx: Ctx, session: Session): void {
  const now = ctx.now(session.customer)
  for (const coupon of couponsOf(ctx, session.discounts)) {
    if (!isCouponValid(coupon, now)) {
      throw invalidRequest(`Coupon ${coupon.id} is used up and cannot be applied.`, {
        code: 'coupon_expired',
        param: 'discounts',
      })
    }
    ctx.change('coupon', coupon.id, { times_redeemed: coupon.times_redeemed + 1 }, 'coupon.updated')
  }
  for (const { promotion_code: id } of session.discounts ?? []) {
    if (id === null) continue
    const code = ctx.require('promotion_code', id)
    ctx.change('promotion_code', id, { times_redeemed: code.times_redeemed + 1 }, 'promotion_code.updated')
  }
}

/** A price made for the session alone is inactive, and invoices take active prices only: it is named by its terms. */
function pricingOf(ctx: Ctx, session: Session, id: string): { pricing: { price: string } } | { price_data: InlinePrice } {
  const price = ctx.require('price', id)
  if (price.active) return { pricing: { price: id } }
  const currency = session.currency ?? price.currency
  const behavior = price.tax_behavior == null ? {} : { tax_behavior: price.tax_behavior }
  return {
    price_data: { currency, product: price.product, unit_amount_decimal: unitAmountOf(price, currency) ?? '0', ...behavior },
  }
}

interface InlinePrice {
  readonly currency: string
  readonly product: string
  readonly unit_amount_decimal: string
  readonly tax_behavior?: 'exclusive' | 'inclusive' | 'unspecified'
}

/** The paid invoice of a payment, where the session asks for one. Source: https://docs.stripe.com/payments/checkout/receipts */
function makeInvoice(ctx: Ctx, session: Session, customer: string, paymentIntent: string | null): string {
  const data = session.invoice_creation?.invoice_data
  const draft = createInvoice(
    ctx,
    defined({
      automatic_tax: session.automatic_tax.enabled ? { enabled: true } : undefined,
      currency: session.currency ?? undefined,
      custom_fields: data?.custom_fields ?? undefined,
      customer,
      description: data?.description ?? undefined,
      discounts: [...discountParams(session)],
      footer: data?.footer ?? undefined,
      metadata: data?.metadata ?? undefined,
      pending_invoice_items_behavior: 'exclude' as const,
    }),
  )
  const lines = session._.items.map((item) => ({
    ...pricingOf(ctx, session, item.price),
    quantity: item.quantity,
    ...(item.taxRates.length === 0 ? {} : { tax_rates: [...item.taxRates] }),
  }))
  addLines(ctx, draft.id, lines, undefined)
  finalizeInvoice(ctx, draft.id)
  if (!settleIfNothingDue(ctx, draft.id) && paymentIntent !== null) attachPayment(ctx, draft.id, paymentIntent)
  return draft.id
}

/** What a payment leaves besides its charge: the counted coupons, and the invoice where one is asked for. Answers the invoice's id. */
export function recordSale(ctx: Ctx, session: Session, customer: string | null, paymentIntent: string | null): string | null {
  if (session.invoice_creation?.enabled === true && customer !== null) return makeInvoice(ctx, session, customer, paymentIntent)
  redeem(ctx, session)
  return null
}
