import { Webhook } from 'standardwebhooks'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startSandbox, type Sandbox } from '@tollgate/stripe-sandbox'
import { PATIENCE } from '../../test/patience.ts'
import { testDatabase } from '../../test/database.ts'
import { testReceiver } from '../../test/receiver.ts'
import { testSmtp } from '../../test/smtp.ts'
import { importCatalogDefinition } from '../catalog/registry.ts'
import { createLog } from '../http/log.ts'
import { ManualClock, systemClock } from '../lib/clock.ts'
import { createSmtpMailer } from '../mail/mailer.ts'
import { stripeAt } from '../sandbox.ts'
import { createTollgate, type Tollgate } from '../tollgate.ts'
import { DAY_MS, MINUTE_MS } from '../lib/period.ts'
import { pruneNotifications } from './jobs.ts'
import { countOverdue } from './overdue-store.ts'

// Notifications as the running server has them: routes, workers, row-level security.

const database = testDatabase()
const receiver = testReceiver()
const smtp = testSmtp()
const OPERATOR_KEY = 'the operator key of this test'
const keys: Record<string, string> = {}
let sandbox: Sandbox
let tollgate: Tollgate

beforeAll(async () => {
  sandbox = await startSandbox()
  tollgate = createTollgate({
    databaseUrl: database.url,
    catalog: await importCatalogDefinition('examples/episodic-memory/billing.config.ts'),
    stripe: { ...stripeAt(sandbox.url), webhookSecrets: ['whsec_test'], pushAtStart: true },
    operatorKey: OPERATOR_KEY,
    publicUrl: 'http://localhost:3000',
    processMetrics: false,
    mailer: createSmtpMailer({ url: smtp.url, from: 'billing@tollgate.example' }),
    log: createLog({ level: 'silent', secrets: [] }),
  })
  await tollgate.start()
  for (const id of ['acme', 'globex']) {
    await call(OPERATOR_KEY, 'POST', '/api/v1/organizations', { id, name: id, email: `billing@${id}.example`, test_clock: true })
    const made = await call(OPERATOR_KEY, 'POST', `/api/v1/organizations/${id}/api-keys`, { name: 'test', scopes: ['admin'] })
    keys[id] = String(made.body['key'])
  }
})
afterAll(async () => {
  await tollgate.stop()
  await sandbox.stop()
})

async function call(key: string | null, method: string, path: string, body?: unknown) {
  const headers: Record<string, string> = { 'content-type': 'application/json' }
  if (key !== null) headers['authorization'] = `Bearer ${key}`
  const init = { method, headers, body: body === undefined ? null : JSON.stringify(body) }
  const response = await tollgate.fetch(new Request(`http://localhost:3000${path}`, init))
  const text = await response.text()
  const isJson = response.headers.get('content-type')?.includes('json') === true
  return { status: response.status, text, body: (isJson ? JSON.parse(text) : {}) as Record<string, unknown> }
}

const endpointAt = (path: string) => ({ url: receiver.url + path, description: path })
const receivedAt = (path: string) => receiver.received.filter((request) => request.path === path)
const typesAt = (path: string) => receivedAt(path).map(({ body }) => (JSON.parse(body) as { type: string }).type)

describe('an admin of an organization', () => {
  it('makes an endpoint, tries it, and sees what came of it; the secret is shown once', async () => {
    const made = await call(keys['acme']!, 'POST', '/api/v1/webhook-endpoints', endpointAt('/tried'))
    expect(made).toMatchObject({ status: 201, body: { organization_id: 'acme', enabled: true, event_types: ['*'] } })
    const path = `/api/v1/webhook-endpoints/${String(made.body['id'])}`
    const test = await call(keys['acme']!, 'POST', `${path}/test`)
    expect(test.status).toBe(202)
    await expect.poll(() => receivedAt('/tried').length, PATIENCE).toBe(1)
    const [request] = receivedAt('/tried')
    const verified = new Webhook(String(made.body['secret'])).verify(request!.body, request!.headers as Record<string, string>)
    expect(verified).toMatchObject({ id: test.body['event_id'], type: 'endpoint.test', organization_id: 'acme' })
    await expect
      .poll(async () => (await call(keys['acme']!, 'GET', `${path}/deliveries/${String(test.body['event_id'])}`)).body, PATIENCE)
      .toMatchObject({ state: 'delivered', attempts: 1, log: [{ number: 1, status: 200, error: null }] })
    const listed = await call(keys['acme']!, 'GET', '/api/v1/webhook-endpoints')
    expect(listed.text).not.toContain('whsec_')
    const rotated = await call(keys['acme']!, 'POST', `${path}/rotate-secret`, { overlap_hours: 1 })
    expect(rotated.body['secret']).not.toBe(made.body['secret'])
    expect((await call(keys['acme']!, 'PATCH', path, { enabled: false })).body).toMatchObject({ disabled_reason: 'by_hand' })
    expect((await call(keys['acme']!, 'POST', `${path}/test`)).status).toBe(409)
    expect((await call(keys['acme']!, 'DELETE', path)).status).toBe(204)
    expect((await call(keys['acme']!, 'GET', path)).status).toBe(404)
  })

  it('sees nothing of another organization’s endpoints, nor of the operators’', async () => {
    const mine = await call(keys['acme']!, 'POST', '/api/v1/webhook-endpoints', endpointAt('/mine'))
    const operators = await call(OPERATOR_KEY, 'POST', '/api/v1/webhook-endpoints', endpointAt('/operators'))
    expect(operators).toMatchObject({ status: 201, body: { organization_id: null } })
    for (const { body } of [mine, operators]) {
      const path = `/api/v1/webhook-endpoints/${String(body['id'])}`
      expect((await call(keys['globex']!, 'GET', path)).status).toBe(404)
      expect((await call(keys['globex']!, 'DELETE', path)).status).toBe(404)
      expect((await call(keys['globex']!, 'POST', `${path}/replay`, { since: '2020-01-01T00:00:00Z' })).status).toBe(404)
    }
    const asked = await call(keys['globex']!, 'POST', '/api/v1/webhook-endpoints?organization_id=acme', endpointAt('/x'))
    expect(asked.status).toBe(404)
    expect((await call(keys['globex']!, 'GET', '/api/v1/webhook-endpoints')).body).toEqual({ endpoints: [] })
  })

  it('is told why an address is refused', async () => {
    for (const url of ['http://10.0.0.1/', 'https://169.254.169.254/', 'https://user:secret@example.com/', 'nonsense']) {
      expect(await call(keys['acme']!, 'POST', '/api/v1/webhook-endpoints', { url })).toMatchObject({
        status: 400,
        body: { code: 'invalid_request', field: 'url' },
      })
    }
    const unknown = { ...endpointAt('/x'), event_types: ['invoice.paied'] }
    expect((await call(keys['acme']!, 'POST', '/api/v1/webhook-endpoints', unknown)).body).toMatchObject({ field: 'event_types' })
  })
})

it('a purchase is told to the organization’s endpoint and to the operators’, and a trial’s end to people (EM-6)', async () => {
  const globex = keys['globex']!
  await call(globex, 'POST', '/api/v1/webhook-endpoints', {
    ...endpointAt('/globex'),
    event_types: ['subscription.*', 'customer.*'],
  })
  const answer = await call(globex, 'POST', '/api/v1/billing/subscribe', { tier: 'pro' })
  expect(answer.status, answer.text).toBe(200)
  await expect
    .poll(() => typesAt('/globex'), PATIENCE)
    .toEqual(expect.arrayContaining(['customer.state_changed', 'subscription.created']))
  await expect
    .poll(() => typesAt('/operators'), PATIENCE)
    .toEqual(expect.arrayContaining(['subscription.created', 'invoice.created']))
  expect(receivedAt('/mine').filter(({ body }) => body.includes('globex'))).toEqual([])
  expect((await call(OPERATOR_KEY, 'POST', '/api/v1/organizations/globex/clock/advance', { by: '11d' })).status).toBe(200)
  await expect.poll(() => smtp.received.map(({ to }) => to), PATIENCE).toEqual(['billing@globex.example'])
  expect(smtp.received[0]!.source).toMatch(/Subject: Your trial of Pro ends on/)
  const events = await call(globex, 'GET', '/api/v1/events?type=subscription.trial_will_end')
  expect(events.body).toMatchObject({
    events: [{ type: 'subscription.trial_will_end', organization_id: 'globex' }],
    has_more: false,
  })
  expect((await call(keys['acme']!, 'GET', '/api/v1/events?organization_id=globex')).status).toBe(404)
  const [event] = events.body['events'] as { id: string }[]
  expect((await call(keys['acme']!, 'GET', `/api/v1/events/${event!.id}`)).status).toBe(404)
  const mails = await call(OPERATOR_KEY, 'GET', '/api/v1/mails?organization_id=globex')
  expect(mails.body).toMatchObject({ mails: [{ kind: 'trial', state: 'sent', to: 'billing@globex.example' }] })
})

it('a link in a mail declines its kind for who has no key, once they say so', async () => {
  const [{ source }] = smtp.received as unknown as [{ source: string }]
  const text = source.replaceAll(/=\n/g, '').replaceAll('=3D', '=')
  const link = /http:\/\/localhost:3000(\/api\/v1\/notifications\/stop\?token=[\w-]+)/.exec(text)![1]!
  const declined = async () => {
    const { body } = await call(keys['globex']!, 'GET', '/api/v1/notifications/preferences')
    return (body['preferences'] as { kind: string; wanted: boolean }[]).filter(({ wanted }) => !wanted).map(({ kind }) => kind)
  }
  expect((await call(null, 'GET', link)).text).toContain('<form method="post">')
  expect(await declined()).toEqual([])
  expect((await call(null, 'POST', link)).status).toBe(200)
  expect(await declined()).toEqual(['trial'])
  expect((await call(null, 'POST', `${link}x`)).status).toBe(400)
  const changed = { recipient: 'billing_address', kind: 'trial', wanted: true }
  expect((await call(keys['globex']!, 'PUT', '/api/v1/notifications/preferences', changed)).status).toBe(200)
  expect(await declined()).toEqual([])
})

it('operators see what each mail looks like', async () => {
  const page = await call(OPERATOR_KEY, 'GET', '/api/v1/notifications/previews/dunning.reminder?step=suspended')
  expect(page.text).toContain('Use has stopped')
  expect((await call(OPERATOR_KEY, 'GET', '/api/v1/notifications/previews/usage.threshold_reached?format=text')).text).toContain(
    '80 %',
  )
  expect((await call(OPERATOR_KEY, 'GET', '/api/v1/notifications/previews/invoice.created')).status).toBe(404)
  expect((await call(keys['acme']!, 'GET', '/api/v1/notifications/previews/dunning.reminder')).status).toBe(403)
})

it('what waits beyond its time is counted, and what is over is forgotten, but nothing that waits', async () => {
  const { db } = database
  const clock = new ManualClock(systemClock.now())
  const overdue = async () => Object.fromEntries(await countOverdue(db, clock.now()))
  await expect.poll(overdue, PATIENCE).toEqual({ events: 0, webhooks: 0, mails: 0 })
  const metrics = await call(OPERATOR_KEY, 'GET', '/metrics')
  expect(metrics.text).toContain('notifications_overdue{queue="events"} 0')
  expect(metrics.text).toMatch(/webhook_deliveries_total\{outcome="delivered"\} \d/)
  await db.query(
    `insert into mails (id, kind, recipient, subject, holds_secret, state, created_at, next_attempt_at)
     values ('mail_waiting', 'trial', 'a@example.com', 'x', false, 'pending', $1, $2)`,
    [clock.now(), new Date(clock.now().getTime() + DAY_MS)],
  )
  expect((await countOverdue(db, clock.now())).get('mails')).toBe(0)
  expect((await countOverdue(db, new Date(clock.now().getTime() + DAY_MS + MINUTE_MS))).get('mails')).toBe(1)
  const count = async (table: string) =>
    (await db.query<{ count: number }>(`select count(*)::int as count from ${table}`)).rows[0]!.count
  clock.advance(31 * DAY_MS)
  await pruneNotifications({ db, clock })
  expect([await count('webhook_deliveries'), await count('webhook_attempts')]).toEqual([0, 0])
  expect(await count('events')).toBeGreaterThan(3)
  clock.advance(400 * DAY_MS)
  await pruneNotifications({ db, clock })
  expect([await count('events'), await count('mails')]).toEqual([0, 1])
})
