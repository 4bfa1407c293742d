import { beforeEach, expect, test } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { keepRow, type Row } from '../../test/rows.ts'
import { writeAside } from '../../test/under-lock.ts'
import { DAY_MS } from '../lib/period.ts'
import { toUnix } from '../stripe/gateway/wire.ts'
import { listReleased } from './released.ts'

// Whose released schedules the jobs bring back; what they then do is in released-late.test.ts.

const { db } = testDatabase()
const now = new Date('2026-03-10T12:00:00Z')
const after = (ms: number): Date => new Date(now.getTime() + ms)
const listed = async () => (await listReleased(db, now, 10)).toSorted()

beforeEach(async () => {
  const tables = [
    'organizations',
    'accounts',
    'stripe_subscriptions',
    'stripe_subscription_items',
    'stripe_intents',
    'billing_events',
  ]
  await writeAside(db, (tx) => tx.query(tables.map((table) => `delete from ${table}`).join(';')))
})

let intents = 0
const intent = (organizationId: string, kind: string, over: Row = {}) => {
  const id = `intent ${++intents}`
  const done = { state: 'succeeded', created_at: now }
  return keepRow(db, 'stripe_intents', { organization_id: organizationId, id, idempotency_key: id, kind, ...done, ...over })
}
const told = (organizationId: string, about: string) =>
  keepRow(db, 'billing_events', {
    organization_id: organizationId,
    key: `scheduled_change.lost:${about}`,
    kind: 'scheduled_change.lost',
    data: {},
    occurred_at: now,
    recorded_at: now,
  })

const subscription = (organizationId: string, over: Row = {}) =>
  keepRow(db, 'stripe_subscriptions', {
    organization_id: organizationId,
    id: `sub ${organizationId}`,
    customer_id: 'cus',
    status: 'active',
    currency: 'usd',
    collection_method: '',
    cancel_at_period_end: false,
    created_at: now,
    data: {},
    refreshed_at: now,
    ...over,
  })

/** Two seats of the larger plan, since before the switch. */
const item = (organizationId: string, over: Row = {}) =>
  keepRow(db, 'stripe_subscription_items', {
    organization_id: organizationId,
    subscription_id: `sub ${organizationId}`,
    id: `si ${organizationId}`,
    price_id: 'larger',
    product_id: '',
    quantity: 2,
    currency: 'usd',
    billing_interval: 'month',
    interval_count: 1,
    usage_type: 'licensed',
    current_period_start: after(-20 * DAY_MS),
    current_period_end: after(DAY_MS),
    ...over,
  })

type Case = {
  readonly switchAt?: Date
  readonly release?: Row
  readonly organization?: Row
  readonly account?: Row
  readonly subscription?: Row
  readonly item?: Row
}

/** Somebody with two seats of the larger plan, of whom a schedule was released that would have brought a smaller one tomorrow. */
async function customer(id: string, { switchAt = after(DAY_MS), ...over }: Case = {}): Promise<void> {
  const subscriptionId = `sub ${id}`
  await keepRow(db, 'organizations', { id, name: id, email: '', created_at: now, ...over.organization })
  await keepRow(db, 'accounts', {
    organization_id: id,
    plan_key: 'max',
    catalog_version: 1,
    subscription_id: subscriptionId,
    updated_at: now,
    ...over.account,
  })
  await subscription(id, over.subscription)
  await item(id, { current_period_end: switchAt, ...over.item })
  const restores = { subscriptionId, running: { priceId: 'larger', quantity: 2 }, switchAtUnix: toUnix(switchAt), next: [] }
  await intent(id, 'release_schedule', { params: { scheduleId: `sched ${id}`, restores }, ...over.release })
}

test('what is ahead is brought back, and what was missed or lost, of who goes on with what was to go', async () => {
  const past = after(-DAY_MS)
  const began = (start: Date, item: Row = {}) => ({ switchAt: past, item: { current_period_start: start, ...item } })
  await customer('ahead')
  await customer('ahead, changed since', { item: { price_id: 'another', quantity: 1 } })
  await customer('ahead, unpaid', { subscription: { status: 'past_due' } })
  await customer('missed', began(past))
  await customer('lost', began(now))
  await customer('not begun', began(after(-2 * DAY_MS)))
  await customer('missed, another plan', began(past, { price_id: 'another' }))
  await item('missed, another plan', { id: 'of before', subscription_id: 'sub before', current_period_start: past })
  await customer('missed, other seats', began(past, { quantity: 1 }))
  await customer('lost, another plan', began(now, { price_id: 'another' }))
  await customer('missed, one seat is all', {
    ...began(past, { quantity: null }),
    release: {
      params: {
        scheduleId: 'sched one',
        restores: {
          subscriptionId: 'sub missed, one seat is all',
          running: { priceId: 'larger', quantity: 1 },
          switchAtUnix: toUnix(past),
          next: [],
        },
      },
    },
  })
  expect(await listed()).toEqual(
    ['ahead', 'ahead, changed since', 'ahead, unpaid', 'lost', 'missed', 'missed, one seat is all'].toSorted(),
  )
  expect(await listReleased(db, now, 2)).toHaveLength(2)
})

test('what is ahead is so by the clock of its organization', async () => {
  await customer('behind', { switchAt: after(-DAY_MS), organization: { test_clock_now: after(-2 * DAY_MS) } })
  await customer('beyond', { organization: { test_clock_now: after(DAY_MS) } })
  expect(await listed()).toEqual(['behind'])
})

test('nothing is brought back of a subscription that counts no more, has something ahead, or is going', async () => {
  await customer('another counts', { account: { subscription_id: 'sub of a page' } })
  await customer('of no subscription', { item: { subscription_id: 'sub before' } })
  for (const status of ['paused', 'canceled', 'unpaid']) await customer(status, { subscription: { status } })
  await subscription('paused', { id: 'beside it' })
  await customer('scheduled', { subscription: { scheduled_at: after(DAY_MS) } })
  await customer('ends at a time', { subscription: { cancel_at: after(DAY_MS) } })
  await customer('ends with the period', { subscription: { cancel_at_period_end: true } })
  expect(await listed()).toEqual([])
})

test('nothing is brought back that was not released, or had nothing ahead', async () => {
  await customer('not released', { release: { state: 'failed' } })
  await customer('not released yet', { release: { state: 'pending' } })
  await customer('nothing ahead', { release: { params: { scheduleId: 'sched' } } })
  await customer('another call', { release: { kind: 'create_schedule' } })
  expect(await listed()).toEqual([])
})

test('nothing is brought back that operators were told of, each organization’s own', async () => {
  for (const id of ['told', 'open']) await customer(id)
  await told('told', 'sched told')
  await told('told', 'sched open')
  await told('open', 'sched of before')
  expect(await listed()).toEqual(['open'])
})

test('nothing is brought back for which a pause has come, that came back, or that Stripe refused', async () => {
  const over = ['pause_subscription succeeded', 'create_schedule failed']
  for (const kind of ['schedule_switch', 'update_subscription']) over.push(`${kind} succeeded`, `${kind} failed`)
  const open = ['pause_subscription failed', 'pause_subscription pending', 'create_schedule succeeded', 'schedule_switch pending']
  for (const id of [...over, ...open]) {
    const [kind, state] = id.split(' ') as [string, string]
    await customer(id)
    await intent(id, kind, { state, params: { releasedScheduleId: `sched ${id}` } })
  }
  await customer('of another schedule')
  await intent('of another schedule', 'pause_subscription', { params: { releasedScheduleId: 'sched of before' } })
  await customer('of somebody else')
  await intent('told', 'pause_subscription', { params: { releasedScheduleId: 'sched of somebody else' } })
  expect(await listed()).toEqual([...open, 'of another schedule', 'of somebody else'].toSorted())
})
