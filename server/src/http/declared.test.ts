import { createRoute, z } from '@hono/zod-openapi'
import { pino } from 'pino'
import { describe, expect, it } from 'vitest'
import type { Principal } from '../auth/principal.ts'
import type { ApiKeyId, OrganizationId } from '../lib/ids.ts'
import { createApp, type App } from './app.ts'

const caller: Principal = {
  kind: 'api_key',
  keyId: 'key_1' as ApiKeyId,
  organizationId: 'org_1' as OrganizationId,
  scopes: ['admin'],
}
const responses = { 200: { description: 'What was understood.' } }
const json = <Schema extends z.ZodType>(schema: Schema) => ({ content: { 'application/json': { schema } } })

function register(app: App): void {
  const list = createRoute({
    method: 'get',
    path: '/api/v1/things',
    request: { query: z.object({ plan: z.string().optional(), limit: z.string().default('20') }) },
    responses,
  })
  const one = createRoute({ method: 'get', path: '/api/v1/things/{id}', responses })
  const change = createRoute({
    method: 'post',
    path: '/api/v1/things/{id}/change',
    request: { body: json(z.object({ times: z.number().default(1) })) },
    responses,
  })
  const make = createRoute({
    method: 'post',
    path: '/api/v1/things',
    request: { body: { required: true, ...json(z.object({ name: z.string() })) } },
    responses,
  })
  const admin = (path: string, query: z.ZodRawShape) =>
    createRoute({ method: 'get', path: `/api/v1/admin/${path}`, request: { query: z.object(query) }, responses })
  const figures = admin('figures', {})
  const listed = admin('listed', { organization_id: z.string().optional() })
  const signed = createRoute({ method: 'post', path: '/api/v1/signed', security: [], responses })
  for (const route of [figures, listed]) app.openapi(route, (c) => c.json(c.req.valid('query')))
  app.openapi(list, (c) => c.json(c.req.valid('query')))
  app.openapi(one, (c) => c.json({ id: c.req.param('id') }))
  app.openapi(change, (c) => c.json(c.req.valid('json')))
  app.openapi(make, (c) => c.json(c.req.valid('json')))
  app.openapi(signed, async (c) => c.json({ text: await c.req.text() }))
  app.get('/page', (c) => c.text('a page'))
}

const app = createApp({ log: pino({ level: 'silent' }), authenticate: async () => caller, register: [register] })

async function ask(path: string, init: RequestInit = {}): Promise<{ status: number; body: unknown }> {
  const response = await app.request(path, init)
  return { status: response.status, body: await response.json() }
}

describe('a field of a body that a route does not know', () => {
  const post = (path: string, body: unknown) =>
    ask(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })

  it('is refused with its name and the known ones, and nothing is done', async () => {
    const refused = {
      status: 400,
      body: {
        code: 'invalid_request',
        detail: '"tiems" is no field of this body: it takes times.',
        errors: [{ field: 'tiems' }, { field: 'x' }],
        known_fields: ['times'],
      },
    }
    expect(await post('/api/v1/things/1/change', { tiems: 3, x: 1 })).toMatchObject(refused)
    expect(await post('/api/things/1/change', { tiems: 3, x: 1 })).toMatchObject(refused)
    expect(await post('/api/v1/things/1/change', { times: 3 })).toEqual({ status: 200, body: { times: 3 } })
  })

  it('is nothing to routes that others call, and to a body that is none', async () => {
    expect((await post('/api/v1/signed', { any: 1 })).status).toBe(200)
    expect((await post('/api/v1/things', [1])).status).toBe(400)
  })
})

describe('a query parameter that a route does not know', () => {
  it('is refused with its name and the known ones, on the legacy path and of every method alike', async () => {
    const refused = {
      status: 400,
      body: {
        code: 'invalid_request',
        detail: '"plam" is no parameter of this path: it takes plan, limit, organization_id.',
        errors: [{ field: 'plam' }, { field: 'x' }],
        known_parameters: ['plan', 'limit', 'organization_id'],
      },
    }
    expect(await ask('/api/v1/things?plam=pro&x=1')).toMatchObject(refused)
    expect(await ask('/api/things?plam=pro&x=1')).toMatchObject(refused)
    expect((await app.request('/api/v1/things?plam=pro', { method: 'HEAD' })).status).toBe(400)
    expect((await ask('/api/v1/things/1?limit=3')).status).toBe(400)
    expect((await ask('/api/v1/things/1/change?times=3', { method: 'POST' })).status).toBe(400)
    expect(await ask('/api/v1/things?plan=pro')).toEqual({ status: 200, body: { plan: 'pro', limit: '20' } })
    expect((await ask('/api/v1/things?')).status).toBe(200)
  })

  it('is nothing to pages, and to routes that others call: their addresses are not ours to write', async () => {
    expect((await app.request('/page?utm_source=mail')).status).toBe(200)
    expect((await app.request('/api/v1/signed?from=stripe', { method: 'POST' })).status).toBe(200)
    expect((await ask('/api/v1/nothing?x=1')).status).toBe(404)
  })

  it('may be organization_id in what is of one organization, where another is not found', async () => {
    expect((await ask('/api/v1/things/1?organization_id=org_1')).status).toBe(200)
    expect((await ask('/api/v1/things/1?organization_id=org_2')).status).toBe(404)
  })

  it('is organization_id in what is for operators, unless it can be of one organization', async () => {
    expect(await ask('/api/v1/admin/figures?organization_id=org_1')).toMatchObject({
      status: 400,
      body: {
        detail: '"organization_id" is no parameter of this path: it takes none.',
        errors: [{ field: 'organization_id' }],
        known_parameters: [],
      },
    })
    expect(await ask('/api/v1/admin/listed?organization_id=org_1')).toEqual({ status: 200, body: { organization_id: 'org_1' } })
  })
})

describe('JSON under another type of its own', () => {
  const post = (body: string | Buffer<ArrayBuffer>) =>
    ask('/api/v1/things', { method: 'POST', headers: { 'content-type': 'application/vnd.x+json' }, body })

  it('is held to the same: UTF-8, and no unknown field', async () => {
    expect(await post('{"name":"a"}')).toEqual({ status: 200, body: { name: 'a' } })
    expect((await post('{"name":"a","nmae":"b"}')).status).toBe(400)
    expect((await post(Buffer.from('{"name":"k\xff"}', 'latin1'))).status).toBe(400)
  })
})

describe('an empty body', () => {
  const types = [null, 'application/json', 'application/json; charset=utf-8', 'text/plain', 'application/x-www-form-urlencoded']
  const post = (path: string, type: string | null, body: string | null) =>
    ask(path, { method: 'POST', headers: type === null ? {} : { 'content-type': type }, body })

  it('is an empty object, whatever type it is said to have: what has a default gets it', async () => {
    for (const type of types) {
      for (const body of type === null ? [null] : [null, '']) {
        expect(await post('/api/v1/things/1/change', type, body), String(type)).toEqual({ status: 200, body: { times: 1 } })
      }
    }
    expect((await post('/api/v1/things/1/change', 'application/json', ' \n')).body).toEqual({ times: 1 })
    expect((await post('/api/v1/things/1/change', 'application/json', '{"times":2}')).body).toEqual({ times: 2 })
  })

  it('is told which fields are missing where some are needed', async () => {
    for (const type of types) {
      const answer = await post('/api/v1/things', type, null)
      expect(answer, String(type)).toMatchObject({ status: 400, body: { errors: [{ field: 'name' }] } })
    }
  })

  it('of another type stays of that type, and one that is not empty is still of a wrong type', async () => {
    expect((await post('/api/v1/things', 'application/xml', null)).status).toBe(415)
    expect((await post('/api/v1/things', 'text/plain', '{"name":"a"}')).status).toBe(415)
    expect((await post('/api/v1/signed', 'application/json', '')).body).toEqual({ text: '' })
  })
})
