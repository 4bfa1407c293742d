import { serve } from '@hono/node-server'
import { once } from 'node:events'
import { connect, type AddressInfo } from 'node:net'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { PATIENCE } from '../../test/patience.ts'
import { testMetering } from '../../test/metering.ts'
import { createApp } from '../http/app.ts'
import type { ApiKeyId, OrganizationId } from '../lib/ids.ts'
import { MICRO } from '../lib/quantity.ts'
import { createExports, type Exports } from './exports.ts'
import { registerExportRoutes } from './export-routes.ts'

const fixture = testMetering({
  meters: {
    tokens: { groupBy: ['quantity', 'end', 'grouped', 'property_end', 'constructor'] },
    calls: { aggregation: 'count' },
  },
  plans: { free: { name: 'Free', allowances: { tokens: { amount: 10 }, calls: { amount: 10 } } } },
  defaultPlan: 'free',
})

let exports: Exports
let server: ReturnType<typeof serve>
let port: number

beforeAll(async () => {
  const { db } = fixture.database
  exports = createExports(db, { atOnce: 3 })
  const app = createApp({
    log: pino({ level: 'silent' }),
    authenticate: async (request) => ({
      kind: 'api_key',
      keyId: 'key' as ApiKeyId,
      organizationId: (request.headers.get('x-api-key') ?? '') as OrganizationId,
      scopes: ['read'],
    }),
    register: [(routes) => registerExportRoutes(routes, { ...fixture.context(), db, exports, metering: fixture.metering() })],
  })
  server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' })
  await once(server, 'listening')
  port = (server.address() as AddressInfo).port
})
afterAll(async () => {
  await exports.stop()
  await new Promise((resolve) => {
    server.close(resolve)
  })
})

function get(path: string, organizationId: string): Promise<Response> {
  return fetch(`http://127.0.0.1:${port}/api/v1/usage/${path}`, { headers: { 'x-api-key': organizationId } })
}

/** Rows written into the tables that the program writes, so that there are many in a moment. */
async function seed(organizationId: string, count: number): Promise<void> {
  await fixture.database.db.query(
    `insert into usage_event_blocks (organization_id, recorded_at, id, verb, idempotency_key, meter, quantity, occurred_at, dated, properties,
       counted, drawn, overage, balance, plan_key, period, period_start, after_used, after_overage, after_reserved)
     select $1, t, gen_random_uuid(), 'track', 'seed ' || n, 'tokens', 1000000, t, false, '{"model": "large"}', 1000000, 1000000, 0, 'tokens',
       'free', 'lifetime', '2026-01-01', 0, 0, 0
     from generate_series(1, $2) as n, lateral (select timestamptz '2026-03-01' + n * interval '100 ms' as t) as at`,
    [organizationId, count],
  )
}

/** Connections of this test's database that are within a transaction. */
async function openTransactions(): Promise<number> {
  const { rows } = await fixture.database.db.query<{ open: number }>(
    `select count(*)::int as open from pg_stat_activity
     where datname = current_database() and pid <> pg_backend_pid() and state like 'idle in transaction%' or query like 'fetch %' and state = 'active'`,
  )
  return rows[0]!.open
}

/** A client that asks and then reads nothing. */
async function askAndStop(path: string, organizationId: string) {
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  socket.write(`GET /api/v1/usage/${path} HTTP/1.1\r\nHost: x\r\nX-API-Key: ${organizationId}\r\n\r\n`)
  await once(socket, 'readable')
  return socket
}

describe('an export', () => {
  it('is called by the days of the organization’s time zone', async () => {
    const id = await fixture.newOrganization()
    const { db } = fixture.database
    const nameOf = async (path: string) => (await get(path, id)).headers.get('content-disposition')
    for (const zone of ['Asia/Tokyo', 'America/Los_Angeles']) {
      await db.query('update organizations set time_zone = $2 where id = $1', [id, zone])
      expect(await nameOf('events/export')).toBe('attachment; filename="usage-events-2026-03-01-2026-04-01.csv"')
      expect(await nameOf('report/export?period=day&at=2026-03-09T12:00:00Z&format=ndjson')).toBe(
        'attachment; filename="usage-report-2026-03-09-2026-03-10.ndjson"',
      )
    }
  })

  it('of events has every one of them, as CSV that is safe in a spreadsheet and as a JSON object a line', async () => {
    const id = await fixture.newOrganization()
    await fixture.metering().submit([
      {
        verb: 'consume',
        organizationId: id,
        meter: 'tokens',
        quantity: 15n * MICRO,
        idempotencyKey: '=cmd|calc',
        occurredAt: null,
        properties: null,
      },
      {
        verb: 'track',
        organizationId: id,
        meter: 'tokens',
        quantity: 12n * MICRO,
        idempotencyKey: 'b',
        occurredAt: null,
        properties: { model: 'a,"b"' },
      },
      { verb: 'correct', organizationId: id, corrects: 'b', quantity: -MICRO, idempotencyKey: 'c', properties: null },
    ])
    const csv = await get('events/export', id)
    expect(csv.headers.get('content-type')).toMatch(/^text\/csv/)
    expect(csv.headers.get('content-disposition')).toBe('attachment; filename="usage-events-2026-03-01-2026-04-01.csv"')
    const lines = (await csv.text()).split('\r\n')
    expect(lines[0]).toMatch(/^id,recorded_at,occurred_at,verb,idempotency_key,meter,quantity/)
    expect(lines.length).toBe(5)
    expect(lines.find((line) => line.includes('consume'))).toMatch(/,consume,'=cmd\|calc,tokens,15,0,0,0,quota_exceeded,/)
    expect(lines.find((line) => line.includes(',track,'))).toContain(',"{""model"":""a,\\""b\\""""}"')
    expect(lines.find((line) => line.includes(',correct,'))).toMatch(/,correct,c,tokens,-1,-1,-1,-1,/)
    const ndjson = await (await get('events/export?format=ndjson', id)).text()
    const events = ndjson.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as Record<string, unknown>]))
    expect(events).toMatchObject([
      { idempotency_key: '=cmd|calc', refusal: 'quota_exceeded', draws: [] },
      { idempotency_key: 'b', credits_used: 12, overage: 2 },
      { idempotency_key: 'c', corrects: 'b', counted: -1 },
    ])
    const listed = (await (await get('events', id)).json()) as { events: unknown[] }
    // A page says of each event beside that how it was billed.
    expect(listed.events).toEqual(events.map((event) => ({ ...event, billed: false, invoice_id: null })))
  })

  it('of a report has all of its rows, beyond what a page holds', async () => {
    const id = await fixture.newOrganization()
    await fixture.database.db.query(
      `insert into usage_hourly (organization_id, meter, hour, events, quantity, drawn, overage)
       select $1, 'calls', timestamptz '2024-01-01' + n * interval '1 hour', 1, 1000000, 1000000, 0 from generate_series(0, 2499) as n`,
      [id],
    )
    const span = 'start=2024-01-01T00:00:00Z&end=2025-01-01T00:00:00Z'
    const text = await (await get(`report/export?grain=hour&${span}`, id)).text()
    const lines = text.trimEnd().split('\r\n')
    expect(lines.length).toBe(2_501)
    expect(lines[1]).toBe('2024-01-01T00:00:00.000Z,2024-01-01T01:00:00.000Z,calls,1,1,1,0')
    expect(new Set(lines).size).toBe(2_501)
  })

  it('of a report has a column for every property, whatever it is called, and an empty cell where a use lacks it', async () => {
    const id = await fixture.newOrganization()
    const properties = { quantity: 'q', end: 'e', grouped: 'g', property_end: 'p' }
    const use = { verb: 'track' as const, organizationId: id, meter: 'tokens', quantity: 3n * MICRO, occurredAt: null }
    await fixture.metering().submit([{ ...use, idempotencyKey: 'a', properties }])
    const groups = 'quantity,end,grouped,property_end,constructor'
    const text = await (await get(`report/export?meter=tokens&group_by=${groups}`, id)).text()
    const [head, row] = text.split('\r\n').map((line) => line.split(','))
    const columns = 'property_quantity,property_property_end,property_grouped,property_end,constructor,grouped'
    expect(head).toEqual(['start', 'end', 'meter', ...columns.split(','), 'events', 'quantity', 'credits_used', 'overage'])
    expect(row!.slice(2)).toEqual(['tokens', 'q', 'e', 'g', 'p', '', 'true', '1', '3', '3', '0'])
  })

  it('is one snapshot: what is recorded while it runs is not in it', async () => {
    const id = await fixture.newOrganization()
    await seed(id, 50_000)
    const response = await get('events/export?format=ndjson', id)
    const reader = response.body!.getReader()
    let text = new TextDecoder().decode((await reader.read()).value)
    await seed(id, 1_000)
    await fixture.database.db.query(
      `delete from usage_event_blocks where organization_id = $1 and idempotency_key = 'seed 50000'`,
      [id],
    )
    for (;;) {
      const { done, value } = await reader.read()
      if (done) break
      text += new TextDecoder().decode(value)
    }
    expect(text.trimEnd().split('\n').length).toBe(50_000)
  })

  it('waits for its reader, and gives its connection back when the reader leaves', async () => {
    const id = await fixture.newOrganization()
    await seed(id, 100_000)
    const before = process.memoryUsage().rss
    const socket = await askAndStop('events/export?format=ndjson', id)
    await vi.waitFor(async () => expect(await openTransactions()).toBe(1), PATIENCE)
    expect(exports.running()).toBe(1)
    // 100,000 events are some 60 MB of text; a reader that does not read gets what fits its socket and no more.
    expect(process.memoryUsage().rss - before).toBeLessThan(50 * 2 ** 20)
    socket.destroy()
    await vi.waitFor(() => expect(exports.running()).toBe(0), PATIENCE)
    expect(await openTransactions()).toBe(0)
  })

  it('is refused while its organization has two, and no other is kept out by that; and when something is wrong before its first row', async () => {
    const id = await fixture.newOrganization()
    await seed(id, 30_000)
    const sockets = [await askAndStop('events/export', id), await askAndStop('events/export', id)]
    await vi.waitFor(() => expect(exports.running()).toBe(2), PATIENCE)
    const refused = await get('events/export', id)
    expect(refused.status).toBe(503)
    expect(refused.headers.get('retry-after')).toBe('1')
    expect(await refused.json()).toMatchObject({ code: 'overloaded' })
    const other = await fixture.newOrganization()
    expect((await get('events/export', other)).status).toBe(200)
    for (const socket of sockets) socket.destroy()
    await vi.waitFor(() => expect(exports.running()).toBe(0), PATIENCE)
    expect((await get('events/export?end=2026-01-01T00:00:00Z', id)).status).toBe(400)
    expect((await get('events/export', 'nobody')).status).toBe(404)
  })

  it('breaks off when the server stops, so that no reader takes a part for the whole', async () => {
    const { db } = fixture.database
    const own = createExports(db)
    const id = await fixture.newOrganization()
    await seed(id, 30_000)
    const stream = await own.open(id, {
      statement: { text: 'select * from usage_events where organization_id = $1', values: [id] },
      head: 'head',
      textOf: () => 'x',
    })
    const reader = stream.getReader()
    await reader.read()
    await own.stop()
    expect(own.running()).toBe(0)
    await expect(
      (async () => {
        while (!(await reader.read()).done);
      })(),
    ).rejects.toMatchObject({ code: 'stopping' })
  })

  it('is taken from a reader that leaves off for too long', async () => {
    const { db } = fixture.database
    const own = createExports(db)
    const statement = { text: 'select n from generate_series(1, 100) as n', values: [] }
    const stream = await own.open('org', { statement, head: '', textOf: () => 'x', rowsAtOnce: 1, idleMs: 50 })
    await vi.waitFor(() => expect(own.running()).toBe(0), PATIENCE)
    await expect(new Response(stream).text()).rejects.toMatchObject({ code: 'overloaded' })
  })

  it('ends after a time, however steadily it is read', async () => {
    const own = createExports(fixture.database.db, { longestMs: 50 })
    const statement = { text: 'select n from generate_series(1, 1000000) as n', values: [] }
    const stream = await own.open('org', { statement, head: '', textOf: () => 'x', rowsAtOnce: 1 })
    await expect(new Response(stream).text()).rejects.toMatchObject({ code: 'overloaded', message: /longer/ })
    expect(own.running()).toBe(0)
  })
})
