import { expect, test } from 'vitest'
import { newItems, switchedItems } from './items.ts'
import type { CurrentSubscription, Offer } from './plan-change.ts'

const offer = { priceId: 'price_pro', usagePriceIds: ['price_tokens', 'price_calls'] } as unknown as Offer
const subscription = {
  itemId: 'si_base',
  usageItems: [
    { itemId: 'si_tokens', priceId: 'price_tokens' },
    { itemId: 'si_old', priceId: 'price_old' },
  ],
  billedBalances: { price_tokens: 'tokens', price_old: 'calls', price_calls: 'calls' },
  itemTerms: { si_tokens: { taxRateIds: ['txr_1'], discountIds: [] } },
} as unknown as CurrentSubscription

test('a new subscription has the plan’s price and its metered prices, which take no quantity', () => {
  expect(newItems(offer, 3)).toEqual([
    { itemId: null, priceId: 'price_pro', quantity: 3 },
    { itemId: null, priceId: 'price_tokens', quantity: null },
    { itemId: null, priceId: 'price_calls', quantity: null },
  ])
})

test('a switch keeps the metered prices that stay, removes those that go and adds those that come', () => {
  expect(switchedItems(subscription, offer, 1)).toEqual([
    { itemId: 'si_base', priceId: 'price_pro', quantity: 1 },
    { itemId: 'si_old', priceId: 'price_old', quantity: null, removed: true },
    { itemId: null, priceId: 'price_calls', quantity: null },
  ])
})
