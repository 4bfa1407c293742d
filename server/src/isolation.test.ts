import { randomUUID } from 'node:crypto'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testDatabase } from '../test/database.ts'
import type { Principal } from './auth/principal.ts'
import { importCatalogDefinition } from './catalog/registry.ts'
import { openDatabase, type Db } from './db/database.ts'
import { asSystem } from './db/scope.ts'
import { createApp, type App } from './http/app.ts'
import { createLog } from './http/log.ts'
import type { ApiKeyId, OrganizationId } from './lib/ids.ts'
import type { TollgateOptions } from './options.ts'
import { createTollgate, type Tollgate } from './tollgate.ts'

// Row-level security as the running server has it. What it does to each table is in db/row-security.test.ts.

const database = testDatabase()
const OPERATOR_KEY = 'the operator key of this test'

async function optionsOf(databaseUrl: string, rowSecurity: 'auto' | 'required'): Promise<TollgateOptions> {
  return {
    databaseUrl,
    rowSecurity,
    catalog: await importCatalogDefinition('examples/episodic-memory/billing.config.ts'),
    stripe: null,
    operatorKey: OPERATOR_KEY,
    publicUrl: 'http://localhost:3000',
    processMetrics: false,
    log: createLog({ level: 'silent', secrets: [] }),
  }
}

async function ask(
  server: Tollgate,
  method: string,
  path: string,
  key: string,
  body?: unknown,
): Promise<Record<string, unknown>> {
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${key}` }
  const request = { method, headers, body: body === undefined ? null : JSON.stringify(body) }
  return (await (await server.fetch(new Request(`http://localhost:3000${path}`, request))).json()) as Record<string, unknown>
}

describe('a server on a login that may make roles', () => {
  let tollgate: Tollgate
  const keys: string[] = []

  beforeAll(async () => {
    tollgate = createTollgate(await optionsOf(database.url, 'required'))
    await tollgate.start()
    for (const id of ['acme', 'globex']) {
      await ask(tollgate, 'POST', '/api/v1/organizations', OPERATOR_KEY, { id, name: id, email: `${id}@example.com` })
      const made = await ask(tollgate, 'POST', `/api/v1/organizations/${id}/api-keys`, OPERATOR_KEY, {
        name: 'test',
        scopes: ['read', 'write'],
      })
      keys.push(String(made['key']))
    }
  })
  afterAll(() => tollgate.stop())

  it('says that row-level security is on', async () => {
    const ready = await ask(tollgate, 'GET', '/readyz', '')
    expect(ready).toMatchObject({ status: 'ready', checks: { row_security: { detail: 'on' } } })
  })

  it('counts the uses of several organizations in one group, whoever’s request began it', async () => {
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        ask(tollgate, 'POST', '/api/v1/usage/consume', keys[index % 2]!, {
          meter: 'episode_search',
          idempotency_key: `use-${index}`,
        }),
      ),
    )
    expect(answers.filter((answer) => answer['allowed'] === true)).toHaveLength(20)
    for (const organizationId of ['acme', 'globex']) {
      expect(await tollgate.api.usage.balances({ organizationId })).toMatchObject([{ used: 1 }])
    }
  })
})

describe('a route whose statement forgets to say whose rows it wants', () => {
  let db: Db
  let app: App

  beforeAll(async () => {
    db = openDatabase({ connectionString: database.url, scopeOutside: 'nobody' })
    app = createApp({
      log: pino({ level: 'silent' }),
      authenticate: async (request) => principalOf(request.headers.get('x-caller')),
      register: [
        (routes) => {
          const list = async () =>
            (await db.query<{ id: string }>('select id from organizations order by id')).rows.map(({ id }) => id)
          routes.get('/api/v1/forgetful', async (c) => c.json(await list()))
          routes.get('/forgetful', async (c) => c.json(await list()))
          routes.get('/named', async (c) => c.json(await asSystem(list)))
        },
      ],
    })
  })
  afterAll(() => db.close())

  const get = async (path: string, caller = 'nobody'): Promise<unknown> =>
    (await app.request(path, { headers: { 'x-caller': caller } })).json()

  it('gets the caller’s own', async () => {
    const answers = await Promise.all(['acme', 'globex', 'acme'].map((caller) => get('/api/v1/forgetful', caller)))
    expect(answers).toEqual([['acme'], ['globex'], ['acme']])
  })

  it('gets all of them for an operator', async () => {
    expect(await get('/api/v1/forgetful', 'operator')).toEqual(['acme', 'globex'])
  })

  it('gets none where nobody was asked who they are, unless the route names the scope of the system', async () => {
    expect(await get('/forgetful')).toEqual([])
    expect(await get('/named')).toEqual(['acme', 'globex'])
  })
})

function principalOf(caller: string | null): Principal | null {
  if (caller === null || caller === 'nobody') return null
  if (caller === 'operator') return { kind: 'operator', name: 'test' }
  return { kind: 'api_key', keyId: 'key_test' as ApiKeyId, organizationId: caller as OrganizationId, scopes: ['read'] }
}

describe('a server on a login that may not make roles', () => {
  const login = `plain_${randomUUID().replaceAll('-', '')}`
  const url = new URL(database.url)
  url.pathname = `/${login}`
  url.username = login
  url.password = 'of-this-test'

  beforeAll(async () => {
    await database.db.query(`create role ${login} login password 'of-this-test'`)
    await database.db.query(`create database ${login} owner ${login}`)
  })
  afterAll(async () => {
    await database.db.query(`drop database ${login} with (force)`)
    await database.db.query(`drop role ${login}`)
  })

  it('does not start where row-level security is required, and says what to do', async () => {
    const refused = createTollgate(await optionsOf(url.href, 'required')).start()
    await expect(refused).rejects.toThrow(/Let an administrator run "grant tollgate_tenant, tollgate_system to plain_/)
  })

  it('starts otherwise, and says that it is off', async () => {
    const tollgate = createTollgate(await optionsOf(url.href, 'auto'))
    await tollgate.start()
    const ready = await ask(tollgate, 'GET', '/readyz', '')
    await tollgate.stop()
    expect(ready).toMatchObject({ status: 'ready', checks: { row_security: { detail: 'off: see tollgate doctor' } } })
  })
})
