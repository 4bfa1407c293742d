import { expect, test } from 'vitest'
import { testMetering } from '../../test/metering.ts'
import { MICRO } from '../lib/quantity.ts'
import { pruneReadings } from './jobs.ts'

const fixture = testMetering({
  meters: { users: { aggregation: 'unique', uniqueBy: 'user' }, storage: { aggregation: 'max' } },
  plans: {
    free: {
      name: 'Free',
      allowances: {
        users: { amount: 10, period: 'calendar_month', limit: 'soft' },
        storage: { amount: 10, period: 'calendar_month', limit: 'soft' },
      },
    },
  },
  defaultPlan: 'free',
})
const { database, clock } = fixture
const jobs = () => ({
  ...fixture.context(),
  db: database.db,
  connections: fixture.connections(),
  metering: fixture.metering(),
  onImbalance: () => undefined,
})

test('what meters came to is kept as long as anything can reach its period, then forgotten', async () => {
  const organizationId = await fixture.newOrganization()
  const tell = (meter: string, key: string, quantity: number) =>
    fixture.metering().ask({
      verb: 'track',
      organizationId,
      meter,
      quantity: BigInt(quantity) * MICRO,
      idempotencyKey: key,
      occurredAt: null,
      properties: { user: key },
    })
  const kept = async () => {
    const { rows } = await database.db.query(
      `select (select count(*)::int from meter_values) as "values", (select count(*)::int from meter_readings) as readings,
         (select count(*)::int from meter_readings where carry_at is not null) as carried`,
    )
    return rows[0]
  }
  await tell('users', 'ada', 1)
  await tell('users', 'bob', 1)
  await tell('storage', 'first', 5)
  // A level of nothing stands in no other month.
  await tell('storage', 'none', 0)
  expect(await kept()).toMatchObject({ values: 2, readings: 1 })
  clock.set(new Date('2026-06-11T00:00:00Z'))
  await pruneReadings(jobs())
  expect(await kept()).toMatchObject({ values: 2, readings: 1 })
  clock.set(new Date('2026-06-12T00:00:01Z'))
  await pruneReadings(jobs())
  // A level that is still to be carried on is kept.
  expect(await kept()).toMatchObject({ values: 0, readings: 1, carried: 1 })
  await database.db.query('update meter_readings set carry_at = null')
  await pruneReadings(jobs())
  expect(await kept()).toMatchObject({ readings: 0 })
})

test('what meters came to is not forgotten for a test clock that has gone on: what was told is still taken back', async () => {
  const organizationId = await fixture.newOrganization()
  const setClock = (at: string | null) =>
    database.db.query('update organizations set test_clock_now = $2 where id = $1', [organizationId, at])
  await setClock('2026-03-10T00:00:00Z')
  const use = {
    organizationId,
    meter: 'storage',
    quantity: 500n * MICRO,
    idempotencyKey: 'much',
    occurredAt: null,
    properties: null,
  }
  await fixture.metering().ask({ verb: 'track', ...use })
  await setClock('2026-07-10T00:00:00Z')
  await database.db.query('update meter_readings set carry_at = null where organization_id = $1', [organizationId])
  await pruneReadings(jobs())
  const retract = {
    verb: 'correct',
    organizationId,
    corrects: 'much',
    quantity: null,
    idempotencyKey: 'gone',
    properties: null,
  } as const
  expect((await fixture.metering().ask(retract)).quantity).toBe(-500n * MICRO)
})
