import { createRoute, z } from '@hono/zod-openapi'
import { pino } from 'pino'
import { beforeEach, describe, expect, it } from 'vitest'
import type { Principal } from '../auth/principal.ts'
import type { ApiKeyId, OrganizationId } from '../lib/ids.ts'
import { createApp, type App } from './app.ts'
import { registerHealthRoutes } from './health.ts'
import { registerLandingPages } from './landing-pages.ts'
import { createMetrics, registerMetricsRoute, type Metrics } from './metrics.ts'
import { registerOpenApiRoute } from './openapi.ts'
import { registerReferencePage } from './reference-page.ts'

let app: App
let metrics: Metrics
let database: () => Promise<string>
let stopping: boolean

const thing = createRoute({
  method: 'get',
  path: '/api/v1/things/{id}',
  request: { params: z.object({ id: z.string() }) },
  responses: { 200: { description: 'The thing.' } },
})

beforeEach(() => {
  database = async () => 'ok'
  stopping = false
  metrics = createMetrics({ processMetrics: false, countSubscriptions: async () => new Map([['pro', 2]]) })
  app = createApp({
    log: pino({ level: 'silent' }),
    authenticate: async () => {
      throw new Error('keys cannot be looked up')
    },
    onAnswered: ({ method, route, status, seconds }) =>
      metrics.requestSeconds.observe({ method, route, status: String(status) }, seconds),
    register: [
      (app) => app.openapi(thing, (c) => c.json({})),
      (app) => registerHealthRoutes(app, [{ name: 'database', check: () => database() }], () => stopping),
      (app) => registerMetricsRoute(app, metrics, 'open'),
      (app) => registerOpenApiRoute(app, { version: '1.2.3', serverUrl: 'http://localhost:3000' }),
      registerReferencePage,
      registerLandingPages,
    ],
  })
})

describe('readiness', () => {
  it('names what is away, without saying why, and says when to ask again', async () => {
    expect(await (await app.request('/readyz')).json()).toEqual({
      status: 'ready',
      checks: { database: { ok: true, detail: 'ok' } },
    })
    database = async () => {
      throw new Error('password authentication failed for postgres://tollgate:hunter2@db')
    }
    const answer = await app.request('/readyz')
    expect([answer.status, answer.headers.get('retry-after')]).toEqual([503, '1'])
    expect(await answer.json()).toEqual({ status: 'not_ready', checks: { database: { ok: false, detail: 'away' } } })
    expect((await app.request('/healthz')).status).toBe(200)
  })

  it('does not wait for what never answers', async () => {
    database = () => new Promise(() => undefined)
    expect((await app.request('/readyz')).status).toBe(503)
  })

  it('ends when the server stops', async () => {
    stopping = true
    expect((await app.request('/readyz')).status).toBe(503)
  })
})

describe('metrics', () => {
  it('have the names that EM-13 gives them', async () => {
    metrics.paymentsSucceeded.inc()
    metrics.paymentsFailed.inc(2)
    // Summed up as fractions, these would be 0.7999999999999999.
    for (let count = 0; count < 8; count += 1) metrics.creditsUsed.add('org_1', 100_000n)
    metrics.quotaExceeded.inc({ tier: 'free' })
    const text = await (await app.request('/metrics')).text()
    expect(text).toContain('stripe_subscriptions_total{tier="pro"} 2')
    expect(text).toContain('stripe_payments_succeeded_total 1')
    expect(text).toContain('stripe_payments_failed_total 2')
    expect(text).toContain('credits_used_total{customer_id="org_1"} 0.8\n')
    expect(text).toContain('quota_exceeded_total{tier="free"} 1')
  })

  it('count requests by route, not by path, so that no caller can make new ones', async () => {
    await app.request('/healthz')
    await app.request('/api/v1/things/1')
    await app.request('/nowhere/1')
    await app.request('/nowhere/2')
    const text = await (await app.request('/metrics')).text()
    expect(text).toContain('http_request_duration_seconds_count{method="GET",route="/healthz",status="200"} 1')
    expect(text).toContain('http_request_duration_seconds_count{method="GET",route="/*",status="404"} 2')
    expect(text).not.toContain('nowhere')
    expect(text).not.toContain('things/1')
  })
})

describe('the reference', () => {
  it('describes every route, how to authenticate, and what a problem looks like', async () => {
    const document = (await (await app.request('/openapi.json')).json()) as {
      openapi: string
      paths: Record<string, { get: { security: unknown[]; responses: Record<string, unknown> } }>
      components: { schemas: Record<string, unknown> }
    }
    expect(document.openapi).toBe('3.1.0')
    const operation = document.paths['/api/v1/things/{id}']!.get
    expect(operation.security).toHaveLength(3)
    expect(Object.keys(operation.responses)).toEqual(['200', 'default'])
    expect(document.components.schemas).toHaveProperty('Problem')
  })

  it('loads nothing from elsewhere', async () => {
    const page = await app.request('/docs')
    expect(page.headers.get('content-security-policy')).toContain("default-src 'self'")
    const html = await page.text()
    expect(html).not.toMatch(/https?:/)
    const assets = [...html.matchAll(/(?:href|src)="(\/docs\/assets\/[^"]+)"/g)].map(([, path]) => path!)
    expect(assets).toHaveLength(3)
    for (const path of assets) {
      const asset = await app.request(path)
      expect(asset.status).toBe(200)
      expect((await asset.text()).length).toBeGreaterThan(100)
    }
    for (const name of ['..%2Fpackage.json', 'constructor', '__proto__']) {
      expect((await app.request(`/docs/assets/${name}`)).status, name).toBe(404)
    }
  })
})

it('metrics are read with the token or by an operator, and by nobody else', async () => {
  const callers: Record<string, Principal> = {
    operator: { kind: 'operator', name: 'test' },
    tenant: { kind: 'api_key', keyId: 'key' as ApiKeyId, organizationId: 'acme' as OrganizationId, scopes: ['admin'] },
  }
  const authenticate = async (request: Request) => callers[request.headers.get('x-api-key') ?? ''] ?? null
  const read = async (token: string | null, headers: Record<string, string>): Promise<number> => {
    const guarded = createApp({
      log: pino({ level: 'silent' }),
      authenticate,
      register: [(inner) => registerMetricsRoute(inner, createMetrics({ processMetrics: false }), { token, authenticate })],
    })
    return (await guarded.request('/metrics', { headers })).status
  }
  expect(await read('a token of this test', { authorization: 'Bearer a token of this test' })).toBe(200)
  expect(await read('a token of this test', { 'x-api-key': 'operator' })).toBe(200)
  expect(await read('a token of this test', {})).toBe(401)
  expect(await read('a token of this test', { authorization: 'Bearer another' })).toBe(401)
  expect(await read('a token of this test', { 'x-api-key': 'tenant' })).toBe(403)
  expect(await read(null, { authorization: 'Bearer ' })).toBe(401)
})

describe('the page after a checkout', () => {
  it('claims no payment: a trial asks for none, and a debit takes days', async () => {
    const page = await (await app.request('/billing/success')).text()
    expect(page).toContain('Thank you')
    expect(page).not.toMatch(/payment|paid/i)
  })
})
