import { expect, test } from 'vitest'
import { testMetering } from '../../test/metering.ts'
import { MICRO } from '../lib/quantity.ts'
import { listBalances, readSummary } from './summary.ts'

const PERIOD = { period: 'calendar_month' } as const
const fixture = testMetering({
  meters: { calls: {}, searches: {}, tokens: {}, exports: {} },
  credits: {
    credits: { unit: 'credit', costs: { searches: 1 } },
    coins: { unit: 'coin', costs: { exports: 1 } },
  },
  plans: {
    free: {
      name: 'Free',
      allowances: {
        calls: { amount: 30, ...PERIOD },
        credits: { amount: 100, ...PERIOD },
        tokens: { amount: 'unlimited', ...PERIOD },
        coins: { amount: 5, ...PERIOD },
      },
    },
    bare: { name: 'Bare', allowances: { calls: { amount: 0, ...PERIOD } } },
  },
  defaultPlan: 'free',
})

let keys = 0
const use = (organizationId: string, meter: string, quantity: bigint) =>
  fixture.metering().ask({
    verb: 'consume',
    organizationId,
    meter,
    quantity: quantity * MICRO,
    idempotencyKey: `k${(keys += 1)}`,
    occurredAt: null,
    properties: null,
  })
const read = (organizationId: string, balanceKey?: string) =>
  readSummary(fixture.database.db, fixture.context(), { organizationId, balanceKey })

test('a summary is of the first credit pool, or of the balance that is named', async () => {
  const id = await fixture.newOrganization()
  await use(id, 'calls', 10n)
  await use(id, 'searches', 25n)
  await use(id, 'tokens', 7n)
  expect((await read(id)).summary).toMatchObject({
    customer_id: id,
    credits_used: 25,
    monthly_limit: 100,
    quota_remaining: 75,
    usage_percentage: 25,
    quota_exceeded: false,
  })
  expect((await read(id, 'calls')).summary).toMatchObject({ credits_used: 10, monthly_limit: 30, usage_percentage: 33.33 })
  expect((await read(id, 'tokens')).summary).toMatchObject({
    credits_used: 7,
    monthly_limit: null,
    quota_remaining: null,
    usage_percentage: 0,
    quota_exceeded: false,
  })
  await expect(read(id, 'nothing')).rejects.toMatchObject({ code: 'not_found', details: { balance: 'nothing' } })
})

test('a balance that the plan does not include, or has none of, is nothing of nothing; without a pool the first balance is told', async () => {
  const id = await fixture.newOrganization()
  await fixture.subscribe(id, 'bare', { start: new Date('2026-03-01T00:00:00Z'), end: new Date('2026-04-01T00:00:00Z') })
  const nothing = { credits_used: 0, monthly_limit: 0, quota_remaining: 0, usage_percentage: 100, quota_exceeded: true }
  for (const named of ['credits', undefined]) expect((await read(id, named)).summary, named ?? 'none').toMatchObject(nothing)
  expect((await read(id)).balance.balanceKey).toBe('calls')
  const listed = await listBalances(fixture.database.db, fixture.context(), { organizationId: id, unitOf: () => 'unit' })
  expect(listed.map(({ balance }) => balance)).toEqual(['calls'])
})
