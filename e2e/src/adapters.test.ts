import { once } from 'node:events'
import type { Server } from 'node:http'
import { createTollgateClient, type UsageClient } from '@tollgate/sdk'
import {
  meterRoute as expressMeter,
  requireFeature as expressFeature,
  requireStanding as expressGate,
} from '@tollgate/sdk/express'
import {
  meterRoute as fastifyMeter,
  requireFeature as fastifyFeature,
  requireStanding as fastifyGate,
} from '@tollgate/sdk/fastify'
import { meterHandler, requireFeature as fetchFeature, requireStanding as fetchGate } from '@tollgate/sdk/fetch'
import { meterRoute as honoMeter, requireFeature as honoFeature, requireStanding as honoGate } from '@tollgate/sdk/hono'
import { serve } from '@hono/node-server'
import express from 'express'
import { fastify, type FastifyReply, type FastifyRequest } from 'fastify'
import { Hono } from 'hono'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import catalog from '../../examples/episodic-memory/billing.config.ts'
import { createTollgate, type Tollgate } from '../../server/src/tollgate.ts'
import { testDatabase } from '../../server/test/database.ts'

const OPERATOR_KEY = 'operator-key-of-the-adapters-test'
const database = testDatabase()
let tollgate: Tollgate

/** One metered host: `/work` costs 2 at most and settles at what the header `x-cost` says; `/fails` answers 500. */
type Host = { readonly url: string; close(): Promise<void> }

// A key is hashed slowly where it is seen first, and much more slowly on a busy machine.
const patient = { deadlineMs: 60_000, timeoutMs: 60_000 }
const clientOf = (key: string | null | undefined): UsageClient | null =>
  key
    ? createTollgateClient({ url: 'http://in-process', apiKey: key, fetch: (request) => tollgate.fetch(request), ...patient })
    : null
const options = { meter: 'reflection', quantity: 2 } as const

const hosts: Readonly<Record<string, () => Promise<Host>>> = {
  async hono() {
    const app = new Hono()
    const metered = honoMeter({
      ...options,
      client: (c) => clientOf(c.req.header('x-api-key')),
      settleQuantity: (c) => c.req.header('x-cost'),
    })
    app.post('/work', metered, (c) => c.json({ done: true }))
    app.post('/fails', metered, (c) => c.json({ done: false }, 500))
    app.post('/gated', honoGate({ client: (c) => clientOf(c.req.header('x-api-key')) }), (c) => c.json({ done: true }))
    const featured = honoFeature('reports', { client: (c) => clientOf(c.req.header('x-api-key')) })
    app.post('/reports', featured, (c) => c.json({ done: true }))
    const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' })
    return hostOf(server as Server)
  },
  async express() {
    const app = express()
    const metered = expressMeter<express.Request, express.Response>({
      ...options,
      client: (request) => clientOf(request.get('x-api-key')),
      settleQuantity: (request) => request.get('x-cost'),
    })
    app.post('/work', metered, (_request, response) => void response.json({ done: true }))
    app.post('/fails', metered, (_request, response) => void response.status(500).json({ done: false }))
    const gated = expressGate<express.Request, express.Response>({ client: (request) => clientOf(request.get('x-api-key')) })
    app.post('/gated', gated, (_request, response) => void response.json({ done: true }))
    const featured = expressFeature<express.Request, express.Response>('reports', {
      client: (request) => clientOf(request.get('x-api-key')),
    })
    app.post('/reports', featured, (_request, response) => void response.json({ done: true }))
    return hostOf(app.listen(0, '127.0.0.1'))
  },
  async fastify() {
    const app = fastify()
    const metered = fastifyMeter<FastifyRequest, FastifyReply>({
      ...options,
      client: (request) => clientOf(request.headers['x-api-key'] as string | undefined),
      settleQuantity: (request) => request.headers['x-cost'] as string | undefined,
    })
    app.post('/work', metered, async () => ({ done: true }))
    app.post('/fails', metered, async (_request, reply) => reply.code(500).send({ done: false }))
    const gated = fastifyGate<FastifyRequest, FastifyReply>({
      client: (request) => clientOf(request.headers['x-api-key'] as string | undefined),
    })
    app.post('/gated', gated, async () => ({ done: true }))
    const featured = fastifyFeature<FastifyRequest, FastifyReply>('reports', {
      client: (request) => clientOf(request.headers['x-api-key'] as string | undefined),
    })
    app.post('/reports', featured, async () => ({ done: true }))
    const url = await app.listen({ port: 0, host: '127.0.0.1' })
    return { url, close: () => app.close() }
  },
  async 'fetch handlers'() {
    const metered = (status: number) =>
      meterHandler(
        {
          ...options,
          client: (request) => clientOf(request.headers.get('x-api-key')),
          settleQuantity: (response) => response.headers.get('x-cost') ?? undefined,
        },
        (request) =>
          Response.json({ done: status === 200 }, { status, headers: { 'x-cost': request.headers.get('x-cost') ?? '2' } }),
      )
    const app = new Hono()
    app.post('/work', (c) => metered(200)(c.req.raw))
    app.post('/fails', (c) => metered(500)(c.req.raw))
    const gated = fetchGate({ client: (request) => clientOf(request.headers.get('x-api-key')) }, () =>
      Response.json({ done: true }),
    )
    app.post('/gated', (c) => gated(c.req.raw))
    const featured = fetchFeature('reports', { client: (request) => clientOf(request.headers.get('x-api-key')) }, () =>
      Response.json({ done: true }),
    )
    app.post('/reports', (c) => featured(c.req.raw))
    return hostOf(serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }) as Server)
  },
}

async function hostOf(server: Server): Promise<Host> {
  if (!server.listening) await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('A TCP port was expected.')
  return {
    url: `http://127.0.0.1:${address.port}`,
    async close() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

beforeAll(async () => {
  tollgate = createTollgate({
    databaseUrl: database.url,
    catalog: { ...catalog, features: { reports: { name: 'Reports' } } },
    stripe: null,
    operatorKey: OPERATOR_KEY,
    publicUrl: 'http://in-process',
    log: pino({ level: 'silent' }),
    processMetrics: false,
  })
  await tollgate.start()
})
afterAll(() => tollgate.stop())

async function operate(path: string, body: unknown, method: 'POST' | 'PATCH' | 'PUT' = 'POST'): Promise<Record<string, unknown>> {
  const headers = { authorization: `Bearer ${OPERATOR_KEY}`, 'content-type': 'application/json' }
  const response = await tollgate.fetch(new Request(`http://in-process${path}`, { method, headers, body: JSON.stringify(body) }))
  return (await response.json()) as Record<string, unknown>
}

/** A new organization on FREE (100 credits), its id, key and client. */
async function createCustomer(): Promise<{ id: string; key: string; client: UsageClient }> {
  const { id } = await operate('/api/v1/organizations', { name: 'Host', email: 'host@example.com' })
  const { key } = await operate(`/api/v1/organizations/${String(id)}/api-keys`, { name: 'host', scopes: ['read', 'write'] })
  return { id: String(id), key: String(key), client: clientOf(String(key))! }
}

describe.each(Object.keys(hosts))('a route metered in %s', (name) => {
  let host: Host
  beforeAll(async () => {
    host = await hosts[name]!()
  })
  afterAll(() => host.close())
  const call = (path: string, headers: Record<string, string>) => fetch(host.url + path, { method: 'POST', headers })

  it('records what it came to when it succeeds, and nothing when it fails (EM-3)', async () => {
    const { key, client } = await createCustomer()
    const answer = await call('/work', { 'x-api-key': key, 'x-cost': '1.5' })
    expect([answer.status, await answer.json()]).toEqual([200, { done: true }])
    expect(['used', 'remaining', 'total'].map((name) => answer.headers.get(`x-credits-${name}`))).toEqual(['3', '97', '100'])
    expect(await client.usage()).toMatchObject({ credits_used: 3, quota_remaining: 97 })
    const failed = await call('/fails', { 'x-api-key': key })
    expect([failed.status, failed.headers.get('x-credits-used')]).toEqual([500, '3'])
    expect(await client.usage()).toMatchObject({ credits_used: 3, quota_remaining: 97 })
  })

  it('answers 402 where neither trial nor subscription permit it, and runs where they do (MR-13)', async () => {
    const { id, key } = await createCustomer()
    const refused = await call('/gated', { 'x-api-key': key })
    const detail = "Workspace billing status 'none' does not permit ingestion."
    expect([refused.status, await refused.json()]).toEqual([402, { detail }])
    await operate(`/api/v1/admin/billing/${id}`, { billing_status: 'active', reason: 'for this test' }, 'PATCH')
    const allowed = await call('/gated', { 'x-api-key': key })
    expect([allowed.status, await allowed.json()]).toEqual([200, { done: true }])
    expect((await call('/gated', {})).status).toBe(401)
    expect((await call('/gated', { 'x-api-key': 'tg_unknown' })).status).toBe(401)
  })

  it('answers 403 to who has not the feature, and runs for who has', async () => {
    const { id, key } = await createCustomer()
    const refused = await call('/reports', { 'x-api-key': key })
    const message = 'The plan free does not include Reports.'
    const body = { error: 'not_included', message, feature: 'reports', upgrade_url: '/api/v1/billing/upgrade' }
    expect([refused.status, await refused.json()]).toEqual([403, body])
    await operate(`/api/v1/admin/organizations/${id}/features/reports`, { value: true, reason: 'for this test' }, 'PUT')
    const allowed = await call('/reports', { 'x-api-key': key })
    expect([allowed.status, await allowed.json()]).toEqual([200, { done: true }])
    expect((await call('/reports', {})).status).toBe(401)
    expect((await call('/reports', { 'x-api-key': 'tg_unknown' })).status).toBe(401)
  })

  it('answers 429 over quota with the body of EM-4 and the headers of EM-5, and 401 without a key', async () => {
    const { key, client } = await createCustomer()
    await client.track({ meter: 'episode_ingestion', quantity: 97 })
    const answer = await call('/work', { 'x-api-key': key })
    expect(answer.status).toBe(429)
    expect(await answer.json()).toMatchObject({
      error: 'quota_exceeded',
      message: 'Monthly quota exceeded. Used 97/100 credits.',
      usage: { subscription_tier: 'FREE', credits_used: 97, monthly_limit: 100, quota_remaining: 3, usage_percentage: 97 },
      upgrade_url: '/api/v1/billing/upgrade',
    })
    expect(answer.headers.get('x-credits-remaining')).toBe('3')
    expect(answer.headers.get('x-quota-warning')).toBe('3 of 100 left in this period')
    expect((await call('/work', {})).status).toBe(401)
  })

  it('answers 401 to a key that is wrong, and 403 to one that may only read', async () => {
    const { id, key } = await createCustomer()
    const wrong = await call('/work', { 'x-api-key': `${key}x` })
    expect([wrong.status, await wrong.json()]).toMatchObject([401, { error: 'unauthenticated' }])
    const reader = await operate(`/api/v1/organizations/${id}/api-keys`, { name: 'reader', scopes: ['read'] })
    const refused = await call('/work', { 'x-api-key': String(reader['key']) })
    expect([refused.status, await refused.json()]).toMatchObject([403, { error: 'forbidden' }])
  })

  it('lets through exactly what is left when many calls arrive together', async () => {
    const { key, client } = await createCustomer()
    await client.track({ meter: 'episode_ingestion', quantity: 80 })
    const answers = await Promise.all(Array.from({ length: 20 }, () => call('/work', { 'x-api-key': key })))
    expect(answers.filter((answer) => answer.status === 200)).toHaveLength(5)
    expect(await client.usage()).toMatchObject({ credits_used: 100, quota_remaining: 0 })
  })
})
