import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { testMetering } from '../../test/metering.ts'
import { HOUR_MS } from '../lib/period.ts'
import { MICRO, parseQuantity } from '../lib/quantity.ts'
import { listImbalances } from './balance-store.ts'
import type { RecordRequest, UsageAnswer, UsageProperties } from './usage.ts'

const fixture = testMetering({
  meters: {
    storage: { aggregation: 'max' },
    agents: { aggregation: 'latest' },
    users: { aggregation: 'unique', uniqueBy: 'user' },
    calls: { aggregation: 'count' },
  },
  credits: { credits: { costs: { agents: 3 } } },
  plans: {
    free: {
      name: 'Free',
      allowances: {
        storage: { amount: 10, period: 'calendar_month' },
        users: { amount: 2, period: 'calendar_month' },
        credits: { amount: 30, period: 'calendar_month' },
        calls: { amount: 2, period: 'calendar_month' },
      },
    },
  },
  defaultPlan: 'free',
})
const { clock } = fixture
let keys = 0

type Told = { quantity?: number; properties?: UsageProperties; occurredAt?: Date; verb?: 'consume' | 'track' }

function tell(
  organizationId: string,
  meter: string,
  { quantity = 1, properties, occurredAt, verb = 'consume' }: Told = {},
): Promise<UsageAnswer> {
  const request: RecordRequest = {
    verb,
    organizationId,
    meter,
    quantity: parseQuantity(quantity),
    idempotencyKey: `k${(keys += 1)}`,
    occurredAt: occurredAt ?? null,
    properties: properties ?? null,
  }
  return fixture.metering().ask(request)
}

const used = (answer: UsageAnswer): number => Number(answer.balance.used) / 1e6

describe('max', () => {
  test('is refused for a time that no calendar of PostgreSQL has as for any other that is too long ago', async () => {
    const organizationId = await fixture.newOrganization()
    const told = tell(organizationId, 'storage', { occurredAt: new Date('0000-01-01T00:00:00Z'), verb: 'track' })
    await expect(told).rejects.toMatchObject({ code: 'time_out_of_range' })
  })

  test('counts what exceeds the largest of the period; a new one begins with the level that stands, not with the largest', async () => {
    const organizationId = await fixture.newOrganization()
    const answers = []
    for (const quantity of [4, 2, 9, 11, 2]) answers.push(await tell(organizationId, 'storage', { quantity }))
    expect(answers.map((answer) => [answer.allowed, used(answer)])).toEqual([
      [true, 4],
      [true, 4],
      [true, 9],
      [false, 9],
      [true, 9],
    ])
    const before = clock.now()
    clock.set(new Date('2026-04-02T00:00:00Z'))
    expect(used(await tell(organizationId, 'storage', { quantity: 1 }))).toBe(2)
    expect(used(await tell(organizationId, 'storage', { quantity: 3 }))).toBe(3)
    clock.set(before)
  })
})

describe('latest', () => {
  test('a gauge that falls gives back what it took, and one told late changes nothing', async () => {
    const organizationId = await fixture.newOrganization()
    expect(used(await tell(organizationId, 'agents', { quantity: 8 }))).toBe(24)
    expect((await tell(organizationId, 'agents', { quantity: 11 })).code).toBe('quota_exceeded')
    const fallen = await tell(organizationId, 'agents', { quantity: 5 })
    expect([used(fallen), fallen.drawn]).toEqual([15, -9n * MICRO])
    const late = await tell(organizationId, 'agents', {
      quantity: 1,
      occurredAt: new Date(clock.now().getTime() - HOUR_MS),
      verb: 'track',
    })
    expect([used(late), late.drawn]).toEqual([15, 0n])
    expect(used(await tell(organizationId, 'agents', { quantity: 0 }))).toBe(0)
  })

  test('for any readings, what is drawn is the cost of the last one, and nothing is given back that was not taken', async () => {
    const organizationId = await fixture.newOrganization()
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(20), { minLength: 1, maxLength: 8 }), async (readings) => {
        let last: UsageAnswer | undefined
        for (const quantity of readings) last = await tell(organizationId, 'agents', { quantity, verb: 'track' })
        const { used: included, overage } = last!.balance
        expect(included + overage).toBe(BigInt(readings.at(-1)! * 3) * MICRO)
      }),
      { numRuns: 20 },
    )
    expect(await listImbalances(fixture.database.db, 10)).toEqual([])
  })
})

describe('unique', () => {
  test('counts each value once in a period, however often and in how many batches it comes', async () => {
    const organizationId = await fixture.newOrganization()
    const users = ['ann', 'ann', 'bob', 'ann', 'cyd', 'bob']
    const answers = await Promise.all(users.map((user) => tell(organizationId, 'users', { properties: { user } })))
    expect(answers.map((answer) => answer.allowed)).toEqual([true, true, true, true, false, true])
    expect(used(await tell(organizationId, 'users', { properties: { user: 'ann' } }))).toBe(2)
    const check = (user: string) =>
      fixture.metering().ask({ verb: 'check', organizationId, meter: 'users', quantity: MICRO, properties: { user } })
    expect([(await check('ann')).allowed, (await check('dan')).allowed]).toEqual([true, false])
  })

  test('a use without the property is wrong', async () => {
    const organizationId = await fixture.newOrganization()
    await expect(tell(organizationId, 'users')).rejects.toMatchObject({
      code: 'invalid_request',
      details: { field: 'properties.user' },
    })
  })
})

test('what counts uses is corrected by whole ones only', async () => {
  const organizationId = await fixture.newOrganization()
  const verb = 'correct' as const
  const corrected = { verb, organizationId, corrects: `k${keys + 1}`, idempotencyKey: 'fix', properties: null }
  await tell(organizationId, 'calls')
  await expect(fixture.metering().ask({ ...corrected, quantity: -MICRO / 2n })).rejects.toMatchObject({
    code: 'invalid_quantity',
    details: { field: 'quantity' },
  })
  expect(used(await fixture.metering().ask({ ...corrected, quantity: -MICRO }))).toBe(0)
})

test('what does not add up cannot be held', async () => {
  const organizationId = await fixture.newOrganization()
  const held = { verb: 'reserve' as const, organizationId, quantity: MICRO, idempotencyKey: 'r', properties: null, ttlMs: 1_000 }
  await expect(fixture.metering().ask({ ...held, meter: 'storage' })).rejects.toMatchObject({ code: 'invalid_request' })
  expect((await fixture.metering().ask({ ...held, meter: 'calls' })).allowed).toBe(true)
})
