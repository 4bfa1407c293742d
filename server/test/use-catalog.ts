import type { CatalogDefinition } from '../src/catalog/schema.ts'

/** Plans whose overage is paid for, by each kind of price; `agents` is a level, the others are sums. */
export const USE_CATALOG: CatalogDefinition = {
  meters: { calls: {}, tokens: {}, agents: { aggregation: 'latest' } },
  plans: {
    free: { name: 'Free', allowances: { calls: { amount: 10 } } },
    starter: {
      name: 'Starter',
      prices: { monthly: { amountMinor: 1000 }, yearly: { amountMinor: 10_000 } },
      allowances: {
        calls: { amount: 100, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: '0.7' } },
        tokens: { amount: 0, limit: 'soft', overage: { model: 'package', size: 1000, amountMinor: 10 } },
        agents: { amount: 1, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: 500 } },
      },
    },
    pro: {
      name: 'Pro',
      prices: { monthly: { amountMinor: 3000 }, yearly: { amountMinor: 30_000 } },
      allowances: {
        calls: {
          amount: 200,
          limit: 'soft',
          overage: {
            model: 'graduated',
            tiers: [
              { upTo: 100, unitAmountMinor: '0.5' },
              { upTo: 'infinity', unitAmountMinor: '0.25', flatAmountMinor: 75 },
            ],
          },
        },
        agents: {
          amount: 2,
          limit: 'soft',
          overage: {
            model: 'volume',
            tiers: [
              { upTo: 5, unitAmountMinor: 400 },
              { upTo: 'infinity', unitAmountMinor: 300 },
            ],
          },
        },
      },
    },
  },
  defaultPlan: 'free',
}
