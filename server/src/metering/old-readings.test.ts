import { expect, test } from 'vitest'
import { testMetering } from '../../test/metering.ts'
import { writeAside } from '../../test/under-lock.ts'
import { MICRO } from '../lib/quantity.ts'
import { pruneReadings } from './jobs.ts'
import { findReadings } from './write/readings-store.ts'

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

test('what a meter has come to is found beside however many earlier periods, of which none is read', async () => {
  const organizationId = await fixture.newOrganization()
  const use = {
    organizationId,
    meter: 'storage',
    quantity: 5n * MICRO,
    idempotencyKey: 'now',
    occurredAt: null,
    properties: null,
  }
  await fixture.metering().ask({ verb: 'track', ...use })
  const earlier = `g.starts_at - n * interval '1 day', 'expires_at', g.starts_at - (n - 1) * interval '1 day'`
  await writeAside(database.db, (tx) =>
    tx.query(
      `insert into grants select (jsonb_populate_record(g, jsonb_build_object('id', g.id || n, 'starts_at', ${earlier}))).*
     from grants g, generate_series(1, 2000) n where organization_id = $1`,
      [organizationId],
    ),
  )
  await database.db.query(
    `insert into meter_readings (organization_id, grant_id, meter, quantity, occurred_at, draws, level, level_at)
     select organization_id, grant_id || n, meter, quantity, occurred_at, draws, level, level_at from meter_readings, generate_series(1, 2000) n
     where organization_id = $1`,
    [organizationId],
  )
  await database.db.query('analyze grants, meter_readings')
  const read = `select sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::int as rows from pg_stat_xact_user_tables
    where relname in ('grants', 'meter_readings')`
  await database.db.transaction(async (tx) => {
    await tx.query('set local plan_cache_mode to force_generic_plan')
    const before = (await tx.query<{ rows: number }>(read)).rows[0]!.rows
    const found = await findReadings(tx, [{ organizationId, meter: 'storage', since: clock.now(), grantId: null }])
    expect(found).toHaveLength(1)
    expect((await tx.query<{ rows: number }>(read)).rows[0]!.rows - before).toBeLessThan(10)
  })
})
