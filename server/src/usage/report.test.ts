import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { testMetering, type TestMetering } from '../../test/metering.ts'
import { testRoutes } from '../../test/routes.ts'
import { MICRO } from '../lib/quantity.ts'
import type { RecordRequest, UsageProperties, UsageRequest } from '../metering/usage.ts'
import { registerReportRoutes } from './report-routes.ts'

const fixture: TestMetering = testMetering({
  meters: { tokens: { groupBy: ['model', 'endpoint'] }, calls: { aggregation: 'count' }, seats: { aggregation: 'max' } },
  credits: { credits: { costs: { tokens: '0.5', calls: 1 } } },
  plans: {
    free: { name: 'Free', allowances: { credits: { amount: 50 }, seats: { amount: 5, period: 'calendar_month' } } },
    pro: { name: 'Pro', allowances: { credits: { amount: 500 }, seats: { amount: 5, period: 'day', limit: 'soft' } } },
  },
  defaultPlan: 'free',
})
const call = testRoutes((app) => {
  const { db } = fixture.database
  registerReportRoutes(app, { ...fixture.context(), db, metering: fixture.metering() })
})

type Row = {
  start: string
  end: string
  meter: string
  group: Record<string, string> | null
  events: number
  quantity: number
  credits_used: number
  overage: number
}

async function report(organizationId: string, query: Record<string, string>): Promise<Row[]> {
  const rows: Row[] = []
  let cursor: string | null = null
  do {
    const asked: string = new URLSearchParams({ ...query, limit: '3', ...(cursor === null ? {} : { cursor }) }).toString()
    const { status, body } = await call('GET', `/api/v1/usage/report?${asked}`, undefined, organizationId)
    if (status !== 200) throw new Error(JSON.stringify(body))
    rows.push(...(body['rows'] as Row[]))
    cursor = body['next_cursor'] as string | null
  } while (cursor !== null)
  return rows
}

let keys = 0
const track = (organizationId: string, meter: string, over: Partial<RecordRequest> = {}): RecordRequest => ({
  verb: 'track',
  organizationId,
  meter,
  quantity: MICRO,
  idempotencyKey: `k${(keys += 1)}`,
  occurredAt: null,
  properties: null,
  ...over,
})

const NOW = new Date('2026-03-30T12:00:00Z')
const CYCLE = { start: new Date('2026-03-10T12:34:56Z'), end: new Date('2026-04-10T12:34:56Z') }

async function newOrganization(timeZone: string | null): Promise<string> {
  fixture.clock.set(NOW)
  const id = await fixture.newOrganization()
  await fixture.database.db.query('update organizations set created_at = $2, time_zone = $3 where id = $1', [
    id,
    new Date('2026-02-01T00:00:00Z'),
    timeZone,
  ])
  await fixture.subscribe(id, 'pro', CYCLE)
  return id
}

const models = fc.constantFrom('large', 'small', 3, true)
const propertiesOf = fc.option(
  fc.record({ model: models, endpoint: fc.constantFrom('/ask', '/chat'), user: fc.string() }, { requiredKeys: [] }),
)
const use = fc.record({
  meter: fc.constantFrom('tokens', 'calls', 'seats'),
  quantity: fc.integer({ min: 0, max: 40 }),
  minutesAgo: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 34 * 24 * 60 })),
  properties: propertiesOf,
  correctedBy: fc.option(fc.integer({ min: -40, max: 10 })),
  consumed: fc.boolean(),
})

/** What was stored, to be summed up here without any of the sums that are kept. */
type Stored = {
  meter: string
  verb: string
  at: Date
  counted: number
  drawn: number
  overage: number
  properties: UsageProperties | null
}

async function storedOf(organizationId: string): Promise<Stored[]> {
  const { rows } = await fixture.database.db.query<Stored>(
    `select e.meter, e.verb, least(greatest(e.occurred_at, e.period_start), e.period_end - interval '1 millisecond') as at,
       (e.counted / 1000000.0)::float as counted, (e.drawn / 1000000.0)::float as drawn, (e.overage / 1000000.0)::float as overage,
       coalesce(o.properties, e.properties) as properties
     from usage_events e
     left join usage_events o on o.organization_id = e.organization_id and o.idempotency_key = e.corrects
     where e.organization_id = $1 and e.refusal is null`,
    [organizationId],
  )
  return rows
}

function summed(stored: readonly Stored[], nameOf: (event: Stored) => string): Record<string, number[]> {
  const sums: Record<string, number[]> = {}
  for (const event of stored) {
    const sum = (sums[nameOf(event)] ??= [0, 0, 0, 0])
    const parts = [event.verb === 'correct' ? 0 : 1, event.counted, event.drawn, event.overage]
    parts.forEach((part, index) => (sum[index] = Math.round((sum[index]! + part) * 1e6) / 1e6))
  }
  return sums
}

function reported(rows: readonly Row[], nameOf: (row: Row) => string): Record<string, number[]> {
  const entries = rows.map((row) => [nameOf(row), [row.events, row.quantity, row.credits_used, row.overage]] as const)
  const sums = Object.fromEntries(entries.map(([name, sums]) => [name, [...sums]]))
  expect(Object.keys(sums).length, 'no row twice').toBe(rows.length)
  return sums
}

function localDate(at: Date, timeZone: string): string {
  return new Intl.DateTimeFormat('en-CA', { timeZone }).format(at)
}

describe('a report', () => {
  it('adds up what happened at every grain and by every split, in any zone, whatever was told late or corrected', async () => {
    const zones = fc.constantFrom('UTC', 'Asia/Kolkata', 'America/New_York', 'Pacific/Chatham')
    await fc.assert(
      fc.asyncProperty(fc.array(use, { maxLength: 40 }), zones, async (uses, timeZone) => {
        const id = await newOrganization(timeZone)
        const requests = uses.map(({ meter, quantity, minutesAgo, properties, consumed }): RecordRequest => {
          const occurredAt = minutesAgo === 0 ? null : new Date(NOW.getTime() - minutesAgo * 60_000)
          return track(id, meter, {
            verb: consumed ? 'consume' : 'track',
            quantity: BigInt(quantity) * MICRO,
            occurredAt,
            properties,
          })
        })
        const corrections = uses.flatMap(({ meter, correctedBy }, index): UsageRequest[] => {
          if (correctedBy === null || meter === 'seats') return []
          const corrects = requests[index]!.idempotencyKey
          const quantity = BigInt(correctedBy) * MICRO
          return [
            {
              verb: 'correct',
              organizationId: id,
              corrects,
              quantity,
              idempotencyKey: `fix ${corrects}`,
              properties: { reason: 'x' },
            },
          ]
        })
        await fixture.metering().submit([...requests, ...corrections])
        const whole = { start: '2026-02-01T00:00:00Z', end: '2026-05-01T00:00:00Z' }
        // Whoever reads tells the levels that stand in the present day.
        await report(id, whole)
        const stored = await storedOf(id)

        expect(reported(await report(id, whole), (row) => row.meter)).toEqual(summed(stored, (event) => event.meter))
        expect(
          reported(
            await report(id, { ...whole, grain: 'day' }),
            (row) => `${row.meter} ${localDate(new Date(row.start), timeZone)}`,
          ),
        ).toEqual(summed(stored, (event) => `${event.meter} ${localDate(event.at, timeZone)}`))
        expect(
          reported(
            await report(id, { ...whole, grain: 'month' }),
            (row) => `${row.meter} ${localDate(new Date(row.start), timeZone).slice(0, 7)}`,
          ),
        ).toEqual(summed(stored, (event) => `${event.meter} ${localDate(event.at, timeZone).slice(0, 7)}`))
        const hours = await report(id, { ...whole, grain: 'hour' })
        const hourOf = (at: Date): string => hours.find((row) => new Date(row.start) <= at && at < new Date(row.end))!.start
        expect(reported(hours, (row) => `${row.meter} ${row.start}`)).toEqual(
          summed(stored, (event) => `${event.meter} ${hourOf(event.at)}`),
        )
        const cycle = await report(id, { period: 'billing_cycle' })
        const within = stored.filter(({ at, meter }) => at >= CYCLE.start && at < CYCLE.end && meter !== 'seats')
        expect(
          reported(
            cycle.filter(({ meter }) => meter !== 'seats'),
            (row) => row.meter,
          ),
        ).toEqual(summed(within, (event) => event.meter))

        const tokens = stored.filter(({ meter }) => meter === 'tokens')
        type Value = string | number | boolean | undefined
        const label = (value: Value): string => (value === undefined ? '-' : String(value))
        const split = { ...whole, meter: 'tokens' }
        const byBoth = (value: Readonly<Record<string, Value>> | null): string =>
          `${label(value?.model)} ${label(value?.endpoint)}`
        expect(reported(await report(id, { ...split, group_by: 'model,endpoint' }), (row) => byBoth(row.group))).toEqual(
          summed(tokens, (event) => byBoth(event.properties)),
        )
        const daily = await report(id, { ...split, group_by: 'model', grain: 'day' })
        expect(reported(daily, (row) => `${localDate(new Date(row.start), timeZone)} ${label(row.group?.['model'])}`)).toEqual(
          summed(tokens, (event) => `${localDate(event.at, timeZone)} ${label(event.properties?.['model'])}`),
        )
        const large = await report(id, { ...split, group_by: 'endpoint', filter: 'model:large', grain: 'month' })
        const month = (at: Date): string => localDate(at, timeZone).slice(0, 7)
        expect(reported(large, (row) => `${month(new Date(row.start))} ${label(row.group?.['endpoint'])}`)).toEqual(
          summed(
            tokens.filter(({ properties }) => properties?.['model'] === 'large'),
            (event) => `${month(event.at)} ${label(event.properties?.['endpoint'])}`,
          ),
        )
      }),
      { numRuns: 20 },
    )
  })

  it('tells use that no combination accounts for in a row without a group, so that nothing is lost', async () => {
    const id = await newOrganization(null)
    await fixture.metering().submit([track(id, 'tokens', { properties: { model: 'large' } }), track(id, 'tokens')])
    // As if the meter had been split only since then.
    await fixture.database.db.query(`delete from usage_grouped where organization_id = $1`, [id])
    await fixture.metering().submit([track(id, 'tokens', { properties: { model: 'small' } })])
    expect(await report(id, { meter: 'tokens', group_by: 'model' })).toMatchObject([
      { group: { model: 'small' }, quantity: 1 },
      { group: null, quantity: 2 },
    ])
  })

  it('has a billing cycle to the second, and the cycles before it', async () => {
    const id = await newOrganization(null)
    const at = (text: string) => track(id, 'calls', { occurredAt: new Date(text) })
    for (const table of ['grants', 'account_terms'])
      await fixture.database.db.query(`delete from ${table} where organization_id = $1`, [id])
    await fixture.subscribe(id, 'pro', { start: new Date('2026-02-10T12:34:56Z'), end: CYCLE.start })
    fixture.clock.set(new Date('2026-03-10T12:34:00Z'))
    await fixture.metering().submit([at('2026-03-10T12:33:00Z'), at('2026-03-01T00:00:00Z')])
    fixture.clock.set(NOW)
    await fixture.subscribe(id, 'pro', CYCLE)
    await fixture.metering().submit([at('2026-03-10T12:34:55Z'), at('2026-03-10T12:34:56Z'), at('2026-03-20T00:00:00Z')])
    const whole = { start: '2026-02-10T12:34:56Z', end: '2026-04-10T12:34:56Z', grain: 'billing_cycle', meter: 'calls' }
    expect(await report(id, whole)).toMatchObject([
      { start: '2026-02-10T12:34:56.000Z', end: '2026-03-10T12:34:56.000Z', quantity: 3 },
      { start: '2026-03-10T12:34:56.000Z', end: '2026-04-10T12:34:56.000Z', quantity: 2 },
    ])
    expect(await report(id, { period: 'billing_cycle', at: '2026-03-01T00:00:00Z' })).toMatchObject([{ quantity: 3 }])
  })

  it('without an end holds the use of this very moment, on a clock that stands still', async () => {
    const id = await newOrganization(null)
    // A cycle that begins this moment: the hour of the use is this moment too.
    await fixture.subscribe(id, 'pro', { start: NOW, end: CYCLE.end })
    await fixture.metering().submit([track(id, 'calls'), track(id, 'calls')])
    expect(await report(id, { meter: 'calls', start: NOW.toISOString() })).toMatchObject([{ quantity: 2 }])
    expect(await report(id, { meter: 'calls', start: '2026-03-01T00:00:00Z' })).toMatchObject([{ quantity: 2 }])
  })

  it.each([
    ['a span that ends before it starts', { start: '2026-03-02T00:00:00Z', end: '2026-03-01T00:00:00Z' }, 400, 'end'],
    ['an end without a start', { end: '2026-03-01T00:00:00Z' }, 400, 'start'],
    ['a period with a start', { start: '2026-03-01T00:00:00Z', period: 'day' }, 400, 'period'],
    ['a time that is none', { start: 'yesterday' }, 400, undefined],
    ['a property that the meter does not name', { meter: 'tokens', group_by: 'user' }, 400, 'group_by'],
    ['a filter that the meter does not name', { meter: 'calls', filter: 'model:large' }, 400, 'filter'],
    ['a filter by what every object has', { meter: 'tokens', filter: 'constructor:x' }, 400, 'filter'],
    ['the same by its prototype', { meter: 'tokens', filter: '__proto__:x' }, 400, 'filter'],
    ['a filter that is none', { meter: 'tokens', filter: 'model' }, 400, 'filter'],
    ['properties without a meter', { group_by: 'model' }, 400, 'meter'],
    ['a cursor of something else', { cursor: 'bm90IG91cnM' }, 400, 'cursor'],
    ['an unknown meter', { meter: 'nothing' }, 422, undefined],
  ])('refuses %s', async (_name, query, status, field) => {
    const id = await newOrganization(null)
    const answer = await call('GET', `/api/v1/usage/report?${new URLSearchParams(query).toString()}`, undefined, id)
    expect(answer.status).toBe(status)
    expect(answer.body['field']).toBe(field)
  })
})
