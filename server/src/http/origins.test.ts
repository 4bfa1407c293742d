import { afterAll, beforeAll, expect, it } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { importCatalogDefinition } from '../catalog/registry.ts'
import { createTollgate, type Tollgate } from '../tollgate.ts'
import { createLog } from './log.ts'
import { serve, type HttpServer } from './serve.ts'

const database = testDatabase()
const OPERATOR_KEY = 'the operator key of this test'
const TRUSTED = 'https://app.example.com'
let tollgate: Tollgate
let server: HttpServer

beforeAll(async () => {
  tollgate = createTollgate({
    databaseUrl: database.url,
    catalog: await importCatalogDefinition('examples/episodic-memory/billing.config.ts'),
    stripe: null,
    operatorKey: OPERATOR_KEY,
    publicUrl: 'http://localhost:3000',
    processMetrics: false,
    identity: { trustedOrigins: [TRUSTED] },
    log: createLog({ level: 'silent', secrets: [] }),
  })
  await tollgate.start()
  const { fetch: app, preHandler, plainHandler } = tollgate
  server = await serve({ fetch: app, preHandler, plainHandler, host: '127.0.0.1', port: 0 })
  await ask('/api/v1/organizations', {}, { id: 'acme', name: 'Acme', email: 'a@example.com' })
})
afterAll(async () => {
  await server.stop()
  await tollgate.stop()
})

function ask(path: string, headers: Record<string, string>, body?: object, method = body === undefined ? 'GET' : 'POST') {
  return fetch(`http://127.0.0.1:${server.port}${path}`, {
    method,
    headers: { authorization: `Bearer ${OPERATOR_KEY}`, 'content-type': 'application/json', ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
}

const allowed = ({ headers }: Response) => [
  headers.get('access-control-allow-origin'),
  headers.get('access-control-allow-credentials'),
]

it('pages of trusted origins may call from a browser, and read what is answered, refusals too', async () => {
  const asks = { 'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization,content-type' }
  const path = '/api/v1/billing/details'
  const preflight = await fetch(`http://127.0.0.1:${server.port}${path}`, {
    method: 'OPTIONS',
    headers: { origin: TRUSTED, ...asks },
  })
  expect([preflight.status, ...allowed(preflight)]).toEqual([204, TRUSTED, 'true'])
  expect(preflight.headers.get('access-control-allow-headers')).toMatch(/authorization.*content-type/i)
  const use = { organization_id: 'acme', meter: 'episode_ingestion', idempotency_key: 'one' }
  const answers = [
    await ask(`${path}?organization_id=acme`, { origin: TRUSTED }),
    await ask('/api/v1/usage/consume', { origin: TRUSTED }, use),
    await ask('/api/usage/check', { origin: TRUSTED }, { organization_id: 'acme', meter: 'episode_ingestion' }),
    await ask(path, { origin: TRUSTED, authorization: 'Bearer wrong' }),
    await ask('/api/v1/auth/get-session', { origin: TRUSTED }),
  ]
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 401, 200])
  for (const answer of answers) expect(allowed(answer)).toEqual([TRUSTED, 'true'])
  expect(answers[1]!.headers.get('access-control-expose-headers')).toContain('X-Credits-Remaining')
})

it('no other page is let in, and who is no page hears nothing of it', async () => {
  for (const headers of [{ origin: 'https://evil.example' }, { origin: 'null' }, {}]) {
    const answer = await ask('/api/v1/billing/details?organization_id=acme', headers)
    expect([answer.status, allowed(answer)[0]]).toEqual([200, null])
  }
})
