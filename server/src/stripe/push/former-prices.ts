import type { PriceSnapshot } from '../gateway/gateway.ts'

/** The metadata by which a product at Stripe, and each price that was made for it, names its plan. */
export const PLAN_METADATA = 'tollgate_plan'

/** The price that sells under a name now. */
export function findByName(prices: readonly PriceSnapshot[], name: string): PriceSnapshot | null {
  return prices.find(({ active, lookupKey }) => active && lookupKey === name) ?? null
}

/** A price that was sold before, rather one that is not archived; of several the newest. */
export function findFormer(prices: readonly PriceSnapshot[], isWanted: (price: PriceSnapshot) => boolean): PriceSnapshot | null {
  const former = prices.filter(isWanted)
  return former.find(({ active }) => active) ?? former[0] ?? null
}

/** What becomes of the price that sold until now. */
export function keptOf({ replaces }: { readonly replaces: PriceSnapshot | null }): string {
  return replaces === null ? '' : `; who has ${replaces.id} keeps it`
}
