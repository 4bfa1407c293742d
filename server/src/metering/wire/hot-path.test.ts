import { isUtf8 } from 'node:buffer'
import { request as httpRequest } from 'node:http'
import fc from 'fast-check'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { testMetering } from '../../../test/metering.ts'
import type { Principal } from '../../auth/principal.ts'
import { createApp, MAX_BODY_BYTES } from '../../http/app.ts'
import { serve, type HttpServer } from '../../http/serve.ts'
import type { ApiKeyId, OrganizationId } from '../../lib/ids.ts'
import { createMetering } from '../metering.ts'
import { readPlainCheck, readPlainItem, readPlainRecord } from './fast-bodies.ts'
import { createHotPath } from './hot-path.ts'
import { batchItemSchema, checkSchema, recordSchema } from './requests.ts'
import { registerUsageRoutes } from './routes.ts'

const fixture = testMetering()
const log = pino({ level: 'silent' })
const hotRoutes: string[] = []
let plainAnswers = 0
let server: HttpServer
let plain: HttpServer
let cold: HttpServer

async function authenticate({ headers }: { headers: { get(name: string): string | null } }): Promise<Principal | null> {
  const organizationId = headers.get('x-api-key')
  if (organizationId === null) return null
  return { kind: 'api_key', keyId: 'key' as ApiKeyId, organizationId: organizationId as OrganizationId, scopes: ['write'] }
}

beforeAll(async () => {
  const usage = { ...fixture.context(), metering: fixture.metering(), db: fixture.database.db }
  const app = createApp({ log, authenticate, register: [(routes) => registerUsageRoutes(routes, usage)] })
  const { preHandler, plainHandler } = createHotPath({
    usage,
    authenticate,
    log,
    onAnswered: ({ route, status }) => hotRoutes.push(`${route} ${status}`),
  })
  server = await serve({ fetch: app.fetch, host: '127.0.0.1', port: 0, preHandler })
  plain = await serve({
    fetch: app.fetch,
    host: '127.0.0.1',
    port: 0,
    preHandler,
    plainHandler(request, send) {
      const isPlain = plainHandler(request, send)
      if (isPlain) plainAnswers += 1
      return isPlain
    },
  })
  cold = await serve({ fetch: app.fetch, host: '127.0.0.1', port: 0 })
})

afterAll(async () => {
  await server.stop()
  await plain.stop()
  await cold.stop()
})

async function get(to: HttpServer, path: string, headers: Record<string, string> = {}): Promise<Answer> {
  const response = await fetch(`http://127.0.0.1:${to.port}${path}`, { headers })
  return {
    status: response.status,
    type: response.headers.get('content-type'),
    headers: response.headers,
    body: await response.json(),
  }
}

type Answer = { status: number; type: string | null; headers: Headers; body: unknown }

async function post(
  to: HttpServer,
  path: string,
  body: string | Uint8Array<ArrayBuffer>,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const response = await fetch(`http://127.0.0.1:${to.port}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body,
  })
  return {
    status: response.status,
    type: response.headers.get('content-type'),
    headers: response.headers,
    body: await response.json(),
  }
}

/** What two answers have to have in common: all but ids and the organizations' names. */
function comparable({ status, type, headers, body }: Answer) {
  const shown = JSON.stringify(body, (name, value: unknown) =>
    ['id', 'reservation_id', 'request_id'].includes(name) ? null : value,
  )
  const credits = [...headers].filter(
    ([name]) => name.startsWith('x-credits') || name.startsWith('x-quota') || name === 'idempotent-replayed',
  )
  return { status, type, body: shown.replaceAll(/org_\d+/g, 'org'), credits }
}

const paths = ['check', 'track', 'consume', 'batch'].map((verb) => `/api/v1/usage/${verb}`)

describe('the hot path answers as the app does', () => {
  const key = fc.constantFrom('a', 'b', 'c', 'ü', '', 'x'.repeat(256), 'with \u0000', 'level:x')
  const field = <Value>(value: fc.Arbitrary<Value>) => fc.option(value, { nil: undefined, freq: 6 })
  const use = fc.record({
    meter: field(fc.constantFrom('episode_ingestion', 'episode_search', 'tokens', 'nothing', 7)),
    quantity: field(fc.constantFrom(1, 2.5, '0.1', -1, 1e-9, 'many', null, true)),
    idempotency_key: field(key),
    occurred_at: fc.option(fc.constantFrom('2026-03-10T11:00:00Z', 'yesterday', '2020-01-01T00:00:00Z', null), {
      nil: undefined,
      freq: 2,
    }),
    properties: fc.option(fc.constantFrom({ model: 'large' }, { n: 1, ok: true }, 'text', {}), { nil: undefined, freq: 2 }),
    organization_id: fc.option(fc.constantFrom('other'), { nil: undefined, freq: 2 }),
    surplus: fc.option(fc.constantFrom(1), { nil: undefined, freq: 2 }),
  })
  const item = fc
    .tuple(fc.constantFrom('consume', 'track', 'check', 'reserve', 'settle', 'nonsense'), use)
    .map(([verb, rest]) => ({ verb, ...rest }))
  const body = fc.oneof(
    { arbitrary: use.map((value) => JSON.stringify(value)), weight: 6 },
    { arbitrary: fc.array(item, { maxLength: 6 }).map((items) => JSON.stringify({ items })), weight: 4 },
    { arbitrary: fc.constantFrom('', ' \n', '{', 'null', '[]', '7', '{"items":7}', '{"items":[null]}'), weight: 1 },
  )

  test('for any body, to any of its routes', async () => {
    const organizations = await Promise.all([1, 2, 3].map(() => fixture.newOrganization()))
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...paths), body, async (path, text) => {
        const [hot, bare, cool] = await Promise.all(
          [server, plain, cold].map((one, index) => post(one, path, text, { 'x-api-key': organizations[index]! })),
        )
        expect(comparable(hot!)).toEqual(comparable(cool!))
        expect(comparable(bare!)).toEqual(comparable(cool!))
      }),
      { numRuns: 200 },
    )
    expect(hotRoutes.length).toBeGreaterThanOrEqual(400)
    expect(plainAnswers).toBeGreaterThanOrEqual(200)
  })

  test('for bytes that are no UTF-8, a byte order mark, and any charset that is named', async () => {
    const organizations = await Promise.all([1, 2, 3].map(() => fixture.newOrganization()))
    const bytes = fc.oneof(
      fc.constant(Buffer.from([])),
      fc.constant(Buffer.from('\uFEFF{"meter":"tokens","quantity":1,"idempotency_key":"mark"}')),
      fc
        .uint8Array({ minLength: 1, maxLength: 4 })
        .map((key) => Buffer.concat([Buffer.from('{"meter":"tokens","idempotency_key":"'), key, Buffer.from('"}')])),
    )
    const type = fc.constantFrom('', ';charset=utf-8', '; charset=UTF-8', '; charset="utf-8"', '; charset=iso-8859-1', '; v=1')
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...paths), bytes, type, async (path, sent, charset) => {
        const [hot, bare, cool] = await Promise.all(
          [server, plain, cold].map((one, index) =>
            post(one, path, new Uint8Array(sent), {
              'x-api-key': organizations[index]!,
              'content-type': `application/json${charset}`,
            }),
          ),
        )
        expect(comparable(hot!)).toEqual(comparable(cool!))
        expect(comparable(bare!)).toEqual(comparable(cool!))
        const expected = charset.includes('iso') ? 415 : isUtf8(sent) ? cool!.status : 400
        expect(cool!.status).toBe(expected)
      }),
      { numRuns: 150 },
    )
  })

  test('and two keys that differ in a byte that is no UTF-8 are not one: neither is counted', async () => {
    const organizationId = await fixture.newOrganization()
    for (const to of [server, plain, cold]) {
      const body = Buffer.from('{"meter":"tokens","idempotency_key":"caf\xe9"}', 'latin1')
      const answer = await post(to, '/api/v1/usage/track', new Uint8Array(body), { 'x-api-key': organizationId })
      expect(answer).toMatchObject({ status: 400, body: { detail: expect.stringContaining('UTF-8') as string } })
    }
  })

  test('and nobody takes a key with which the server tells a level by itself', async () => {
    const organizationId = await fixture.newOrganization()
    for (const to of [server, plain, cold]) {
      const body = JSON.stringify({ meter: 'tokens', idempotency_key: 'level:tokens:2026-04-01' })
      const answer = await post(to, '/api/v1/usage/track', body, { 'x-api-key': organizationId })
      expect(answer).toMatchObject({ status: 400, body: { errors: [{ field: 'idempotency_key' }] } })
    }
  })

  test('for any link that asks', async () => {
    const organizationId = await fixture.newOrganization()
    const part = fc
      .tuple(
        fc.constantFrom('meter', 'quantity', 'organization_id', 'surplus', ''),
        fc.constantFrom('episode_ingestion', 'tokens', 'nothing', '1', '0.5', '-1', 'many', '', 'a%20b', 'a+b', 'x'.repeat(64)),
      )
      .map((pair) => pair.join('='))
    const query = fc.array(fc.oneof({ arbitrary: part, weight: 9 }, { arbitrary: fc.constant('meter'), weight: 1 }), {
      maxLength: 3,
    })
    const path = fc.constantFrom('/api/v1/usage/check', '/api/usage/check')
    const before = hotRoutes.length
    await fc.assert(
      fc.asyncProperty(path, query, async (to, parts) => {
        const asked = `${to}?${parts.join('&')}`
        const [hot, bare, cool] = await Promise.all(
          [server, plain, cold].map((one) => get(one, asked, { 'x-api-key': organizationId })),
        )
        expect(comparable(hot!)).toEqual(comparable(cool!))
        expect(comparable(bare!)).toEqual(comparable(cool!))
      }),
      { numRuns: 200 },
    )
    expect(
      await get(server, '/api/v1/usage/check?meter=episode_ingestion&quantity=0.5', { 'x-api-key': organizationId }),
    ).toMatchObject({
      status: 200,
      body: { allowed: true, quantity: 0.5, id: null },
    })
    expect(hotRoutes.length).toBeGreaterThan(before)
  })

  test('to a caller without a key, and under the legacy path', async () => {
    const link = '/api/v1/usage/check?meter=nothing&meter=twice'
    for (const to of [server, plain]) {
      for (const path of [...paths, '/api/usage/consume']) {
        expect(comparable(await post(to, path, '{}'))).toEqual(comparable(await post(cold, path, '{}')))
      }
      expect(comparable(await get(to, link))).toEqual(comparable(await get(cold, link)))
    }
  })

  test('to a body that is too large', async () => {
    const text = JSON.stringify({ items: 'x'.repeat(MAX_BODY_BYTES) })
    for (const to of [server, plain]) {
      const answer = await post(to, '/api/v1/usage/batch', text, { 'x-api-key': 'org_1' })
      expect(answer).toMatchObject({ status: 413, type: 'application/problem+json', body: { code: 'payload_too_large' } })
    }
  })

  test('to a batch with card data: in an item it is that item’s problem alone, beside the items it is refused', async () => {
    const card = '5555555555554444'
    const use = (key: string, over: object = {}) => ({ verb: 'consume', meter: 'episode_search', idempotency_key: key, ...over })
    const items = [use('a'), use('b', { properties: { order: card } }), use('c'), { ...use('d'), [card]: 1 }]
    const ask = async (body: object) =>
      Promise.all(
        [server, plain, cold].map(async (to) =>
          post(to, '/api/v1/usage/batch', JSON.stringify(body), { 'x-api-key': await fixture.newOrganization() }),
        ),
      )
    const answers = await ask({ items })
    for (const answer of answers) {
      expect(comparable(answer)).toEqual(comparable(answers[2]!))
      const { results } = answer.body as { results: { allowed: boolean; error?: { code: string; field: string } }[] }
      expect(results.map(({ allowed, error }) => error?.code ?? allowed)).toEqual([
        true,
        'invalid_request',
        true,
        'invalid_request',
      ])
      expect(results[1]!.error).toMatchObject({ field: 'properties.order' })
      expect(JSON.stringify(answer.body)).not.toContain(card)
    }
    for (const answer of await ask({ items, note: card })) {
      expect(answer).toMatchObject({ status: 400, body: { code: 'invalid_request', field: 'note' } })
    }
  })

  test('with the caller’s request id', async () => {
    for (const to of [server, plain]) {
      const answer = await post(to, '/api/v1/usage/consume', '{}', { 'x-api-key': 'org_1', 'x-request-id': 'mine-1' })
      const told = [answer.headers.get('x-request-id'), (answer.body as { request_id: string }).request_id]
      expect(told).toEqual(['mine-1', 'mine-1'])
    }
  })
})

test('leaves a CloudEvent in binary mode to the app, which alone reads its headers', async () => {
  const organizationId = await fixture.newOrganization()
  const event = { 'ce-specversion': '1.0', 'ce-id': '1', 'ce-source': '/here', 'ce-type': 'episode_ingestion' }
  const before = hotRoutes.length
  const answer = await post(server, '/api/v1/usage/track', '{"quantity":3}', { 'x-api-key': organizationId, ...event })
  expect(answer.body).toMatchObject({ allowed: true, meter: 'episode_ingestion', quantity: 3 })
  expect(hotRoutes.length).toBe(before)
})

test('leaves everything else to the app', async () => {
  const before = hotRoutes.length
  expect((await fetch(`http://127.0.0.1:${server.port}/api/v1/balances`)).status).toBe(401)
  expect((await post(server, '/api/v1/usage/reservations', '{}', { 'x-api-key': 'org_1' })).status).toBe(400)
  const text = { 'x-api-key': 'org_1', 'content-type': 'text/plain' }
  expect((await post(server, '/api/v1/usage/consume', '{}', text)).status).toBe(415)
  expect(hotRoutes).toHaveLength(before)
})

test('a full queue answers 503 with Retry-After, and only what was answered is counted', async () => {
  const organizationId = await fixture.newOrganization()
  const metering = createMetering({ ...fixture.context(), connections: fixture.connections(), queueSize: 8 })
  const usage = { ...fixture.context(), metering, db: fixture.database.db }
  const crowded = await serve({
    fetch: () => new Response(null, { status: 404 }),
    host: '127.0.0.1',
    port: 0,
    preHandler: createHotPath({ usage, authenticate, log }).preHandler,
  })
  const answers = await Promise.all(
    Array.from({ length: 60 }, (_, index) => {
      const body = JSON.stringify({ meter: 'episode_ingestion', quantity: 1, idempotency_key: `crowd-${index}` })
      return post(crowded, '/api/v1/usage/consume', body, { 'x-api-key': organizationId })
    }),
  )
  await crowded.stop()
  await metering.stop()
  const refused = answers.filter(({ status }) => status === 503)
  expect(refused.length).toBeGreaterThan(0)
  expect(refused.every(({ headers, body }) => headers.get('retry-after') === '1' && codeOf(body) === 'overloaded')).toBe(true)
  const after = await post(server, '/api/v1/usage/check', '{"meter":"episode_ingestion"}', { 'x-api-key': organizationId })
  expect(after.body).toMatchObject({ total_credits_used: 60 - refused.length })
})

test('a caller that hangs up in the middle of its body counts nothing and harms nobody', async () => {
  const organizationId = await fixture.newOrganization()
  await new Promise<void>((resolve) => {
    const headers = { 'content-type': 'application/json', 'content-length': '1000', 'x-api-key': organizationId }
    const call = httpRequest({ port: server.port, path: '/api/v1/usage/consume', method: 'POST', headers })
    call.on('error', () => resolve())
    call.write('{"meter":', () => call.destroy(new Error('gone')))
  })
  const answer = await post(server, '/api/v1/usage/check', '{"meter":"episode_ingestion"}', { 'x-api-key': organizationId })
  expect(answer.body).toMatchObject({ allowed: true, total_credits_used: 0 })
})

describe('the plain reader', () => {
  const value = fc.oneof(
    fc.string(),
    fc.constantFrom('consume', 'track', 'check', 'calls'),
    fc.double(),
    fc.boolean(),
    fc.constant(null),
    fc.string({ unit: 'binary' }),
  )
  const name = fc.constantFrom('verb', 'meter', 'quantity', 'idempotency_key', 'properties', 'organization_id', 'surplus')
  const anyBody = fc.oneof(fc.dictionary(name, value), fc.jsonValue())

  test.each([
    ['record', readPlainRecord, recordSchema],
    ['check', readPlainCheck, checkSchema],
    ['item', readPlainItem, batchItemSchema],
  ] as const)('a %s that it reads is one that the schema reads, to the same', (_name, read, schema) => {
    fc.assert(
      fc.property(anyBody, (given) => {
        const body: unknown = JSON.parse(JSON.stringify(given))
        const plain = read(body)
        const parsed = schema.safeParse(body)
        expect(plain === null || (parsed.success && JSON.stringify(sorted(plain)) === JSON.stringify(sorted(parsed.data)))).toBe(
          true,
        )
      }),
      { numRuns: 2_000 },
    )
  })

  test('reads what callers send', () => {
    const use = { meter: 'calls', quantity: 1, idempotency_key: 'k' }
    expect([readPlainRecord(use), readPlainCheck({ meter: 'calls' }), readPlainItem({ verb: 'consume', ...use })]).not.toContain(
      null,
    )
  })
})

function codeOf(body: unknown): unknown {
  return (body as { code?: unknown }).code
}

function sorted(value: object): object {
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
}
