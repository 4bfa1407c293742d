import { expect, test } from 'vitest'
import { CATALOG, testMetering } from '../../test/metering.ts'
import { testRoutes } from '../../test/routes.ts'
import { MICRO } from '../lib/quantity.ts'
import type { UsageAnswer } from '../metering/usage.ts'
import { registerGrantRoutes } from './routes.ts'

const { free } = CATALOG.plans
const kept = { amount: 100, period: 'calendar_month', rollover: {} } as const
const loose = { amount: 10, period: 'calendar_month', limit: 'soft' } as const
const daily = { amount: 100, period: 'day' } as const
const fixture = testMetering({
  ...CATALOG,
  meters: {
    ...CATALOG.meters,
    kept: {},
    loose: {},
    peak: { aggregation: 'max' },
    users: { aggregation: 'unique', uniqueBy: 'user' },
  },
  plans: { ...CATALOG.plans, free: { ...free!, allowances: { ...free!.allowances, kept, loose, peak: daily, users: daily } } },
})
const { clock } = fixture
const call = testRoutes((app) => registerGrantRoutes(app, { ...fixture.context(), db: fixture.database.db }))
let keys = 0

async function consume(organizationId: string, credits: number, at: string, key?: string): Promise<UsageAnswer> {
  clock.set(new Date(at))
  return fixture.consumeCredits(organizationId, credits, key)
}

async function planGrants(organizationId: string): Promise<unknown[]> {
  const { rows } = await fixture.database.db.query(
    "select id, used / 1000000 as used from grants where organization_id = $1 and balance = 'credits' order by id",
    [organizationId],
  )
  return rows.map((row) => [row['id'], Number(row['used'])])
}

test('an organization’s months are those of its own zone', async () => {
  const organizationId = await fixture.newOrganization()
  const zone = await call('PUT', `/api/v1/organizations/${organizationId}/time-zone`, { time_zone: 'europe/berlin' })
  expect(zone).toMatchObject({ status: 200, body: { time_zone: 'Europe/Berlin' } })
  const { balance } = await consume(organizationId, 100, '2026-03-31T21:59:59Z')
  expect(balance.periodStart.toISOString()).toBe('2026-02-28T23:00:00.000Z')
  expect(balance.periodEnd?.toISOString()).toBe('2026-03-31T22:00:00.000Z')
  expect((await consume(organizationId, 1, '2026-03-31T21:59:59Z')).allowed).toBe(false)
  expect((await consume(organizationId, 1, '2026-03-31T22:00:00Z')).allowed).toBe(true)
})

test.each([
  ['east, so that the month ends nine hours earlier', 'UTC', 'Asia/Tokyo', '2026-03-31T15:00:00Z'],
  ['west, so that the month ends nine hours later', 'Asia/Tokyo', 'UTC', '2026-04-01T00:00:00Z'],
])('a change of zone within a month to the %s: no month comes twice, none is left out', async (_name, from, to, end) => {
  const organizationId = await fixture.newOrganization()
  const set = (time_zone: string) => call('PUT', `/api/v1/organizations/${organizationId}/time-zone`, { time_zone })
  await set(from)
  await consume(organizationId, 60, '2026-03-10T12:00:00Z')
  await set(to)
  const later = await consume(organizationId, 40, '2026-03-20T12:00:00Z')
  expect(later.balance).toMatchObject({ used: 100n * MICRO, periodEnd: new Date(end) })
  expect((await consume(organizationId, 1, new Date(Date.parse(end) - 1).toISOString())).allowed).toBe(false)
  expect((await consume(organizationId, 100, end)).allowed).toBe(true)
  expect((await consume(organizationId, 100, '2026-05-02T00:00:00Z')).allowed).toBe(true)
  expect(await planGrants(organizationId)).toEqual([
    ['plan:credits:calendar_month:2026-03-01T00:00:00.000Z', 100],
    ['plan:credits:calendar_month:2026-04-01T00:00:00.000Z', 100],
    ['plan:credits:calendar_month:2026-05-01T00:00:00.000Z', 100],
  ])
})

test('changing to and fro at the turn of a month hands nothing out twice', async () => {
  const organizationId = await fixture.newOrganization()
  const set = (time_zone: string | null) => call('PUT', `/api/v1/organizations/${organizationId}/time-zone`, { time_zone })
  // In Tokyo it is April already.
  const turn = '2026-03-31T20:00:00Z'
  expect((await consume(organizationId, 100, turn)).allowed).toBe(true)
  await set('Asia/Tokyo')
  expect((await consume(organizationId, 70, turn)).allowed).toBe(true)
  await set(null)
  expect((await consume(organizationId, 1, turn)).allowed).toBe(false)
  await set('Asia/Tokyo')
  expect((await consume(organizationId, 31, turn)).allowed).toBe(false)
  expect((await consume(organizationId, 30, turn)).allowed).toBe(true)
})

test('a use in another zone than UTC is answered again, and corrected, in its own month', async () => {
  const organizationId = await fixture.newOrganization()
  await call('PUT', `/api/v1/organizations/${organizationId}/time-zone`, { time_zone: 'America/New_York' })
  const key = 'told again'
  const first = await consume(organizationId, 7, '2026-03-10T12:00:00Z', key)
  expect(await consume(organizationId, 7, '2026-04-10T12:00:00Z', key)).toEqual({ ...first, replayed: true })
  const corrected = await fixture.metering().ask({
    verb: 'correct',
    organizationId,
    corrects: key,
    quantity: -2n * MICRO,
    idempotencyKey: 'correction',
    properties: null,
  })
  expect(corrected.balance).toMatchObject({ used: 5n * MICRO, periodStart: first.balance.periodStart })
})

test('a zone that is none is refused, and nothing is changed', async () => {
  const organizationId = await fixture.newOrganization()
  const path = `/api/v1/organizations/${organizationId}/time-zone`
  const answer = await call('PUT', path, { time_zone: 'Mars/Olympus' })
  expect(answer).toMatchObject({ status: 400, body: { code: 'invalid_request', field: 'time_zone' } })
  expect(await call('PUT', '/api/v1/organizations/nobody/time-zone', { time_zone: 'UTC' })).toMatchObject({ status: 404 })
  expect(await call('PUT', path, { time_zone: 'UTC' }, 'somebody-else')).toMatchObject({ status: 404 })
})

test('a hold that is overdue when a zone begins the next month has ended before what is left over moves on', async () => {
  const organizationId = await fixture.newOrganization()
  clock.set(new Date('2026-03-31T15:00:00Z'))
  for (const meter of ['kept', 'loose']) {
    await fixture.metering().ask({
      verb: 'reserve',
      organizationId,
      meter,
      quantity: 30n * MICRO,
      idempotencyKey: meter,
      properties: null,
      ttlMs: 60_000,
    })
  }
  // In Tokyo it is April already, and the hold of March is over.
  clock.set(new Date('2026-03-31T20:00:00Z'))
  await call('PUT', `/api/v1/organizations/${organizationId}/time-zone`, { time_zone: 'Asia/Tokyo' })
  const { balance } = await fixture
    .metering()
    .ask({ verb: 'check', organizationId, meter: 'kept', quantity: 0n, properties: null })
  expect(balance).toMatchObject({ amount: 200n * MICRO, reserved: 0n })
  // What has moved on is not left in March as well.
  const { rows: kept } = await fixture.database.db.query(
    `select kind, (amount / 1000000)::int as amount, (revoked / 1000000)::int as revoked from grants
     where organization_id = $1 and balance = 'kept' order by starts_at, kind`,
    [organizationId],
  )
  expect(kept).toEqual([
    { kind: 'plan', amount: 100, revoked: 100 },
    { kind: 'plan', amount: 100, revoked: 0 },
    { kind: 'rollover', amount: 100, revoked: 0 },
  ])
  const { rows } = await fixture.database.db.query(
    `select id from grants where organization_id = $1 and (reserved <> 0 or held_overage <> 0)`,
    [organizationId],
  )
  expect(rows).toEqual([])
})

test.each([
  ['peak', '7'],
  ['users', '1'],
])('what %s came to on a day that a change of zone ended is known to use of that day which is told late', async (meter, used) => {
  const organizationId = await fixture.newOrganization()
  const track = (quantity: number, at: string | null) =>
    fixture.metering().ask({
      verb: 'track',
      organizationId,
      meter,
      quantity: BigInt(quantity) * MICRO,
      idempotencyKey: `k${(keys += 1)}`,
      occurredAt: at === null ? null : new Date(at),
      properties: { user: 'ann' },
    })
  clock.set(new Date('2026-03-10T01:00:00Z'))
  await track(7, null)
  // The level falls to nothing, so that none stands on the days that follow.
  if (meter === 'peak') await track(0, null)
  clock.set(new Date('2026-03-10T02:00:00Z'))
  await call('PUT', `/api/v1/organizations/${organizationId}/time-zone`, { time_zone: 'America/New_York' })
  clock.set(new Date('2026-03-11T12:00:00Z'))
  expect((await track(7, '2026-03-10T12:00:00Z')).allowed).toBe(true)
  const { rows } = await fixture.database.db.query<{ used: string }>(
    `select (used / 1000000)::text as used from grants where organization_id = $1 and balance = $2 and id like '%2026-03-10%'`,
    [organizationId, meter],
  )
  expect(rows).toEqual([{ used }])
})
