import { expect, test } from 'vitest'
import { changeByOperator } from '../../test/purchases.ts'
import { testSubscriptions } from '../../test/subscriptions.ts'
import { defineBilling } from '../catalog/define.ts'
import { createCatalogRegistry, storeCatalogVersion } from '../catalog/registry.ts'
import { readSummary } from '../metering/summary.ts'
import { readUseOverview } from '../pricing/overview.ts'
import { pushCatalog } from '../stripe/push/push.ts'

const price = (amountMinor: number) => ({ monthly: { amountMinor } })
const catalog = defineBilling({
  currency: 'eur',
  meters: { calls: { name: 'API calls', unit: 'call' } },
  features: { sso: { name: 'Single sign-on' }, support: { type: 'choice', values: ['email', 'phone'] } },
  plans: {
    free: { name: 'Free', allowances: { calls: { amount: 100, period: 'calendar_month' } } },
    pro: {
      name: 'Pro',
      tier: 'PRO',
      description: 'For teams',
      prices: { ...price(2900), yearly: { amountMinor: 29_000 } },
      allowances: {
        calls: {
          amount: 'unlimited',
        },
      },
      features: { sso: true, support: 'email' },
    },
    by_use: {
      name: 'By use',
      prices: price(0),
      allowances: {
        calls: {
          amount: '0.5',
          limit: 'soft',
          overage: { model: 'package', size: 1000, amountMinor: 10 },
          spendLimitMinor: 5000,
        },
      },
      rateLimits: { calls: { limit: 60, per: 'minute' } },
    },
    agreed: { name: 'As agreed', prices: price(90_000), purchasable: false, allowances: {} },
  },
  defaultPlan: 'free',
})
const billing = testSubscriptions({ catalog })

const listed = async (id: string) => {
  const { body } = await billing.call(`${id}:read`, 'GET', '/api/v1/billing/plans')
  return body as { currency: string; features: unknown; plans: Record<string, unknown>[] }
}
const marks = async (id: string) => (await listed(id)).plans.map(({ plan, current }) => [plan, current])

test('the plans on offer are told with all that they include, and which one the organization has', async () => {
  await billing.createOrganization('shopper')
  const { currency, features, plans } = await listed('shopper')
  expect([currency, features]).toEqual([
    'eur',
    [
      { feature: 'sso', name: 'Single sign-on', type: 'boolean', unit: null, values: [] },
      { feature: 'support', name: 'support', type: 'choice', unit: null, values: ['email', 'phone'] },
    ],
  ])
  expect(plans).toMatchObject([
    { plan: 'free', current: true, purchasable: false, prices: {}, allowances: [{ amount: 100, period: 'calendar_month' }] },
    {
      plan: 'pro',
      tier: 'PRO',
      description: 'For teams',
      current: false,
      purchasable: true,
      prices: { monthly: 2900, yearly: 29_000 },
      allowances: [{ balance: 'calls', name: 'API calls', unit: 'call', amount: null, limit: 'hard', overage: null }],
      features: { sso: true, support: 'email' },
    },
    {
      plan: 'by_use',
      allowances: [
        {
          amount: 0.5,
          limit: 'soft',
          overage: { model: 'package', package_size: 1000, package_amount_minor: 10 },
          spend_limit_minor: 5000,
        },
      ],
      rate_limits: [{ meter: 'calls', limit: 60, seconds: 60 }],
      features: {},
    },
  ])
})

test('a plan that nobody can buy is shown to who has it, and to nobody else', async () => {
  await billing.subscribed('buyer', { tier: 'pro' })
  expect(await marks('buyer')).toEqual([
    ['free', false],
    ['pro', true],
    ['by_use', false],
  ])
  await billing.call('operator', 'PATCH', '/api/v1/admin/billing/buyer', { plan: 'agreed', reason: 'a contract' })
  expect(await marks('buyer')).toEqual([
    ['free', false],
    ['pro', false],
    ['by_use', false],
    ['agreed', true],
  ])
  expect((await billing.call('nobody', 'GET', '/api/v1/billing/plans')).status).toBe(401)
  expect((await billing.call('shopper:read', 'GET', '/api/v1/billing/plans?organization_id=buyer')).status).toBe(404)
})

test('a plan that the catalog has no more is shown to who has it, cannot be bought, and is called by its key everywhere', async () => {
  const { db } = billing.database
  const legacy = { name: 'Legacy', tier: 'LEGACY', prices: price(1900), allowances: { calls: { amount: 50 } } }
  const former = { ...catalog, currency: 'usd', plans: { ...catalog.plans, legacy } }
  const stored = await storeCatalogVersion(db, former, billing.context.clock.now())
  const earlier = billing.with({ catalogs: createCatalogRegistry(db, stored) })
  await pushCatalog(earlier, { variables: {} })
  await billing.createOrganization('holder')
  const buying = { kind: 'subscribe', planKey: 'legacy', interval: null, quantity: 1, byOperator: false, discount: null } as const
  await changeByOperator(earlier, 'holder', { ...buying, paymentMethodId: 'pm_card_visa', trialDays: null })
  await pushCatalog(billing.context, { variables: {} })

  expect(await marks('holder')).toEqual([
    ['free', false],
    ['pro', false],
    ['by_use', false],
    ['legacy', true],
  ])
  const { plans, currency } = await listed('holder')
  expect([currency, plans[0]]).toMatchObject(['eur', { currency: 'eur' }])
  expect(plans.at(-1)).toMatchObject({
    tier: 'legacy',
    name: 'Legacy',
    purchasable: false,
    currency: 'usd',
    prices: { monthly: 1900 },
    allowances: [{ balance: 'calls', name: 'API calls', amount: 50 }],
  })
  const usage = { ...billing.context, graceDays: 3 }
  const { summary } = await readSummary(db, usage, { organizationId: 'holder', balanceKey: undefined })
  const overview = await readUseOverview({ billing: billing.context, usage }, 'holder')
  const tiers = [
    (await billing.subscriptionOf('holder'))['tier'],
    summary.subscription_tier,
    overview.tier,
    overview.credits.tier,
  ]
  expect(tiers).toEqual(['legacy', 'legacy', 'legacy', 'legacy'])
  expect((await marks('shopper')).map(([plan]) => plan)).not.toContain('legacy')
})
