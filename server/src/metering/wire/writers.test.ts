import { afterAll, beforeAll, expect, it } from 'vitest'
import { testDatabase } from '../../../test/database.ts'
import { importCatalogDefinition } from '../../catalog/registry.ts'
import { createLog } from '../../http/log.ts'
import { serve, type HttpServer } from '../../http/serve.ts'
import { createTollgate, type Tollgate } from '../../tollgate.ts'

const database = testDatabase()
const OPERATOR_KEY = 'the operator key of this test'
let tollgate: Tollgate
let server: HttpServer
let customerKey: string

beforeAll(async () => {
  tollgate = createTollgate({
    databaseUrl: database.url,
    catalog: await importCatalogDefinition('examples/episodic-memory/billing.config.ts'),
    stripe: null,
    operatorKey: OPERATOR_KEY,
    publicUrl: 'http://localhost:3000',
    processMetrics: false,
    policy: { usageWriters: 'operators' },
    log: createLog({ level: 'silent', secrets: [] }),
  })
  await tollgate.start()
  const { fetch: app, preHandler, plainHandler } = tollgate
  server = await serve({ fetch: app, preHandler, plainHandler, host: '127.0.0.1', port: 0 })
  await post('organizations', OPERATOR_KEY, { id: 'acme', name: 'Acme', email: 'a@example.com' })
  const { body } = await post('organizations/acme/api-keys', OPERATOR_KEY, { name: 'own', scopes: ['admin'] })
  customerKey = String(body['key'])
})
afterAll(async () => {
  await server.stop()
  await tollgate.stop()
})

async function post(path: string, key: string, body: unknown, type = 'application/json') {
  const headers = { authorization: `Bearer ${key}`, 'content-type': type }
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  const response = await fetch(`http://127.0.0.1:${server.port}/api/v1/${path}`, { method: 'POST', headers, body: text })
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

const use = (key: string) => ({ organization_id: 'acme', meter: 'episode_ingestion', idempotency_key: key })
const event = { specversion: '1.0', id: 'e', source: 's', type: 'episode_ingestion', subject: 'acme', data: {} }

it('operators alone tell, settle and take back use where it is said so; customers ask and read', async () => {
  const reserved = await post('usage/reservations', OPERATOR_KEY, use('held'))
  const reservation = `usage/reservations/${String(reserved.body['reservation_id'])}`
  await post('usage/consume', OPERATOR_KEY, use('used'))
  const writes: [path: string, body: unknown, type?: string][] = [
    ['usage/consume', use('a')],
    ['usage/track', use('b')],
    ['usage/reservations', use('c')],
    [`${reservation}/settle`, { organization_id: 'acme' }],
    [`${reservation}/release`, { organization_id: 'acme' }],
    ['usage/corrections', { organization_id: 'acme', corrects: 'used', retract: true, idempotency_key: 'd' }],
    ['usage/batch', { items: [{ verb: 'track', ...use('e') }] }],
    ['usage/batch', JSON.stringify({ verb: 'track', ...use('f') }), 'application/x-ndjson'],
    ['billing/usage', { tenant_id: 'acme', usage_type: 'episode_ingestion', quantity: 1 }],
    ['usage/track', event, 'application/cloudevents+json'],
    ['usage/track', [event], 'application/cloudevents-batch+json'],
  ]
  for (const [path, body, type] of writes) {
    const { status, body: problem } = await post(path, customerKey, body, type)
    expect([path, status, problem['code']]).toEqual([path, 403, 'forbidden'])
  }
  expect((await post('usage/check', customerKey, { meter: 'episode_ingestion' })).status).toBe(200)
  const balances = await fetch(`http://127.0.0.1:${server.port}/api/v1/balances`, { headers: { 'x-api-key': customerKey } })
  expect([balances.status, await balances.json()]).toMatchObject([200, { balances: [{ used: 1, reserved: 1 }] }])
  for (const [path, body, type] of writes.filter(([path]) => !path.endsWith('release'))) {
    expect([path, (await post(path, OPERATOR_KEY, body, type)).status]).toEqual([path, 200])
  }
})
