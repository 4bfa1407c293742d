import { beforeEach, describe, expect, test } from 'vitest'
import { testMetering } from '../../../test/metering.ts'
import { setTimeZone } from '../../grants/time-zone.ts'
import { parseQuantity } from '../../lib/quantity.ts'
import { listImbalances } from '../balance-store.ts'
import { carryLevels } from '../levels.ts'
import { readBalances } from '../reads.ts'
import type { UsageAnswer } from '../usage.ts'

const monthly = { amount: 10, period: 'calendar_month' } as const
const fixture = testMetering({
  meters: { agents: { aggregation: 'max' }, seats: { aggregation: 'latest' }, robots: { aggregation: 'latest' }, runs: {} },
  credits: { pool: { costs: { robots: 1, runs: 1 } } },
  plans: { free: { name: 'Free', allowances: { agents: monthly, seats: monthly, pool: monthly } } },
  defaultPlan: 'free',
})
const { clock } = fixture
const TURN = '2026-04-01T00:00:00Z'
let keys = 0
let id: string

beforeEach(async () => {
  clock.set(new Date('2026-03-10T12:00:00Z'))
  id = await fixture.newOrganization()
})

const use = (verb: 'track' | 'consume', meter: string, quantity: number): Promise<UsageAnswer> =>
  fixture.metering().ask({
    verb,
    organizationId: id,
    meter,
    quantity: parseQuantity(quantity),
    idempotencyKey: `told-${(keys += 1)}`,
    occurredAt: null,
    properties: null,
  })

const check = (meter: string, quantity = 0): Promise<UsageAnswer> =>
  fixture.metering().ask({ verb: 'check', organizationId: id, meter, quantity: parseQuantity(quantity), properties: null })

const carry = () => carryLevels({ ...fixture.context(), db: fixture.database.db, metering: fixture.metering() }, id)

async function balances(): Promise<Record<string, number>> {
  const read = await readBalances(fixture.database.db, fixture.context(), id)
  return Object.fromEntries(read.balances.map(({ balanceKey, used }) => [balanceKey, Number(used) / 1e6]))
}

async function carriedEvents(): Promise<string[]> {
  const { rows } = await fixture.database.db.query<{ at: Date; meter: string; counted: bigint }>(
    `select occurred_at as at, meter, counted from usage_events where organization_id = $1 and idempotency_key like 'level:%'
     order by occurred_at, meter`,
    [id],
  )
  return rows.map(({ at, meter, counted }) => `${at.toISOString().slice(0, 10)} ${meter} ${Number(counted) / 1e6}`)
}

describe('KF-1 a level that stands when a month turns is there from the first moment of the next, before any job has run', () => {
  test('in checks and balances, which write nothing', async () => {
    await use('track', 'agents', 5)
    await use('track', 'agents', 2)
    await use('track', 'seats', 7)
    await use('track', 'robots', 4)
    clock.set(new Date(TURN))
    expect(await balances()).toEqual({ agents: 2, seats: 7, pool: 4 })
    expect((await check('agents')).balance).toMatchObject({ used: parseQuantity(2) })
    expect(await check('runs', 6)).toMatchObject({ allowed: true })
    expect(await check('runs', 7)).toMatchObject({ allowed: false, code: 'quota_exceeded' })
    // A level is weighed against the one that stands: six seats are one fewer.
    expect(await check('seats', 10)).toMatchObject({ allowed: true })
    expect(await carriedEvents()).toEqual([])
  })

  test('in what is consumed from the balance that it draws on, once', async () => {
    await use('track', 'robots', 4)
    clock.set(new Date(TURN))
    const answers = await Promise.all([use('consume', 'runs', 4), use('consume', 'runs', 2), use('consume', 'runs', 1)])
    expect(answers.map(({ allowed }) => allowed)).toEqual([true, true, false])
    await carry()
    expect(await balances()).toMatchObject({ pool: 10 })
    expect(await carriedEvents()).toEqual(['2026-04-01 robots 4'])
    expect(await listImbalances(fixture.database.db, 10)).toEqual([])
  })

  test('beside the one told first in the new month: the largest of both, or the last', async () => {
    await use('track', 'agents', 5)
    await use('track', 'seats', 7)
    clock.set(new Date(TURN))
    expect((await use('track', 'agents', 3)).balance).toMatchObject({ used: parseQuantity(5) })
    expect((await use('track', 'seats', 3)).balance).toMatchObject({ used: parseQuantity(3) })
    await carry()
    expect(await balances()).toMatchObject({ agents: 5, seats: 3 })
    expect(await carriedEvents()).toEqual(['2026-04-01 agents 5', '2026-04-01 seats 7'])
  })

  test('after months in which nobody asked; the months between get theirs by the job', async () => {
    await use('track', 'seats', 7)
    clock.set(new Date('2026-05-05T00:00:00Z'))
    expect(await balances()).toMatchObject({ seats: 7 })
    expect((await use('consume', 'seats', 8)).balance).toMatchObject({ used: parseQuantity(8) })
    await carry()
    expect(await balances()).toMatchObject({ seats: 8 })
    expect(await carriedEvents()).toEqual(['2026-04-01 seats 7', '2026-05-01 seats 7', '2026-05-01 seats 0'])
    expect(await listImbalances(fixture.database.db, 10)).toEqual([])
  })

  test('where a change of time zone ends the month earlier, or later', async () => {
    const zone = (timeZone: string) =>
      setTimeZone(
        { ...fixture.context(), db: fixture.database.db },
        { organizationId: id, timeZone },
        { actor: 'x', requestId: null },
      )
    await use('track', 'seats', 7)
    await zone('Asia/Tokyo')
    clock.set(new Date('2026-03-31T15:00:00Z'))
    expect(await balances()).toMatchObject({ seats: 7 })
    await use('track', 'seats', 6)
    await zone('America/New_York')
    clock.set(new Date('2026-05-01T00:00:00Z'))
    await carry()
    expect((await check('seats')).balance).toMatchObject({
      used: parseQuantity(6),
      periodStart: new Date('2026-04-01T04:00:00Z'),
    })
    clock.set(new Date('2026-05-01T04:00:00Z'))
    expect((await check('seats')).balance).toMatchObject({
      used: parseQuantity(6),
      periodStart: new Date('2026-05-01T04:00:00Z'),
    })
  })
})
