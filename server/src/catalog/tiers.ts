import type { Catalog } from './catalog.ts'

/**
 * How a plan is called in answers: its `tier` where the catalog gives one (EM-1 writes FREE), else its key. A plan that the
 * present catalog no longer has is called by its key.
 */
export function tierOf(catalog: Pick<Catalog, 'plans'>, planKey: string): string {
  return catalog.plans.get(planKey)?.tier ?? planKey
}

/** The key of a plan that somebody names by its key or its tier, in capitals or not; a name that no plan has is answered as it is. */
export function planKeyOf(catalog: Pick<Catalog, 'plans'>, named: string): string {
  const lower = named.toLowerCase()
  if (catalog.plans.has(lower)) return lower
  return [...catalog.plans.values()].find(({ tier }) => tier.toLowerCase() === lower)?.key ?? named
}

/** Sums what is counted by plan up to what is counted by tier: two plans may share one. */
export function byTier(
  catalog: Pick<Catalog, 'plans'>,
  counts: Iterable<readonly [planKey: string, count: number]>,
): Map<string, number> {
  const sums = new Map<string, number>()
  for (const [planKey, count] of counts) {
    const tier = tierOf(catalog, planKey)
    sums.set(tier, (sums.get(tier) ?? 0) + count)
  }
  return sums
}
