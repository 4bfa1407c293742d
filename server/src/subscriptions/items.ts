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
    ...come.map((priceId) => ({ itemId: null, priceId, quantity: null, ...taxOfUse(subscription, priceId) })),
    ...(offer.interval === subscription.interval ? [] : movedAddOns(subscription, offer)),
  ]
}

/** A metered price that comes for another of the same balance is taxed as that is: what was set on the item is of the use, not of what it costs. */
function taxOfUse(
  { usageItems, billedBalances, itemTerms }: CurrentSubscription,
  priceId: string,
): Partial<Pick<SubscriptionItemParams, 'taxRateIds'>> {
  const replaced = usageItems.find((item) => billedBalances[item.priceId] === billedBalances[priceId])
  const taxRateIds = replaced === undefined ? [] : (itemTerms[replaced.itemId]?.taxRateIds ?? [])
  return taxRateIds.length === 0 ? {} : { taxRateIds }
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
 * The phase that an offer begins. What stays, and the plan's price, keeps its tax rates and discounts, and use its tax rates; add-ons go along at the offer's interval,
 * or end where they are not sold at it.
 */
export function laterItems(subscription: CurrentSubscription, offer: Offer, quantity: number): PhaseItem[] {
  const { itemId, interval, usageItems, addOnItems } = subscription
  const metered = offer.usagePriceIds.map((priceId) => {
    const stays = usageItems.find((item) => item.priceId === priceId)
    return stays === undefined
      ? { priceId, quantity: null, ...taxOfUse(subscription, priceId) }
      : inPhase(subscription, { ...stays, quantity: null })
  })
  const addOns = addOnItems.flatMap((item) => {
    const priceId = offer.interval === interval ? item.priceId : offer.addOnPriceIds[item.addOnKey]
    return priceId === undefined ? [] : [{ ...item, priceId }]
  })
  const plan = inPhase(subscription, { itemId, priceId: offer.priceId, quantity })
  return [plan, ...metered, ...addOns.map((item) => inPhase(subscription, item))]
}

type HeldItem = Pick<PhaseItem, 'priceId' | 'quantity'> & { readonly itemId: string }

function inPhase({ itemTerms }: CurrentSubscription, { itemId, priceId, quantity }: HeldItem): PhaseItem {
  return { priceId, quantity, ...itemTerms[itemId] }
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
    ...others.map(({ priceId, quantity, taxRateIds = [] }) => {
      const held = beside.find((item) => item.priceId === priceId)
      const taxed = held === undefined && taxRateIds.length > 0 ? { taxRateIds } : {}
      return { itemId: held?.itemId ?? null, priceId, quantity, ...taxed }
    }),
  ]
}
