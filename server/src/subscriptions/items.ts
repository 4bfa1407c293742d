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

/** What a subscription sells, as the phase of a schedule. The plan's price is the first: by it the phase is known. */
export function runningItems(subscription: CurrentSubscription): PhaseItem[] {
  const { usageItems, addOnItems } = subscription
  return [subscription, ...usageItems.map((item) => ({ ...item, quantity: null })), ...addOnItems].map((item) =>
    inPhase(subscription, item),
  )
}

/**
 * The phase that an offer begins. What stays or takes the place of another keeps its tax rates and discounts; add-ons go along at the offer's interval,
 * or end where they are not sold at it.
 */
export function laterItems(subscription: CurrentSubscription, offer: Offer, quantity: number): PhaseItem[] {
  const { itemId, interval, usageItems, addOnItems } = subscription
  const metered = offer.usagePriceIds.map((priceId) => {
    const stays = usageItems.find((item) => item.priceId === priceId)
    return { itemId: stays?.itemId ?? null, priceId, quantity: null }
  })
  const addOns = addOnItems.flatMap((item) => {
    const priceId = offer.interval === interval ? item.priceId : offer.addOnPriceIds[item.addOnKey]
    return priceId === undefined ? [] : [{ ...item, priceId }]
  })
  return [{ itemId, priceId: offer.priceId, quantity }, ...metered, ...addOns].map((item) => inPhase(subscription, item))
}

type HeldItem = Pick<PhaseItem, 'priceId' | 'quantity'> & { readonly itemId: string | null }

function inPhase({ itemTerms }: CurrentSubscription, { itemId, priceId, quantity }: HeldItem): PhaseItem {
  return { priceId, quantity, ...(itemId === null ? {} : itemTerms[itemId]) }
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
    { itemId: subscription.itemId, priceId: plan.priceId, quantity: plan.quantity },
    ...gone.map(({ itemId, priceId, quantity }) => ({ itemId, priceId, quantity, removed: true as const })),
    ...others.map(({ priceId, quantity }) => ({
      itemId: beside.find((item) => item.priceId === priceId)?.itemId ?? null,
      priceId,
      quantity,
    })),
  ]
}
