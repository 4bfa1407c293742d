import { beforeAll } from 'vitest'
import type { CatalogDefinition } from '../src/catalog/schema.ts'
import { pushCatalog } from '../src/stripe/push/push.ts'
import { testBilling, type TestBilling, type TestBillingOptions } from './billing.ts'
import { testClocks } from './test-clocks.ts'

/** By the month, and by the year for ten months. */
export const priced = (amountMinor: number) => ({ monthly: { amountMinor }, yearly: { amountMinor: amountMinor * 10 } })

/** Plans to go up and down between, of which none allows anything. */
export const PLANS = {
  meters: { call: {} },
  plans: {
    free: { name: 'Free', allowances: {} },
    starter: { name: 'Starter', prices: priced(900), allowances: {} },
    pro: { name: 'Pro', prices: priced(2900), allowances: {} },
    enterprise: { name: 'Enterprise', prices: priced(19_900), allowances: {} },
  },
  defaultPlan: 'free',
} satisfies CatalogDefinition

/** Two plans with an allowance, an add-on and a package. */
export const OFFERED = {
  meters: { calls: {} },
  plans: {
    free: { name: 'Free', allowances: {} },
    pro: { name: 'Pro', prices: { monthly: { amountMinor: 2000 } }, allowances: { calls: { amount: 1000 } } },
    max: { name: 'Max', prices: { monthly: { amountMinor: 9000 } }, allowances: { calls: { amount: 9000 } } },
  },
  addOns: { support: { name: 'Support', prices: { monthly: { amountMinor: 3000 } }, maxQuantity: 5 } },
  topUps: { pack: { name: 'Pack', balance: 'calls', amount: 500, priceMinor: 700 } },
  defaultPlan: 'free',
} satisfies CatalogDefinition

export type TestSubscriptions = TestBilling &
  ReturnType<typeof testClocks> & {
    /** A new organization on a clock of its own that buys a plan, e.g. `{ tier: 'pro' }`, with a card that is never refused; answers its id. */
    readonly subscribed: (id: string, purchase: object) => Promise<string>
  }

/** Billing whose catalog is at Stripe, and organizations on clocks of their own. Call it once at the top. */
export function testSubscriptions(options: TestBillingOptions = {}): TestSubscriptions {
  const billing = testBilling(options)
  const clocks = testClocks(billing)
  beforeAll(async () => {
    await pushCatalog(billing.context, { variables: {} })
  })
  return Object.assign(Object.create(billing) as TestBilling, {
    ...clocks,
    async subscribed(id: string, purchase: object) {
      await clocks.onClock(id)
      await billing.succeed(id, 'subscribe', { payment_method_id: 'pm_card_visa', ...purchase })
      return id
    },
  })
}
