import { defineBilling } from '@tollgate/server/catalog'

// MR names the gates, not the amounts: these are this example's own. Who neither tries nor pays may ask, and ingests nothing: the gate
// sees to that (MR-13). The free plan has sources for those whom an operator lets through it without a subscription (MR-6).
export default defineBilling({
  currency: 'usd',
  meters: {
    question: { name: 'Questions', unit: 'question' },
    source: { name: 'Ingested sources', unit: 'source' },
  },
  plans: {
    free: {
      name: 'Free',
      allowances: { question: { amount: 20, period: 'calendar_month' }, source: { amount: 20, period: 'calendar_month' } },
    },
    team: {
      name: 'Team',
      prices: { monthly: { amountMinor: 4900, priceVariable: 'STRIPE_PRICE_ID' }, yearly: { amountMinor: 49_000 } },
      allowances: { question: { amount: 2000 }, source: { amount: 200 } },
    },
  },
  defaultPlan: 'free',
})
