import fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { PATIENCE } from '../../test/patience.ts'
import { testMetering } from '../../test/metering.ts'
import type { Meter } from '../catalog/catalog.ts'
import { createCatalogRegistry, storeCatalogVersion } from '../catalog/registry.ts'
import { DAY_MS, HOUR_MS } from '../lib/period.ts'
import { MICRO, parseQuantity } from '../lib/quantity.ts'
import { listImbalances } from './balance-store.ts'
import { carriedUse } from './decide/carried.ts'
import { Readings } from './decide/readings.ts'
import { carryLevels } from './levels.ts'
import { createMetering } from './metering.ts'
import { openUsageConnections } from './write/pipeline.ts'

const monthly = { amount: 10, period: 'billing_cycle' } as const
const cycled = { name: 'Paid', allowances: { cycled: monthly, owned: monthly } } as const
const DEFINITION = {
  meters: {
    agents: { aggregation: 'max' },
    seats: { aggregation: 'latest' },
    cycled: { aggregation: 'latest' },
    owned: { aggregation: 'latest' },
    yearly: { aggregation: 'latest' },
  },
  plans: {
    free: {
      name: 'Free',
      allowances: {
        agents: { amount: 10, period: 'calendar_month' },
        seats: { amount: 10, period: 'calendar_month' },
        owned: { amount: 10, period: 'lifetime' },
        yearly: { amount: 10, period: 'year' },
      },
    },
    pro: cycled,
    team: cycled,
  },
  defaultPlan: 'free',
} as const
const fixture = testMetering(DEFINITION)
const { clock } = fixture
let keys = 0

const tell = (organizationId: string, meter: string, quantity: number, occurredAt: Date | null = null) =>
  fixture.metering().ask({
    verb: 'track',
    organizationId,
    meter,
    quantity: parseQuantity(quantity),
    idempotencyKey: `told-${(keys += 1)}`,
    occurredAt,
    properties: { region: 'eu' },
  })

const carry = () => carryLevels({ ...fixture.context(), db: fixture.database.db, metering: fixture.metering() })

async function used(organizationId: string, meter: string): Promise<number> {
  const answer = await fixture.metering().ask({ verb: 'check', organizationId, meter, quantity: 0n, properties: null })
  return Number(answer.balance.used) / 1e6
}

async function carriedEvents(organizationId: string): Promise<number> {
  const { rows } = await fixture.database.db.query<{ count: number }>(
    `select count(*)::int as count from usage_events where organization_id = $1 and idempotency_key like 'level:%'`,
    [organizationId],
  )
  return rows[0]!.count
}

async function inMonth<Result>(at: string, work: () => Promise<Result>): Promise<Result> {
  const before = clock.now()
  clock.set(new Date(at))
  try {
    return await work()
  } finally {
    clock.set(before)
  }
}

describe('KF-1 a level', () => {
  test('stands from the change on when another plan’s period takes the place of its own', async () => {
    const id = await fixture.newOrganization()
    await fixture.subscribe(id, 'pro', { start: new Date('2026-03-10T00:00:00Z'), end: new Date('2026-04-10T00:00:00Z') })
    await tell(id, 'cycled', 7)
    await inMonth('2026-04-01T00:00:00Z', async () => {
      await fixture.subscribe(id, 'team', { start: new Date('2026-04-01T00:00:00Z'), end: new Date('2026-05-01T00:00:00Z') })
      await carry()
      expect(await used(id, 'cycled')).toBe(7)
    })
  })

  test('of an allowance that never ends stands in the plan that takes its place', async () => {
    const id = await fixture.newOrganization()
    await tell(id, 'owned', 7)
    await inMonth('2026-04-01T00:00:00Z', async () => {
      await fixture.subscribe(id, 'pro', { start: new Date('2026-04-01T00:00:00Z'), end: new Date('2026-05-01T00:00:00Z') })
      await carry()
      expect(await used(id, 'owned')).toBe(7)
    })
  })

  test('is carried without keeping its key before the account is locked, where servers would wait for each other in a circle', async () => {
    const id = await fixture.newOrganization()
    await tell(id, 'seats', 7)
    const { db } = fixture.database
    // A server of its own, which has seen no repeat yet and so looks for no keys.
    const metering = createMetering({ ...fixture.context(), connections: fixture.connections() })
    await inMonth('2026-04-01T00:01:00Z', async () => {
      const carrying = await db.transaction(async (tx) => {
        await tx.query('select from accounts where organization_id = $1 for update', [id])
        const carried = carryLevels({ ...fixture.context(), db, metering }, id)
        const waiting = `select pid from pg_stat_activity where application_name = 'tollgate usage' and wait_event_type = 'Lock'`
        await vi.waitFor(async () => expect((await db.query(waiting)).rowCount).toBe(1), PATIENCE)
        const keeping = await db.query(
          `select from pg_locks where relation = 'usage_keys'::regclass and mode = 'RowExclusiveLock' and pid in (${waiting})`,
        )
        expect(keeping.rowCount).toBe(0)
        return { carried }
      })
      await carrying.carried
      expect(await carriedEvents(id)).toBe(1)
    })
    await metering.stop()
  })

  test('whose account is busy when its period ends is carried at the next time', async () => {
    const id = await fixture.newOrganization()
    await tell(id, 'seats', 7)
    await inMonth('2026-04-01T00:01:00Z', async () => {
      const lost: Error[] = []
      const onLevelLost = (_level: unknown, error: Error): number => lost.push(error)
      const connections = openUsageConnections({ connectionString: fixture.database.url, size: 1, statementTimeoutMs: 100 })
      const metering = createMetering({ ...fixture.context(), connections })
      await fixture.database.db.transaction(async (tx) => {
        await tx.query('select from accounts where organization_id = $1 for update', [id])
        await carryLevels({ ...fixture.context(), db: fixture.database.db, metering, onLevelLost }, id)
      })
      await metering.stop()
      await connections.close()
      expect(await carriedEvents(id)).toBe(0)
      await carry()
      expect(await carriedEvents(id)).toBe(1)
      expect(await used(id, 'seats')).toBe(7)
      expect(lost).toEqual([])
    })
  })

  test('of a meter that only the organization’s own catalog version has is carried', async () => {
    const id = await fixture.newOrganization()
    await tell(id, 'seats', 7)
    const { seats: _seats, ...meters } = DEFINITION.meters
    const { free, ...plans } = DEFINITION.plans
    const { seats: _none, ...allowances } = free.allowances
    const next = { ...DEFINITION, meters, plans: { ...plans, free: { ...free, allowances } } }
    const version = await storeCatalogVersion(fixture.database.db, next, clock.now())
    const catalogs = createCatalogRegistry(fixture.database.db, version)
    await inMonth('2026-04-01T00:01:00Z', async () => {
      await carryLevels({ ...fixture.context(), catalogs, db: fixture.database.db, metering: fixture.metering() })
      expect(await used(id, 'seats')).toBe(7)
    })
  })

  test('stands also where its period ended longer ago than use can be told', async () => {
    const id = await fixture.newOrganization()
    await tell(id, 'yearly', 6)
    await inMonth('2027-03-10T00:00:00Z', async () => {
      await carry()
      expect([await used(id, 'yearly'), await carriedEvents(id)]).toEqual([6, 1])
    })
  })

  test('stands in each period that follows until another is told, the last one and not the largest', async () => {
    const id = await fixture.newOrganization()
    await tell(id, 'agents', 5)
    await tell(id, 'agents', 2)
    await tell(id, 'seats', 7)
    for (const month of ['2026-04-01T00:01:00Z', '2026-05-01T00:01:00Z']) {
      await inMonth(month, async () => {
        await carry()
        await carry()
        expect([await used(id, 'agents'), await used(id, 'seats')]).toEqual([2, 7])
      })
    }
    await inMonth('2026-05-02T00:00:00Z', () => tell(id, 'agents', 0))
    for (const month of ['2026-06-01T00:01:00Z', '2026-07-01T00:01:00Z']) {
      await inMonth(month, async () => {
        await carry()
        expect([await used(id, 'agents'), await used(id, 'seats')]).toEqual([0, 7])
      })
    }
    const { rows } = await fixture.database.db.query<object>(
      `select meter, quantity, occurred_at, properties from usage_events
       where organization_id = $1 and idempotency_key like 'level:%' order by occurred_at, meter`,
      [id],
    )
    const carried = (meter: string, quantity: number, at: string) => ({
      meter,
      quantity: parseQuantity(quantity),
      occurred_at: new Date(at),
      properties: { region: 'eu' },
    })
    expect(rows).toEqual([
      carried('agents', 2, '2026-04-01T00:00:00Z'),
      carried('seats', 7, '2026-04-01T00:00:00Z'),
      carried('agents', 2, '2026-05-01T00:00:00Z'),
      carried('seats', 7, '2026-05-01T00:00:00Z'),
      carried('agents', 0, '2026-06-01T00:00:00Z'),
      carried('seats', 7, '2026-06-01T00:00:00Z'),
      // Nothing stands: nothing more is handed on of it.
      carried('seats', 7, '2026-07-01T00:00:00Z'),
    ])
    expect(await listImbalances(fixture.database.db, 10)).toEqual([])
  })

  test('that is carried late gives way to what was told of the new period before', async () => {
    const id = await fixture.newOrganization()
    await tell(id, 'seats', 7)
    await inMonth('2026-04-01T00:00:30Z', async () => {
      await tell(id, 'seats', 3)
      await carry()
      expect(await used(id, 'seats')).toBe(3)
    })
    await inMonth('2026-05-01T00:01:00Z', async () => {
      await carry()
      expect(await used(id, 'seats')).toBe(3)
    })
  })

  test('that is told late of a period that is over is carried anew', async () => {
    const id = await fixture.newOrganization()
    await tell(id, 'seats', 7)
    await inMonth('2026-04-01T00:01:00Z', async () => {
      await carry()
      await tell(id, 'seats', 4, new Date('2026-03-31T23:00:00Z'))
      await carry()
      expect(await used(id, 'seats')).toBe(4)
    })
  })

  test('of an organization on a test clock follows that clock', async () => {
    const id = await fixture.newOrganization()
    await tell(id, 'agents', 4)
    await fixture.database.db.query(`update organizations set test_clock_now = '2026-04-01T00:00:01Z' where id = $1`, [id])
    await carry()
    expect(await used(id, 'agents')).toBe(4)
  })

  describe.each([
    ['by the job', async () => undefined],
    ['by a use that came before the job', (id: string) => tell(id, 'agents', 0).then(() => undefined)],
  ])('that was a mistake, taken back after it was carried on', (how, useBefore) => {
    test(`is taken from the months that follow as well, carried anew ${how}`, async () => {
      const id = await fixture.newOrganization()
      await inMonth('2026-03-05T00:00:00Z', () => tell(id, 'agents', 3))
      const typo = `told-${keys + 1}`
      await inMonth('2026-03-20T00:00:00Z', () => tell(id, 'agents', 9))
      await inMonth('2026-04-02T00:00:00Z', carry)
      await inMonth('2026-05-02T00:00:00Z', async () => {
        await carry()
        expect(await used(id, 'agents')).toBe(9)
      })
      await inMonth('2026-04-03T00:00:00Z', async () => {
        const retraction = { verb: 'correct', organizationId: id, corrects: typo, quantity: null, properties: null } as const
        await fixture.metering().ask({ ...retraction, idempotencyKey: `retract ${typo}` })
        await useBefore(id)
        await carry()
        expect(await used(id, 'agents')).toBe(3)
      })
      await inMonth('2026-05-03T00:00:00Z', async () => {
        await carry()
        expect(await used(id, 'agents')).toBe(how === 'by the job' ? 3 : 0)
      })
      expect(await listImbalances(fixture.database.db, 10)).toEqual([])
    })
  })

  const reports = fc.array(
    fc.record({ hour: fc.integer({ min: 0, max: 4 * 720 - 1 }), quantity: fc.integer({ min: 0, max: 9 }) }),
    {
      maxLength: 12,
    },
  )
  test.each(['max', 'latest'] as const)(
    'of a %s meter counts in each period as if it were told again when that begins',
    (aggregation) => {
      const meter = { key: 'agents', aggregation, filter: new Map(), uniqueBy: null } as unknown as Meter
      const start = new Date('2026-01-01T00:00:00Z').getTime()
      const periodOf = (at: Date) => Math.floor((at.getTime() - start) / (30 * DAY_MS))
      fc.assert(
        fc.property(reports, fc.integer({ min: 0, max: 3 }), (told, delay) => {
          const counted = [0n, 0n, 0n, 0n]
          const readings = new Readings([], [])
          const weigh = (quantity: bigint, occurredAt: Date) => {
            const use = { organizationId: 'org', grantId: `${periodOf(occurredAt)}`, quantity, occurredAt, properties: null }
            const weight = readings.weigh(meter, use)
            counted[periodOf(occurredAt)]! += weight.counted
            weight.remember([])
          }
          const carryInto = (period: number) => {
            const ended = readings.changed.find(({ grantId }) => grantId === `${period - 1}`)
            if (ended === undefined) return
            const endedAt = new Date(start + period * 30 * DAY_MS)
            const { quantity, occurredAt } = carriedUse({ ...ended, properties: null, endedAt, now: endedAt })
            weigh(quantity, occurredAt!)
          }
          const sorted = told.toSorted((a, b) => a.hour - b.hour)
          for (let period = 0, next = 0; period < 4; period += 1) {
            const until = sorted.findIndex(({ hour }) => hour >= (period + 1) * 720)
            const own = sorted.slice(next, until === -1 ? undefined : until)
            next += own.length
            // What carries comes a little late: some of the new period was told before.
            for (const [index, { hour, quantity }] of own.entries()) {
              if (index === delay) carryInto(period)
              weigh(BigInt(quantity) * MICRO, new Date(start + hour * HOUR_MS))
            }
            if (own.length <= delay) carryInto(period)
          }
          let level = 0
          const expected = [0, 1, 2, 3].map((period) => {
            const own = sorted.filter(({ hour }) => Math.floor(hour / 720) === period).map(({ quantity }) => quantity)
            const largest = Math.max(level, ...own)
            level = own.at(-1) ?? level
            return BigInt(aggregation === 'max' ? largest : level) * MICRO
          })
          expect(counted).toEqual(expected)
        }),
        { numRuns: 500 },
      )
    },
  )
})
