import type { Instant } from '../../lib/clock.ts'
import { fromUnixOrNull, type Reference } from './wire.ts'

/** A discount of a subscription, with the terms of its coupon. */
export type DiscountSnapshot = {
  /** Of which item; null where it is of the whole subscription. */
  readonly itemId: string | null
  /** As Stripe has it, e.g. 12.5; null where an amount is taken off. */
  readonly percentOff: number | null
  /** In the currency of the subscription. */
  readonly amountOffMinor: number
  readonly duration: 'once' | 'repeating' | 'forever'
  readonly endsAt: Instant | null
  /** Only what is of these products gets cheaper; null for all. */
  readonly products: readonly string[] | null
}

type WireCoupon = {
  readonly id: string
  readonly created: number
  readonly currency: string | null
  readonly percent_off: number | null
  readonly amount_off: number | null
  readonly duration: string
  readonly applies_to?: { readonly products: readonly string[] }
  readonly currency_options?: Readonly<Record<string, { readonly amount_off: number }>>
}
/** A mere id where it came without its coupon; one that was deleted has no end. */
type WireDiscount = string | { readonly end?: number | null; readonly source: { readonly coupon: string | WireCoupon | null } }
export type Discounted = { readonly discounts: readonly WireDiscount[] }
type WireSubscription = Discounted & {
  readonly id: string
  readonly currency: string
  readonly status: string
  readonly items: { readonly data: readonly { readonly id: string; readonly discounts: readonly Reference[] }[] }
}

/** Both with their discounts, the coupons of these, what the coupons are limited to, and what they take off in other currencies. */
export type DiscountReads = {
  retrieveSubscription(id: string): Promise<Discounted>
  retrieveItem(id: string): Promise<Discounted>
}

const MOST_KNOWN = 10_000

/**
 * Reads what is taken off listed subscriptions: first what is of an item, then what is of all, each in Stripe's order. A list is expanded four levels
 * deep, its own included, which reaches the coupons of subscriptions, but neither those of items nor the products that a coupon is limited to. So each
 * discounted item is a call, and so is a subscription with a coupon that was not seen before (what one is limited to never changes), or with an amount
 * in another currency.
 */
export function createDiscountReader(reads: DiscountReads): (wire: WireSubscription) => Promise<readonly DiscountSnapshot[]> {
  const known = new Map<string, readonly string[] | null>()

  async function ofSubscription({ id, currency, discounts }: WireSubscription): Promise<DiscountSnapshot[]> {
    const isKnown = couponsOf(discounts).every(
      (coupon) => known.has(nameOf(coupon)) && (coupon.amount_off === null || coupon.currency === currency),
    )
    if (isKnown) return discounts.flatMap((discount) => toDiscountSnapshot(discount, { itemId: null, currency }, known))
    const whole = await reads.retrieveSubscription(id)
    if (known.size > MOST_KNOWN) known.clear()
    for (const coupon of couponsOf(whole.discounts)) known.set(nameOf(coupon), coupon.applies_to?.products ?? null)
    return whole.discounts.flatMap((discount) => toDiscountSnapshot(discount, { itemId: null, currency }, known))
  }

  return async (wire) => {
    // What has ended brings nothing, whatever was taken off.
    if (wire.status === 'canceled' || wire.status === 'incomplete_expired') return []
    const discounted = wire.items.data.filter(({ discounts }) => discounts.length > 0)
    const items = await Promise.all(
      discounted.map(async ({ id }) => {
        const { discounts } = await reads.retrieveItem(id)
        return discounts.flatMap((discount) => toDiscountSnapshot(discount, { itemId: id, currency: wire.currency }))
      }),
    )
    return [...items.flat(), ...(await ofSubscription(wire))]
  }
}

/** The discounts of an invoice, expanded down to what their coupons are limited to. */
export function toInvoiceDiscounts({
  discounts,
  currency,
}: Discounted & { readonly currency: string }): readonly DiscountSnapshot[] {
  return discounts.flatMap((discount) => toDiscountSnapshot(discount, { itemId: null, currency }))
}

/** The id of a coupon that was deleted may be given again. */
function nameOf({ id, created }: WireCoupon): string {
  return `${id} ${created}`
}

function amountOffIn({ amount_off: own, currency: ownCurrency, currency_options: others }: WireCoupon, currency: string): number {
  return (ownCurrency === currency ? own : others?.[currency]?.amount_off) ?? 0
}

function couponsOf(discounts: readonly WireDiscount[]): readonly WireCoupon[] {
  return discounts.flatMap((discount) => {
    const coupon = typeof discount === 'string' ? null : discount.source.coupon
    return coupon === null || typeof coupon === 'string' ? [] : [coupon]
  })
}

function toDiscountSnapshot(
  discount: WireDiscount,
  { itemId, currency }: { readonly itemId: string | null; readonly currency: string },
  limits?: ReadonlyMap<string, readonly string[] | null>,
): DiscountSnapshot[] {
  const [coupon] = couponsOf([discount])
  if (typeof discount === 'string' || coupon === undefined) return []
  return [
    {
      itemId,
      percentOff: coupon.percent_off,
      amountOffMinor: amountOffIn(coupon, currency),
      duration: coupon.duration as DiscountSnapshot['duration'],
      endsAt: fromUnixOrNull(discount.end ?? null),
      products: coupon.applies_to?.products ?? limits?.get(nameOf(coupon)) ?? null,
    },
  ]
}
