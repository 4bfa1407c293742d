import { pino } from 'pino'
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { testSubscriptions } from '../../test/subscriptions.ts'
import { writeAside } from '../../test/under-lock.ts'
import { defineBilling } from '../catalog/define.ts'
import { normalizeCatalog } from '../catalog/normalize.ts'
import { createApp, type App } from '../http/app.ts'
import { parseQuantity } from '../lib/quantity.ts'
import { priceOf } from '../pricing/rules.ts'
import { beyondByPeriod } from './replay.ts'
import { registerSimulationRoutes } from './routes.ts'
import { monthsBetween, simulate } from './rules.ts'

const present = defineBilling({
  meters: { calls: {}, tokens: {}, seats: { aggregation: 'max' } },
  plans: {
    free: { name: 'Free', allowances: { calls: { amount: 100 } } },
    pro: {
      name: 'Pro',
      prices: { monthly: { amountMinor: 2000 }, yearly: { amountMinor: 20_000 } },
      allowances: {
        calls: { amount: 1000, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: '0.5' } },
        seats: { amount: 10, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: 700 } },
      },
    },
  },
  addOns: { extra: { name: 'Extra', prices: { monthly: { amountMinor: 500 } }, allowances: { calls: 200 }, maxQuantity: 9 } },
  topUps: { pack: { name: 'Pack', balance: 'calls', amount: 300, priceMinor: 700 } },
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
  addOns: { extra: { name: 'Extra', prices: { monthly: { amountMinor: 400 } }, allowances: { calls: 100 } } },
  topUps: { pack: { name: 'Pack', balance: 'calls', amount: 200, priceMinor: 600 } },
  defaultPlan: 'free',
} as const

const billing = testSubscriptions({ catalog: present, webhooks: false })
const PATH = '/api/v1/admin/simulations'
let app: App

beforeAll(async () => {
  for (const id of ['free_one', 'pro_one']) await billing.createOrganization(id)
  await billing.succeed('pro_one', 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })
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

async function used(id: string, hour: string, quantity: number, meter = 'calls'): Promise<void> {
  await billing.database.db.query(
    `insert into usage_hourly (organization_id, meter, hour, events, quantity, drawn, overage) values ($1, $4, $2, 1, $3, $3, 0)`,
    [id, hour, parseQuantity(quantity), meter],
  )
}

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
    const mistyped = await simulateOverHttp({ catalog: other, from: '2026-01', to: '2026-01', plans: { pro: 'prro' } })
    expect(mistyped).toMatchObject({ status: 400, body: { field: 'plans', detail: 'That catalog has no plan "prro".' } })
    const nobody = await simulateOverHttp({ catalog: other, from: '2026-01', to: '2026-01', organization_id: 'nobody' })
    expect(nobody).toMatchObject({ status: 404, body: { detail: 'There is no such organization.' } })
    const euro = await simulateOverHttp({ catalog: { ...other, currency: 'eur' }, from: '2026-01', to: '2026-01' })
    expect(euro).toMatchObject({ status: 400, body: { detail: expect.stringContaining('different currencies') } })
  })
})

describe('add-ons, grants and top-ups', () => {
  /** A promotion of 100 calls that began in the month before, when 25 of it were used. */
  async function promote(id: string, month: string): Promise<void> {
    await writeAside(billing.database.db, (tx) =>
      tx.query(
        `insert into grants (organization_id, id, balance, kind, amount, limit_kind, used, priority, starts_at, created_at)
       values ($1, 'promo', 'calls', 'promotion', 100000000, 'hard', 60000000, 30, $2::timestamptz - interval '5 days', $2)`,
        [id, `${month}-01T00:00:00Z`],
      ),
    )
    await billing.database.db.query(
      `insert into usage_event_blocks (organization_id, recorded_at, id, verb, idempotency_key, meter, quantity, occurred_at, dated, counted,
         drawn, overage, draws, balance, plan_key, period, period_start, period_end, after_used, after_overage, after_reserved)
       select $1, at, gen_random_uuid(), verb, verb, 'calls', 25000000, at, false, 25000000, 25000000, 0,
         '[["promo", "25000000", "0"]]', 'calls', 'pro', 'billing_cycle', at, at + interval '1 month', 0, 0, 0
       from (values ('consume', $2::timestamptz - interval '1 day'), ('reserve', $2::timestamptz - interval '1 day'),
         ('track', $2::timestamptz + interval '1 hour')) as uses (verb, at)`,
      [id, `${month}-01T00:00:00Z`],
    )
  }

  test('pay for use and bring money on both sides, each as its catalog has them', async () => {
    await billing.createOrganization('rich_one')
    const post = async (path: string, body: object) => {
      const answer = await billing.post('rich_one', path, body)
      if (answer.status >= 300) throw new Error(JSON.stringify(answer.body))
    }
    await post('subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })
    await post('add-ons', { add_on: 'extra', quantity: 2 })
    await post('top-ups', { top_up: 'pack' })
    const month = billing.context.clock.now().toISOString().slice(0, 7)
    await promote('rich_one', month)
    const now = billing.context.clock.now().toISOString()
    await used('rich_one', `${now.slice(0, 13)}:00:00Z`, 2_025)
    const { body } = await simulateOverHttp({ catalog: other, from: month, to: month, organization_id: 'rich_one' })
    // Present: 1,000 of the plan, 400 of the add-ons, 75 left of the promotion, 300 bought; 250 beyond at 0.5 cents.
    // Other: 500, 200, 75 and 200; of 1,050 beyond the spend limit allows ten packages of 100.
    expect(body['customers']).toMatchObject([
      {
        present: { base_minor: 2000, add_ons_minor: 1000, usage_minor: 125, top_ups_minor: 700, total_minor: 3825, refused: {} },
        other: { base_minor: 1000, add_ons_minor: 800, usage_minor: 900, top_ups_minor: 600, total_minor: 3300 },
      },
    ])
    expect(body['customers']).toMatchObject([{ other: { refused: { calls: 50 } } }])
    // Refunded wholly, when 200 of it were used: 100 were taken back.
    await billing.database.db.query(
      `update top_up_purchases set refunded_minor = price_minor, taken_back = 100000000 where organization_id = 'rich_one'`,
    )
    const same = await simulateOverHttp({ catalog: present, from: month, to: month, organization_id: 'rich_one' })
    expect(same.body['customers']).toMatchObject([
      { difference_minor: 0, present: { usage_minor: 175, top_ups_minor: 0 }, other: { usage_minor: 175, top_ups_minor: 0 } },
    ])
    const { topUps: _topUps, addOns: _addOns, ...bare } = other
    const without = await simulateOverHttp({ catalog: bare, from: month, to: month, organization_id: 'rich_one' })
    expect(without.body['customers']).toMatchObject([{ other: { add_ons_minor: 0, top_ups_minor: 0, refused: { calls: 450 } } }])
  })
})

describe('what pays for use', () => {
  const use = (day: string, quantity: number, meter = 'calls') => ({ meter, day, quantity: parseQuantity(quantity) })
  const terms = { amount: parseQuantity(100), period: 'calendar_month', rollover: null } as const
  const months = monthsBetween('2026-01', '2026-04')
  const beyond = (...given: Parameters<typeof beyondByPeriod>) => beyondByPeriod(...given).map((each) => Number(each) / 1_000_000)

  test('rolls over what is left, capped, and for as long as it lasts', () => {
    const rolling = { ...terms, rollover: { max: parseQuantity(50), periods: 1 } }
    const drawn = [use('2026-01-20', 20), use('2026-02-10', 160), use('2026-04-01', 160)]
    // January leaves 50 for February, which needs 10 more; March leaves 50 for April.
    expect(beyond(rolling, months, drawn, [])).toEqual([0, 10, 0, 10])
    expect(beyond({ ...rolling, rollover: { max: null, periods: 2 } }, months, drawn, [])).toEqual([0, 0, 0, 0])
    expect(beyond(terms, months, drawn, [])).toEqual([0, 60, 60])
    expect(beyond({ ...rolling, period: 'day' }, ['2026-02'], [use('2026-02-02', 160)], []).reduce((a, b) => a + b)).toBe(10)
  })

  test('is drawn in its order, within its days and for its meters, and a correction gives back', () => {
    const pool = { amount: parseQuantity(30), priority: 70, meters: null, from: '2026-01-10', until: '2026-01-20' }
    expect(beyond(terms, months, [use('2026-01-09', 110), use('2026-01-10', 20), use('2026-01-20', 5)], [pool])).toEqual([15])
    expect(beyond(terms, months, [use('2026-01-10', 120, 'tokens')], [{ ...pool, meters: ['calls'] }])).toEqual([20])
    // Given away is drawn first: the plan has 20 left for the last day, when the gift has ended.
    const gift = { ...pool, priority: 30 }
    expect(beyond(terms, months, [use('2026-01-10', 110), use('2026-01-20', 20)], [gift])).toEqual([0])
    expect(beyond(terms, months, [use('2026-01-01', 120), use('2026-01-02', -30), use('2026-01-03', 15)], [])).toEqual([5])
    expect(beyond(terms, months, [use('2026-01-10', 999)], [{ ...pool, amount: null }])).toEqual([0])
  })

  test('and what goes beyond it are together all that was used', () => {
    const amount = fc.bigInt({ min: 0n, max: parseQuantity(200) })
    const pool = amount.map((each) => ({ amount: each, priority: 30, meters: null, from: '2026-01-01', until: null }))
    const day = fc.constantFrom('2026-01-01', '2026-01-15', '2026-01-31')
    const drawn = fc.array(fc.record({ meter: fc.constant('calls'), day, quantity: amount }))
    fc.assert(
      fc.property(fc.array(pool, { maxLength: 3 }), drawn, (pools, uses) => {
        const used = uses.reduce((sum, { quantity }) => sum + quantity, 0n)
        const paid = pools.reduce((sum, each) => sum + each.amount, terms.amount)
        const expected = used > paid ? used - paid : 0n
        expect(beyondByPeriod(terms, ['2026-01'], uses, pools)).toEqual(uses.length === 0 ? [] : [expected])
      }),
    )
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
  const subscriber = { planKey: 'pro', addOns: {} }
  const nothing = { days: [], grants: [], topUps: [] }

  test('bills and refuses together what goes beyond, never within a spend limit', () => {
    const catalog = normalizeCatalog(other)
    const overage = catalog.plans.get('pro')!.allowances.get('calls')!.overage!
    fc.assert(
      fc.property(days, (use) => {
        const revenue = simulate(catalog, { ...subscriber, interval: 'monthly', seats: 1 }, months, { ...nothing, days: use })!
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
    expect(simulate(catalog, { ...subscriber, interval: 'yearly', seats: 3 }, months, nothing)?.baseMinor).toBe(10_000)
    expect(monthsBetween('2025-11', '2026-02')).toEqual(['2025-11', '2025-12', '2026-01', '2026-02'])
  })
})

test('a level counts once in each cycle, in the month in which that began, as it is billed', async () => {
  await billing.createOrganization('leveled')
  await billing.succeed('leveled', 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })
  await writeAside(billing.database.db, (tx) =>
    tx.query(
      `insert into grants (organization_id, id, balance, kind, limit_kind, priority, starts_at, created_at)
       select 'leveled', 'plan:seats:billing_cycle:' || began, 'seats', 'plan', 'soft', 50, began::timestamptz, began::timestamptz
       from unnest($1::text[]) began`,
      [['2025-12-22T06:00:00.000Z', '2026-01-22T06:00:00.000Z', '2026-02-22T06:00:00.000Z']],
    ),
  )
  // 12 seats since the cycle of December; three more in that of January; they stand in that of February.
  await used('leveled', '2025-12-22T06:00:00Z', 12, 'seats')
  await used('leveled', '2026-01-22T06:00:00Z', 12, 'seats')
  await used('leveled', '2026-02-07T09:00:00Z', 3, 'seats')
  await used('leveled', '2026-02-22T06:00:00Z', 15, 'seats')
  const usageOf = async (from: string, to: string): Promise<unknown> => {
    const { body } = await simulateOverHttp({ catalog: present, from, to, organization_id: 'leveled' })
    return (body['customers'] as { present: { usage_minor: number } }[])[0]!.present.usage_minor
  }
  expect(await usageOf('2026-01', '2026-01')).toBe(5 * 700)
  expect(await usageOf('2026-02', '2026-02')).toBe(5 * 700)
  expect(await usageOf('2025-12', '2026-02')).toBe((2 + 5 + 5) * 700)
})
