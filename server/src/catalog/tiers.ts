import { DomainError } from '../lib/errors.ts'
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

/**
 * The key of the plan that a request names, by one field or by several that mean the same; null when none does.
 * @param fields what was given, by the field's name
 * @throws DomainError `invalid_request` when two fields name different plans
 */
export function planNamedBy(
  catalog: Pick<Catalog, 'plans'>,
  fields: Readonly<Record<string, string | undefined>>,
): string | null {
  const [first = null, ...others] = Object.entries(fields).flatMap(([field, named]) =>
    named === undefined ? [] : { field, named, planKey: planKeyOf(catalog, named) },
  )
  const other = others.find(({ planKey }) => planKey !== first?.planKey)
  if (first !== null && other !== undefined) {
    const sentence = `${first.field} says "${first.named}" and ${other.field} says "${other.named}"; name one plan.`
    throw new DomainError('invalid_request', sentence, { field: other.field })
  }
  return first?.planKey ?? null
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
