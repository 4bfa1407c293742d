import type { CatalogDefinition } from '../src/catalog/schema.ts'

/** One meter with a quota that the calls of the crash tests outgrow. */
export const CRASH_CATALOG: CatalogDefinition = {
  meters: { calls: {} },
  plans: { free: { name: 'Free', allowances: { calls: { amount: 3_000, period: 'year' } } } },
  defaultPlan: 'free',
}
