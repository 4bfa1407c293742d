import { beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { webhooksContext } from '../../test/webhooks.ts'
import type { Transaction } from '../db/database.ts'
import { eventIdOf, publishEvent } from '../events/actions.ts'
import { eventTypes } from '../events/types.ts'
import { ManualClock } from '../lib/clock.ts'
import { DAY_MS } from '../lib/period.ts'
import {
  changeEndpoint,
  createEndpoint,
  enqueueDeliveries,
  readEndpoint,
  removeEndpoint,
  replay,
  sendTest,
  type WebhooksContext,
} from './actions.ts'
import { createDeliverer, type Deliverer } from './deliver.ts'
import { findDelivery, type DeliveryRow } from './delivery-store.ts'
import { deleteEndpoint, disableEndpoint, updateEndpoint, type EndpointRow } from './endpoint-store.ts'
import type { PostOutcome } from './post.ts'

const database = testDatabase()
const clock = new ManualClock(new Date('2026-03-10T12:00:00Z'))
const asker = { actor: 'operator:test', requestId: 'req_1' }
const input = { url: 'https://receiver.example.com/hooks', description: '', eventTypes: ['*'] }
let context: WebhooksContext
beforeAll(async () => {
  context = webhooksContext(database.db, clock)
  await database.db.query(
    `insert into organizations (id, name, email, created_at) values ('acme', 'acme', 'a@example.com', $1)`,
    [clock.now()],
  )
})

let endpoint: EndpointRow
beforeEach(async () => {
  await database.db.query('truncate webhook_endpoints, webhook_deliveries, webhook_attempts, events cascade')
  ;({ endpoint } = await createEndpoint(context, 'acme', input, asker))
})

async function publish(key: string): Promise<string> {
  const event = { organizationId: 'acme', type: 'invoice.paid' as const, key, data: eventTypes['invoice.paid'].example }
  await publishEvent(database.db, { ...event, occurredAt: clock.now() })
  const named = { ...event, id: eventIdOf(event) }
  await database.db.transaction((tx) => enqueueDeliveries(tx, [named], clock.now()))
  await database.db.query('update events set handed_out_at = $2 where id = $1', [named.id, clock.now()])
  return named.id
}

const outcome = (status: number): PostOutcome => ({ status, error: null, response: '', durationMs: 1 })

/** A server on which what it sends is under way until the receiver answers. */
function server(): { readonly deliverer: Deliverer; readonly sent: ((status: number) => void)[] } {
  const sent: ((status: number) => void)[] = []
  const post = (): Promise<PostOutcome> => new Promise((resolve) => sent.push((status) => resolve(outcome(status))))
  return { deliverer: createDeliverer({ ...context, post }), sent }
}

async function deliveryOf(eventId: string): Promise<DeliveryRow> {
  return (await findDelivery(database.db, { endpointId: endpoint.id, eventId }))!.delivery
}

/** What is asked for while such a change of the endpoint is not committed yet, and waits for it. */
async function whileChanging<Answer>(change: (tx: Transaction) => Promise<unknown>, ask: () => Promise<Answer>) {
  const { asked } = await database.db.transaction(async (tx) => {
    await change(tx)
    const settled = Promise.allSettled([ask()])
    await vi.waitFor(async () => {
      const waiting = await database.db.query(
        `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
      )
      expect(waiting.rowCount).toBe(1)
    })
    return { asked: settled }
  })
  return (await asked)[0]
}

describe('a replay that is asked for while an attempt is on its way', () => {
  test.each([
    ['fails, and was the last of its time', 500],
    ['is taken', 200],
  ])('is made after that one, where that %s', async (_how, status) => {
    const eventId = await publish(`replayed ${status}`)
    const { deliverer, sent } = server()
    clock.advance(3 * DAY_MS)
    await deliverer.begin()
    expect(await replay(context, endpoint, { eventId })).toBe(1)
    sent[0]!(status)
    await deliverer.finish()
    expect(await deliveryOf(eventId)).toMatchObject({ state: 'pending', attempts: 1 })
    await changeEndpoint(context, endpoint, { enabled: true }, asker)
    await deliverer.begin()
    sent[1]!(200)
    await deliverer.finish()
    expect(await deliveryOf(eventId)).toMatchObject({ state: 'delivered', attempts: 2 })
  })
})

test('what was taken while its endpoint was disabled is delivered: it is not told to have failed', async () => {
  const [taken, gone] = [await publish('taken'), await publish('gone')]
  const [one, other] = [server(), server()]
  await database.db.query('update webhook_deliveries set next_attempt_at = $2 where event_id = $1', [
    gone,
    new Date(clock.now().getTime() + 1),
  ])
  await one.deliverer.begin()
  clock.advance(1)
  await other.deliverer.begin()
  other.sent[0]!(410)
  await other.deliverer.finish()
  expect(await readEndpoint(database.db, endpoint)).toMatchObject({ disabledReason: 'gone' })
  one.sent[0]!(200)
  await one.deliverer.finish()
  expect([(await deliveryOf(taken)).state, (await deliveryOf(gone)).state]).toEqual(['delivered', 'failed'])
})

describe('while an endpoint is being disabled', () => {
  const disable = (tx: Transaction) => disableEndpoint(tx, { id: endpoint.id, reason: 'failing' }, clock.now())
  const refused = { status: 'rejected', reason: { code: 'conflict' } }

  test('a replay is refused, and what was given up stays so', async () => {
    const eventId = await publish('given up')
    expect(await whileChanging(disable, () => replay(context, endpoint, { eventId }))).toMatchObject(refused)
    expect(await deliveryOf(eventId)).toMatchObject({ state: 'failed' })
  })

  test('a test is refused, and leaves nothing that waits', async () => {
    expect(await whileChanging(disable, () => sendTest(context, endpoint))).toMatchObject(refused)
    expect((await database.db.query('select from events union all select from webhook_deliveries')).rowCount).toBe(0)
  })
})

test('two changes of an endpoint at once both hold, and the audit log tells each as it was', async () => {
  const description = 'changed meanwhile'
  const first = (tx: Transaction) => updateEndpoint(tx, endpoint, { ...endpoint, description, enabled: null }, clock.now())
  const url = 'https://receiver.example.com/moved'
  await whileChanging(first, () => changeEndpoint(context, endpoint, { url }, asker))
  expect(await readEndpoint(database.db, endpoint)).toMatchObject({ url, description })
  const { rows } = await database.db.query(
    `select before from audit_log where action = 'webhook_endpoint.changed' and target = $1`,
    [endpoint.id],
  )
  expect(rows).toMatchObject([{ before: { description } }])
})

test('an endpoint that is deleted twice at once is deleted once', async () => {
  const first = (tx: Transaction) => deleteEndpoint(tx, endpoint)
  const second = await whileChanging(first, () => removeEndpoint(context, endpoint, asker))
  expect(second).toMatchObject({ status: 'rejected', reason: { code: 'not_found' } })
})
