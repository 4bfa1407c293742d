import { defineBilling } from '@tollgate/server/catalog'

// OC-1 names the price of 49.00, OC-4 the 500 included credits and 2.00 per 1000 beyond them, OC-9 the meters. A credit for each
// unit, and the other tiers, are this example's own.
export default defineBilling({
  currency: 'usd',
  meters: {
    inference: { name: 'Inference', unit: 'request' },
    embedding: { name: 'Embedding', unit: 'request' },
    tts: { name: 'Text to speech', unit: 'request' },
    stt: { name: 'Speech to text', unit: 'request' },
  },
  credits: {
    credits: { name: 'Credits', unit: 'credit', costs: { inference: 1, embedding: 1, tts: 1, stt: 1 } },
  },
  plans: {
    basic: { name: 'Basic', allowances: { credits: { amount: 100, period: 'calendar_month' } } },
    professional: {
      name: 'Professional',
      prices: { monthly: { amountMinor: 4900 }, yearly: { amountMinor: 49_000 } },
      allowances: {
        credits: { amount: 500, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: '0.2' } },
      },
    },
    enterprise: {
      name: 'Enterprise',
      prices: { monthly: { amountMinor: 19_900 } },
      allowances: { credits: { amount: 'unlimited' } },
    },
  },
  defaultPlan: 'basic',
})
