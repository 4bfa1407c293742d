import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testMetering } from '../../test/metering.ts'
import { createApp } from '../http/app.ts'
import { serve, type HttpServer } from '../http/serve.ts'
import type { ApiKeyId, OrganizationId } from '../lib/ids.ts'
import { createUsageApi } from './api.ts'
import { createHotPath } from './wire/hot-path.ts'
import { registerUsageRoutes } from './wire/routes.ts'

const fixture = testMetering({
  meters: { users: { aggregation: 'unique', uniqueBy: 'user' }, calls: {} },
  plans: { free: { name: 'Free', allowances: { users: { amount: 100, limit: 'soft' }, calls: { amount: 100 } } } },
  defaultPlan: 'free',
})
const log = pino({ level: 'silent' })
let lean: HttpServer
let whole: HttpServer

beforeAll(async () => {
  const usage = { ...fixture.context(), metering: fixture.metering(), db: fixture.database.db }
  const authenticate = async (request: { headers: { get(name: string): string | null } }) => ({
    kind: 'api_key' as const,
    keyId: 'key' as ApiKeyId,
    organizationId: request.headers.get('x-api-key') as OrganizationId,
    scopes: ['write' as const],
  })
  const app = createApp({ log, authenticate, register: [(routes) => registerUsageRoutes(routes, usage)] })
  const { preHandler, plainHandler } = createHotPath({ usage, authenticate, log })
  lean = await serve({ fetch: app.fetch, host: '127.0.0.1', port: 0, preHandler, plainHandler })
  whole = await serve({ fetch: app.fetch, host: '127.0.0.1', port: 0 })
})
afterAll(async () => {
  await lean.stop()
  await whole.stop()
})

/** Two users whose ids a double makes one. */
const USERS = ['9007199254740992', '9007199254740993'] as const

/** The text of a use, with a value as it stands in JSON. */
const use = (value: string, verb?: string) =>
  `{${verb === undefined ? '' : `"verb":"${verb}",`}"meter":"users","idempotency_key":"key of ${value.replaceAll('"', "'")}","properties":{"user":${value}}}`
const event = (value: string, data: string) =>
  `{"specversion":"1.0","id":"event of ${value.replaceAll('"', "'")}","source":"/chat","type":"users",${data}}`
const dataOf = (value: string) => `{"properties":{"user":${value}}}`
const packed = (value: string) => `"data_base64":"${Buffer.from(dataOf(value)).toString('base64')}"`

type Way = readonly [
  name: string,
  route: string,
  type: string,
  body: (value: string) => string,
  headers?: (value: string) => Readonly<Record<string, string>>,
]
const binary = (value: string) => ({
  'ce-specversion': '1.0',
  'ce-id': `event of ${value}`,
  'ce-source': '/chat',
  'ce-type': 'users',
})
const singles: readonly Way[] = [
  ['check', 'check', 'application/json', (value) => use(value)],
  ['track', 'track', 'application/json', (value) => use(value)],
  ['consume', 'consume', 'application/json', (value) => use(value)],
  ['reserve', 'reservations', 'application/json', (value) => use(value).replace('users', 'calls')],
  ['a CloudEvent', 'track', 'application/cloudevents+json', (value) => event(value, `"data":${dataOf(value)}`)],
  ['a packed CloudEvent', 'track', 'application/cloudevents+json', (value) => event(value, packed(value))],
  ['a CloudEvent in binary mode', 'track', 'application/json', dataOf, binary],
]
const batches: readonly Way[] = [
  ['a batch', 'batch', 'application/json', (value) => `{"items":[${use(value, 'track')},${use('"a text"', 'track')}]}`],
  ['a batch of lines', 'batch', 'application/x-ndjson', (value) => `${use(value, 'consume')}\n${use('"a text"', 'track')}`],
  [
    'a batch of CloudEvents',
    'track',
    'application/cloudevents-batch+json',
    (value) => `[${event(value, `"data":${dataOf(value)}`)},${event('"a text"', `"data":${dataOf('"a text"')}`)}]`,
  ],
]

async function send(to: HttpServer, [, route, type, body, headers]: Way, value: string, organizationId: string) {
  const response = await fetch(`http://127.0.0.1:${to.port}/api/v1/usage/${route}`, {
    method: 'POST',
    headers: { 'x-api-key': organizationId, 'content-type': type, ...headers?.(value) },
    body: body(value),
  })
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

async function eventsOf(organizationId: string): Promise<number> {
  const { rows } = await fixture.database.db.query<{ events: number }>(
    'select count(*)::int as events from usage_events where organization_id = $1',
    [organizationId],
  )
  return rows[0]!.events
}

describe('a number in a property that a double does not keep', () => {
  it.each(singles.map((way) => ({ name: way[0], way })))(
    'is refused with its field in $name, and changes nothing',
    async ({ way }) => {
      for (const server of [lean, whole]) {
        const organizationId = await fixture.newOrganization()
        for (const value of [...USERS, '-9007199254740993', '1e300']) {
          const refused = await send(server, way, value, organizationId)
          expect(refused).toMatchObject({ status: 400, body: { code: 'invalid_request' } })
          expect(refused.body['detail']).toMatch(/properties\.user: a number .* loses digits: send it as a text$/)
        }
        expect(await eventsOf(organizationId)).toBe(0)
        for (const value of ['9007199254740991', '-9007199254740991', '0.1']) {
          expect(await send(server, way, value, organizationId)).toMatchObject({ status: 200, body: { allowed: true } })
        }
      }
    },
  )

  it.each(batches.map((way) => ({ name: way[0], way })))('is that item’s problem alone in $name', async ({ way }) => {
    for (const server of [lean, whole]) {
      const organizationId = await fixture.newOrganization()
      const { status, body } = await send(server, way, USERS[1], organizationId)
      expect(status).toBe(200)
      expect(body['results']).toMatchObject([{ allowed: false, error: { code: 'invalid_request' } }, { allowed: true }])
      expect(JSON.stringify(body['results'])).toContain('loses digits: send it as a text')
      expect(await eventsOf(organizationId)).toBe(1)
    }
  })

  it('is refused in process, alone and in a batch', async () => {
    const organizationId = await fixture.newOrganization()
    const api = createUsageApi({ ...fixture.context(), metering: fixture.metering(), db: fixture.database.db })
    const refusal = {
      code: 'invalid_request',
      message: 'properties.user: a number of more than 9007199254740991 loses digits: send it as a text',
    }
    const asked = { organizationId, meter: 'users', properties: { user: 2 ** 53 } }
    for (const verb of ['check', 'track', 'consume', 'reserve'] as const) {
      await expect(api[verb](asked)).rejects.toMatchObject(refusal)
    }
    const results = await api.batch([
      { verb: 'track', ...asked },
      { verb: 'track', ...asked, properties: { user: USERS[0] } },
    ])
    expect(results).toMatchObject([{ allowed: false, error: refusal }, { allowed: true }])
    expect(await eventsOf(organizationId)).toBe(1)
  })
})

it('users whose ids are sent as texts are two, however long the ids are', async () => {
  const organizationId = await fixture.newOrganization()
  for (const user of USERS) await send(lean, singles[1]!, `"${user}"`, organizationId)
  const { body } = await send(lean, singles[0]!, '"9007199254740994"', organizationId)
  expect(body['balance']).toMatchObject({ used: 2 })
})
