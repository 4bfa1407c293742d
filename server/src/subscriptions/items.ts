import type { SubscriptionItemParams, PhaseItem } from '../stripe/gateway/mutations.ts'
import type { CurrentSubscription, Offer } from './plan-change.ts'

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
    ...(offer.interval === subscription.interval ? [] : movedAddOns(subscription, offer)),
  ]
}

/** All items of a subscription have one interval: add-ons go along, those that are not sold at the other one end. */
function movedAddOns({ addOnItems }: CurrentSubscription, { addOnPriceIds }: Offer): SubscriptionItemParams[] {
  return addOnItems.map(({ itemId, priceId, addOnKey, quantity }) => {
    const moved = addOnPriceIds[addOnKey]
    return moved === undefined ? { itemId, priceId, quantity, removed: true as const } : { itemId, priceId: moved, quantity }
  })
}

/** What a phase of a schedule sells. The plan's price is the first: by it the phase is known. */
export function phaseItems(sold: {
  priceId: string
  quantity: number
  usagePriceIds: readonly string[]
  addOns: readonly { priceId: string; quantity: number }[]
}): PhaseItem[] {
  return [
    { priceId: sold.priceId, quantity: sold.quantity },
    ...sold.usagePriceIds.map((priceId) => ({ priceId, quantity: null })),
    ...sold.addOns.map(({ priceId, quantity }) => ({ priceId, quantity })),
  ]
}

/** What makes a subscription what a phase of a schedule would have made of it. The plan's price is the phase's first, and stays on its item. */
export function itemsOfPhase(
  subscription: CurrentSubscription,
  [plan, ...others]: readonly PhaseItem[],
): SubscriptionItemParams[] {
  if (plan === undefined) throw new Error(`A phase of ${subscription.id} sells nothing`)
  const beside = [...subscription.usageItems.map((item) => ({ ...item, quantity: null })), ...subscription.addOnItems]
  const gone = beside.filter(({ priceId }) => !others.some((item) => item.priceId === priceId))
  return [
    { ...plan, itemId: subscription.itemId },
    ...gone.map(({ itemId, priceId, quantity }) => ({ itemId, priceId, quantity, removed: true as const })),
    ...others.map((item) => ({ ...item, itemId: beside.find(({ priceId }) => priceId === item.priceId)?.itemId ?? null })),
  ]
}

/** The add-ons of the phase that an offer begins: at its interval, or no more where they are not sold at it. */
export function laterAddOns(subscription: CurrentSubscription, offer: Offer): { priceId: string; quantity: number }[] {
  if (offer.interval === subscription.interval) return [...subscription.addOnItems]
  return subscription.addOnItems.flatMap(({ addOnKey, quantity }) => {
    const priceId = offer.addOnPriceIds[addOnKey]
    return priceId === undefined ? [] : [{ priceId, quantity }]
  })
}
