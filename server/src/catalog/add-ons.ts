import type { AddOn, Catalog, Plan } from './catalog.ts'

// No plan can have such a name: a key of the catalog has no colon.
const PREFIX = 'add_on:'

/** An add-on as what is pushed to Stripe like a plan: a product with a price per interval, and no use of its own. */
export function planOfAddOn({ key, name, prices }: AddOn): Plan {
  const nothing = { allowances: new Map(), rateLimits: new Map(), features: new Map() }
  return { key: PREFIX + key, name, tier: key, description: '', purchasable: true, prices, ...nothing }
}

/** The add-on that `planOfAddOn` made into a plan; null for a plan. */
export function addOnKeyOf(planKey: string): string | null {
  return planKey.startsWith(PREFIX) ? planKey.slice(PREFIX.length) : null
}

/** Everything that has a product at Stripe. */
export function soldThings(catalog: Catalog): readonly Plan[] {
  return [...catalog.plans.values(), ...[...catalog.addOns.values()].map(planOfAddOn)]
}
