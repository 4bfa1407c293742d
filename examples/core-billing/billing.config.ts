import { defineBilling } from '@tollgate/server/catalog'

// CB-3 names the period, CB-4 the limits; prices are this example's own. Enterprise is unlimited, which `GET quota` shows as 0.
const monthly = (amount: number | 'unlimited') => ({ amount, period: 'calendar_month' }) as const

export default defineBilling({
  currency: 'usd',
  meters: {
    tokens: { name: 'Chat tokens', unit: 'token', groupBy: ['model'] },
    api_calls: { name: 'API calls', unit: 'call' },
    scraping_tasks: { name: 'Scraping tasks', unit: 'task' },
  },
  plans: {
    none: { name: 'No plan', allowances: {} },
    basic: {
      name: 'Basic',
      prices: { monthly: { amountMinor: 900, priceVariable: 'STRIPE_PRICE_BASIC' } },
      allowances: { tokens: monthly(100_000), api_calls: monthly(1000), scraping_tasks: monthly(100) },
    },
    pro: {
      name: 'Pro',
      prices: { monthly: { amountMinor: 2900, priceVariable: 'STRIPE_PRICE_PRO' } },
      allowances: { tokens: monthly(1_000_000), api_calls: monthly(10_000), scraping_tasks: monthly(1000) },
    },
    enterprise: {
      name: 'Enterprise',
      prices: { monthly: { amountMinor: 19_900, priceVariable: 'STRIPE_PRICE_ENTERPRISE' } },
      allowances: { tokens: monthly('unlimited'), api_calls: monthly('unlimited'), scraping_tasks: monthly('unlimited') },
    },
  },
  defaultPlan: 'none',
})
