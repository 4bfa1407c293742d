import { Webhook } from 'standardwebhooks'
import { beforeEach, describe, expect, it } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { testReceiver } from '../../test/receiver.ts'
import { webhooksContext } from '../../test/webhooks.ts'
import { publishEvent } from '../events/actions.ts'
import { ALL_ORGANIZATIONS, eventTypes } from '../events/types.ts'
import { ManualClock, systemClock } from '../lib/clock.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS } from '../lib/period.ts'
import { createSeal } from '../lib/seal.ts'
import { handOutEvents, type HandOutContext } from '../notifications/hand-out.ts'
import { changeEndpoint, createEndpoint, readEndpoint, replay, rotateSecret, sendTest, type WebhooksContext } from './actions.ts'
import { createDeliverer, type DeliveringContext } from './deliver.ts'
import { findDelivery, listDeliveries, type DeliveryRow } from './delivery-store.ts'
import { type EndpointRow } from './endpoint-store.ts'
import { createPost, type Post } from './post.ts'

const database = testDatabase()
const receiver = testReceiver()
const asker = { actor: 'operator:test', requestId: 'req_1' }
let clock = new ManualClock(systemClock.now())
let outcomes: string[] = []
let disabled: string[] = []

beforeEach(async () => {
  clock = new ManualClock(systemClock.now())
  outcomes = []
  disabled = []
  receiver.received.length = 0
  receiver.answer = (_request, response) => void response.end('thanks')
  await database.db.query('truncate webhook_endpoints, webhook_deliveries, webhook_attempts, events, organizations cascade')
  for (const id of ['acme', 'other']) {
    await database.db.query(`insert into organizations (id, name, email, created_at) values ($1, $1, 'a@example.com', $2)`, [
      id,
      clock.now(),
    ])
  }
})

function context(post: Post = createPost({ allowLoopback: true })): WebhooksContext & DeliveringContext & HandOutContext {
  return {
    ...webhooksContext(database.db, clock),
    destinations: { allowLoopback: true },
    post,
    mailing: { billingUrl: 'http://localhost/billing', stopUrl: () => 'http://localhost/stop', onUnwritable: () => undefined },
    onDelivery: (outcome) => void outcomes.push(outcome),
    onDisabled: ({ reason }) => void disabled.push(reason),
  }
}

async function endpoint(organizationId = 'acme', path = '/hooks', eventTypes: readonly string[] = ['*']) {
  return createEndpoint(context(), organizationId, { url: receiver.url + path, description: '', eventTypes }, asker)
}

async function publish(key: string, organizationId = 'acme'): Promise<void> {
  const data = eventTypes['invoice.paid'].example
  await publishEvent(database.db, { organizationId, type: 'invoice.paid', key, data, occurredAt: clock.now() })
}

/** Hands out and delivers all that is due now. */
async function run(on = context()): Promise<void> {
  while ((await handOutEvents(on)) > 0);
  const deliverer = createDeliverer(on)
  while ((await deliverer.begin()) > 0) await deliverer.finish()
}

const deliveriesOf = ({ id }: EndpointRow): Promise<readonly DeliveryRow[]> =>
  listDeliveries(database.db, { endpointId: id, state: null, after: null, limit: 200 })
const secretOf = ({ secret }: { secret: string }): Webhook => new Webhook(secret)
const last = () => receiver.received.at(-1)!
const headersOf = (request = last()) => request.headers as Record<string, string>

describe('an event', () => {
  it('arrives signed, as the library of Standard Webhooks verifies it', async () => {
    const made = await endpoint()
    await publish('invoice.paid:in_1')
    await run()
    expect(secretOf(made).verify(last().body, headersOf())).toMatchObject({
      id: headersOf()['webhook-id'],
      type: 'invoice.paid',
      timestamp: clock.now().toISOString(),
      organization_id: 'acme',
      data: { invoice_id: 'in_1', amount_paid_minor: 2900 },
    })
    expect(outcomes).toEqual(['delivered'])
  })

  it('goes once to each endpoint that asked for it: its organization’s and the operators’, nobody else’s', async () => {
    await endpoint('acme', '/acme')
    await endpoint('acme', '/subscriptions', ['subscription.*'])
    await endpoint('other', '/other')
    await endpoint(ALL_ORGANIZATIONS, '/operators', ['invoice.*'])
    await publish('invoice.paid:in_1')
    await run()
    await publish('invoice.paid:in_1')
    await run()
    expect(receiver.received.map(({ path }) => path).sort()).toEqual(['/acme', '/operators'])
  })

  it('is handed out once, and delivered once, by any number of servers', async () => {
    await endpoint()
    for (let index = 0; index < 30; index += 1) await publish(`invoice.paid:in_${index}`)
    await Promise.all(Array.from({ length: 6 }, () => run()))
    const ids = receiver.received.map(({ headers }) => headers['webhook-id'])
    expect(ids).toHaveLength(30)
    expect(new Set(ids).size).toBe(30)
  })
})

describe('a delivery that fails', () => {
  it('is tried again after ever longer waits, under the same id, until it is taken', async () => {
    const { endpoint: row } = await endpoint()
    receiver.answer = (_request, response) => void response.writeHead(500).end('broken')
    await publish('invoice.paid:in_1')
    await run()
    await run()
    expect(receiver.received).toHaveLength(1)
    clock.advance(5 * SECOND_MS)
    await run()
    clock.advance(5 * SECOND_MS)
    await run()
    expect(receiver.received).toHaveLength(2)
    receiver.answer = (_request, response) => void response.writeHead(204).end()
    clock.advance(5 * SECOND_MS)
    await run()
    expect(receiver.received).toHaveLength(3)
    expect(new Set(receiver.received.map(({ headers }) => headers['webhook-id'])).size).toBe(1)
    expect(outcomes).toEqual(['retried', 'retried', 'delivered'])
    const found = await findDelivery(database.db, { endpointId: row.id, eventId: headersOf()['webhook-id']! })
    expect(found).toMatchObject({
      delivery: { state: 'delivered', attempts: 3 },
      attempts: [{ number: 1, status: 500, response: 'broken' }, { status: 500 }, { status: 204, response: '', error: null }],
    })
    expect(await readEndpoint(database.db, row)).toMatchObject({ failingSince: null })
  })

  it('is given up after three days; its endpoint is then disabled, and that is an event too', async () => {
    const failing = await endpoint('acme', '/failing')
    await endpoint('acme', '/healthy', ['endpoint.*'])
    receiver.answer = ({ path }, response) => void response.writeHead(path === '/failing' ? 503 : 200).end()
    await publish('invoice.paid:in_1')
    const begun = clock.now()
    await run()
    const [first] = await deliveriesOf(failing.endpoint)
    while (disabled.length === 0) {
      const [delivery] = await deliveriesOf(failing.endpoint)
      expect(delivery!.state).toBe('pending')
      clock.set(delivery!.nextAttemptAt)
      await run()
    }
    expect(clock.now().getTime() - begun.getTime()).toBe(3 * DAY_MS)
    expect(outcomes.filter((outcome) => outcome === 'failed')).toHaveLength(1)
    expect(disabled).toEqual(['failing'])
    expect(await readEndpoint(database.db, failing.endpoint)).toMatchObject({ disabledReason: 'failing', failingSince: begun })
    await run()
    expect(last().path).toBe('/healthy')
    expect(JSON.parse(last().body)).toMatchObject({
      type: 'endpoint.disabled',
      data: { endpoint_id: failing.endpoint.id, reason: 'failing' },
    })
    expect(first!.eventId).not.toBe(headersOf()['webhook-id'])
  })

  it('does not count against an endpoint that takes others meanwhile', async () => {
    const { endpoint: row } = await endpoint()
    receiver.answer = ({ body }, response) => void response.writeHead(body.includes('in_bad') ? 500 : 200).end()
    await publishEvent(database.db, {
      organizationId: 'acme',
      type: 'invoice.paid',
      key: 'bad',
      data: { ...eventTypes['invoice.paid'].example, invoice_id: 'in_bad' },
      occurredAt: clock.now(),
    })
    for (let day = 0; day < 5; day += 1) {
      await run()
      await publish(`invoice.paid:${day}`)
      await run()
      clock.advance(DAY_MS)
    }
    expect(await readEndpoint(database.db, row)).toMatchObject({ disabledAt: null })
    expect((await deliveriesOf(row)).map(({ state }) => state).sort()).toEqual([...Array<string>(5).fill('delivered'), 'failed'])
  })

  it('with 410 Gone disables its endpoint at once, and what waited for it is given up', async () => {
    const { endpoint: row } = await endpoint()
    receiver.answer = (_request, response) => void response.writeHead(500).end()
    await publish('invoice.paid:in_1')
    await run()
    receiver.answer = (_request, response) => void response.writeHead(410).end()
    await publish('invoice.paid:in_2')
    await run()
    expect(disabled).toEqual(['gone'])
    expect((await deliveriesOf(row)).map(({ state }) => state)).toEqual(['failed', 'failed'])
    await publish('invoice.paid:in_3')
    await run()
    expect(await deliveriesOf(row)).toHaveLength(2)
  })

  it('as a redirect is not followed', async () => {
    await endpoint()
    receiver.answer = (_request, response) => void response.writeHead(307, { location: '/elsewhere' }).end()
    await publish('invoice.paid:in_1')
    await run()
    expect(receiver.received.map(({ path }) => path)).toEqual(['/hooks'])
    expect(outcomes).toEqual(['retried'])
  })
})

describe('a server that dies while it delivers', () => {
  it('leaves the delivery to another when its lease is over; its own late answer then counts for nothing', async () => {
    const { endpoint: row } = await endpoint()
    await publish('invoice.paid:in_1')
    const stuck: ((outcome: Awaited<ReturnType<Post>>) => void)[] = []
    const dying = createDeliverer(context(() => new Promise((resolve) => stuck.push(resolve))))
    await handOutEvents(context())
    expect(await dying.begin()).toBe(1)
    await run()
    expect(receiver.received).toHaveLength(0)
    clock.advance(MINUTE_MS)
    await run()
    expect(receiver.received).toHaveLength(1)
    expect(await deliveriesOf(row)).toMatchObject([{ state: 'delivered', attempts: 2 }])
    stuck[0]!({ status: 500, error: null, response: 'late', durationMs: 60_000 })
    await dying.finish()
    expect(await deliveriesOf(row)).toMatchObject([{ state: 'delivered', attempts: 2 }])
  })
})

it('the late answer of an attempt whose lease is over does not speak for the one that is under way', async () => {
  const { endpoint: row } = await endpoint()
  await publish('invoice.paid:in_1')
  await handOutEvents(context())
  const answers: ((outcome: Awaited<ReturnType<Post>>) => void)[] = []
  const on = context(() => new Promise((resolve) => answers.push(resolve)))
  const [first, second] = [createDeliverer(on), createDeliverer(on)]
  await first.begin()
  clock.advance(MINUTE_MS)
  await second.begin()
  const failure = { status: 500, error: null, response: '', durationMs: 1 }
  answers[0]!(failure)
  await first.finish()
  // Still leased to the second attempt: nobody begins a third one beside it.
  clock.advance(5 * SECOND_MS)
  await run()
  expect(receiver.received).toEqual([])
  answers[1]!({ ...failure, status: 200 })
  await second.finish()
  expect(await deliveriesOf(row)).toMatchObject([{ state: 'delivered', attempts: 2 }])
})

it('what waits for an endpoint that is disabled by hand waits until it is enabled', async () => {
  const { endpoint: row } = await endpoint()
  await publish('invoice.paid:in_1')
  await handOutEvents(context())
  await changeEndpoint(context(), row, { enabled: false }, asker)
  await publish('invoice.paid:meanwhile')
  await run()
  expect(receiver.received).toEqual([])
  await changeEndpoint(context(), row, { enabled: true }, asker)
  await run()
  expect(receiver.received).toHaveLength(1)
})

describe('a slow endpoint', () => {
  it('delays nobody else: it has four attempts at a time, one while it fails', async () => {
    const slow = await endpoint('acme', '/slow')
    const quick = await endpoint('other', '/quick')
    for (let index = 0; index < 150; index += 1) await publish(`invoice.paid:${index}`)
    for (let index = 0; index < 20; index += 1) await publish(`invoice.paid:${index}`, 'other')
    while ((await handOutEvents(context())) > 0);
    const waiting: (() => void)[] = []
    const post = createPost({ allowLoopback: true })
    const on = context((message) =>
      message.url.pathname === '/slow'
        ? new Promise((resolve) => waiting.push(() => resolve({ status: 500, error: null, response: '', durationMs: 1 })))
        : post(message),
    )
    const deliverer = createDeliverer(on)
    const delivered = () => receiver.received.length
    await expect.poll(async () => (await deliverer.begin(), delivered())).toBe(20)
    expect(waiting).toHaveLength(4)
    expect((await deliveriesOf(quick.endpoint)).every(({ attempts }) => attempts === 1)).toBe(true)
    for (const go of waiting.splice(0)) go()
    await deliverer.finish()
    await expect.poll(async () => (await deliverer.begin(), waiting.length)).toBe(1)
    await deliverer.begin()
    expect(waiting).toHaveLength(1)
    waiting[0]!()
    await deliverer.finish()
    expect((await deliveriesOf(slow.endpoint)).filter(({ attempts }) => attempts > 0)).toHaveLength(5)
  })
})

describe('a signing secret', () => {
  it('is rotated without a gap: both sign until the overlap is over', async () => {
    const before = await endpoint()
    const after = await rotateSecret(context(), before.endpoint, { overlapHours: 24 }, asker)
    expect(after.secret).not.toBe(before.secret)
    await publish('invoice.paid:in_1')
    await run()
    for (const secret of [before, after]) expect(secretOf(secret).verify(last().body, headersOf())).toBeTruthy()
    clock.advance(24 * HOUR_MS)
    await publish('invoice.paid:in_2')
    await run()
    expect(headersOf()['webhook-signature']!.split(' ')).toHaveLength(1)
  })

  it('is nowhere in the database as it is', async () => {
    const { secret, endpoint: row } = await endpoint()
    const { rows } = await database.db.query<{ secret: Buffer }>('select secret from webhook_endpoints where id = $1', [row.id])
    expect(rows[0]!.secret.toString('latin1')).not.toContain(secret.slice(6, 20))
    const log = await database.db.query('select before, after from audit_log where target = $1', [row.id])
    expect(JSON.stringify(log.rows)).not.toContain(secret)
  })

  it('that cannot be read any more is said so in the log of deliveries', async () => {
    const { endpoint: row } = await endpoint()
    await publish('invoice.paid:in_1')
    await run({ ...context(), seal: createSeal('another secret', 'webhooks') })
    const [delivery] = await deliveriesOf(row)
    const found = await findDelivery(database.db, { endpointId: row.id, eventId: delivery!.eventId })
    expect(found?.attempts[0]).toMatchObject({ status: null, error: expect.stringContaining('TOLLGATE_SECRET') as string })
    expect(receiver.received).toEqual([])
  })
})

describe('a replay', () => {
  it('sends one event again, delivered or not, with its old id', async () => {
    const { endpoint: row } = await endpoint()
    await publish('invoice.paid:in_1')
    await run()
    const eventId = headersOf()['webhook-id']!
    expect(await replay(context(), row, { eventId })).toBe(1)
    await run()
    expect(receiver.received.map(({ headers }) => headers['webhook-id'])).toEqual([eventId, eventId])
    await expect(replay(context(), row, { eventId: 'ev_unknown' })).rejects.toMatchObject({ code: 'not_found' })
  })

  it('of all since a time brings what an endpoint missed, and only what it asks for', async () => {
    await publish('invoice.paid:before')
    await run()
    clock.advance(HOUR_MS)
    const since = clock.now()
    for (const key of ['a', 'b', 'c']) await publish(`invoice.paid:${key}`)
    await publish('invoice.paid:foreign', 'other')
    await run()
    const { endpoint: row } = await endpoint()
    expect(await replay(context(), row, { since })).toBe(3)
    await run()
    expect(receiver.received).toHaveLength(3)
    const { endpoint: uninterested } = await endpoint('acme', '/none', ['subscription.*'])
    expect(await replay(context(), uninterested, { since })).toBe(0)
    const { endpoint: all } = await endpoint(ALL_ORGANIZATIONS, '/all')
    expect(await replay(context(), all, { since })).toBe(4)
  })

  it('finds nothing of another organization, and nothing for an endpoint that is disabled', async () => {
    const { endpoint: row } = await endpoint('other')
    await endpoint('acme')
    await publish('invoice.paid:in_1')
    await run()
    await expect(replay(context(), row, { eventId: headersOf()['webhook-id']! })).rejects.toMatchObject({ code: 'not_found' })
    await changeEndpoint(context(), row, { enabled: false }, asker)
    await expect(replay(context(), row, { since: clock.now() })).rejects.toMatchObject({ code: 'conflict' })
  })

  it('has three days of its own', async () => {
    const { endpoint: row } = await endpoint()
    await publish('invoice.paid:in_1')
    await run()
    clock.advance(30 * DAY_MS)
    receiver.answer = (_request, response) => void response.writeHead(500).end()
    await replay(context(), row, { eventId: headersOf()['webhook-id']! })
    await run()
    const [delivery] = await deliveriesOf(row)
    expect(delivery).toMatchObject({ state: 'pending' })
    expect(delivery!.nextAttemptAt.getTime() - clock.now().getTime()).toBeLessThanOrEqual(5 * SECOND_MS)
  })
})

it('a test goes to its endpoint and to nobody else', async () => {
  const { endpoint: row } = await endpoint('acme', '/tested')
  await endpoint('acme', '/untested')
  await endpoint(ALL_ORGANIZATIONS, '/operators')
  const eventId = await sendTest(context(), row)
  await run()
  expect(receiver.received).toMatchObject([{ path: '/tested', headers: { 'webhook-id': eventId } }])
})
