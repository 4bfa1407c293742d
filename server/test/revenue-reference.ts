import type { Stripe } from 'stripe'

// What a subscription brings in a month, as plainly as docs/analytics.md can be said, from what Stripe answers. It shares no code with the product.

const PER_MONTH: Readonly<Record<string, number>> = { day: 365 / 12, week: 52 / 12, month: 1, year: 1 / 12 }

const idOf = (named: string | { readonly id: string }): string => (typeof named === 'string' ? named : named.id)

/** In minor units; of a subscription with its discounts, and each coupon with the products that it is for. */
export function monthlyRevenueOf(
  subscription: Stripe.Subscription,
  coupons: ReadonlyMap<string, Stripe.Coupon>,
  atUnix: number,
): number {
  if (!['active', 'past_due'].includes(subscription.status) || subscription.pause_collection !== null) return 0
  const lines = subscription.items.data
    .filter(({ price }) => price.recurring!.usage_type === 'licensed')
    .map(({ price, quantity }) => {
      const times = PER_MONTH[price.recurring!.interval]! / price.recurring!.interval_count
      return { product: idOf(price.product), times, monthly: price.unit_amount! * quantity! * times }
    })
  for (const discount of subscription.discounts as Stripe.Discount[]) {
    const coupon = coupons.get(idOf(discount.source.coupon!))!
    if (coupon.duration === 'once' || (discount.end !== null && discount.end <= atUnix)) continue
    const cheaper = lines.filter(({ product }) => coupon.applies_to?.products.includes(product) ?? true)
    const total = cheaper.reduce((sum, { monthly }) => sum + monthly, 0)
    if (total === 0) continue
    const off = coupon.percent_off === null ? coupon.amount_off! * cheaper[0]!.times : (total * coupon.percent_off) / 100
    for (const line of cheaper) line.monthly -= Math.min(off, total) * (line.monthly / total)
  }
  const included = (subscription.default_tax_rates ?? []).filter(({ inclusive }) => inclusive)
  const taxPercent = included.reduce((sum, { percentage }) => sum + percentage, 0)
  return lines.reduce((sum, { monthly }) => sum + monthly, 0) / (1 + taxPercent / 100)
}
