import { gzipSync } from 'node:zlib'
import { serve } from '@hono/node-server'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it, test, vi } from 'vitest'
import { testMetering } from '../../../test/metering.ts'
import { createApp, MAX_BODY_BYTES } from '../../http/app.ts'
import type { ApiKeyId, OrganizationId } from '../../lib/ids.ts'
import { cloudEventSchema, keyOfCloudEvent } from './cloud-events.ts'
import { registerUsageRoutes } from './routes.ts'

const fixture = testMetering()
let server: ReturnType<typeof serve>
let base: string
let organizationId: string

beforeAll(async () => {
  const app = createApp({
    log: pino({ level: 'silent' }),
    authenticate: async (request) => {
      const [organization, scope] = (request.headers.get('x-api-key') ?? '').split(' ')
      if (organization === 'operator') return { kind: 'operator', name: 'test' }
      return {
        kind: 'api_key',
        keyId: 'key_1' as ApiKeyId,
        organizationId: organization as OrganizationId,
        scopes: [scope as 'read' | 'write'],
      }
    },
    register: [
      (routes) => registerUsageRoutes(routes, { ...fixture.context(), metering: fixture.metering(), db: fixture.database.db }),
    ],
  })
  server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' })
  await once(server, 'listening')
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}/api/v1/usage`
})
afterAll(async () => {
  await new Promise((resolve) => {
    server.close(resolve)
  })
})

type Sending = { readonly as?: string; readonly headers?: Record<string, string> }

async function send(route: string, type: string, body: string | Buffer, { as, headers }: Sending = {}) {
  const response = await fetch(`${base}/${route}`, {
    method: 'POST',
    headers: { 'x-api-key': as ?? `${organizationId} write`, 'content-type': type, ...headers },
    body: typeof body === 'string' ? body : new Uint8Array(body),
  })
  const text = await response.text()
  return { status: response.status, type: response.headers.get('content-type'), text, json: () => JSON.parse(text) as unknown }
}

async function countedOf(id: string): Promise<{ events: number; quantity: number }> {
  const { rows } = await fixture.database.db.query<{ events: number; quantity: number }>(
    `select coalesce(sum(events), 0)::int as events, (coalesce(sum(quantity), 0) / 1000000)::float as quantity
     from usage_hourly where organization_id = $1`,
    [id],
  )
  return rows[0]!
}

const item = (key: string, over: Record<string, unknown> = {}) => ({
  verb: 'track',
  meter: 'episode_ingestion',
  quantity: 2,
  idempotency_key: key,
  ...over,
})

describe('a batch of one item a line', () => {
  it('is decided as its array would be, and a line that is not JSON is that line’s own problem', async () => {
    organizationId = await fixture.newOrganization()
    const text = `${JSON.stringify(item('a'))}\r\n{oops\n\n${JSON.stringify(item('b', { meter: 'nothing' }))}\n${JSON.stringify(item('c'))}`
    const answer = await send('batch', 'application/x-ndjson', text)
    expect(answer).toMatchObject({ status: 200, type: 'application/json' })
    expect(answer.json()).toMatchObject({
      results: [
        { allowed: true, quantity: 2 },
        { allowed: false, error: { code: 'invalid_request', line: 2, detail: 'Line 2 is not JSON.' } },
        { allowed: false, error: { code: 'unknown_meter' } },
        { allowed: true, quantity: 2 },
      ],
    })
    expect(await countedOf(organizationId)).toEqual({ events: 2, quantity: 4 })
  })

  it('is answered a line each where the caller accepts it', async () => {
    organizationId = await fixture.newOrganization()
    const answer = await send('batch', 'application/x-ndjson', `${JSON.stringify(item('a'))}\n`, {
      headers: { accept: 'application/x-ndjson' },
    })
    expect(answer.type).toBe('application/x-ndjson')
    expect(
      answer.text.split('\n').map((line) => (line === '' ? null : (JSON.parse(line) as { allowed: boolean }).allowed)),
    ).toEqual([true, null])
  })

  it('holds at most a thousand items, asks for the scope, and counts nothing otherwise', async () => {
    organizationId = await fixture.newOrganization()
    const lines = Array.from({ length: 1_001 }, (_, index) => JSON.stringify(item(`k${index}`))).join('\n')
    expect(await send('batch', 'application/x-ndjson', lines)).toMatchObject({ status: 400 })
    expect(await send('batch', 'application/x-ndjson', lines, { as: `${organizationId} read` })).toMatchObject({ status: 403 })
    expect(await countedOf(organizationId)).toEqual({ events: 0, quantity: 0 })
  })
})

test.each([
  ['batch', 'application/x-ndjson', 'a\n'.repeat(900_000)],
  ['track', 'application/cloudevents-batch+json', `[${'0,'.repeat(900_000)}0]`],
])('of what holds far too many, or comes from who may not write, nothing is looked at: %s', async (path, type, body) => {
  organizationId = await fixture.newOrganization()
  const looked = vi.spyOn(JSON, 'parse')
  const validated = vi.spyOn(cloudEventSchema, 'safeParse')
  expect(await send(path, type, body)).toMatchObject({ status: 400 })
  expect(await send(path, type, body, { as: `${organizationId} read` })).toMatchObject({ status: 403 })
  expect([looked.mock.calls.length, validated.mock.calls.length]).toEqual([path === 'track' ? 1 : 0, 0])
  vi.restoreAllMocks()
})

describe('a packed body', () => {
  it('is read by every verb, and beside every form', async () => {
    organizationId = await fixture.newOrganization()
    const headers = { 'content-encoding': 'gzip' }
    const { verb: _verb, ...one } = item('one')
    const consumed = await send('consume', 'application/json', gzipSync(JSON.stringify(one)), { headers })
    expect(consumed).toMatchObject({ status: 200 })
    const items = Array.from({ length: 3 }, (_, index) => item(`many ${index}`))
    await send('batch', 'application/json', gzipSync(JSON.stringify({ items })), { headers })
    await send('batch', 'application/x-ndjson', gzipSync(JSON.stringify(item('line'))), { headers })
    expect(await countedOf(organizationId)).toEqual({ events: 5, quantity: 10 })
  })

  it('that unpacks to more than a body may have is refused, and so is what is no gzip or another encoding', async () => {
    organizationId = await fixture.newOrganization()
    const bomb = gzipSync(Buffer.alloc(30 * MAX_BODY_BYTES, 0x20))
    expect(bomb.length).toBeLessThan(MAX_BODY_BYTES)
    const before = process.memoryUsage().arrayBuffers
    const headers = { 'content-encoding': 'gzip' }
    const refused = await send('batch', 'application/json', bomb, { headers })
    expect(refused.json()).toMatchObject({ status: 413, code: 'payload_too_large' })
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(20 * MAX_BODY_BYTES)
    const wrong = await send('batch', 'application/json', '{"items": []}', { headers })
    expect(wrong.json()).toMatchObject({ status: 400, code: 'invalid_request' })
    const cut = await send('batch', 'application/json', gzipSync('{"items": []}').subarray(0, 20), { headers })
    expect(cut.json()).toMatchObject({ status: 400, code: 'invalid_request' })
    const other = await send('batch', 'application/json', '{}', { headers: { 'content-encoding': 'br' } })
    expect(other.json()).toMatchObject({ status: 415, code: 'unsupported_media_type' })
  })
})

describe('a CloudEvent', () => {
  const event = (over: Record<string, unknown> = {}) => ({
    specversion: '1.0',
    id: 'A234-1234-1234',
    source: 'https://app.example.com/chat',
    type: 'episode_ingestion',
    time: '2026-03-10T11:30:00Z',
    datacontenttype: 'application/json',
    data: { quantity: '1.5', properties: { model: 'large' } },
    traceparent: 'an extension attribute',
    ...over,
  })
  const single = 'application/cloudevents+json; charset=utf-8'
  const batch = 'application/cloudevents-batch+json'

  it('is a use of the meter of its type, and its source and id are the key', async () => {
    organizationId = await fixture.newOrganization()
    const first = await send('track', single, JSON.stringify(event()))
    expect(first.json()).toMatchObject({ allowed: true, meter: 'episode_ingestion', quantity: 1.5, credits_used: 1.5 })
    const again = await send('track', single, JSON.stringify(event()))
    expect(again.json()).toEqual(first.json())
    await send('track', single, JSON.stringify(event({ source: 'https://app.example.com/other' })))
    expect(await countedOf(organizationId)).toEqual({ events: 2, quantity: 3 })
    const { rows } = await fixture.database.db.query(
      `select idempotency_key, occurred_at, properties, verb from usage_events where organization_id = $1 order by idempotency_key limit 1`,
      [organizationId],
    )
    expect(rows).toEqual([
      {
        idempotency_key: 'https://app.example.com/chat A234-1234-1234',
        occurred_at: new Date('2026-03-10T11:30:00Z'),
        properties: { model: 'large' },
        verb: 'track',
      },
    ])
  })

  it('has its data in base64 too, and never both', async () => {
    organizationId = await fixture.newOrganization()
    const packed = (text: string, over = {}) =>
      JSON.stringify(event({ data: undefined, data_base64: Buffer.from(text, 'latin1').toString('base64'), ...over }))
    const first = await send('track', single, packed('{"quantity":4}'))
    expect(first.json()).toMatchObject({ allowed: true, quantity: 4 })
    const none = await send('track', single, packed('', { id: 'none' }))
    expect(none.json()).toMatchObject({ quantity: 1 })
    const refused = [
      [packed('{"quantity":4}', { id: 'b', data: {} }), 'data_base64'],
      [packed('quantity: 4', { id: 'c' }), 'data_base64'],
      [packed('{"quantity":4,"properties":{"a":"caf\xe9"}}', { id: 'd' }), 'data_base64'],
      [packed('{"quantty":4}', { id: 'e' }), 'data_base64.quantty'],
      [packed('{"properties":{"card":"4242 4242 4242 4242"}}', { id: 'f' }), 'properties.card'],
      [JSON.stringify(event({ id: 'g', data: undefined, data_base64: 'no base64!' })), 'data_base64'],
    ] as const
    for (const [body, field] of refused) {
      const answer = await send('track', single, body)
      expect(answer).toMatchObject({ status: 400 })
      expect(answer.json(), body).toMatchObject({ detail: expect.stringContaining(field) as string })
    }
    const inBatch = await send(
      'track',
      batch,
      `[${packed('{"quantty":4}', { id: 'e' })},${packed('{"quantity":2}', { id: 'h' })}]`,
    )
    expect(inBatch.json()).toMatchObject({ results: [{ error: { code: 'invalid_request' } }, { quantity: 2 }] })
    expect(await countedOf(organizationId)).toEqual({ events: 3, quantity: 7 })
  })

  it('is refused by name where a member of its data is mistyped, instead of counting one', async () => {
    organizationId = await fixture.newOrganization()
    const answer = await send('track', single, JSON.stringify(event({ data: { quantty: 50 } })))
    expect(answer.json()).toMatchObject({ status: 400, detail: 'data.quantty: there is no such field' })
    expect(await countedOf(organizationId)).toEqual({ events: 0, quantity: 0 })
  })

  it('counts one of its meter when it has no data', async () => {
    organizationId = await fixture.newOrganization()
    await send('track', single, JSON.stringify(event({ data: undefined, time: undefined })))
    expect(await countedOf(organizationId)).toEqual({ events: 1, quantity: 1 })
  })

  it('names its organization by its subject: a key only its own, an operator any', async () => {
    organizationId = await fixture.newOrganization()
    const other = await fixture.newOrganization()
    const foreign = await send('track', single, JSON.stringify(event({ subject: other })))
    expect(foreign.json()).toMatchObject({ status: 404, field: 'subject', detail: expect.stringMatching(/^subject: /) as string })
    expect(await send('track', single, JSON.stringify(event({ subject: organizationId })))).toMatchObject({ status: 200 })
    expect(await send('track', single, JSON.stringify(event()), { as: 'operator' })).toMatchObject({ status: 400 })
    expect(await send('track', single, JSON.stringify(event({ subject: other })), { as: 'operator' })).toMatchObject({
      status: 200,
    })
    expect([await countedOf(organizationId), await countedOf(other)]).toEqual([
      { events: 1, quantity: 1.5 },
      { events: 1, quantity: 1.5 },
    ])
  })

  it('comes in batches too, in which a wrong one touches no other', async () => {
    organizationId = await fixture.newOrganization()
    const events = [
      event(),
      event({ id: 'b', specversion: '0.3' }),
      event({ id: 'c', source: 'a b' }),
      event({ id: 'd' }),
      event({ id: 'e', data: { properties: { order: '5555555555554444' } } }),
      event(),
    ]
    const answer = await send('track', batch, JSON.stringify(events))
    const { results } = answer.json() as { results: { allowed: boolean; error?: { code: string } }[] }
    expect(results.map(({ allowed, error }) => error?.code ?? allowed)).toEqual([
      true,
      'invalid_request',
      'invalid_request',
      true,
      'invalid_request',
      true,
    ])
    expect(results[4]!.error).toMatchObject({ field: 'data.properties.order' })
    expect(await countedOf(organizationId)).toEqual({ events: 2, quantity: 3 })
  })

  it('is refused where it is none, or where no events are read', async () => {
    organizationId = await fixture.newOrganization()
    expect(await send('track', single, 'oops')).toMatchObject({ status: 400 })
    expect(await send('track', batch, JSON.stringify(event()))).toMatchObject({ status: 400 })
    expect(await send('track', single, JSON.stringify(event({ data: 'text' })))).toMatchObject({ status: 400 })
    expect(await send('track', 'text/plain', 'oops')).toMatchObject({ status: 415 })
    expect(await send('track', single, JSON.stringify(event()), { as: `${organizationId} read` })).toMatchObject({ status: 403 })
    expect(await countedOf(organizationId)).toEqual({ events: 0, quantity: 0 })
  })

  describe('in binary mode', () => {
    const headers = {
      'ce-specversion': '1.0',
      'ce-id': 'A234-1234-1234',
      'ce-source': 'https://app.example.com/chat',
      'ce-type': 'episode_ingestion',
      'ce-time': '2026-03-10T11:30:00Z',
      'ce-traceparent': 'an extension attribute',
    }
    const data = JSON.stringify({ quantity: '1.5', properties: { model: 'large' } })
    const json = 'application/json; charset=utf-8'

    it('is the same event as in structured mode', async () => {
      organizationId = await fixture.newOrganization()
      const binary = await send('track', json, data, { headers })
      expect(binary.json()).toMatchObject({ allowed: true, meter: 'episode_ingestion', quantity: 1.5 })
      const structured = await send('track', single, JSON.stringify(event()))
      expect(structured.json()).toEqual(binary.json())
      expect(await countedOf(organizationId)).toEqual({ events: 1, quantity: 1.5 })
    })

    it('may be packed, or have no data, which counts one', async () => {
      organizationId = await fixture.newOrganization()
      await send('track', json, gzipSync(data), { headers: { ...headers, 'content-encoding': 'gzip' } })
      await send('track', json, '', { headers: { ...headers, 'ce-id': 'empty' } })
      expect(await countedOf(organizationId)).toEqual({ events: 2, quantity: 2.5 })
    })

    it('reads headers percent-encoded or quoted, and its type of body first', async () => {
      organizationId = await fixture.newOrganization()
      await send('track', json, data, { headers: { ...headers, 'ce-id': 'Euro%20%e2%82%AC%20%F0%9F%98%80' } })
      await send('track', json, data, { headers: { ...headers, 'ce-id': '"a \\"b\\" %63"' } })
      await send('track', single, JSON.stringify(event({ id: 'structured' })), { headers: { ...headers, 'ce-id': 'other' } })
      const { rows } = await fixture.database.db.query<{ key: string }>(
        `select idempotency_key as key from usage_events where organization_id = $1 order by recorded_at, id`,
        [organizationId],
      )
      const source = headers['ce-source']
      expect(new Set(rows.map(({ key }) => key))).toEqual(
        new Set([`${source} Euro \u20ac \u{1f600}`, `${source} a "b" c`, `${source} structured`]),
      )
    })

    it('is refused without an attribute that it needs, with bytes that are no UTF-8, other data, or card data', async () => {
      organizationId = await fixture.newOrganization()
      for (const name of ['specversion', 'id', 'source', 'type']) {
        const { [`ce-${name}`]: _left, ...others } = headers as Record<string, string>
        const answer = await send('track', json, data, { headers: others })
        expect(answer.json(), name).toMatchObject({ status: 400, errors: [{ field: `ce-${name}` }] })
      }
      const wrong = (over: Record<string, string>, type = json) => send('track', type, data, { headers: { ...headers, ...over } })
      expect((await wrong({ 'ce-id': '%C0%A0' })).json()).toMatchObject({ status: 400, field: 'ce-id' })
      expect((await wrong({ 'ce-id': '100%' })).json()).toMatchObject({ status: 400, field: 'ce-id' })
      expect((await wrong({ 'ce-specversion': '0.3' })).json()).toMatchObject({ status: 400 })
      expect((await wrong({}, 'text/plain')).json()).toMatchObject({ status: 415 })
      expect((await wrong({ 'ce-id': '%34242424242424242' })).json()).toMatchObject({ status: 400, field: 'id' })
      expect(await countedOf(organizationId)).toEqual({ events: 0, quantity: 0 })
    })
  })

  it('has a key of bounded length, and another one for another event', () => {
    const long = keyOfCloudEvent({ source: 'https://app.example.com/', id: 'x'.repeat(300) })
    expect(long).toMatch(/^sha256:[0-9a-f]{64}$/)
    expect(keyOfCloudEvent({ source: 'https://app.example.com/', id: 'y'.repeat(300) })).not.toBe(long)
  })
})
