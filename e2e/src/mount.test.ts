import { serve } from '@hono/node-server'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import express from 'express'
import { fastify } from 'fastify'
import { Hono } from 'hono'
import pg from 'pg'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import catalog from '../../examples/episodic-memory/billing.config.ts'
import { createTollgate, mountAuth, mountBilling, type Tollgate } from '../../server/src/tollgate.ts'
import { testDatabase } from '../../server/test/database.ts'

// CB-1: a host with a server of its own and one call for each group of routes. The database is empty before it starts.

const template = testDatabase()
const database = `host_${randomUUID().replaceAll('-', '')}`
let databaseUrl = ''
let tollgate: Tollgate

beforeAll(async () => {
  await onServer(`create database ${database} template template0`)
  databaseUrl = new URL(`/${database}`, template.url).href
  tollgate = createTollgate({
    databaseUrl,
    catalog,
    stripe: null,
    operatorKey: 'the operator key of the host',
    publicUrl: 'http://localhost:3000',
    processMetrics: false,
    log: pino({ level: 'silent' }),
  })
  await tollgate.start()
})
afterAll(async () => {
  await tollgate.stop()
  await onServer(`drop database ${database} with (force)`)
})

async function onServer(statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: template.url })
  await client.connect()
  try {
    await client.query(statement)
  } finally {
    await client.end()
  }
}

type Host = { readonly url: string; close(): Promise<unknown> }

function hostOf(server: Server): Host {
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}`, close: () => new Promise((resolve) => void server.close(resolve)) }
}

const hosts: Readonly<Record<string, () => Promise<Host>>> = {
  async hono() {
    const app = new Hono()
    mountAuth(app, tollgate)
    mountBilling(app, tollgate)
    app.post('/api/v1/notes', async (c) => c.json({ kept: await c.req.json() }))
    app.get('/docs', (c) => c.text('of the host'))
    const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }) as Server
    await once(server, 'listening')
    return hostOf(server)
  },
  async express() {
    const app = express()
    mountAuth(app, tollgate)
    mountBilling(app, tollgate)
    app.use(express.json())
    app.post('/api/v1/notes', (request, response) => void response.json({ kept: request.body as unknown }))
    app.get('/docs', (_request, response) => void response.send('of the host'))
    const server = createServer(app)
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return hostOf(server)
  },
  async fastify() {
    const app = fastify()
    mountAuth(app, tollgate)
    mountBilling(app, tollgate)
    app.post('/api/v1/notes', async (request) => ({ kept: request.body }))
    app.get('/docs', async () => 'of the host')
    await app.listen({ port: 0, host: '127.0.0.1' })
    return { ...hostOf(app.server), close: () => app.close() }
  },
}

describe.each(Object.keys(hosts))('CB-1 a host on %s', (name) => {
  let host: Host
  beforeAll(async () => {
    host = await hosts[name]!()
  })
  afterAll(() => host.close())

  async function call(method: string, path: string, body?: unknown, headers: Record<string, string> = {}) {
    const response = await fetch(`${host.url}${path}`, {
      method,
      headers: { origin: 'http://localhost:3000', 'content-type': 'application/json', ...headers },
      body: body === undefined ? null : JSON.stringify(body),
    })
    const text = await response.text()
    const isJson = response.headers.get('content-type')?.includes('json') === true
    return {
      status: response.status,
      cookies: response.headers.getSetCookie(),
      body: (isJson ? JSON.parse(text) : { text }) as Record<string, unknown>,
    }
  }

  it('signs people up and in, and serves their billing behind it', async () => {
    const person = { email: `ada@${name}.example.com`, password: 'correct horse battery staple', name: 'Ada' }
    expect((await call('GET', '/api/v1/auth/me')).status).toBe(401)
    expect((await call('POST', '/api/v1/auth/sign-up', person)).status).toBe(201)
    const { cookies, body } = await call('POST', '/api/auth/sign-in', person)
    expect(body).toMatchObject({ caller: { user: { email: person.email } } })
    const cookie = cookies.find((line) => line.startsWith('session_token='))!.split(';')[0]!
    const { id } = (await call('GET', '/api/v1/auth/me', undefined, { cookie })).body['user'] as { id: string }
    expect(id).toMatch(/^user_/)
    const usage = await call('POST', '/api/v1/usage/consume', { meter: 'episode_search', idempotency_key: name }, { cookie })
    expect(usage.body).toMatchObject({ allowed: true, credits_used: 0.1 })
    expect((await call('GET', '/api/billing/subscription', undefined, { cookie })).body).toMatchObject({ tier: 'FREE' })
    expect((await call('GET', '/api/v1/auth/providers')).body).toEqual({ providers: [] })
    // better-auth's own surface is there too.
    expect((await call('GET', '/api/v1/auth/get-session', undefined, { cookie })).body).toMatchObject({ user: { id } })
  })

  it('keeps its own routes and pages, and what is nobody’s', async () => {
    expect((await call('POST', '/api/v1/notes', { text: 'kept' })).body).toEqual({ kept: { text: 'kept' } })
    expect((await call('GET', '/docs')).body).toEqual({ text: 'of the host' })
    expect((await call('GET', '/healthz')).status).toBe(404)
  })
})

it('CB-1 says so when a body was read before it arrives', async () => {
  const app = express()
  app.use(express.json())
  mountAuth(app, tollgate)
  app.use(
    ((error: Error, _request, response, _next) => void response.status(500).send(error.message)) as express.ErrorRequestHandler,
  )
  const server = createServer(app)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const host = hostOf(server)
  try {
    const response = await fetch(`${host.url}/api/v1/auth/sign-in`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{}',
    })
    expect(await response.text()).toContain('call mountAuth and mountBilling before what reads bodies')
  } finally {
    await host.close()
  }
})

it('CB-1 the two calls together serve every route of the API', async () => {
  const document = (await (await tollgate.fetch(new Request('http://localhost:3000/openapi.json'))).json()) as {
    paths: Record<string, unknown>
  }
  const groups = Object.keys(document.paths).map((path) => [path, tollgate.groupOf(path.replace(/\{\w+\}/g, 'one'))] as const)
  expect(groups.filter(([, group]) => group === null)).toEqual([])
  const auth = groups.filter(([, group]) => group === 'auth').map(([path]) => path.split('/')[3])
  expect(new Set(auth)).toEqual(new Set(['auth', 'organizations', 'users']))
})
