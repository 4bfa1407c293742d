import { defined } from '../engine/answer.ts'
import type { Ctx } from '../engine/context.ts'
import type { Stored } from '../model/stored.ts'
import { isMetered } from '../resources/catalog/price-terms.ts'
import { createSubscription } from '../resources/subscriptions/create.ts'
import type { Session } from './checkout-totals.ts'

/**
 * Makes the subscription that a session sells, paid with the given method. One-time prices become part of its first invoice.
 * Throws Stripe's error, undoing everything, when the first invoice is not paid.
 */
export function createCheckoutSubscription(
  ctx: Ctx,
  input: { readonly session: Session; readonly customer: string; readonly paymentMethod: string | null },
): Stored<'subscription'> {
  const { customer, paymentMethod, session } = input
  const items = session._.items.map((item) => ({ item, price: ctx.require('price', item.price) }))
  const discounts = (session.discounts ?? []).map(({ coupon, promotion_code }) =>
    promotion_code === null ? { coupon: coupon ?? '' } : { promotion_code },
  )
  const recurring = items.filter(({ price }) => price.recurring !== null)
  const once = items.filter(({ price }) => price.recurring === null)
  return createSubscription(
    ctx,
    defined({
      ...session._.subscriptionData,
      add_invoice_items: once.length === 0 ? undefined : once.map(({ item }) => ({ price: item.price, quantity: item.quantity })),
      automatic_tax: session.automatic_tax.enabled ? { enabled: true } : undefined,
      currency: session.currency ?? undefined,
      customer,
      default_payment_method: paymentMethod ?? undefined,
      discounts: discounts.length === 0 ? undefined : discounts,
      items: recurring.map(({ item, price }) =>
        defined({
          metadata: Object.keys(item.metadata).length === 0 ? undefined : item.metadata,
          price: item.price,
          quantity: isMetered(price) ? undefined : item.quantity,
          tax_rates: item.taxRates.length === 0 ? undefined : [...item.taxRates],
        }),
      ),
      off_session: false,
      payment_behavior: 'error_if_incomplete' as const,
    }),
    { checkoutSession: session.id },
  )
}
