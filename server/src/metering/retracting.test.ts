import fc from 'fast-check'
import { beforeEach, describe, expect, test } from 'vitest'
import { testMetering } from '../../test/metering.ts'
import type { Answered } from '../../test/routes.ts'
import { testUsageRoutes } from '../../test/usage-routes.ts'
import { HOUR_MS } from '../lib/period.ts'
import { MICRO } from '../lib/quantity.ts'
import { listImbalances } from './balance-store.ts'

const fixture = testMetering({
  meters: {
    storage: { aggregation: 'max' },
    agents: { aggregation: 'latest' },
    users: { aggregation: 'unique', uniqueBy: 'user', filter: { kind: ['human'] } },
    calls: {},
  },
  plans: {
    free: {
      name: 'Free',
      allowances: {
        storage: { amount: 10, period: 'calendar_month', limit: 'soft' },
        agents: { amount: 10, period: 'calendar_month', limit: 'soft' },
        users: { amount: 2, period: 'calendar_month', limit: 'soft' },
        calls: { amount: 10, period: 'calendar_month' },
      },
    },
  },
  defaultPlan: 'free',
})
const { clock } = fixture
const NOW = new Date('2026-03-20T12:00:00Z')
const call = testUsageRoutes(fixture)

let organization: string
let keys = 0
beforeEach(async () => {
  clock.set(NOW)
  organization = await fixture.newOrganization()
})

type Told = {
  readonly quantity?: number
  readonly at?: Date
  readonly user?: string
  readonly kind?: string
  readonly key?: string
}

const post = (path: string, body: object): Promise<Answered> => call('POST', `/api/v1/usage/${path}`, body, organization)
const track = (
  meter: string,
  { quantity = 1, at, user, kind = 'human', key = `k${(keys += 1)}` }: Told = {},
): Promise<Answered> =>
  post('track', {
    meter,
    quantity,
    idempotency_key: key,
    ...(at ? { occurred_at: at.toISOString() } : {}),
    ...(user === undefined ? {} : { properties: { user, kind } }),
  })
const retract = (corrects: string, key = `r${(keys += 1)}`): Promise<Answered> =>
  post('corrections', { corrects, retract: true, idempotency_key: key })
const total = ({ status, body }: Answered): number => {
  if (status !== 200) throw new Error(JSON.stringify(body))
  return Number(body['total_credits_used'])
}

describe('a mistaken use is taken back', () => {
  test('of a largest level: the largest of the others counts, and its overage is gone', async () => {
    await track('storage', { quantity: 4 })
    await track('storage', { quantity: 500, key: 'typo' })
    await track('storage', { quantity: 7 })
    const answer = await retract('typo')
    expect(answer.body).toMatchObject({ credits_used: -493, balance: { used: 7, overage: 0, remaining: 3 } })
    expect(total(await track('storage', { quantity: 8 }))).toBe(8)
  })

  test('of a use in the first hours of a period, and in its last: the others of those hours count', async () => {
    for (const time of ['2026-03-01T00:10:00Z', '2026-03-31T23:50:00Z']) {
      clock.set(new Date(time))
      organization = await fixture.newOrganization()
      await track('storage', { quantity: 4 })
      await track('storage', { quantity: 500, key: 'typo' })
      expect(total(await retract('typo'))).toBe(4)
    }
  })

  test('of the level told last: the one told before it stands into the next period', async () => {
    await track('storage', { quantity: 9 })
    await track('storage', { quantity: 6 })
    await track('storage', { quantity: 500, key: 'last' })
    expect(total(await retract('last'))).toBe(9)
    const { rows } = await fixture.database.db.query('select quantity, level from meter_readings where organization_id = $1', [
      organization,
    ])
    expect(rows).toEqual([{ quantity: 9n * MICRO, level: 6n * MICRO }])
  })

  test('of the latest level: the one before it counts again', async () => {
    await track('agents', { quantity: 6, at: new Date(NOW.getTime() - 2 * HOUR_MS) })
    await track('agents', { quantity: 90, at: new Date(NOW.getTime() - HOUR_MS), key: 'wrong' })
    expect(total(await retract('wrong'))).toBe(6)
    // One that lies between counts now.
    expect(total(await track('agents', { quantity: 3, at: new Date(NOW.getTime() - 1.5 * HOUR_MS) }))).toBe(3)
  })

  test('of a value: it counts as long as another use has it, and counts anew when it is told anew', async () => {
    await track('users', { user: 'ann', key: 'a1' })
    await track('users', { user: 'ann', key: 'a2' })
    await track('users', { user: 'bot', kind: 'machine', key: 'b1' })
    expect(total(await retract('a1'))).toBe(1)
    expect(total(await retract('a2'))).toBe(0)
    expect(total(await track('users', { user: 'ann' }))).toBe(1)
    expect((await retract('b1')).status).toBe(404)
  })

  test('of a sum: all that it still counts', async () => {
    await track('calls', { quantity: 8, key: 'c' })
    await post('corrections', { corrects: 'c', quantity: -3, idempotency_key: 'part' })
    expect((await retract('c')).body).toMatchObject({ credits_used: -5, balance: { used: 0 } })
    expect((await post('corrections', { corrects: 'c', quantity: 2, idempotency_key: 'more' })).status).toBe(400)
  })

  test('of a period that is over: in that period, and the answer says so', async () => {
    await track('storage', { quantity: 5 })
    await track('storage', { quantity: 9, key: 'over' })
    clock.set(new Date('2026-04-02T00:00:00Z'))
    await track('storage', { quantity: 2 })
    expect((await retract('over')).body).toMatchObject({
      late: { period_start: '2026-03-01T00:00:00.000Z' },
      balance: { used: 5 },
    })
    // It stood in the next month by then, by an event of its own; without that, what stood before it does.
    expect(total(await track('storage', { quantity: 0 }))).toBe(9)
    const { rows } = await fixture.database.db.query<{ key: string }>(
      `select idempotency_key as key from usage_events where organization_id = $1 and idempotency_key like 'level:storage:%' and quantity = $2`,
      [organization, 9n * MICRO],
    )
    await retract(rows[0]!.key)
    expect(total(await track('storage', { quantity: 0 }))).toBe(5)
  })

  test('of one period: what is told of another in the same moment is none of it', async () => {
    const told = { organizationId: organization, meter: 'storage', properties: null }
    const february = new Date('2026-02-20T12:00:00Z')
    await track('storage', { quantity: 4 })
    await track('storage', { quantity: 500, key: 'typo' })
    const [, answer] = await fixture.metering().submit([
      { ...told, verb: 'track', quantity: 50n * MICRO, occurredAt: february, idempotencyKey: 'late' },
      { ...told, verb: 'correct', corrects: 'typo', quantity: null, idempotencyKey: 'r' },
    ])
    expect(answer).toMatchObject({ kind: 'answer', answer: { drawn: -496n * MICRO, balance: { used: 4n * MICRO } } })
  })

  test('once: a repeat answers the same, a second time is refused, and so is a quantity beside it', async () => {
    await track('storage', { quantity: 5, key: 's' })
    const first = await retract('s', 'again')
    expect((await retract('s', 'again')).body).toEqual(first.body)
    expect((await retract('s')).status).toBe(400)
    const body = { corrects: 's', idempotency_key: 'again', quantity: -5 }
    expect(await post('corrections', body)).toMatchObject({ status: 409, body: { field: 'retract' } })
    expect((await post('corrections', { ...body, retract: true })).status).toBe(400)
    expect(await post('corrections', { corrects: 's', quantity: -1, idempotency_key: 'q' })).toMatchObject({ status: 400 })
  })
})

describe('a key whose use was taken back', () => {
  const consume = (key: string, quantity = 3): Promise<Answered> =>
    post('consume', { meter: 'calls', quantity, idempotency_key: key })
  const TAKEN_BACK = {
    allowed: false,
    code: 'taken_back',
    reason: 'What was asked under this key was taken back. To use it after all, ask under a new key.',
    credits_used: 0,
  }

  test('permits nothing any more: a repeat is refused, and counts nothing', async () => {
    expect((await consume('c')).body).toMatchObject({ allowed: true, credits_used: 3 })
    await retract('c')
    expect((await consume('c')).body).toMatchObject(TAKEN_BACK)
    expect((await consume('c')).body).toMatchObject(TAKEN_BACK)
    expect((await consume('new')).body).toMatchObject({ allowed: true, balance: { used: 3 } })
    expect(await consume('c', 4)).toMatchObject({ status: 409, body: { field: 'quantity' } })
  })

  test('permits nothing either in the group that takes it back', async () => {
    await consume('c')
    const use = { organizationId: organization, meter: 'calls', quantity: 3n * MICRO, properties: null }
    const answers = await fixture.metering().submit([
      { ...use, verb: 'correct', corrects: 'c', quantity: null, idempotencyKey: 'r' },
      { ...use, verb: 'consume', occurredAt: null, idempotencyKey: 'c' },
    ])
    expect(answers).toMatchObject([
      { kind: 'answer', answer: { allowed: true } },
      { kind: 'answer', answer: { allowed: false, code: 'taken_back', drawn: 0n } },
    ])
  })

  test('answers what it answered where only a part was taken back, where it was tracked, and where it was refused', async () => {
    await consume('part')
    await post('corrections', { corrects: 'part', quantity: -3, idempotency_key: 'less' })
    expect((await consume('part')).body).toMatchObject({ allowed: true, credits_used: 3 })
    await track('calls', { key: 't' })
    await retract('t')
    expect((await track('calls', { key: 't' })).body).toMatchObject({ allowed: true })
    await consume('much', 100)
    expect((await retract('much')).status).toBe(404)
    expect((await consume('much', 100)).body).toMatchObject({ allowed: false, code: 'quota_exceeded' })
  })

  test('permits nothing to a consume either where it was tracked', async () => {
    const told = { meter: 'calls', quantity: 1, idempotency_key: 'told' }
    await post('track', told)
    expect((await consume('told', 1)).body).toMatchObject({ allowed: true, credits_used: 1 })
    await retract('told')
    expect((await consume('told', 1)).body).toMatchObject(TAKEN_BACK)
    expect((await post('track', told)).body).toMatchObject({ allowed: true })
  })
})

type Use = { readonly meter: string; readonly quantity: number; readonly at: number; readonly user: string; retracted: boolean }

/** What a meter has come to, said plainly: from the uses that were not taken back, in the order in which they were told. */
function figureOf(meter: string, uses: readonly Use[]): number {
  const left = uses.filter((use) => use.meter === meter && !use.retracted)
  if (meter === 'storage') return Math.max(0, ...left.map(({ quantity }) => quantity))
  if (meter === 'users') return new Set(left.map(({ user }) => user)).size
  return left.reduce((last, use) => (use.at >= last.at ? use : last), { at: -Infinity, quantity: 0 }).quantity
}

function expectFigure(answer: Answered, meter: string, uses: readonly Use[]): void {
  expect(total(answer)).toBe(figureOf(meter, uses))
}

const step = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('use' as const),
      meter: fc.constantFrom('storage', 'agents', 'users'),
      quantity: fc.integer({ min: 0, max: 20 }),
      hours: fc.integer({ min: 0, max: 6 }),
      user: fc.constantFrom('ann', 'ben', 'cat'),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('retract' as const), pick: fc.nat(20) }) },
)

test('whatever is told and taken back, a meter has come to what it had without what was taken back', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 16 }), async (steps) => {
      organization = await fixture.newOrganization()
      const uses: (Use & { readonly key: string })[] = []
      for (const each of steps) {
        if (each.kind === 'use') {
          const key = `p${(keys += 1)}`
          const at = new Date(NOW.getTime() - (each.hours + 1) * HOUR_MS)
          uses.push({ ...each, at: at.getTime(), key, retracted: false })
          expectFigure(await track(each.meter, { quantity: each.quantity, user: each.user, at, key }), each.meter, uses)
          continue
        }
        const open = uses.filter(({ retracted }) => !retracted)
        const chosen = open[each.pick % Math.max(open.length, 1)]
        if (!chosen) continue
        chosen.retracted = true
        expectFigure(await retract(chosen.key), chosen.meter, uses)
      }
      const { rows } = await fixture.database.db.query<{ meter: string; quantity: bigint }>(
        'select meter, sum(quantity)::bigint as quantity from usage_hourly where organization_id = $1 group by meter',
        [organization],
      )
      for (const { meter, quantity } of rows) expect(quantity).toBe(BigInt(figureOf(meter, uses)) * MICRO)
    }),
    { numRuns: 60 },
  )
  expect(await listImbalances(fixture.database.db, 10)).toEqual([])
})
