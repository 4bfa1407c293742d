import { once } from 'node:events'
import { Agent, request, type IncomingMessage } from 'node:http'
import { text } from 'node:stream/consumers'
import { pino } from 'pino'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { testBilling } from '../../../test/billing.ts'
import { createApp } from '../../http/app.ts'
import { serve, type HttpServer } from '../../http/serve.ts'
import { readPayload } from './inbox-store.ts'
import { receiveWebhook } from './intake.ts'
import { createWebhookHotPath } from './webhook-hot-path.ts'
import { registerWebhookRoutes } from './webhook-routes.ts'

const billing = testBilling({ webhooks: false })
const log = pino({ level: 'silent' })
let bare: HttpServer
let plain: HttpServer
let routed: HttpServer
let kicks = 0
const answered: string[] = []

beforeAll(async () => {
  const { context } = billing
  const kick = () => void (kicks += 1)
  const app = createApp({
    log,
    authenticate: async () => null,
    register: [(it) => registerWebhookRoutes(it, context, kick)],
  })
  const fetch = (request: Request) => app.fetch(request)
  const options = { context, kick, log, onAnswered: ({ route }: { route: string }) => void answered.push(route) }
  const { preHandler, plainHandler } = createWebhookHotPath(options)
  bare = await serve({ fetch, preHandler, host: '127.0.0.1', port: 0 })
  plain = await serve({ fetch, plainHandler, host: '127.0.0.1', port: 0 })
  routed = await serve({ fetch, host: '127.0.0.1', port: 0 })
})
afterAll(() => Promise.all([bare.stop(), plain.stop(), routed.stop()]))

const eventOf = (id: string, parts: object = {}) =>
  JSON.stringify({
    id,
    object: 'event',
    type: 'customer.updated',
    created: 1_700_000_000,
    livemode: false,
    data: { object: { object: 'customer', id: 'cus_ünknown' } },
    ...parts,
  })

/** In one piece, head and body in one write, on a connection of its own: so none is what an earlier one has made of it. */
async function post(server: HttpServer, path: string, body: string, headers: Record<string, string>) {
  const agent = new Agent({ keepAlive: true })
  const asking = request(`http://127.0.0.1:${server.port}${path}`, {
    agent,
    method: 'POST',
    headers: { ...headers, 'content-length': Buffer.byteLength(body), 'x-request-id': 'same' },
  })
  asking.end(body)
  const [response] = (await once(asking, 'response')) as [IncomingMessage]
  const answer = { status: response.statusCode, type: response.headers['content-type'], body: await text(response) }
  agent.destroy()
  return answer
}

test.each([
  ['a new event', eventOf('evt_new'), 200],
  ['one that came before', eventOf('evt_new'), 200],
  ['a body that is no JSON', 'nonsense', 400],
  ['JSON that is no event', '[]', 400],
  ['an event without livemode', eventOf('evt_f', { livemode: undefined }), 400],
  ['an event without an object', eventOf('evt_f', { data: {} }), 400],
  [
    'a thin event',
    JSON.stringify({ id: 'evt_t', object: 'v2.core.event', type: 'v1.billing.meter.error', livemode: false }),
    400,
  ],
  ['a body that is too large', eventOf('evt_large', { padding: 'x'.repeat(5 * 1024 * 1024) }), 413],
])('%s is answered as by the route', async (_what, body, status) => {
  const headers = { 'stripe-signature': billing.sign(body), 'content-type': 'application/json; charset=utf-8' }
  const wanted = await post(routed, '/api/v1/billing/webhook', body, headers)
  for (const server of [bare, plain]) {
    const answer = await post(server, '/api/v1/billing/webhook', body, headers)
    expect(answer.status).toBe(status)
    expect({ ...answer, type: answer.type?.split(';')[0] }).toEqual({ ...wanted, type: wanted.type?.split(';')[0] })
  }
})

test('MR-14 a signature of another body is refused with the same words', async () => {
  for (const headers of [{ 'stripe-signature': billing.sign('{}') }, { 'stripe-signature': '' }, {}]) {
    for (const server of [bare, plain]) {
      const answer = await post(server, '/api/v1/billing/webhook', eventOf('evt_forged'), headers)
      expect(answer).toMatchObject({ status: 400, body: expect.stringContaining('invalid signature') as string })
    }
  }
})

test('MR-3, KF-11, EM-6 each path takes it, wakes the worker for what is new, and is counted as its route', async () => {
  answered.length = 0
  const before = kicks
  const paths = ['/api/v1/billing/webhook', '/api/billing/webhooks', '/api/webhooks/stripe']
  for (const [index, path] of paths.entries()) {
    const body = eventOf(`evt_path_${index}`)
    const deliver = (server: HttpServer) => post(server, path, body, { 'stripe-signature': billing.sign(body) })
    const answers = [await deliver(index === 1 ? plain : bare), await deliver(index === 1 ? bare : plain)]
    expect(answers).toEqual(answers.map(() => expect.objectContaining({ status: 200, body: '{"received":true}' }) as unknown))
  }
  expect(kicks - before).toBe(paths.length)
  expect(answered).toHaveLength(2 * paths.length)
  expect(new Set(answered)).toEqual(new Set(['/api/v1/billing/webhook', '/api/v1/billing/webhooks', '/api/v1/webhooks/stripe']))
  const { rows } = await billing.database.db.query(`select 1 from stripe_events where event_id like 'evt_path_%'`)
  expect(rows).toHaveLength(paths.length)
})

test('those that come together are stored together, and one that cannot be stored fails alone', async () => {
  const ids = Array.from({ length: 20 }, (_, index) => `evt_together_${index % 15}`)
  const bodies = [...ids.map((id) => eventOf(id)), eventOf('evt_refused')]
  const { db } = billing.database
  await db.query(`alter table stripe_events add constraint refused check (event_id <> 'evt_refused')`)
  const answers = await Promise.all(
    bodies.map((body) => post(bare, '/api/v1/billing/webhook', body, { 'stripe-signature': billing.sign(body) })),
  )
  await db.query('alter table stripe_events drop constraint refused')
  expect(answers.map(({ status }) => status)).toEqual([...ids.map(() => 200), 500])
  const { rows } = await db.query<{ id: string }>(`select event_id as id from stripe_events where event_id like 'evt_together_%'`)
  expect(rows).toHaveLength(15)
  for (const { id } of rows) expect(String(await readPayload(db, id))).toBe(eventOf(id))
})

test('when more events wait than are held, is told so in its own words', async () => {
  const body = eventOf('evt_too_many')
  const signature = billing.sign(body)
  const receive = () => receiveWebhook(billing.context, body, signature)
  const received = await billing.database.db.transaction(async (tx) => {
    // Nothing is stored meanwhile.
    await tx.query('lock table stripe_events in access exclusive mode')
    const first = receive()
    const refusal = await Promise.all(Array.from({ length: 5_100 }, receive)).catch((error: unknown) => error)
    expect(refusal).toMatchObject({ code: 'overloaded', message: expect.stringContaining('events of Stripe wait') as string })
    return { first }
  })
  await received.first
})
