import { pino } from 'pino'
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { testBilling } from '../../test/billing.ts'
import { defineBilling } from '../catalog/define.ts'
import { normalizeCatalog } from '../catalog/normalize.ts'
import { createApp, type App } from '../http/app.ts'
import { parseQuantity } from '../lib/quantity.ts'
import { priceOf } from '../pricing/rules.ts'
import { pushCatalog } from '../stripe/push.ts'
import { registerSimulationRoutes } from './routes.ts'
import { monthsBetween, simulate } from './rules.ts'

const present = defineBilling({
  meters: { calls: {}, tokens: {} },
  plans: {
    free: { name: 'Free', allowances: { calls: { amount: 100 } } },
    pro: {
      name: 'Pro',
      prices: { monthly: { amountMinor: 2000 }, yearly: { amountMinor: 20_000 } },
      allowances: { calls: { amount: 1000, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: '0.5' } } },
    },
  },
  defaultPlan: 'free',
})
const other = {
  meters: { calls: {}, tokens: {} },
  plans: {
    free: { name: 'Free', allowances: { calls: { amount: 50 } } },
    pro: {
      name: 'Pro',
      prices: { monthly: { amountMinor: 1000 } },
      allowances: {
        calls: { amount: 500, limit: 'soft', overage: { model: 'package', size: 100, amountMinor: 90 }, spendLimitMinor: 900 },
      },
    },
  },
  defaultPlan: 'free',
} as const

const billing = testBilling({ catalog: present, webhooks: false })
const PATH = '/api/v1/admin/simulations'
let app: App

beforeAll(async () => {
  await pushCatalog(billing.context, { variables: {} })
  for (const id of ['free_one', 'pro_one']) await billing.createOrganization(id)
  const answer = await billing.call('pro_one', 'POST', '/api/v1/billing/subscribe', {
    tier: 'pro',
    payment_method_id: 'pm_card_visa',
  })
  if (answer.status !== 200) throw new Error(JSON.stringify(answer.body))
  const used = async (id: string, hour: string, quantity: number) =>
    billing.database.db.query(
      `insert into usage_hourly (organization_id, meter, hour, events, quantity, drawn, overage) values ($1, 'calls', $2, 1, $3, $3, 0)`,
      [id, hour, parseQuantity(quantity)],
    )
  await used('pro_one', '2026-01-31T23:00:00Z', 1200)
  await used('pro_one', '2026-02-01T00:00:00Z', 1900)
  await used('pro_one', '2026-02-28T23:00:00Z', 100)
  await used('pro_one', '2026-03-01T00:00:00Z', 9999)
  await used('free_one', '2026-01-10T10:00:00Z', 80)
  app = createApp({
    log: pino({ level: 'silent' }),
    authenticate: async (request) => (request.headers.get('x-caller') === 'operator' ? { kind: 'operator', name: 'test' } : null),
    register: [(registered) => registerSimulationRoutes(registered, billing.context)],
  })
})

async function simulateOverHttp(body: object, caller = 'operator') {
  const headers = { 'content-type': 'application/json', 'x-caller': caller }
  const response = await app.request(PATH, { method: 'POST', headers, body: JSON.stringify(body) })
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

describe('recorded use under another catalog', () => {
  test('brings both revenues, per plan and per customer, of whole months', async () => {
    const { status, body } = await simulateOverHttp({ catalog: other, from: '2026-01', to: '2026-02' })
    expect(status, JSON.stringify(body)).toBe(200)
    // Present: 2 × 20.00, 200 and 1,000 calls beyond at 0.5 cents. Other: 2 × 10.00, 700 calls in 7 packages; 1,500 calls would be
    // 15 packages, of which the spend limit allows ten.
    expect(body).toMatchObject({
      months: ['2026-01', '2026-02'],
      present_minor: 4000 + 100 + 500,
      other_minor: 2000 + 630 + 900,
      difference_minor: 3530 - 4600,
      customers_without_plan: 0,
      plans: [
        { plan: 'free', customers: 1, present_minor: 0, other_minor: 0 },
        { plan: 'pro', customers: 1, present_minor: 4600, other_minor: 3530 },
      ],
    })
    expect(body['customers']).toMatchObject([
      {
        organization_id: 'pro_one',
        difference_minor: -1070,
        other: { base_minor: 2000, usage_minor: 1530, refused: { calls: 500 } },
      },
      { organization_id: 'free_one', difference_minor: 0, present: { refused: {} }, other: { refused: { calls: 30 } } },
    ])
  })

  test('says whose plan is not there, and follows another name', async () => {
    const { pro, free } = other.plans
    const renamed = { ...other, plans: { free, team: pro } }
    const without = await simulateOverHttp({ catalog: renamed, from: '2026-01', to: '2026-01' })
    expect(without.body).toMatchObject({ customers_without_plan: 1, present_minor: 0, other_minor: 0 })
    const named = await simulateOverHttp({ catalog: renamed, from: '2026-01', to: '2026-01', plans: { pro: 'team' } })
    expect(named.body).toMatchObject({ customers_without_plan: 0, present_minor: 2100, other_minor: 1630 })
  })

  test('is for operators, and refuses what is no catalog', async () => {
    expect((await simulateOverHttp({ catalog: other, from: '2026-01', to: '2026-01' }, 'nobody')).status).toBe(401)
    const wrong = await simulateOverHttp({ catalog: { ...other, defaultPlan: 'gratis' }, from: '2026-01', to: '2026-01' })
    expect(wrong).toMatchObject({ status: 400, body: { detail: expect.stringContaining('no plan is called "gratis"') } })
    expect((await simulateOverHttp({ catalog: other, from: '2026-02', to: '2026-01' })).status).toBe(400)
    expect((await simulateOverHttp({ catalog: other, from: '2020-01', to: '2026-01' })).status).toBe(400)
    const euro = await simulateOverHttp({ catalog: { ...other, currency: 'eur' }, from: '2026-01', to: '2026-01' })
    expect(euro).toMatchObject({ status: 400, body: { detail: expect.stringContaining('different currencies') } })
  })
})

describe('the rule', () => {
  const days = fc.array(
    fc.record({
      meter: fc.constantFrom('calls', 'tokens', 'unknown'),
      day: fc.constantFrom('2026-01-01', '2026-01-31', '2026-02-01', '2026-02-28'),
      quantity: fc.bigInt({ min: 0n, max: parseQuantity(5000) }),
    }),
  )
  const months = monthsBetween('2026-01', '2026-02')

  test('bills and refuses together what goes beyond, never within a spend limit', () => {
    const catalog = normalizeCatalog(other)
    const overage = catalog.plans.get('pro')!.allowances.get('calls')!.overage!
    fc.assert(
      fc.property(days, (use) => {
        const revenue = simulate(catalog, { planKey: 'pro', interval: 'monthly', seats: 1 }, months, use)!
        const expected = months.map((month) => {
          const used = use.filter((each) => each.meter === 'calls' && each.day.startsWith(month))
          const beyond = used.reduce((sum, { quantity }) => sum + quantity, 0n) - parseQuantity(500)
          return Math.min(900, priceOf(overage, beyond))
        })
        expect(revenue.usageMinor).toBe(expected[0]! + expected[1]!)
        expect(revenue.baseMinor).toBe(2000)
      }),
    )
  })

  test('a year counts a twelfth a month, and seats count each', () => {
    const catalog = normalizeCatalog(present)
    expect(simulate(catalog, { planKey: 'pro', interval: 'yearly', seats: 3 }, months, [])?.baseMinor).toBe(10_000)
    expect(monthsBetween('2025-11', '2026-02')).toEqual(['2025-11', '2025-12', '2026-01', '2026-02'])
  })
})
