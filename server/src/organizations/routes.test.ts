import { pino } from 'pino'
import { beforeAll, describe, expect, it } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { registerAuditRoutes } from '../audit/routes.ts'
import type { Principal } from '../auth/principal.ts'
import { createApp, type App } from '../http/app.ts'
import { ManualClock } from '../lib/clock.ts'
import type { ApiKeyId, OrganizationId } from '../lib/ids.ts'
import { createExports } from '../usage/exports.ts'
import { registerOrganizationRoutes } from './routes.ts'

const database = testDatabase()
const clock = new ManualClock(new Date('2026-03-01T00:00:00Z'))
const callers: Record<string, Principal> = {
  operator: { kind: 'operator', name: 'bootstrap' },
  stranger: { kind: 'api_key', keyId: 'key_s' as ApiKeyId, organizationId: 'org_stranger' as OrganizationId, scopes: ['admin'] },
  writer: { kind: 'api_key', keyId: 'key_w' as ApiKeyId, organizationId: 'acme' as OrganizationId, scopes: ['read', 'write'] },
}
let app: App

beforeAll(() => {
  app = createApp({
    log: pino({ level: 'silent' }),
    authenticate: async (request) => callers[request.headers.get('authorization') ?? ''] ?? null,
    register: [
      (app) => registerAuditRoutes(app, { db: database.db, exports: createExports(database.db) }),
      (app) =>
        registerOrganizationRoutes(app, {
          db: database.db,
          clock,
          tenantPrefix: 'Jeturing_',
          publicUrl: 'http://localhost:3000',
          keySecret: 'a secret of thirty-two characters',
          onCreated: async (tx, created) => {
            await tx.query('insert into settings (name, value) values ($1, $2)', [created.organizationId, 'opened'])
          },
          attachTestClock: null,
        }),
    ],
  })
})

async function call(
  caller: string,
  method: string,
  path: string,
  body?: unknown,
  more: Record<string, string> = {},
): Promise<{ status: number; body: Record<string, unknown> }> {
  const response = await app.request(path, {
    method,
    headers: { authorization: caller, 'content-type': 'application/json', ...more },
    body: body === undefined ? null : JSON.stringify(body),
  })
  const text = await response.text()
  return { status: response.status, body: text === '' ? {} : (JSON.parse(text) as Record<string, unknown>) }
}

const acme = { id: 'acme', name: 'Acme', email: 'billing@example.com' }

describe('organizations', () => {
  it('KF-2 get a prefixed id of their own, or keep the one they are given, once', async () => {
    const made = await call('operator', 'POST', '/api/v1/organizations', { name: 'Acme', email: 'billing@example.com' })
    expect(made.status).toBe(201)
    expect(made.body['id']).toMatch(/^Jeturing_[0-9a-f-]{36}$/)
    expect((await call('operator', 'POST', '/api/v1/organizations', acme)).body).toMatchObject(acme)
    const again = await call('operator', 'POST', '/api/v1/organizations', { ...acme, name: 'Other' })
    expect([again.status, again.body['code']]).toEqual([409, 'conflict'])
    expect((await call('operator', 'GET', '/api/v1/organizations/acme')).body['name']).toBe('Acme')
  })

  it('answer the one that is there when a creation is repeated, and open their account once', async () => {
    const again = await call('operator', 'POST', '/api/v1/organizations', acme)
    expect([again.status, again.body['id']]).toEqual([200, 'acme'])
    const { rows } = await database.db.query(`select value from settings where name = 'acme'`)
    expect(rows).toEqual([{ value: 'opened' }])
    const entries = await call('operator', 'GET', '/api/v1/audit-log?organization_id=acme')
    expect(entries.body['entries']).toHaveLength(1)
  })

  it('are made and listed by operators only', async () => {
    expect((await call('writer', 'POST', '/api/v1/organizations', acme)).status).toBe(403)
    expect((await call('', 'GET', '/api/v1/organizations')).status).toBe(401)
    const newest = await call('operator', 'GET', '/api/v1/organizations?limit=1')
    expect(newest.body).toMatchObject({ organizations: [acme], has_more: true })
    const rest = await call('operator', 'GET', '/api/v1/organizations?starting_after=acme')
    expect(rest.body).toMatchObject({ organizations: [{ name: 'Acme' }], has_more: false })
  })

  it('are not said to be at their end after one that there is not', async () => {
    const answer = await call('operator', 'GET', '/api/v1/organizations?starting_after=none')
    expect(answer).toMatchObject({ status: 400, body: { code: 'invalid_request', field: 'starting_after' } })
  })

  it('refuse a body that is wrong, and a test clock without Stripe, leaving nothing behind', async () => {
    expect((await call('operator', 'POST', '/api/v1/organizations', { name: '', email: 'nobody' })).status).toBe(400)
    expect((await call('operator', 'POST', '/api/v1/organizations', { ...acme, id: 'clocked', test_clock: true })).status).toBe(
      503,
    )
    expect((await call('operator', 'GET', '/api/v1/organizations/clocked')).status).toBe(404)
  })

  it.each(['two\nlines', '\u001b[2J', 'back\u202ewards'])(
    'refuse the name %j, which a mail’s subject or a terminal would obey',
    async (name) => {
      const answer = await call('operator', 'POST', '/api/v1/organizations', { ...acme, id: 'named', name })
      expect(answer).toMatchObject({ status: 400, body: { errors: [{ field: 'name' }] } })
      expect((await call('operator', 'GET', '/api/v1/organizations/named')).status).toBe(404)
    },
  )

  it('without an id of their own are one under an Idempotency-Key, however often and at once they are asked for', async () => {
    const body = { name: 'Keyed', email: 'keyed@example.com' }
    const make = (key: string, more: object = {}) =>
      call('operator', 'POST', '/api/v1/organizations', { ...body, ...more }, { 'idempotency-key': key })
    const answers = await Promise.all([make('one'), make('one'), make('one')])
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1)
    expect(new Set(answers.map(({ body: made }) => made['id'])).size).toBe(1)
    expect(answers[0].body['id']).toMatch(/^Jeturing_[0-9a-f-]{36}$/)
    expect((await make('two')).status).toBe(201)
    expect(await make('one', { name: 'Other' })).toMatchObject({
      status: 409,
      body: { code: 'idempotency_conflict', field: 'name' },
    })
  })
})

describe('API keys', () => {
  it('EM-12 are shown at their creation and never again', async () => {
    const made = await call('operator', 'POST', '/api/v1/organizations/acme/api-keys', { name: 'application', scopes: ['read'] })
    expect(made.status).toBe(201)
    expect(made.body['key']).toMatch(/^tg_[0-9A-Za-z]{43}$/)
    const listed = await call('operator', 'GET', '/api/v1/organizations/acme/api-keys')
    expect(listed.body).toMatchObject({
      api_keys: [{ id: made.body['id'], name: 'application', scopes: ['read'], revoked_at: null }],
    })
    const log = await call('operator', 'GET', '/api/v1/audit-log?organization_id=acme')
    expect(JSON.stringify([listed.body, log.body])).not.toContain(made.body['key'])
    expect(log.body['entries']).toMatchObject([
      {
        actor: 'operator:bootstrap',
        action: 'api_key.created',
        target: made.body['id'],
        before: null,
        after: { scopes: ['read'] },
      },
      { action: 'organization.created', target: 'acme' },
    ])
  })

  it('are managed with the scope admin, and another tenant’s are not found', async () => {
    const path = '/api/v1/organizations/acme/api-keys'
    expect((await call('writer', 'POST', path, { name: 'x', scopes: ['read'] })).status).toBe(403)
    expect((await call('stranger', 'POST', path, { name: 'x', scopes: ['read'] })).status).toBe(404)
    expect((await call('stranger', 'GET', path)).status).toBe(404)
    expect((await call('stranger', 'GET', '/api/v1/organizations/acme')).status).toBe(404)
  })

  it('are revoked once, however often it is asked for', async () => {
    const made = await call('operator', 'POST', '/api/v1/organizations/acme/api-keys', {
      name: 'short-lived',
      scopes: ['read'],
    })
    const path = `/api/v1/organizations/acme/api-keys/${String(made.body['id'])}`
    expect((await call('stranger', 'DELETE', path)).status).toBe(404)
    expect((await call('operator', 'DELETE', path)).status).toBe(204)
    expect((await call('operator', 'DELETE', path)).status).toBe(204)
    const log = await call('operator', 'GET', '/api/v1/audit-log?organization_id=acme&limit=2')
    expect(log.body).toMatchObject({ entries: [{ action: 'api_key.revoked' }, { action: 'api_key.created' }] })
    const older = await call(
      'operator',
      'GET',
      `/api/v1/audit-log?organization_id=acme&cursor=${String(log.body['next_cursor'])}`,
    )
    expect(older.body['entries']).not.toContainEqual((log.body['entries'] as unknown[])[1])
    expect((await call('stranger', 'GET', '/api/v1/audit-log')).body).toEqual({ entries: [], next_cursor: null })
  })
})
