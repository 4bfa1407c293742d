import type { CatalogDefinition } from '../../server/src/catalog/schema.ts'

/** A quota so large that no run uses it up: what is measured is counting, not refusing. */
export const BENCH_CATALOG: CatalogDefinition = {
  // Nothing but reports uses tokens.
  meters: { calls: {}, tokens: { groupBy: ['model', 'endpoint'] } },
  plans: {
    free: {
      name: 'Free',
      allowances: { calls: { amount: 1_000_000_000, period: 'year' }, tokens: { amount: 'unlimited', period: 'calendar_month' } },
    },
  },
  defaultPlan: 'free',
}

/** The same with something to buy. */
export const SELLING_CATALOG: CatalogDefinition = {
  ...BENCH_CATALOG,
  currency: 'usd',
  plans: {
    ...BENCH_CATALOG.plans,
    pro: { ...BENCH_CATALOG.plans['free']!, name: 'Pro', prices: { monthly: { amountMinor: 2900 } } },
  },
}
