import { defineBilling } from '@tollgate/server/catalog'

// EM-1 names the quotas and PRO's price; EM-2 the costs. STARTER's and ENTERPRISE's prices are this example's own.
export default defineBilling({
  currency: 'usd',
  meters: {
    episode_ingestion: { name: 'Episode ingestion', unit: 'episode' },
    episode_search: { name: 'Episode search', unit: 'search' },
    reflection: { name: 'Reflection generation', unit: 'reflection' },
  },
  credits: {
    credits: {
      name: 'Credits',
      unit: 'credit',
      costs: { episode_ingestion: 1, episode_search: '0.1', reflection: 2 },
    },
  },
  plans: {
    free: {
      name: 'Free',
      tier: 'FREE',
      allowances: { credits: { amount: 100, period: 'calendar_month' } },
    },
    starter: {
      name: 'Starter',
      tier: 'STARTER',
      prices: { monthly: { amountMinor: 900, priceVariable: 'STRIPE_PRICE_ID_STARTER' } },
      allowances: { credits: { amount: 10_000 } },
    },
    pro: {
      name: 'Pro',
      tier: 'PRO',
      prices: { monthly: { amountMinor: 2900, priceVariable: 'STRIPE_PRICE_ID_PRO' } },
      allowances: { credits: { amount: 100_000 } },
    },
    enterprise: {
      name: 'Enterprise',
      tier: 'ENTERPRISE',
      prices: { monthly: { amountMinor: 19_900, priceVariable: 'STRIPE_PRICE_ID_ENTERPRISE' } },
      allowances: { credits: { amount: 'unlimited' } },
    },
  },
  defaultPlan: 'free',
})
