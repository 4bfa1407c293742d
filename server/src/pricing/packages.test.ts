import { expect, test } from 'vitest'
import { testUse } from '../../test/used.ts'

const billing = testUse({
  meters: { page: {} },
  credits: { credits: { costs: { page: 1 } } },
  plans: {
    free: { name: 'Free', allowances: {} },
    pro: {
      name: 'Pro',
      prices: { monthly: { amountMinor: 1000 } },
      allowances: { credits: { amount: 100, limit: 'soft', overage: { model: 'package', size: 400, amountMinor: 125 } } },
    },
  },
  defaultPlan: 'free',
})

test('OC-4 credits that are sold by the package cost whole packages, and a thousand their part of one', async () => {
  const id = await billing.customer('pro')
  await billing.use(id, 'page', 901)
  const { body } = await billing.ask('GET', '/api/v1/billing/usage', undefined, id)
  expect(body).toMatchObject({ credits: { overage: 801, overage_cost: 3.75, price_per_1k: 3.125 } })
  await billing.advance(id, '32d')
  expect((await billing.invoicesOf(id))[0]).toMatchObject({ amount_due_minor: 1000 + 375 })
})
