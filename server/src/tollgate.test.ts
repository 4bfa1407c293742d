import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { PATIENCE } from '../test/patience.ts'
import { testDatabase } from '../test/database.ts'
import { defineBilling } from './catalog/define.ts'
import { startEmbeddedPostgres } from './db/embedded-postgres.ts'
import { createLog } from './http/log.ts'
import { openSandbox } from './sandbox.ts'
import { createTollgate, type Tollgate, type TollgateOptions } from './tollgate.ts'

const database = testDatabase()
const OPERATOR_KEY = 'the operator key of this test'
const catalog = defineBilling({
  meters: { search: {} },
  plans: { free: { name: 'Free', allowances: { search: { amount: 3 } } } },
  defaultPlan: 'free',
})

const started: Tollgate[] = []
const logged: string[] = []

afterEach(async () => {
  await Promise.all(started.splice(0).map((tollgate) => tollgate.stop()))
  logged.length = 0
})

function create(options: Partial<TollgateOptions> = {}): Tollgate {
  const destination = { write: (line: string) => void logged.push(line) }
  const tollgate = createTollgate({
    databaseUrl: database.url,
    catalog,
    stripe: null,
    operatorKey: OPERATOR_KEY,
    publicUrl: 'http://localhost:3000',
    processMetrics: false,
    log: createLog({ level: 'trace', secrets: [OPERATOR_KEY], destination }),
    ...options,
  })
  started.push(tollgate)
  return tollgate
}

type Answer = { readonly status: number; readonly headers: Headers; readonly body: Record<string, unknown> }

async function call(tollgate: Tollgate, key: string, method: string, path: string, body?: unknown): Promise<Answer> {
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
  const request = new Request(`http://localhost:3000${path}`, {
    method,
    headers,
    body: body === undefined ? null : JSON.stringify(body),
  })
  const response = await tollgate.fetch(request)
  const text = await response.text()
  return {
    status: response.status,
    headers: response.headers,
    body: text === '' ? {} : (JSON.parse(text) as Record<string, unknown>),
  }
}

async function createCustomer(tollgate: Tollgate): Promise<{ id: string; key: string; keyId: string }> {
  const { body } = await call(tollgate, OPERATOR_KEY, 'POST', '/api/v1/organizations', { name: 'Acme', email: 'a@example.com' })
  const id = String(body['id'])
  const made = await call(tollgate, OPERATOR_KEY, 'POST', `/api/v1/organizations/${id}/api-keys`, {
    name: 'app',
    scopes: ['read', 'write'],
  })
  return { id, key: String(made.body['key']), keyId: String(made.body['id']) }
}

function consume(tollgate: Tollgate, key: string, idempotencyKey: string): Promise<Answer> {
  return call(tollgate, key, 'POST', '/api/v1/usage/consume', { meter: 'search', quantity: 1, idempotency_key: idempotencyKey })
}

describe('a server', () => {
  it('lives, is not ready, and answers all else 503, before it is started and after it was stopped', async () => {
    const tollgate = create()
    const ask = async (path: string) => {
      const { status, headers, body } = await call(tollgate, '', 'GET', path)
      return { status, retryAfter: headers.get('retry-after'), body }
    }
    const expectNotRunning = async (state: string): Promise<void> => {
      expect(await ask('/healthz')).toMatchObject({ status: 200, body: { status: 'ok' } })
      expect(await ask('/readyz')).toMatchObject({ status: 503, retryAfter: '1', body: { status: state } })
      expect(await ask('/api/v1/usage')).toMatchObject({ status: 503, retryAfter: '1', body: { code: state } })
    }
    expect(() => tollgate.api).toThrow(
      expect.objectContaining({ code: 'starting', message: expect.stringContaining('call start() first') as unknown }),
    )
    await expectNotRunning('starting')
    await tollgate.start()
    expect(await ask('/readyz')).toMatchObject({ status: 200, body: { status: 'ready' } })
    await tollgate.stop()
    await expectNotRunning('stopping')
  })

  it('meters over HTTP and in process what the same key paid for, and counts it for Prometheus', async () => {
    const tollgate = create()
    await tollgate.start()
    const { id, key } = await createCustomer(tollgate)
    expect((await consume(tollgate, key, 'one')).body).toMatchObject({ allowed: true, quota_remaining: 2 })
    await tollgate.api.usage.consume({ organizationId: id, meter: 'search', quantity: 2, idempotencyKey: 'two' })
    expect((await consume(tollgate, key, 'three')).body).toMatchObject({ allowed: false, code: 'quota_exceeded' })
    await consume(tollgate, key, 'one')
    const metrics = await (
      await tollgate.fetch(new Request('http://localhost:3000/metrics', { headers: { 'x-api-key': OPERATOR_KEY } }))
    ).text()
    expect(metrics).toContain(`credits_used_total{customer_id="${id}"} 3`)
    expect(metrics).toContain('quota_exceeded_total{tier="free"} 1')
  })

  it('describes every route of every domain in OpenAPI', async () => {
    const tollgate = create()
    await tollgate.start()
    const { body } = await call(tollgate, '', 'GET', '/openapi.json')
    const paths = Object.keys(body['paths'] as object)
    expect(paths).toEqual(expect.arrayContaining(['/api/v1/organizations', '/api/v1/usage/consume', '/api/v1/audit-log']))
  })

  it('refuses a revoked key within a second on another server', async () => {
    const [one, other] = [create(), create()]
    await Promise.all([one.start(), other.start()])
    const { id, key, keyId } = await createCustomer(one)
    expect((await call(other, key, 'GET', '/api/v1/usage')).status).toBe(200)
    const began = performance.now()
    expect((await call(one, OPERATOR_KEY, 'DELETE', `/api/v1/organizations/${id}/api-keys/${keyId}`)).status).toBe(204)
    await vi.waitFor(async () => expect((await call(other, key, 'GET', '/api/v1/usage')).status).toBe(401), {
      ...PATIENCE,
      interval: 10,
    })
    expect(performance.now() - began).toBeLessThan(1_000)
  })

  it('writes no key into its log, whatever happens', async () => {
    const tollgate = create()
    await tollgate.start()
    const { key } = await createCustomer(tollgate)
    await call(tollgate, key, 'POST', '/api/v1/usage/consume', { key, quantity: key })
    await call(tollgate, `${key}x`, 'GET', `/api/v1/usage?key=${key}`)
    await tollgate.stop()
    await call(tollgate, key, 'GET', '/api/v1/usage')
    expect(logged.join('')).not.toContain(key.slice(8))
    expect(logged.join('')).not.toContain(OPERATOR_KEY)
  })
})

it('answers 503 with Retry-After while PostgreSQL is away, and goes on by itself when it is back', async () => {
  const parent = mkdtempSync(join(tmpdir(), 'tollgate-away-'))
  chmodSync(parent, 0o711)
  const directory = join(parent, 'postgres')
  let postgres = await startEmbeddedPostgres({ directory })
  try {
    const tollgate = create({ databaseUrl: postgres.url })
    await tollgate.start()
    const { key } = await createCustomer(tollgate)
    expect((await consume(tollgate, key, 'before')).body).toMatchObject({ allowed: true, quota_remaining: 2 })
    await postgres.stop()
    for (const answer of await Promise.all([
      consume(tollgate, key, 'away'),
      call(tollgate, OPERATOR_KEY, 'GET', '/api/v1/organizations'),
    ])) {
      expect([answer.status, answer.headers.get('retry-after'), answer.body['code']]).toEqual([503, '1', 'database_unavailable'])
    }
    expect((await call(tollgate, '', 'GET', '/readyz')).status).toBe(503)
    expect((await call(tollgate, '', 'GET', '/healthz')).status).toBe(200)
    postgres = await startEmbeddedPostgres({ directory })
    await vi.waitFor(async () => expect((await call(tollgate, '', 'GET', '/readyz')).status).toBe(200), PATIENCE)
    const { body: readiness } = await call(tollgate, '', 'GET', '/readyz')
    expect(readiness['checks']).toMatchObject({
      balances: { ok: true, detail: expect.stringMatching(/^0 imbalances, checked at /) },
    })
    expect((await consume(tollgate, key, 'away')).body).toMatchObject({ allowed: true, quota_remaining: 1 })
    expect((await consume(tollgate, key, 'before')).body).toMatchObject({ allowed: true, quota_remaining: 2 })
    await tollgate.stop()
  } finally {
    await postgres.stop()
    rmSync(parent, { recursive: true, force: true })
  }
})

it('is not ready beside a database that a newer version has migrated, until that is its own again', async () => {
  const tollgate = create()
  await tollgate.start()
  const ready = async () => (await call(tollgate, '', 'GET', '/readyz')).status
  expect(await ready()).toBe(200)
  await database.db.query(`insert into schema_migrations (name, checksum) values ('9999_newer.sql', '')`)
  const { status, body } = await call(tollgate, '', 'GET', '/readyz')
  expect({ status, body }).toMatchObject({ status: 503, body: { checks: { migrations: { ok: false }, database: { ok: true } } } })
  await database.db.query(`delete from schema_migrations where name = '9999_newer.sql'`)
  expect(await ready()).toBe(200)
})

it('answers 503 with Retry-After while Stripe is away, meters all the same, and goes on by itself when it is back', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'tollgate-stripe-away-'))
  const file = join(directory, 'sandbox.sqlite')
  const first = await openSandbox({ port: 0, file, webhook: null })
  const port = Number(new URL(first.sandbox.url).port)
  let { sandbox } = first
  try {
    const free = { name: 'Free', allowances: { search: { amount: 3 } } }
    const pro = { name: 'Pro', allowances: { search: { amount: 30 } }, prices: { monthly: { amountMinor: 2900 } } }
    const sold = defineBilling({ meters: { search: {} }, plans: { free, pro }, defaultPlan: 'free' })
    const tollgate = create({ catalog: sold, stripe: first.stripe })
    await tollgate.start()
    const { id, key } = await createCustomer(tollgate)
    const checkOut = () => call(tollgate, OPERATOR_KEY, 'POST', '/api/v1/billing/checkout', { organization_id: id, plan: 'pro' })
    await sandbox.stop()
    const away = await checkOut()
    expect([away.status, away.headers.get('retry-after'), away.body['code']]).toEqual([503, '5', 'stripe_unavailable'])
    expect((await consume(tollgate, key, 'away')).body).toMatchObject({ allowed: true, quota_remaining: 2 })
    sandbox = (await openSandbox({ port, file, webhook: null })).sandbox
    expect((await checkOut()).body).toMatchObject({ url: expect.stringContaining(sandbox.url) as string })
    await tollgate.stop()
  } finally {
    await sandbox.stop()
    rmSync(directory, { recursive: true, force: true })
  }
})
