import { beforeEach, describe, expect, test } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { keepRow, type Row } from '../../test/rows.ts'
import { writeAside } from '../../test/under-lock.ts'
import { DAY_MS, HOUR_MS } from '../lib/period.ts'
import type { Candidate } from './rules.ts'
import {
  countMoves,
  findMovedAccount,
  insertMoves,
  listDueMoves,
  listMoves,
  noteMoveAttempt,
  readCandidates,
  setTerms,
  updateMove,
} from './store.ts'

const { db } = testDatabase()
const now = new Date('2026-03-10T12:00:00Z')
const after = (ms: number): Date => new Date(now.getTime() + ms)
const TABLES = [
  'organizations',
  'accounts',
  'stripe_subscriptions',
  'stripe_subscription_items',
  'plan_migrations',
  'plan_migration_moves',
]

beforeEach(async () => {
  await writeAside(db, (tx) => tx.query(TABLES.map((table) => `delete from ${table}`).join(';')))
  for (const id of ['mig', 'mig 2']) {
    await keepRow(db, 'plan_migrations', { id, to_version: 2, at: 'now', actor: 'operator:test', created_at: now })
  }
})

/** Somebody who pays for pro by the month under the first version. */
async function customer(id: string, over: { account?: Row; subscription?: Row; item?: Row; organization?: Row } = {}) {
  await keepRow(db, 'organizations', { id, name: `${id} Inc.`, email: '', created_at: now, ...over.organization })
  await keepRow(db, 'accounts', {
    organization_id: id,
    plan_key: 'pro',
    catalog_version: 1,
    subscription_id: `sub ${id}`,
    subscription_status: 'active',
    stripe_price_id: 'old',
    current_period_end: after(DAY_MS),
    updated_at: now,
    ...over.account,
  })
  await keepRow(db, 'stripe_subscriptions', {
    organization_id: id,
    id: `sub ${id}`,
    customer_id: 'cus',
    status: 'active',
    currency: 'usd',
    collection_method: '',
    cancel_at_period_end: false,
    created_at: now,
    data: {},
    refreshed_at: now,
    ...over.subscription,
  })
  await item(id, over.item)
}

const item = (id: string, over: Row = {}) =>
  keepRow(db, 'stripe_subscription_items', {
    organization_id: id,
    subscription_id: `sub ${id}`,
    id: `si ${id}`,
    price_id: 'old',
    product_id: '',
    quantity: 3,
    unit_amount_minor: 2000,
    currency: 'usd',
    billing_interval: 'month',
    interval_count: 1,
    usage_type: 'licensed',
    current_period_start: now,
    current_period_end: after(DAY_MS),
    ...over,
  })

const move = (id: string, over: Row = {}) =>
  keepRow(db, 'plan_migration_moves', {
    organization_id: id,
    migration_id: 'mig',
    plan_key: 'pro',
    from_version: 1,
    quantity: 1,
    currency: 'usd',
    from_price_id: 'old',
    from_amount_minor: 2000,
    to_price_id: 'new',
    to_amount_minor: 2500,
    state: 'pending',
    updated_at: now,
    ...over,
  })

describe('candidates', () => {
  const EVERYBODY = { toVersion: 2, currency: 'eur', planKey: null, fromVersion: null, organizationIds: null }
  const read = (over: Partial<Parameters<typeof readCandidates>[1]> = {}, atOnce = 2) =>
    db.transaction(async (tx) => {
      const pages: Candidate[][] = []
      for await (const page of readCandidates(tx, { ...EVERYBODY, ...over }, atOnce)) pages.push([...page])
      // It can be asked again at once.
      for await (const page of readCandidates(tx, EVERYBODY, 1)) expect(page).toHaveLength(1)
      return pages
    })
  const idsOf = async (over = {}) => (await read(over, 10)).flat().map(({ organizationId }) => organizationId)

  test('are told with what each pays for the plan, and not with what else is on the subscription', async () => {
    await customer('acme')
    await item('acme', { id: 'add-on', price_id: 'support', unit_amount_minor: 900 })
    await item('acme', { id: 'ended', subscription_id: 'sub before', quantity: 9 })
    await customer('uncounted', { item: { quantity: null, billing_interval: 'year' } })
    const pro = { name: 'acme Inc.', planKey: 'pro', catalogVersion: 1, currentPeriodEnd: after(DAY_MS) }
    const paid = { interval: 'monthly', quantity: 3, priceId: 'old', amountMinor: 2000, currency: 'usd' }
    expect((await read()).flat()).toEqual([
      { organizationId: 'acme', ...pro, ...paid },
      { organizationId: 'uncounted', ...pro, ...paid, name: 'uncounted Inc.', interval: 'yearly', quantity: 1 },
    ])
  })

  test('pay nothing once their subscription has ended, and where they have none', async () => {
    for (const status of ['canceled', 'incomplete_expired']) await customer(status, { account: { subscription_status: status } })
    await customer('visitor', { account: { subscription_id: null, subscription_status: null, stripe_price_id: null } })
    const nothing = { interval: null, quantity: 1, priceId: null, amountMinor: 0, currency: 'eur' }
    const found = (await read({}, 10)).flat()
    expect(found).toMatchObject(
      ['canceled', 'incomplete_expired', 'visitor'].map((organizationId) => ({ organizationId, ...nothing })),
    )
  })

  test('are those who are named, with other terms, so many at a time; nobody who is being moved', async () => {
    await customer('c', { account: { catalog_version: 3 } })
    await customer('b', { account: { plan_key: 'max' } })
    await customer('a')
    await customer('present', { account: { catalog_version: 2 } })
    for (const state of ['pending', 'scheduled', 'done', 'skipped', 'failed']) {
      await customer(state)
      await move(state, { state })
    }
    const pages = await read()
    expect(pages.map((page) => page.map(({ organizationId }) => organizationId))).toEqual([
      ['a', 'b'],
      ['c', 'done'],
      ['failed', 'skipped'],
    ])
    expect(await idsOf({ planKey: 'max' })).toEqual(['b'])
    expect(await idsOf({ fromVersion: 3 })).toEqual(['c'])
    expect(await idsOf({ organizationIds: ['c', 'a', 'pending'] })).toEqual(['a', 'c'])
  })
})

describe('a move is due', () => {
  const due = async (limit = 10) => (await listDueMoves(db, now, limit)).map(({ organizationId }) => organizationId)

  test('at once, and when the time for which it is scheduled has come, by the clock of its organization; the longest untouched first', async () => {
    for (const id of ['pending', 'come', 'not yet', 'done', 'skipped', 'failed']) await customer(id)
    await customer('ahead', { organization: { test_clock_now: after(DAY_MS) } })
    await customer('behind', { organization: { test_clock_now: after(-DAY_MS) } })
    const scheduled = { state: 'scheduled', to_price_id: 'old' }
    await move('pending', { updated_at: after(-2) })
    await move('come', { ...scheduled, effective_at: now, updated_at: after(-3) })
    await move('not yet', { ...scheduled, effective_at: after(1) })
    await move('ahead', { ...scheduled, effective_at: after(DAY_MS), updated_at: after(-1) })
    await move('behind', { ...scheduled, effective_at: now })
    for (const state of ['done', 'skipped', 'failed']) await move(state, { state, effective_at: now })
    expect(await due()).toEqual(['come', 'pending', 'ahead'])
    expect(await due(1)).toEqual(['come'])
  })

  test('before that where nothing stands in its way any more, and no schedule brings it', async () => {
    const later = { state: 'scheduled', effective_at: after(DAY_MS) }
    for (const status of ['active', 'trialing', 'past_due']) {
      await customer(status, { subscription: { status } })
      await move(status, later)
    }
    await customer('use alone')
    await move('use alone', { ...later, to_price_id: 'old', reprices_use: true })
    const inTheWay: Readonly<Record<string, Parameters<typeof customer>[1]>> = {
      paused: { subscription: { status: 'paused' } },
      leaving: { account: { cancel_at: after(HOUR_MS) } },
      waiting: { subscription: { pending_update_expires_at: after(HOUR_MS) } },
      scheduled: { subscription: { schedule_id: 'sched' } },
      elsewhere: { account: { stripe_price_id: 'another' } },
      unsubscribed: { account: { subscription_id: null } },
    }
    for (const [id, over] of Object.entries(inTheWay)) {
      await customer(id, over)
      await move(id, later)
    }
    await customer('nothing changes')
    await move('nothing changes', { ...later, to_price_id: 'old' })
    expect((await due()).toSorted()).toEqual(['active', 'past_due', 'trialing', 'use alone'])
  })
})

describe('the list of moves', () => {
  test('takes nobody whom another migration moves, and whom one has moved again', async () => {
    const one = (organizationId: string) => ({
      organizationId,
      name: '',
      planKey: 'pro',
      catalogVersion: 1,
      interval: 'monthly' as const,
      quantity: 1,
      priceId: 'old',
      amountMinor: 2000,
      currency: 'usd',
      currentPeriodEnd: null,
      toPriceId: 'new',
      toAmountMinor: 2500,
    })
    await customer('open')
    await move('open', { state: 'scheduled' })
    await customer('moved')
    await move('moved', { state: 'done' })
    await writeAside(db, (tx) => insertMoves(tx, { id: 'mig 2', createdAt: now }, [one('open'), one('moved')]))
    const listed = await listMoves(db, { migrationId: 'mig 2', after: '', limit: 10 })
    expect(
      listed.map(({ organizationId, state, fromAmountMinor, toAmountMinor }) => [
        organizationId,
        state,
        fromAmountMinor,
        toAmountMinor,
      ]),
    ).toEqual([['moved', 'pending', 2000, 2500]])
  })

  test('is told of one migration, by organization, a page after the other, and counted by state', async () => {
    for (const id of ['c', 'a', 'b']) await move(id, { state: id === 'a' ? 'done' : 'pending' })
    await move('a', { migration_id: 'mig 2', state: 'failed' })
    const page = async (from: string) =>
      (await listMoves(db, { migrationId: 'mig', after: from, limit: 2 })).map(({ organizationId }) => organizationId)
    expect([await page(''), await page('b'), await page('c')]).toEqual([['a', 'b'], ['c'], []])
    expect(await countMoves(db, 'mig')).toEqual({ pending: 2, scheduled: 0, done: 1, skipped: 0, failed: 0 })
    expect(await countMoves(db, 'mig 2')).toEqual({ pending: 0, scheduled: 0, done: 0, skipped: 0, failed: 1 })
  })

  test('keeps what a step does not say anew, and the moves of other migrations', async () => {
    const [organizationId, migrationId] = ['acme', 'mig']
    await customer(organizationId)
    await move(organizationId)
    await move(organizationId, { migration_id: 'mig 2', state: 'done' })
    await updateMove(
      db,
      { organizationId, migrationId },
      { state: 'scheduled', effectiveAt: after(1), repricesUse: true },
      after(2),
    )
    await updateMove(db, { organizationId, migrationId }, { state: 'scheduled', detail: 'waits' }, after(3))
    await noteMoveAttempt(db, { organizationId, migrationId }, after(4))
    const { rows } = await db.query(
      `select state, effective_at, detail, attempts, updated_at, reprices_use from plan_migration_moves order by migration_id`,
    )
    expect(rows).toEqual([
      { state: 'scheduled', effective_at: after(1), detail: 'waits', attempts: 3, updated_at: after(4), reprices_use: true },
      { state: 'done', effective_at: null, detail: null, attempts: 0, updated_at: now, reprices_use: false },
    ])
  })
})

describe('an account that is moved', () => {
  test('is subscribed until its subscription has ended, and may be repriced while that goes on and takes nothing away', async () => {
    expect(await findMovedAccount(db, 'nobody')).toBeNull()
    await customer('acme', { subscription: { schedule_id: 'sched', scheduled_price_id: 'next', scheduled_at: after(1) } })
    expect(await findMovedAccount(db, 'acme')).toEqual({
      planKey: 'pro',
      catalogVersion: 1,
      priceId: 'old',
      subscribed: true,
      currentPeriodEnd: after(DAY_MS),
      scheduleId: 'sched',
      scheduledPriceId: 'next',
      scheduledAt: after(1),
      mayBeRepriced: true,
      hasChangeWaiting: false,
    })
    await customer('waiting', { subscription: { pending_update_expires_at: after(1) } })
    expect(await findMovedAccount(db, 'waiting')).toMatchObject({ mayBeRepriced: false, hasChangeWaiting: true })
    await customer('visitor', { account: { subscription_id: null, subscription_status: null } })
    for (const status of ['canceled', 'incomplete_expired']) await customer(status, { account: { subscription_status: status } })
    const free = { subscribed: false }
    expect(await findMovedAccount(db, 'visitor')).toMatchObject({
      ...free,
      mayBeRepriced: false,
      hasChangeWaiting: false,
      scheduleId: null,
    })
    for (const status of ['canceled', 'incomplete_expired']) expect(await findMovedAccount(db, status)).toMatchObject(free)
  })

  test('has its new terms alone', async () => {
    for (const id of ['acme', 'other']) await customer(id)
    await writeAside(db, (tx) => setTerms(tx, 'acme', { planKey: 'max', catalogVersion: 2 }, after(1)))
    const { rows } = await db.query(
      `select organization_id as id, plan_key as plan, catalog_version as version, updated_at as at from accounts order by id`,
    )
    expect(rows).toEqual([
      { id: 'acme', plan: 'max', version: 2, at: after(1) },
      { id: 'other', plan: 'pro', version: 1, at: now },
    ])
  })
})
