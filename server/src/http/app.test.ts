import { createRoute, z } from '@hono/zod-openapi'
import pg from 'pg'
import { pino } from 'pino'
import { beforeEach, describe, expect, it } from 'vitest'
import { organizationFor, requireOperator, requireScope, type Principal } from '../auth/principal.ts'
import { DomainError } from '../lib/errors.ts'
import type { ApiKeyId, OrganizationId } from '../lib/ids.ts'
import { createApp, MAX_BODY_BYTES, type App } from './app.ts'
import { registerErrorsPage } from './errors-page.ts'
import { ERRORS_PAGE, PROBLEMS } from './problems.ts'
import { serve } from './serve.ts'

const reader: Principal = {
  kind: 'api_key',
  keyId: 'key_1' as ApiKeyId,
  organizationId: 'org_1' as OrganizationId,
  scopes: ['read'],
}
const operator: Principal = { kind: 'operator', name: 'bootstrap' }
const callers: Readonly<Record<string, Principal>> = { reader, operator }

const logged: string[] = []
let app: App

function registerThings(app: App): void {
  const body = {
    content: {
      'application/json': { schema: z.object({ quantity: z.number().positive(), nested: z.object({ name: z.string() }) }) },
    },
  }
  const route = createRoute({
    method: 'post',
    path: '/api/v1/things',
    request: { body, query: z.object({ x: z.string().optional() }) },
    responses: { 200: { description: 'The thing.' } },
  })
  app.openapi(route, (context) => context.json(context.req.valid('json')))
  app.get('/api/v1/fails', () => {
    throw new Error('the password is hunter2')
  })
  app.delete('/api/v1/things/1', (context) => context.body(null, 204))
  app.get('/api/v1/away', () => {
    throw new DomainError('database_unavailable', 'PostgreSQL does not answer.')
  })
  for (const [name, code] of [
    ['collides', '40P01'],
    ['takes-too-long', '57014'],
  ] as const) {
    app.get(`/api/v1/${name}`, () => {
      throw Object.assign(new pg.DatabaseError(name, 0, 'error'), { code })
    })
  }
  app.get('/api/v1/mine', (context) => {
    const principal = requireScope(context.get('principal'), 'write')
    return context.json({ organization: organizationFor(principal, context.req.query('organization_id')) })
  })
  app.get('/api/v1/all', (context) => context.json(requireOperator(context.get('principal'))))
}

beforeEach(() => {
  logged.length = 0
  const log = pino({ level: 'info' }, { write: (line) => logged.push(line) })
  app = createApp({
    log,
    authenticate: async (request) => callers[request.headers.get('authorization') ?? ''] ?? null,
    register: [registerThings, registerErrorsPage],
  })
})

function post(path: string, body: unknown): Promise<Response> | Response {
  return app.request(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: 'reader' },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })
}

describe('the app', () => {
  it('serves every route under /api/v1 and under /api, query and all', async () => {
    const body = { quantity: 1, nested: { name: 'a' } }
    expect(await (await post('/api/v1/things', body)).json()).toEqual(body)
    expect(await (await post('/api/things?x=/api/y', body)).json()).toEqual(body)
    expect((await post('/things', body)).status).toBe(404)
  })

  it('names every field that is wrong, as a problem document', async () => {
    const response = await post('/api/v1/things', { quantity: -1, nested: {} })
    expect(response.status).toBe(400)
    expect(response.headers.get('content-type')).toBe('application/problem+json')
    const problem = (await response.json()) as { code: string; errors: { field: string }[] }
    expect(problem.code).toBe('invalid_request')
    expect(problem.errors.map((error) => error.field)).toEqual(['quantity', 'nested.name'])
  })

  it('answers 400 to a body that is not JSON, and 413 to one that is too large', async () => {
    expect((await post('/api/v1/things', '{')).status).toBe(400)
    expect((await post('/api/v1/things', `"${'x'.repeat(MAX_BODY_BYTES)}"`)).status).toBe(413)
  })

  it('answers over a socket a request that has no body and says no length', async () => {
    const server = await serve({ host: '127.0.0.1', port: 0, fetch: app.fetch })
    try {
      const things = `http://127.0.0.1:${server.port}/api/v1/things/1`
      expect((await fetch(things, { method: 'DELETE', headers: { authorization: 'reader' } })).status).toBe(204)
    } finally {
      await server.stop()
    }
  })

  it('tells nothing of its inside when it fails, and logs it under the request id', async () => {
    const response = await app.request('/api/v1/fails', { headers: { 'x-request-id': 'mine-1', authorization: 'reader' } })
    expect(response.status).toBe(500)
    expect(response.headers.get('x-request-id')).toBe('mine-1')
    const text = await response.text()
    expect(text).not.toContain('hunter2')
    expect(JSON.parse(text)).toMatchObject({ code: 'internal_error', request_id: 'mine-1' })
    expect(logged.join('')).toContain('mine-1')
  })

  it.each([
    ['a body with a NUL', '/api/v1/things', '{"name":"a\\u0000b"}', 'name'],
    ['a body with half a character', '/api/v1/things', '{"list":[{"of":"\\ud800"}]}', 'list.0.of'],
    ['a name with half a character', '/api/v1/things', '{"own":{"\\udc00":1}}', 'own'],
    ['a query with a NUL', '/api/v1/things?x=a%00b', '{}', 'x'],
    ['a path with a NUL', '/api/v1/th%00ings', '{}', 'path'],
  ])('refuses %s, which cannot be stored', async (_what, path, body, field) => {
    const headers = { 'content-type': 'application/json', authorization: 'reader' }
    const response = await app.request(path, { method: 'POST', headers, body })
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ code: 'invalid_request', field })
  })

  const within = (depth: number) => `${'['.repeat(depth)}1${']'.repeat(depth)}`
  it.each([
    ['holds what may be of a card', (depth: number) => `{"cvc":${within(depth)}}`],
    ['writes a character as an escape', (depth: number) => `{"own":"\\u0000","list":${within(depth)}}`],
    ['is a batch', (depth: number) => `[${within(depth)},"cvc"]`],
  ])('refuses a body that %s and is nested without end; its walk ends before the stack does', async (_what, bodyOf) => {
    const headers = { 'content-type': 'application/json', authorization: 'reader' }
    const post = (depth: number) => app.request('/api/v1/things', { method: 'POST', headers, body: bodyOf(depth) })
    const response = await post(100_000)
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ detail: 'A body has at most 200 values within each other.' })
    expect(await (await post(100)).text()).not.toContain('within each other')
  })

  it.each(['%', '%zz', '%FF', '%ED%A0%80', '%E0%A4'])('refuses a path with %s, which is no text', async (escape) => {
    for (const path of [`/api/v1/things/${escape}`, `/api/things/${escape}`]) {
      const response = await app.request(path, { headers: { authorization: 'reader' } })
      expect(response.status).toBe(400)
      expect(await response.json()).toMatchObject({ code: 'invalid_request', field: 'path' })
    }
  })

  it('takes the letters of an escape, and whole characters that are escaped', async () => {
    const headers = { 'content-type': 'application/json', authorization: 'reader' }
    const body = '{"quantity":1,"nested":{"name":"\\\\u0000 \\ud83d\\ude00"}}'
    const response = await app.request('/api/v1/things', { method: 'POST', headers, body })
    expect(response.status).toBe(200)
  })

  it.each(['collides', 'takes-too-long'])('asks to come again who %s in the database', async (name) => {
    const response = await app.request(`/api/v1/${name}`, { headers: { authorization: 'reader' } })
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '1'])
    expect(await response.json()).toMatchObject({ code: 'overloaded' })
  })

  it('makes a request id of its own when the given one could forge a log line', async () => {
    const response = await app.request('/api/v1/away', { headers: { 'x-request-id': 'a b', authorization: 'reader' } })
    expect(response.headers.get('x-request-id')).toMatch(/^req_/)
  })

  it('says when to come back while something is away', async () => {
    const response = await app.request('/api/v1/away', { headers: { authorization: 'reader' } })
    expect(response.status).toBe(503)
    expect(response.headers.get('retry-after')).toBe('1')
  })

  it('has a section for every error that a problem document can point to', async () => {
    const page = await (await app.request(ERRORS_PAGE)).text()
    for (const code of [...Object.keys(PROBLEMS), 'internal_error']) expect(page).toContain(`id="${code}"`)
  })
})

describe('callers', () => {
  const get = (path: string, caller?: string) =>
    app.request(path, { headers: caller === undefined ? {} : { authorization: caller } })

  it('are 401 when nobody is authenticated, before anything is said of the request; 403 without the scope', async () => {
    expect((await app.request('/api/v1/things', { method: 'POST', body: '{' })).status).toBe(401)
    expect((await get('/api/v1/nowhere')).status).toBe(401)
    expect((await get('/api/v1/nowhere', 'reader')).status).toBe(404)
    expect((await get('/api/v1/mine')).status).toBe(401)
    expect((await get('/api/v1/mine', 'reader')).status).toBe(403)
    expect((await get('/api/v1/all')).status).toBe(401)
    expect((await get('/api/v1/all', 'reader')).status).toBe(403)
    expect((await get('/api/v1/all', 'operator')).status).toBe(200)
  })

  it('find another organization’s things missing, not forbidden; an operator names the organization', async () => {
    expect(() => organizationFor(reader, 'org_2')).toThrow(expect.objectContaining({ code: 'not_found' }))
    expect(organizationFor(reader, undefined)).toBe('org_1')
    expect((await get('/api/v1/mine', 'operator')).status).toBe(400)
    expect(await (await get('/api/v1/mine?organization_id=org_2', 'operator')).json()).toEqual({ organization: 'org_2' })
  })
})

describe('what a caller can mend', () => {
  it('a method that a path does not take is answered with those that it takes', async () => {
    const asked = async (method: string, path: string) => {
      const response = await app.request(path, { method, headers: { authorization: 'reader' } })
      return [response.status, response.headers.get('allow')]
    }
    expect(await asked('GET', '/api/v1/things')).toEqual([405, 'POST'])
    expect(await asked('PUT', '/api/things')).toEqual([405, 'POST'])
    expect(await asked('POST', '/api/v1/things/1')).toEqual([405, 'DELETE'])
    expect(await asked('DELETE', '/api/v1/mine')).toEqual([405, 'GET, HEAD'])
    expect(await asked('POST', ERRORS_PAGE)).toEqual([405, 'GET, HEAD'])
    expect(await asked('GET', '/api/v1/nowhere')).toEqual([404, null])
    const problem = (await (
      await app.request('/api/v1/mine', { method: 'PATCH', headers: { authorization: 'reader' } })
    ).json()) as object
    expect(problem).toMatchObject({ code: 'method_not_allowed', detail: '/api/v1/mine does not take PATCH, but GET, HEAD.' })
    expect((await app.request('/api/v1/mine', { method: 'PATCH' })).status).toBe(401)
  })

  it('a path that there is not is called as it was asked for, also where it is served under another', async () => {
    const detail = async (method: string, path: string) => {
      const response = await app.request(path, { method, headers: { authorization: 'reader' } })
      return ((await response.json()) as { detail: string }).detail
    }
    expect(await detail('GET', '/api/nowhere?x=1')).toBe('There is nothing at /api/nowhere.')
    expect(await detail('GET', '/api/v1/nowhere')).toBe('There is nothing at /api/v1/nowhere.')
    expect(await detail('GET', '/nowhere')).toBe('There is nothing at /nowhere.')
    expect(await detail('PATCH', '/api/mine')).toBe('/api/mine does not take PATCH, but GET, HEAD.')
  })

  it('a wrong key is told apart from none', async () => {
    const detail = async (headers: Record<string, string>) =>
      ((await (await app.request('/api/v1/mine', { headers })).json()) as { detail: string }).detail
    expect(await detail({})).toBe('Sign in, or send an API key as Authorization: Bearer <key> or X-API-Key.')
    expect(await detail({ authorization: 'Bearer tg_wrong' })).toBe(
      'This key or token opens nothing: it is wrong, revoked or expired.',
    )
    expect(await detail({ 'x-api-key': 'tg_wrong' })).toBe('This key or token opens nothing: it is wrong, revoked or expired.')
  })
})
