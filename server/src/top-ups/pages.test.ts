import { expect, test } from 'vitest'
import { testBilling } from '../../test/billing.ts'

const billing = testBilling({
  catalog: {
    meters: { tokens: {} },
    plans: { free: { name: 'Free', allowances: { tokens: { amount: 100 } } } },
    topUps: { small: { name: '500 tokens', balance: 'tokens', amount: 500, priceMinor: 1_000 } },
    defaultPlan: 'free',
  },
})

test('the page of several packages asks for the price of all of them', async () => {
  const organization = await billing.createOrganization('org_pages')
  const { status, body } = await billing.call(organization, 'POST', '/api/v1/billing/top-ups', { top_up: 'small', quantity: 3 })
  expect([status, body['price_minor'], body['amount']]).toEqual([202, 3_000, 1_500])
  const page = billing.sandbox.all('checkout.session').find(({ url }) => url === body['url'])
  expect(page).toMatchObject({ amount_total: 3_000 })
})
