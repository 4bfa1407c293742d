import { describe, expect, test } from 'vitest'
import { testBilling } from '../../../test/billing.ts'
import { normalizeCatalog } from '../../catalog/normalize.ts'
import { planPush } from './push-plan.ts'
import { listUsageOffers } from './push-usage-prices.ts'
import { pushCatalog } from './push.ts'

const definition = {
  meters: { agent: { aggregation: 'max' as const }, api_call: {}, tokens: {} },
  plans: {
    free: { name: 'Free', allowances: { tokens: { amount: 10 } } },
    pro: {
      name: 'Pro',
      prices: { monthly: { amountMinor: 10_000 }, yearly: { amountMinor: 100_000 } },
      allowances: {
        agent: { amount: 0, limit: 'soft' as const, overage: { model: 'per_unit' as const, unitAmountMinor: 5000 } },
        api_call: { amount: 0, limit: 'soft' as const, overage: { model: 'package' as const, size: 1000, amountMinor: 10 } },
        tokens: {
          amount: 100,
          limit: 'soft' as const,
          overage: {
            model: 'graduated' as const,
            tiers: [
              { upTo: 50, unitAmountMinor: '0.2' },
              { upTo: 'infinity' as const, unitAmountMinor: '0.1', flatAmountMinor: 100 },
            ],
          },
        },
      },
    },
  },
  defaultPlan: 'free',
}
const billing = testBilling({ webhooks: false, catalog: definition })

describe('the prices of use', () => {
  test('are one metered price per plan and allowance, whatever the intervals, and one meter per balance', async () => {
    const first = await pushCatalog(billing.context, { variables: {} })
    expect(first.lines).toEqual([
      '+ meter tollgate_level_agent',
      '+ product of use of agent (agent)',
      '+ meter tollgate_overage_api_call',
      '+ product of use of api_call (api_call)',
      '+ meter tollgate_overage_tokens',
      '+ product of use of tokens (tokens)',
      '+ product of plan pro (Pro)',
      '+ price of plan pro, monthly: 100.00 usd',
      '+ price of plan pro, yearly: 1000.00 usd',
      '+ price of overage of agent in plan pro: 5000 minor units per unit, usd',
      '+ price of overage of api_call in plan pro: 10 minor units per begun 1000, usd',
      '+ price of overage of tokens in plan pro: 2 graduated tiers, usd',
    ])
    expect(billing.sandbox.all('billing.meter').map((meter) => [meter.event_name, meter.default_aggregation.formula])).toEqual([
      ['tollgate_level_agent', 'last'],
      ['tollgate_overage_api_call', 'sum'],
      ['tollgate_overage_tokens', 'sum'],
    ])
    expect(await listUsageOffers(billing.database.db)).toMatchObject([
      { planKey: 'pro', balanceKey: 'agent', formula: 'last', reports: 'overage' },
      { planKey: 'pro', balanceKey: 'api_call', formula: 'sum' },
      {
        planKey: 'pro',
        balanceKey: 'tokens',
        price: { model: 'graduated', tiers: [{ unitAmount: 200_000_000_000n }, { upTo: null, flatAmountMinor: 100 }] },
      },
    ])
  })

  test('are left as they are by the next push', async () => {
    const again = await pushCatalog(billing.context, { variables: {} })
    expect(again.changed).toBe(0)
  })

  test('are made anew when their terms change; who has the old one keeps it', async () => {
    const { catalogs } = billing.context
    const raised = normalizeCatalog({
      ...definition,
      plans: {
        ...definition.plans,
        pro: {
          ...definition.plans.pro,
          allowances: { agent: { amount: 0, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: 6000 } } },
        },
      },
    })
    const context = billing.with({ catalogs: { ...catalogs, current: { ...catalogs.current, catalog: raised } } })
    const { lines } = await pushCatalog(context, { variables: {} })
    expect(lines.at(-1)).toMatch(/^\+ price of overage of agent in plan pro: 6000 .*; who has price_\w+ keeps it$/)
    expect(await listUsageOffers(billing.database.db)).toMatchObject([
      { balanceKey: 'agent', price: { unitAmount: 6000n * 10n ** 12n } },
    ])
  })

  test('of terms that were sold before sell again, archived or not, and none is made', async () => {
    const { rows } = await billing.database.db.query<{ id: string }>(
      `select stripe_price_id as id from usage_prices where balance = 'api_call'`,
    )
    await billing.stripe.prices.update(rows[0]!.id, { active: false })
    const before = billing.sandbox.all('price').length
    const { lines } = await pushCatalog(billing.context, { variables: {} })
    expect(lines.filter((line) => !line.startsWith('='))).toEqual([
      expect.stringMatching(
        /^~ price price_\w+ of overage of agent in plan pro: 5000 minor units per unit, usd sells again; who has price_\w+ keeps it$/,
      ),
      `~ price ${rows[0]!.id} of overage of api_call in plan pro: 10 minor units per begun 1000, usd sells again`,
    ])
    expect(await pushCatalog(billing.context, { variables: {} })).toMatchObject({ changed: 0 })
    expect(await listUsageOffers(billing.database.db)).toMatchObject([
      { balanceKey: 'agent', price: { unitAmount: 5000n * 10n ** 12n } },
      { balanceKey: 'api_call', priceId: rows[0]!.id },
      { balanceKey: 'tokens' },
    ])
    expect(billing.sandbox.all('price')).toHaveLength(before)
  })

  test('cannot have packages or tiers that are no whole numbers, since Stripe takes none', () => {
    const odd = normalizeCatalog({
      meters: { calls: {} },
      plans: {
        pro: {
          name: 'Pro',
          prices: { monthly: { amountMinor: 1 } },
          allowances: { calls: { amount: 0, limit: 'soft', overage: { model: 'package', size: '0.5', amountMinor: 1 } } },
        },
      },
      defaultPlan: 'pro',
    })
    expect(planPush(odd, { products: [], prices: [], meters: [] }, {}).problems).toEqual([
      'The overage of "calls" in the plan "pro" has packages or tiers that are not whole numbers; Stripe takes no others.',
    ])
  })

  test('EM-3: STRIPE_METERED_PRICE_ID names a metered price of one’s own, used only when metered billing is on', () => {
    const catalog = normalizeCatalog({
      meters: { search: {} },
      credits: { credits: { costs: { search: 1 } } },
      plans: { free: { name: 'Free', allowances: { credits: { amount: 1 } } } },
      defaultPlan: 'free',
    })
    const price = {
      id: 'price_metered',
      productId: 'prod_1',
      active: true,
      currency: 'usd',
      unitAmountMinor: null,
      unitAmountDecimal: '0.5',
      interval: 'month',
      intervalCount: 1,
      lookupKey: null,
      meterId: 'mtr_1',
      metadata: {},
    }
    const stripe = { products: [], prices: [price], meters: [{ id: 'mtr_1', eventName: 'credits_used' }] }
    const variables = { STRIPE_METERED_PRICE_ID: 'price_metered' }
    expect(planPush(catalog, stripe, variables).steps).toEqual([])
    expect(planPush(catalog, stripe, { ...variables, STRIPE_ENABLE_METERED_BILLING: 'true' }).steps).toMatchObject([
      { kind: 'use_usage_price', planKey: null, balanceKey: 'credits', reports: 'use', eventName: 'credits_used' },
    ])
  })
})
