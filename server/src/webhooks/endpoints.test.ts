import { beforeAll, beforeEach, expect, test } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { testRoutes } from '../../test/routes.ts'
import { webhooksContext } from '../../test/webhooks.ts'
import { eventIdOf, publishEvent } from '../events/actions.ts'
import { eventTypes } from '../events/types.ts'
import { ManualClock } from '../lib/clock.ts'
import { DAY_MS, HOUR_MS, SECOND_MS } from '../lib/period.ts'
import { createSeal } from '../lib/seal.ts'
import { pruneNotifications } from '../notifications/jobs.ts'
import {
  changeEndpoint,
  createEndpoint,
  enqueueDeliveries,
  readEndpoint,
  removeEndpoint,
  replay,
  rotateSecret,
  sendTest,
  type WebhooksContext,
} from './actions.ts'
import { createDeliverer, type DeliveringContext } from './deliver.ts'
import { registerDeliveryRoutes } from './delivery-routes.ts'
import { listDeliveries } from './delivery-store.ts'
import { PATIENCE_MS, signedHeaders } from './rules.ts'

const database = testDatabase()
const clock = new ManualClock(new Date('2026-03-10T12:00:00Z'))
const asker = { actor: 'operator:test', requestId: 'req_1' }
const input = { url: 'https://receiver.example.com/hooks', description: '', eventTypes: ['*'] }
let context: WebhooksContext
beforeAll(() => {
  context = webhooksContext(database.db, clock)
})
const call = testRoutes((app) => registerDeliveryRoutes(app, context))
let organization: string
let count = 0
beforeEach(async () => {
  organization = `org_${(count += 1)}`
  await database.db.query(`insert into organizations (id, name, email, created_at) values ($1, $1, 'a@example.com', $2)`, [
    organization,
    clock.now(),
  ])
})

async function publish(key: string): Promise<void> {
  const [organizationId, type] = [organization, 'invoice.paid' as const]
  const event = { organizationId, type, key, data: eventTypes[type].example, occurredAt: clock.now() }
  await publishEvent(database.db, event)
  await database.db.transaction((tx) => enqueueDeliveries(tx, [{ ...event, id: eventIdOf(event) }], clock.now()))
}

async function deliver(post: DeliveringContext['post'], seal = context.seal): Promise<void> {
  const deliverer = createDeliverer({ ...context, post, seal })
  while ((await deliverer.begin()) > 0) await deliverer.finish()
}

/** Delivers what is due to receivers that are all down. */
const deliverToNobody = () => deliver(() => Promise.resolve({ status: 503, error: null, response: null, durationMs: 1 }))

/** Which of the secrets a message of now is signed with. */
async function signersOf(secrets: readonly string[], seal = context.seal): Promise<readonly boolean[]> {
  let sent: Parameters<DeliveringContext['post']>[0] | null = null
  await publish(`invoice.paid:${clock.now().getTime()}`)
  await deliver(async (request) => {
    // Other tests' endpoints are tried again meanwhile.
    if ((JSON.parse(request.body) as { organization_id: string }).organization_id === organization) sent = request
    return { status: 200, error: null, response: null, durationMs: 1 }
  }, seal)
  const { headers, body } = sent!
  const message = { id: headers['webhook-id']!, sentAt: clock.now(), body }
  const signatures = headers['webhook-signature']!.split(' ')
  return secrets.map((secret) => signatures.includes(signedHeaders(message, [secret])['webhook-signature']!))
}

/** What an endpoint was told, and what came of it; the newest first. */
const statesOf = (endpointId: string) => listDeliveries(database.db, { endpointId, state: null, after: null, limit: 10 })

test('an organization has twenty endpoints at most, also when several are made at once', async () => {
  const create = () => createEndpoint(context, organization, input, asker)
  for (let made = 0; made < 18; made += 1) await create()
  const outcomes = await Promise.allSettled([create(), create(), create(), create(), create()])
  expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(2)
  await expect(create()).rejects.toMatchObject({ code: 'conflict' })
})

test('a replay since a time brings what the endpoint asks for, and no test again; one of a single event brings that', async () => {
  const wanting = { ...input, eventTypes: ['invoice.*', 'endpoint.*', 'invoice.*'] }
  const { endpoint } = await createEndpoint(context, organization, wanting, asker)
  expect(endpoint.eventTypes).toEqual(['invoice.*', 'endpoint.*'])
  const tested = await sendTest(context, endpoint)
  await publish('invoice.paid:in_1')
  await database.db.query(`update events set handed_out_at = $1 where organization_id = $2`, [clock.now(), organization])
  expect(await replay(context, endpoint, { since: clock.now() })).toBe(1)
  expect(await replay(context, endpoint, { eventId: tested })).toBe(1)
  expect(await replay(context, endpoint, { since: new Date(clock.now().getTime() + 1) })).toBe(0)
})

test('an endpoint is made for nobody who is not there', async () => {
  await expect(createEndpoint(context, 'nobody', input, asker)).rejects.toMatchObject({ code: 'not_found' })
})

test('an endpoint is nobody else’s: not to be read, changed, rotated, tried, replayed or deleted', async () => {
  const { endpoint } = await createEndpoint(context, organization, input, asker)
  const theirs = { organizationId: `not_${organization}`, id: endpoint.id }
  const attempts = [
    () => readEndpoint(database.db, theirs),
    () => changeEndpoint(context, theirs, { url: 'https://elsewhere.example.com/' }, asker),
    () => rotateSecret(context, theirs, { overlapHours: 0 }, asker),
    () => sendTest(context, theirs),
    () => replay(context, theirs, { since: clock.now() }),
    () => removeEndpoint(context, theirs, asker),
  ]
  for (const attempt of attempts) await expect(attempt()).rejects.toMatchObject({ code: 'not_found' })
  expect(await readEndpoint(database.db, endpoint)).toEqual(endpoint)
})

test('an endpoint is disabled once, and says since when and why; what was delivered before stays so', async () => {
  const { endpoint } = await createEndpoint(context, organization, input, asker)
  await publish('invoice.paid:in_1')
  await deliver(() => Promise.resolve({ status: 200, error: null, response: null, durationMs: 1 }))
  const [delivered] = await statesOf(endpoint.id)
  clock.advance(SECOND_MS)
  await publish('invoice.paid:in_2')
  await deliver(() => Promise.resolve({ status: 410, error: null, response: null, durationMs: 1 }))
  const gone = { disabledAt: clock.now(), disabledReason: 'gone' }
  expect(await readEndpoint(database.db, endpoint)).toMatchObject(gone)
  expect(delivered).toMatchObject({ state: 'delivered' })
  expect(await statesOf(endpoint.id)).toEqual([expect.objectContaining({ state: 'failed' }), delivered])
  clock.advance(SECOND_MS)
  expect(await changeEndpoint(context, endpoint, { enabled: false }, asker)).toMatchObject(gone)
})

test('an endpoint that is enabled again has three days from its next failure on', async () => {
  const { endpoint } = await createEndpoint(context, organization, input, asker)
  await publish('invoice.paid:in_1')
  await deliverToNobody()
  clock.advance(3 * DAY_MS)
  await deliverToNobody()
  expect(await readEndpoint(database.db, endpoint)).toMatchObject({ disabledReason: 'failing' })
  expect(await changeEndpoint(context, endpoint, { enabled: true }, asker)).toMatchObject({
    disabledAt: null,
    failingSince: null,
  })
  await publish('invoice.paid:in_2')
  await deliverToNobody()
  expect(await readEndpoint(database.db, endpoint)).toMatchObject({ disabledAt: null, failingSince: clock.now() })
})

test('the log of deliveries is read page by page, newest first, each once', async () => {
  const { endpoint } = await createEndpoint(context, organization, input, asker)
  for (const key of ['1', '2', '3', '4', '5']) {
    await publish(`invoice.paid:${key}`)
    // Two of them at the same moment.
    if (key !== '2') clock.advance(SECOND_MS)
  }
  const read = (after: string | null, limit: number) =>
    listDeliveries(database.db, { endpointId: endpoint.id, state: null, after, limit })
  const all = await read(null, 200)
  expect(all.map(({ createdAt }) => createdAt.getTime())).toEqual(
    all.map(({ createdAt }) => createdAt.getTime()).toSorted((a, b) => b - a),
  )
  const paged: string[] = []
  for (const size of [2, 2, 1]) {
    const page = await read(paged.at(-1) ?? null, 2)
    expect(page).toHaveLength(size)
    paged.push(...page.map(({ eventId }) => eventId))
  }
  expect(paged).toEqual(all.map(({ eventId }) => eventId))
})

test('a secret that is rotated again during its overlap leaves each previous one its time', async () => {
  const first = await createEndpoint(context, organization, input, asker)
  const rotated = (overlapHours: number) => rotateSecret(context, first.endpoint, { overlapHours }, asker)
  const second = await rotated(24)
  clock.advance(HOUR_MS)
  const third = await rotated(24)
  expect(third.endpoint.previousSecretUntil).toEqual(new Date(clock.now().getTime() + DAY_MS))
  const secrets = [first.secret, second.secret, third.secret]
  expect(await signersOf(secrets)).toEqual([true, true, true])
  clock.advance(23 * HOUR_MS)
  expect(await signersOf(secrets)).toEqual([false, true, true])
  // Without an overlap all of them end: one that has leaked is not left a day by an earlier rotation.
  clock.advance(SECOND_MS)
  const last = await rotated(0)
  expect(await signersOf([...secrets, last.secret])).toEqual([false, false, false, true])
})

test('a secret that cannot be read any more has no overlap: what it is rotated to signs at once, and those after it beside', async () => {
  const first = await createEndpoint(context, organization, input, asker)
  const before = await rotateSecret(context, first.endpoint, { overlapHours: 24 }, asker)
  const changed = { ...context, seal: createSeal('the secret that was changed to', 'webhooks') }
  const rotated = () => rotateSecret(changed, first.endpoint, { overlapHours: 24 }, asker)
  const second = await rotated()
  expect(second.endpoint.previousSecretUntil).toBeNull()
  expect(await signersOf([first.secret, before.secret, second.secret], changed.seal)).toEqual([false, false, true])
  clock.advance(SECOND_MS)
  const third = await rotated()
  expect(third.endpoint.previousSecretUntil).toEqual(new Date(clock.now().getTime() + DAY_MS))
  expect(await signersOf([second.secret, third.secret], changed.seal)).toEqual([true, true])
})

test('an endpoint that is deleted is gone with the log of its deliveries, and no other with it; all that was done with it is audited', async () => {
  const [{ endpoint }, { endpoint: other }] = [
    await createEndpoint(context, organization, input, asker),
    await createEndpoint(context, organization, input, asker),
  ]
  await publish('invoice.paid:in_1')
  await changeEndpoint(context, endpoint, { description: 'Ours' }, asker)
  await rotateSecret(context, endpoint, { overlapHours: 0 }, asker)
  await removeEndpoint(context, endpoint, asker)
  await expect(readEndpoint(database.db, endpoint)).rejects.toMatchObject({ code: 'not_found' })
  expect(await statesOf(endpoint.id)).toEqual([])
  expect(await readEndpoint(database.db, other)).toEqual(other)
  expect(await statesOf(other.id)).toHaveLength(1)
  const { rows } = await database.db.query<{ action: string }>(
    `select action from audit_log where organization_id = $1 and target = $2 order by id`,
    [organization, endpoint.id],
  )
  const done = ['created', 'changed', 'secret_rotated', 'deleted']
  expect(rows.map(({ action }) => action)).toEqual(done.map((word) => `webhook_endpoint.${word}`))
})

test('the log of deliveries does not end after a delivery that there is not', async () => {
  const { endpoint } = await createEndpoint(context, organization, input, asker)
  await publish('invoice.paid:in_1')
  const path = `/api/v1/webhook-endpoints/${endpoint.id}/deliveries?starting_after=evt_none`
  const answer = await call('GET', path, undefined, organization)
  expect(answer).toMatchObject({ status: 400, body: { code: 'invalid_request', field: 'starting_after' } })
})

test('what waits for an endpoint that stays disabled is given up after three days, as for one that fails, and no earlier', async () => {
  const { endpoint } = await createEndpoint(context, organization, input, asker)
  await publish('invoice.paid:in_1')
  await changeEndpoint(context, endpoint, { enabled: false }, asker)
  clock.advance(PATIENCE_MS - 1)
  await pruneNotifications(context)
  expect(await statesOf(endpoint.id)).toMatchObject([{ state: 'pending' }])
  clock.advance(1)
  await pruneNotifications(context)
  expect(await statesOf(endpoint.id)).toMatchObject([{ state: 'failed', attempts: 0 }])
})
