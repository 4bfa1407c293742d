import { expect, test, vi } from 'vitest'
import { PATIENCE } from '../../test/patience.ts'
import { testMetering } from '../../test/metering.ts'
import { DAY_MS } from '../lib/period.ts'
import { MICRO } from '../lib/quantity.ts'
import {
  checkBalances,
  describeBalanceCheck,
  expireReservations,
  pruneKeys,
  pruneReservations,
  type MeteringJobsContext,
} from './jobs.ts'
import { ensurePartitions } from './partitions.ts'
import type { Imbalance } from './balance-store.ts'
import type { UsageRequest } from './usage.ts'

const fixture = testMetering()
const { database, clock } = fixture
const imbalances: Imbalance[] = []
const context = (): MeteringJobsContext => ({
  ...fixture.context(),
  db: database.db,
  connections: fixture.connections(),
  metering: fixture.metering(),
  onImbalance: (found) => imbalances.push(...found),
})
let keys = 0

const track = (organizationId: string, idempotencyKey = `k${(keys += 1)}`): UsageRequest => ({
  verb: 'track',
  organizationId,
  meter: 'episode_ingestion',
  quantity: MICRO,
  idempotencyKey,
  occurredAt: null,
  properties: null,
})

test('a reservation that nobody settled ends by itself, also when its grant has expired meanwhile', async () => {
  const organizationId = await fixture.newOrganization()
  const held = await fixture.metering().ask({
    verb: 'reserve',
    organizationId,
    meter: 'episode_ingestion',
    quantity: 5n * MICRO,
    idempotencyKey: 'r',
    properties: null,
    ttlMs: 60_000,
  })
  const before = clock.now()
  clock.set(new Date('2026-04-02T00:00:00Z'))
  await expireReservations(context())
  clock.set(before)
  const { rows } = await database.db.query(
    `select status, (select sum(reserved)::int from grants where organization_id = $1) as reserved from reservations where id = $2`,
    [organizationId, held.reservation!.id],
  )
  expect(rows[0]).toEqual({ status: 'expired', reserved: 0 })
})

test('keys are kept for 35 days and forgotten after 36, with what refused uses were told', async () => {
  const organizationId = await fixture.newOrganization()
  const before = clock.now()
  await database.db.query(
    `insert into spend_refusals (organization_id, event_id, recorded_at, currency, limit_minor, spent_minor)
     values ($1, gen_random_uuid(), $2, 'usd', 100, 75)`,
    [organizationId, before],
  )
  const told = async () =>
    (await database.db.query('select 1 from spend_refusals where organization_id = $1', [organizationId])).rowCount
  await fixture.metering().ask(track(organizationId, 'old'))
  clock.set(new Date(before.getTime() + 35 * DAY_MS))
  await pruneKeys(context())
  expect((await fixture.metering().ask(track(organizationId, 'old'))).replayed).toBe(true)
  expect(await told()).toBe(1)
  clock.set(new Date(before.getTime() + 37 * DAY_MS))
  await pruneKeys(context())
  expect((await fixture.metering().ask(track(organizationId, 'old'))).replayed).toBe(false)
  expect(await told()).toBe(0)
  clock.set(before)
})

test('a reservation is forgotten 36 days after it ended, an open one never', async () => {
  const organizationId = await fixture.newOrganization()
  const before = clock.now()
  const reserve = (idempotencyKey: string) =>
    fixture.metering().ask({
      verb: 'reserve',
      organizationId,
      meter: 'episode_ingestion',
      quantity: MICRO,
      idempotencyKey,
      properties: null,
      ttlMs: 60_000,
    })
  const ended = await reserve('ended')
  clock.set(new Date(before.getTime() + 61_000))
  await expireReservations(context())
  const open = await reserve('open')
  const idsAfter = async (days: number) => {
    clock.set(new Date(before.getTime() + days * DAY_MS))
    await pruneReservations(context())
    const { rows } = await database.db.query<{ id: string }>('select id from reservations where organization_id = $1', [
      organizationId,
    ])
    return rows.map(({ id }) => id)
  }
  expect((await idsAfter(35)).toSorted()).toEqual([ended.reservation!.id, open.reservation!.id].toSorted())
  expect(await idsAfter(37)).toEqual([open.reservation!.id])
  clock.set(before)
})

test('partitions are made once, take what the default partition caught, and repeats are still answered', async () => {
  const organizationId = await fixture.newOrganization()
  const first = await fixture.metering().ask(track(organizationId, 'early'))
  await Promise.all([ensurePartitions(database.db, clock.now()), ensurePartitions(database.db, clock.now())])
  const { rows } = await database.db.query(
    `select tableoid::regclass::text as partition, count(*)::int as events from usage_event_blocks where organization_id = $1 group by 1`,
    [organizationId],
  )
  expect(rows).toEqual([{ partition: 'usage_events_2026_03', events: 1 }])
  expect(await fixture.metering().ask(track(organizationId, 'early'))).toEqual({ ...first, replayed: true })
  const names = await database.db.query(
    `select inhrelid::regclass::text as name from pg_inherits where inhparent = 'usage_event_blocks'::regclass order by 1`,
  )
  expect(names.rows.map((row) => row.name)).toEqual([
    'usage_events_2026_02',
    'usage_events_2026_03',
    'usage_events_2026_04',
    'usage_events_2026_05',
    'usage_events_2026_06',
    'usage_events_other',
  ])
})

test('a use on its way while its partition is made is counted in that', async () => {
  const organizationId = await fixture.newOrganization()
  await fixture.metering().ask(track(organizationId))
  const before = clock.now()
  clock.set(new Date('2027-01-10T00:00:00Z'))
  const asked = await database.db.transaction(async (tx) => {
    await tx.query('create table usage_events_2027_01 (like usage_event_blocks including all)')
    await tx.query(
      `alter table usage_event_blocks attach partition usage_events_2027_01 for values from ('2027-01-01Z') to ('2027-02-01Z')`,
    )
    const answer = fixture.metering().ask(track(organizationId))
    await vi.waitFor(async () => {
      const { rowCount } = await database.db.query(
        `select from pg_locks where relation = 'usage_events_other'::regclass and not granted`,
      )
      expect(rowCount).toBe(1)
    }, PATIENCE)
    return { answer }
  })
  expect(await asked.answer).toMatchObject({ allowed: true, code: null })
  const { rows } = await database.db.query('select count(*)::int as blocks from usage_events_2027_01')
  expect(rows).toEqual([{ blocks: 1 }])
  clock.set(before)
})

test('the balance check is silent while all sums agree, and tells whose do not', async () => {
  const organizationId = await fixture.newOrganization()
  await fixture.metering().ask(track(organizationId))
  expect(await describeBalanceCheck(database.db)).toBe('not checked yet')
  await checkBalances(context())
  expect(imbalances).toEqual([])
  expect(await describeBalanceCheck(database.db)).toBe(`0 imbalances, checked at ${clock.now().toISOString()}`)
  await database.db.query('update usage_hourly set drawn = drawn + 1 where organization_id = $1', [organizationId])
  await checkBalances(context())
  expect(imbalances).toEqual([{ organizationId, granted: MICRO, drawn: MICRO + 1n, reserved: 0n, held: 0n }])
  expect(await describeBalanceCheck(database.db)).toBe(`1 imbalance, checked at ${clock.now().toISOString()}`)
})
