import { expect, test } from 'vitest'
import { testUse } from '../../test/used.ts'
import { startClock } from '../../test/test-clocks.ts'

const billing = testUse({
  meters: { agents: { aggregation: 'latest' }, users: {}, calls: {} },
  plans: {
    free: { name: 'Free', allowances: {} },
    pro: {
      name: 'Pro',
      prices: { monthly: { amountMinor: 1000 } },
      allowances: {
        agents: { amount: 0, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: '7.5' } },
        users: {
          amount: 3,
          limit: 'soft',
          overage: { model: 'graduated', tiers: [{ upTo: 'infinity', unitAmountMinor: 100, flatAmountMinor: 500 }] },
        },
      },
    },
    basic: {
      name: 'Basic',
      prices: { monthly: { amountMinor: 1000 } },
      allowances: { calls: { amount: 100, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: 2 } } },
    },
    team: {
      name: 'Team',
      prices: { monthly: { amountMinor: 3000 } },
      allowances: { calls: { amount: 200, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: 1 } } },
    },
  },
  defaultPlan: 'free',
})

type Summary = { usage: Record<string, { cost_cents: number }>; total_cost_cents: number }

async function summaryOf(id: string, from?: Date, until?: Date): Promise<Summary> {
  const query = from && until ? `?period_start=${from.toISOString()}&period_end=${until.toISOString()}` : ''
  const { status, body } = await billing.ask('GET', `/api/v1/billing/usage/tenant/${id}/summary${query}`)
  expect(status, JSON.stringify(body)).toBe(200)
  return body as Summary
}

test('KF-8 over several billing periods is the sum of each: rounded line by line, a flat amount for each, the running one beside', async () => {
  const id = await billing.customer('pro')
  await billing.use(id, 'agents', 3)
  const turns: Date[] = []
  for (let month = 0; month < 4; month += 1) {
    turns.push(new Date(String((await billing.call(id, 'GET', '/api/v1/billing/subscription')).body['current_period_start'])))
    if (month < 3) await billing.advance(id, '31d')
  }
  await billing.use(id, 'agents', 3)
  await billing.use(id, 'users', 5)
  const now = await billing.nowOf(id)
  const ends = [...turns.slice(1), now]
  const months = await Promise.all(turns.map((start, index) => summaryOf(id, start, ends[index])))
  const whole = await summaryOf(id, turns[0], now)
  const sum = (each: (summary: Summary) => number): number => months.reduce((total, month) => total + each(month), 0)
  expect(months.map(({ usage }) => usage['agents']!.cost_cents)).toEqual([23, 23, 23, 23])
  expect(months.map(({ usage }) => usage['users']!.cost_cents)).toEqual([500, 500, 500, 700])
  expect(whole.total_cost_cents).toBe(sum(({ total_cost_cents: total }) => total))
  for (const meter of ['agents', 'users', 'platform_base']) {
    expect(whole.usage[meter]!.cost_cents).toBe(sum(({ usage }) => usage[meter]!.cost_cents))
  }
})

test('KF-8 of a time that cuts a cycle has each use on one line, also in the hour in which the plan changed', async () => {
  const id = await billing.customer('basic')
  const began = await billing.nowOf(id)
  await billing.advance(id, '10d')
  await billing.advance(id, '25m')
  await billing.use(id, 'calls', 130)
  await billing.call(id, 'POST', '/api/v1/billing/upgrade', { new_tier: 'team' })
  await billing.use(id, 'calls', 120)
  await billing.advance(id, '20m')
  await billing.use(id, 'calls', 7)
  const changed = await billing.nowOf(id)
  await billing.advance(id, '12d')
  const days = (count: number): Date => new Date(changed.getTime() + count * 86_400_000)
  // 30 beyond basic's 100 at 2 cents; of the next 127, 100 are team's, 27 beyond them at 1.
  const costs = async (from: Date, until: Date) => (await summaryOf(id, from, until)).usage['calls']!.cost_cents
  expect(await costs(began, days(12))).toBe(87)
  expect(await costs(days(-1), days(12))).toBe(87)
  expect(await costs(began, days(1))).toBe(87)
  expect(await costs(days(-1), days(1))).toBe(87)
  expect(await costs(began, days(-1))).toBe(0)
  expect(await costs(days(1), days(12))).toBe(0)
})

test('KF-8 of a time that cuts the lines on both sides of a change has of each what was used in it', async () => {
  const id = await billing.customer('basic')
  await billing.use(id, 'calls', 150)
  await billing.advance(id, '3d')
  const from = await billing.nowOf(id)
  await billing.use(id, 'calls', 10)
  await billing.advance(id, '70m')
  await billing.call(id, 'POST', '/api/v1/billing/upgrade', { new_tier: 'team' })
  await billing.advance(id, '2h')
  await billing.use(id, 'calls', 120)
  await billing.advance(id, '3d')
  const until = await billing.nowOf(id)
  await billing.advance(id, '2h')
  await billing.use(id, 'calls', 70)
  const costs = async (start: Date, end: Date) => (await summaryOf(id, start, end)).usage['calls']!.cost_cents
  // 60 beyond basic's 100 at 2 cents, 10 of them in the time; 90 beyond the 100 that team adds at 1, 20 of them in it.
  expect(await costs(from, until)).toBe(10 * 2 + 20)
})

test('KF-8 of a time that begins before anything billed and ends within a cycle costs what was billed of it', async () => {
  const id = await billing.createOrganization('freely')
  await startClock(billing.context, id)
  await billing.use(id, 'calls', 50)
  const from = await billing.nowOf(id)
  await billing.advance(id, '2h')
  await billing.succeed(id, 'subscribe', { tier: 'basic', payment_method_id: 'pm_card_visa' })
  await billing.use(id, 'calls', 130)
  await billing.advance(id, '3d')
  const until = await billing.nowOf(id)
  await billing.advance(id, '2h')
  await billing.use(id, 'calls', 40)
  const before = new Date(from.getTime() - 3_600_000)
  expect((await summaryOf(id, before, until)).usage['calls']).toMatchObject({ quantity: 180, cost_cents: 60 })
})

test('KF-8 of a trial costs nothing, whatever its plan charges in any case', async () => {
  const id = await billing.createOrganization('trying')
  await startClock(billing.context, id)
  await billing.call(id, 'POST', '/api/v1/billing/subscribe', { tier: 'pro' })
  await billing.use(id, 'agents', 3)
  expect(await summaryOf(id)).toMatchObject({ total_cost_cents: 0 })
})

test.each([
  ['period_start', '2030-01-01'],
  ['period_end', '2020-01-01'],
])('KF-8 of a period that ends before it begins is refused, also where %s alone is named', async (field, day) => {
  const id = await billing.customer('pro')
  const { status, body } = await billing.ask('GET', `/api/v1/billing/usage/tenant/${id}/summary?${field}=${day}`)
  expect({ status, body }).toMatchObject({ status: 400, body: { code: 'invalid_request', field } })
})

test('OC-4 has the flat amount that a price charges for nothing as well, as KF-8 and the invoice have', async () => {
  const id = await billing.customer('pro')
  await billing.use(id, 'agents', 3)
  expect((await summaryOf(id)).usage['users']).toMatchObject({ cost_cents: 500 })
  expect((await billing.ask('GET', '/api/v1/billing/usage', undefined, id)).body['balances']).toMatchObject([
    { balance: 'agents', overage: 3, overage_cost: 0.23 },
    { balance: 'users', overage: 0, overage_cost: 5 },
  ])
})
