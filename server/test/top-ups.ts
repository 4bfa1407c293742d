import { beforeEach } from 'vitest'
import type { Grant } from '../src/grants/rules.ts'
import { listGrants } from '../src/grants/store.ts'
import { ORGANIZATION_METADATA } from '../src/stripe/organizations.ts'
import { testBilling } from './billing.ts'

export const TOP_UPS = '/api/v1/billing/top-ups'

/** A seller of one package of 500 for ten dollars, and a buyer of its own for each test. */
export function testTopUps() {
  const billing = testBilling({
    catalog: {
      meters: { tokens: {} },
      plans: { free: { name: 'Free', allowances: { tokens: { amount: 100, period: 'calendar_month' } } } },
      topUps: { small: { name: '500 tokens', balance: 'tokens', amount: 500, priceMinor: 1_000 } },
      defaultPlan: 'free',
    },
  })
  const buyer = { id: '' }
  let count = 0
  beforeEach(async () => {
    buyer.id = await billing.createOrganization(`org_${(count += 1)}`)
  })

  return {
    billing,
    buyer,
    /** The buyer's charges at Stripe. */
    charges: () => billing.sandbox.all('charge').filter(({ metadata }) => metadata[ORGANIZATION_METADATA] === buyer.id),
    purchases: async () => (await billing.call(buyer.id, 'GET', TOP_UPS)).body['purchases'] as readonly Record<string, unknown>[],
    /** What purchases have given. */
    grants: async (): Promise<readonly Grant[]> =>
      (await listGrants(billing.database.db, buyer.id)).filter(({ kind }) => kind === 'top_up'),
  }
}
