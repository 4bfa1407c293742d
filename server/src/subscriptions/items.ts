import type { SubscriptionItemParams, PhaseItem } from '../stripe/gateway.ts'
import type { CurrentSubscription, Offer } from './rules.ts'

/** The items of a new subscription: the plan's price, and a metered one for each balance whose use it bills. */
export function newItems(offer: Offer, quantity: number): SubscriptionItemParams[] {
  return [
    { itemId: null, priceId: offer.priceId, quantity },
    ...offer.usagePriceIds.map((priceId) => ({ itemId: null, priceId, quantity: null })),
  ]
}

/**
 * What a switch changes of the items: the plan's price on the same item; metered prices that the new plan has as well stay, the
 * others go (what was used of them is billed), new ones come.
 */
export function switchedItems(subscription: CurrentSubscription, offer: Offer, quantity: number): SubscriptionItemParams[] {
  const { usageItems } = subscription
  const gone = usageItems.filter(({ priceId }) => !offer.usagePriceIds.includes(priceId))
  const come = offer.usagePriceIds.filter((priceId) => !usageItems.some((item) => item.priceId === priceId))
  return [
    { itemId: subscription.itemId, priceId: offer.priceId, quantity },
    ...gone.map(({ itemId, priceId }) => ({ itemId, priceId, quantity: null, removed: true as const })),
    ...come.map((priceId) => ({ itemId: null, priceId, quantity: null })),
  ]
}

/** What a phase of a schedule sells. The plan's price is the first: by it the phase is known. */
export function phaseItems(sold: { priceId: string; quantity: number; usagePriceIds: readonly string[] }): PhaseItem[] {
  return [
    { priceId: sold.priceId, quantity: sold.quantity },
    ...sold.usagePriceIds.map((priceId) => ({ priceId, quantity: null })),
  ]
}
