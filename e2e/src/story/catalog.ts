import { defineBilling } from '@tollgate/server/catalog'

/** Every kind of price and of allowance beside each other. */
export const STORY_CATALOG = defineBilling({
  meters: { calls: {}, tokens: {}, agents: { aggregation: 'latest' }, searches: {} },
  plans: {
    free: { name: 'Free', allowances: { calls: { amount: 10 } } },
    team: {
      name: 'Team',
      // Per seat.
      prices: { monthly: { amountMinor: 2000 } },
      allowances: {
        calls: {
          amount: 100,
          limit: 'soft',
          overage: {
            model: 'graduated',
            tiers: [
              { upTo: 100, unitAmountMinor: '0.5' },
              { upTo: 'infinity', unitAmountMinor: '0.25', flatAmountMinor: 75 },
            ],
          },
        },
        tokens: { amount: 500, limit: 'soft', overage: { model: 'package', size: 1000, amountMinor: 30 }, spendLimitMinor: 90 },
        agents: { amount: 1, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: 500 } },
        searches: { amount: 50, rollover: { max: 20, periods: 1 } },
      },
      rateLimits: { searches: { limit: 60, per: 'minute' } },
    },
    business: {
      name: 'Business',
      prices: { monthly: { amountMinor: 5000 } },
      allowances: {
        calls: { amount: 200, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: '0.7' } },
        tokens: { amount: 2000, limit: 'soft', overage: { model: 'package', size: 1000, amountMinor: 20 } },
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
        searches: { amount: 100, rollover: { max: 20, periods: 1 } },
      },
    },
  },
  topUps: { searches: { name: '40 searches', balance: 'searches', amount: 40, priceMinor: 900 } },
  defaultPlan: 'free',
})
