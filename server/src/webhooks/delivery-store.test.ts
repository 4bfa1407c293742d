import { beforeEach, describe, expect, test } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { keepRow, type Row } from '../../test/rows.ts'
import { writeAside } from '../../test/under-lock.ts'
import {
  claimDeliveries,
  deleteOldDeliveries,
  findDelivery,
  giveUpOnDisabled,
  insertDeliveries,
  listDeliveries,
  replayDeliveries,
  settleDelivery,
  type Claim,
  type DeliveryState,
} from './delivery-store.ts'

const { db } = testDatabase()
const now = new Date('2026-03-10T12:00:00Z')
const after = (ms: number): Date => new Date(now.getTime() + ms)
const leaseEnd = after(60_000)

beforeEach(async () => {
  const tables = ['webhook_endpoints', 'webhook_deliveries', 'webhook_attempts', 'events']
  await writeAside(db, (tx) => tx.query(tables.map((table) => `delete from ${table}`).join(';')))
})

const endpoint = (id: string, over: Row = {}) =>
  keepRow(db, 'webhook_endpoints', {
    organization_id: 'acme',
    id,
    url: `https://${id}.example/`,
    description: '',
    event_types: ['*'],
    secret: Buffer.from(`secret of ${id}`),
    created_at: now,
    ...over,
  })
const event = (id: string, over: Row = {}) =>
  keepRow(db, 'events', { organization_id: 'acme', id, key: id, type: 'invoice.paid', data: {}, occurred_at: now, ...over })
/** A delivery of an event of its own. */
async function delivery(endpointId: string, eventId: string, over: Row = {}, organizationId = 'acme'): Promise<void> {
  await event(eventId, { organization_id: organizationId })
  await told(endpointId, eventId, { organization_id: organizationId, ...over })
}
const told = (endpointId: string, eventId: string, over: Row = {}) =>
  keepRow(db, 'webhook_deliveries', {
    organization_id: 'acme',
    endpoint_id: endpointId,
    event_id: eventId,
    state: 'pending',
    created_at: now,
    next_attempt_at: now,
    give_up_at: after(1000),
    ...over,
  })
const rowsOf = async () => (await db.query<Row>('select * from webhook_deliveries order by endpoint_id, event_id')).rows

describe('a claim', () => {
  const claim = (over: Partial<Claim> = {}) =>
    claimDeliveries(db, { now, leaseEnd, limit: 10, limitPerEndpoint: 2, busy: {}, after: '', ...over })
  const claimed = async (over: Partial<Claim> = {}) =>
    (await claim(over)).map(({ endpointId, eventId }) => `${endpointId} ${eventId}`).toSorted()

  test('takes what waits longest, so many of each endpoint, and no more of one that has enough under way', async () => {
    for (const id of ['busy', 'free']) {
      await endpoint(id)
      for (const [index, name] of ['c', 'a', 'd', 'b'].entries()) {
        await delivery(id, `${id} ${name}`, { next_attempt_at: after(index - 3) })
      }
    }
    expect(await claimed({ busy: { busy: 1 } })).toEqual(['busy busy c', 'free free a', 'free free c'])
    // What was taken is nobody else's until its lease is over.
    expect(await claimed({ busy: { busy: 2 } })).toEqual(['free free b', 'free free d'])
    expect(await claimed({ busy: { busy: 3 } })).toEqual([])
    const again = await claim({ now: leaseEnd, limitPerEndpoint: 4 })
    expect(again.find(({ eventId }) => eventId === 'busy c')).toMatchObject({ number: 2, attemptsBefore: 0 })
  })

  test('takes one where the endpoint fails, and nothing of one that is disabled, or that is settled or not yet due', async () => {
    await endpoint('failing', { failing_since: now })
    for (const name of ['first', 'second']) await delivery('failing', name)
    await endpoint('disabled', { disabled_at: now, disabled_reason: 'by_hand' })
    await delivery('disabled', 'waiting')
    await endpoint('well')
    await delivery('well', 'due')
    await delivery('well', 'later', { next_attempt_at: after(1) })
    for (const state of ['delivered', 'failed']) await delivery('well', state, { state })
    expect(await claimed()).toEqual([expect.stringMatching(/^failing (first|second)$/), 'well due'])
  })

  test('goes on behind an endpoint, and takes so much in all', async () => {
    for (const id of ['c', 'd', 'b', 'e', 'a']) {
      await endpoint(id)
      await delivery(id, `of ${id}`)
    }
    expect(await claimed({ after: 'a', limit: 1 })).toEqual(['b of b'])
    const rest = (await claim({ after: 'b' })).map(({ endpointId }) => endpointId)
    // The last of them is the one behind which the next claim begins.
    expect(rest).toEqual(['c', 'd', 'e'])
    expect(await claimed()).toEqual(['a of a'])
  })

  test('has the event with its address and secrets, without those before whose overlap is over', async () => {
    const previous = ['over', 'beside'].map((text) => Buffer.from(text))
    await endpoint('e', { organization_id: '*', previous_secrets: previous, previous_secret_ends: [now, after(1)] })
    await delivery('e', 'ev', { attempts: 4, attempts_before: 3 }, 'other')
    await event('another')
    expect(await claim()).toEqual([
      {
        organizationId: 'other',
        endpointId: 'e',
        eventId: 'ev',
        number: 5,
        attemptsBefore: 3,
        giveUpAt: after(1000),
        url: 'https://e.example/',
        secret: Buffer.from('secret of e'),
        previousSecrets: [previous[1]],
        event: { id: 'ev', type: 'invoice.paid', organizationId: 'other', data: {}, occurredAt: now },
      },
    ])
    expect(await rowsOf()).toMatchObject([{ attempts: 5, next_attempt_at: leaseEnd }])
  })
})

describe('what came of an attempt', () => {
  const name = { organizationId: 'acme', endpointId: 'e', eventId: 'ev' }
  const settle = (state: DeliveryState, over: object = {}) =>
    settleDelivery(db, { ...name, number: 2, attemptsBefore: 1, state, nextAttemptAt: after(5), ...over })
  const waiting = { attempts: 2, attempts_before: 1 }

  test('is written down of the attempt that is under way, and of no other delivery', async () => {
    await delivery('e', 'ev', waiting)
    await told('e 2', 'ev', waiting)
    await delivery('e', 'ev 2', waiting)
    expect([await settle('delivered', { number: 1 }), await settle('delivered', { attemptsBefore: 0 })]).toEqual([false, false])
    expect(await settle('pending')).toBe(true)
    expect(await rowsOf()).toMatchObject([
      { event_id: 'ev', state: 'pending', next_attempt_at: after(5), finished_at: null },
      { event_id: 'ev 2', next_attempt_at: now },
      { endpoint_id: 'e 2', next_attempt_at: now },
    ])
    expect(await settle('delivered')).toBe(true)
    expect((await rowsOf())[0]).toMatchObject({ state: 'delivered', finished_at: after(5) })
  })

  test('does not bring back what was given up meanwhile; that it was taken is said all the same', async () => {
    await delivery('e', 'ev', { ...waiting, state: 'failed' })
    expect([await settle('pending'), await settle('failed')]).toEqual([false, false])
    expect(await settle('delivered')).toBe(true)
    expect([await settle('delivered'), await settle('pending'), await settle('failed')]).toEqual([false, false, false])
  })
})

describe('a replay', () => {
  const patience = { now: after(10), giveUpAt: after(20) }
  const since = { endpointId: 'e', organizationId: 'acme', eventTypes: ['invoice.paid'], which: { since: now } }
  const replay = (over: object = {}) => writeAside(db, (tx) => replayDeliveries(tx, { ...since, ...over }, patience))

  test('makes due again what was handed out since a time, of the types that are asked for, of its organization', async () => {
    await event('at once', { handed_out_at: now })
    await event('before', { handed_out_at: after(-1) })
    await event('not yet')
    await event('of another type', { handed_out_at: now, type: 'invoice.sent' })
    await event('theirs', { handed_out_at: now, organization_id: 'other' })
    expect(await replay()).toBe(1)
    expect(await rowsOf()).toMatchObject([{ event_id: 'at once', organization_id: 'acme' }])
    expect(await replay({ organizationId: '*' })).toBe(2)
    expect(await replay({ which: { eventId: 'theirs' } })).toBe(0)
    expect(await replay({ which: { eventId: 'before' } })).toBe(1)
  })

  test('begins anew: with the patience of the first time, and counting its attempts from here', async () => {
    await delivery('e', 'ev', { state: 'delivered', attempts: 3, attempts_before: 1, finished_at: now })
    await db.query(`update events set handed_out_at = $1`, [now])
    await replay()
    const begun = { state: 'pending', next_attempt_at: after(10), give_up_at: after(20), finished_at: null }
    expect(await rowsOf()).toMatchObject([{ ...begun, attempts: 3, attempts_before: 3, created_at: now }])
  })

  test('is not what handing out an event again is: that leaves a delivery as it is', async () => {
    await delivery('e', 'ev', { state: 'delivered' })
    await event('new')
    const names = ['ev', 'new'].map((eventId) => ({ organizationId: 'acme', endpointId: 'e', eventId }))
    await writeAside(db, (tx) => insertDeliveries(tx, names, patience))
    expect(await rowsOf()).toMatchObject([
      { event_id: 'ev', state: 'delivered' },
      { event_id: 'new', state: 'pending', next_attempt_at: after(10), give_up_at: after(20) },
    ])
  })
})

test('what waits for a disabled endpoint is given up when its time is over; what waits for others, or is settled, is not', async () => {
  await endpoint('disabled', { disabled_at: now, disabled_reason: 'by_hand' })
  await endpoint('well')
  await delivery('disabled', 'over', { give_up_at: now })
  await delivery('disabled', 'not over', { give_up_at: after(1) })
  await delivery('disabled', 'taken', { give_up_at: now, state: 'delivered', finished_at: after(-1) })
  await delivery('well', 'in its time', { give_up_at: now })
  await giveUpOnDisabled(db, now)
  const left = (await rowsOf()).map((row) => [row['event_id'], row['state'], row['finished_at']])
  expect(left).toEqual([
    ['not over', 'pending', null],
    ['over', 'failed', now],
    ['taken', 'delivered', after(-1)],
    ['in its time', 'pending', null],
  ])
})

test('what is settled and old is forgotten, so much at once; what waits never is', async () => {
  await delivery('e', 'delivered', { state: 'delivered', created_at: after(-1) })
  await delivery('e', 'failed', { state: 'failed', created_at: after(-1) })
  await delivery('e', 'recent', { state: 'delivered' })
  await delivery('e', 'waiting', { created_at: after(-1) })
  expect([await deleteOldDeliveries(db, now, 1), await deleteOldDeliveries(db, now, 2)]).toEqual([1, 1])
  expect((await rowsOf()).map((row) => row['event_id'])).toEqual(['recent', 'waiting'])
})

test('the log of an endpoint has its own deliveries, newest first, by state; a delivery has its own attempts', async () => {
  for (const [index, eventId] of ['old', 'new', 'newest'].entries()) {
    await delivery('e', eventId, { created_at: after(index), state: eventId === 'new' ? 'failed' : 'delivered' })
  }
  await told('e 2', 'new', { created_at: after(9) })
  const page = async (state: DeliveryState | null, from: string | null) =>
    (await listDeliveries(db, { endpointId: 'e', state, after: from, limit: 2 })).map(({ eventId }) => eventId)
  expect([await page(null, null), await page(null, 'new'), await page('delivered', null)]).toEqual([
    ['newest', 'new'],
    ['old'],
    ['newest', 'old'],
  ])
  const attempt = (endpointId: string, eventId: string, number: number) =>
    keepRow(db, 'webhook_attempts', {
      organization_id: 'acme',
      endpoint_id: endpointId,
      event_id: eventId,
      number,
      attempted_at: now,
      duration_ms: 1,
    })
  for (const number of [2, 1]) await attempt('e', 'new', number)
  await attempt('e', 'old', 3)
  await attempt('e 2', 'new', 4)
  const found = await findDelivery(db, { endpointId: 'e', eventId: 'new' })
  expect([found?.delivery, found?.attempts.map(({ number }) => number)]).toMatchObject([
    { eventId: 'new', state: 'failed' },
    [1, 2],
  ])
  expect(await findDelivery(db, { endpointId: 'e 2', eventId: 'old' })).toBeNull()
})
