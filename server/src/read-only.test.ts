import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { defineBilling } from './catalog/define.ts'
import { startEmbeddedPostgres, type EmbeddedPostgres } from './db/embedded-postgres.ts'
import { createLog } from './http/log.ts'
import { createTollgate, type Tollgate } from './tollgate.ts'

const PATIENCE = { timeout: 30_000, interval: 50 }
const OPERATOR_KEY = 'the operator key of this test'

// A PostgreSQL of its own, which becomes what an old primary is after a failover that keeps connections open.
const directory = mkdtempSync(join(tmpdir(), 'tollgate-read-only-'))
chmodSync(directory, 0o711)
const catalog = defineBilling({
  meters: { search: {} },
  plans: { free: { name: 'Free', allowances: { search: { amount: 1_000 } } } },
  defaultPlan: 'free',
})
let postgres: EmbeddedPostgres
let administrator: pg.Client
let tollgate: Tollgate
let key: string

beforeAll(async () => {
  postgres = await startEmbeddedPostgres({ directory: join(directory, 'postgres'), durability: 'none' })
  administrator = new pg.Client({ connectionString: postgres.url, application_name: 'administrator' })
  await administrator.connect()
  await administrator.query('set default_transaction_read_only = off')
  tollgate = createTollgate({
    databaseUrl: postgres.url,
    catalog,
    stripe: null,
    operatorKey: OPERATOR_KEY,
    publicUrl: 'http://localhost:3000',
    processMetrics: false,
    log: createLog({ level: 'silent', secrets: [] }),
  })
  await tollgate.start()
  await ask('POST', '/api/v1/organizations', { id: 'org_acme', name: 'Acme', email: 'a@example.com' })
  const made = await ask('POST', '/api/v1/organizations/org_acme/api-keys', { name: 'app', scopes: ['read', 'write', 'admin'] })
  key = String(made.body['key'])
})
afterAll(async () => {
  await tollgate.stop()
  await administrator.end()
  await postgres.stop()
  rmSync(directory, { recursive: true, force: true })
})

async function ask(method: string, path: string, body?: unknown, as = OPERATOR_KEY) {
  const response = await tollgate.fetch(
    new Request(`http://localhost:3000${path}`, {
      method,
      headers: { authorization: `Bearer ${as}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    }),
  )
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

const consume = (of: string) => ask('POST', '/api/v1/usage/consume', { meter: 'search', quantity: 1, idempotency_key: of }, key)
const addWorkspace = (name = 'During') => ask('POST', '/api/v1/organizations/org_acme/workspaces', { name }, key)
const statusOf = async (answer: Promise<{ status: number }>) => (await answer).status

async function setReadOnly(setting: 'on' | 'off'): Promise<void> {
  await administrator.query(`alter system set default_transaction_read_only = ${setting}`)
  await administrator.query('select pg_reload_conf()')
}

/** All sessions but the administrator's, by their process ids. */
async function sessions(): Promise<readonly number[]> {
  const { rows } = await administrator.query<{ pid: number }>(
    `select pid from pg_stat_activity where backend_type = 'client backend' and application_name <> 'administrator' and datname = 'tollgate'`,
  )
  return rows.map(({ pid }) => pid)
}

test('a primary that takes no writes any more is left, told of as away and never as a fault, and come back from', async () => {
  expect([await statusOf(consume('before')), await statusOf(addWorkspace('Before'))]).toEqual([200, 201])
  expect(await statusOf(ask('GET', '/readyz'))).toBe(200)

  const old = new Set(await sessions())
  expect(old.size).toBeGreaterThan(3)
  await setReadOnly('on')
  const during = await Promise.all([consume('during'), addWorkspace(), consume('during too')])
  expect(during.map(({ status }) => status)).toEqual([503, 503, 503])
  expect(during.map(({ body }) => body['code'])).toEqual(during.map(() => 'database_unavailable'))
  expect((await addWorkspace()).body['detail']).toBe('PostgreSQL takes no writes at this address; try again shortly.')
  expect(await statusOf(ask('GET', '/readyz'))).toBe(503)
  await vi.waitFor(async () => expect((await sessions()).filter((pid) => old.has(pid))).toEqual([]), PATIENCE)

  await setReadOnly('off')
  await vi.waitFor(async () => expect(await statusOf(ask('GET', '/readyz'))).toBe(200), PATIENCE)
  expect(await statusOf(addWorkspace())).toBe(201)
  const again = await consume('during')
  expect([again.status, again.body['quota_remaining']]).toEqual([200, 998])
}, 90_000)
