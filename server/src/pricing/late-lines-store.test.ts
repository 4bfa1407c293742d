import { beforeEach, describe, expect, test } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { keepRow, type Row } from '../../test/rows.ts'
import { writeAside } from '../../test/under-lock.ts'
import { DAY_MS, HOUR_MS } from '../lib/period.ts'
import {
  closeLateLine,
  deleteEmptyLateLine,
  findLateItem,
  fixLateLine,
  insertChangedLines,
  listChangedLines,
  listFallenLate,
  listLateChargers,
  listLateToCharge,
  listStandingAllowances,
  settleFallenLate,
} from './late-lines-store.ts'

const database = testDatabase()
const { db } = database
const now = new Date('2026-03-10T12:00:00Z')
const after = (ms: number): Date => new Date(now.getTime() + ms)

const keep = (table: string, row: Row) => keepRow(db, table, row)

const LINE = {
  kind: 'late',
  subscription_id: 'sub',
  item_id: 'si',
  stripe_price_id: 'price',
  starts_at: after(-HOUR_MS),
  ends_at: after(9 * DAY_MS),
  whole: false,
  quantity: 5,
  balance: 'calls',
  state: 'open',
  collected_at: now,
  period_start: after(-9 * DAY_MS),
  period_end: after(9 * DAY_MS),
  unit_amount_minor: 0,
  late_of: 'line',
}
const line = (id: string, over: Row = {}) => keep('billing_spans', { organization_id: 'acme', id, ...LINE, ...over })
const GRANT = {
  balance: 'calls',
  kind: 'plan',
  limit_kind: 'soft',
  amount: 100,
  priority: 50,
  starts_at: after(-DAY_MS),
  created_at: now,
}
const grant = (id: string, over: Row = {}) => keep('grants', { organization_id: 'acme', id, ...GRANT, ...over })
const counts = (spanId: string, grantId: string, counted = 1, organization = 'acme') =>
  keep('reported_grants', {
    organization_id: organization,
    grant_id: grantId,
    reports: 'overage',
    span_id: spanId,
    late: true,
    counted,
  })

beforeEach(async () => {
  await writeAside(db, (tx) =>
    tx.query(
      `truncate organizations, billing_spans, grants, reported_grants, late_use, usage_prices, stripe_intents, stripe_subscriptions cascade`,
    ),
  )
  for (const id of ['acme', 'other']) {
    await keep('organizations', { id, name: id, email: '', created_at: now, stripe_customer_id: `cus_${id}` })
  }
})

async function statesOf(): Promise<Record<string, unknown>> {
  const { rows } = await db.query<{ name: string; state: string; minor: number | null }>(
    `select organization_id || ' ' || id as name, state, amount_minor::int as minor from billing_spans`,
  )
  return Object.fromEntries(rows.map(({ name, state, minor }) => [name, minor === null ? state : [state, minor]]))
}

describe('late use is asked for', () => {
  const due = (isEnding = false) => listLateToCharge(db, { organizationId: 'acme', now, isEnding })
  const chargers = (limit = 10) => listLateChargers(db, { now, limit })

  test('at once where it is the first of its line, whatever is made of others', async () => {
    await line('second', { starts_at: after(-1) })
    await line('first', { late_of: 'line too' })
    await line('made', { late_of: 'another', state: 'closed' })
    await line('theirs', { organization_id: 'other', late_of: 'line', state: 'closed' })
    await line('use', { kind: 'usage', late_of: null })
    expect(await due()).toEqual(['first', 'second'])
    expect(await chargers()).toEqual(['acme'])
  })

  test('then once a day, and all of it when the period is about to end', async () => {
    await line('made', { state: 'closed', starts_at: after(1 - DAY_MS) })
    await line('told', { period_end: after(2 * HOUR_MS) })
    expect([await due(), await due(true), await chargers()]).toEqual([[], ['told'], []])
    await db.query(`update billing_spans set starts_at = starts_at - interval '1 ms' where id = 'made'`)
    expect([await due(), await chargers()]).toEqual([['told'], ['acme']])
    await line('made since', { state: 'closing' })
    await db.query(`update billing_spans set period_end = period_end - interval '1 ms' where id = 'told'`)
    expect(await due()).toEqual(['made since', 'told'])
  })

  test('by the clock of the organization', async () => {
    await line('made', { state: 'closed' })
    await line('told')
    await db.query(`update organizations set test_clock_now = $1 where id = 'acme'`, [after(DAY_MS)])
    expect([await due(), await chargers()]).toEqual([['told'], ['acme']])
  })

  test('again where nobody knows what became of it, and never once it is made', async () => {
    await line('asked', { state: 'closing' })
    await line('made', { state: 'closed' })
    expect([await due(), await due(true)]).toEqual([['asked'], ['asked']])
  })

  test('of no more organizations than are asked about at once', async () => {
    await line('told')
    await line('more', { late_of: 'line too' })
    await line('told', { organization_id: 'other' })
    expect((await chargers()).toSorted()).toEqual(['acme', 'other'])
    expect(await chargers(1)).toHaveLength(1)
  })
})

describe('what a line of late use comes to', () => {
  const fix = (amountMinor: number) =>
    writeAside(db, (tx) => fixLateLine(tx, { organizationId: 'acme', id: 'told', amountMinor }))
  const pricedOf = async () =>
    (await db.query<{ id: string; minor: string }>(`select id, priced_minor::text as minor from grants order by id`)).rows

  test('is fixed once, and is in what its grant has priced', async () => {
    await line('told')
    await line('told too')
    await line('told', { organization_id: 'other' })
    for (const id of ['a', 'b', 'c']) await grant(id)
    await counts('told', 'a', 0)
    for (const id of ['b', 'c']) await counts('told', id)
    await fix(56)
    await fix(57)
    expect(await statesOf()).toEqual({ 'acme told': ['closing', 56], 'acme told too': 'open', 'other told': 'open' })
    expect(await pricedOf()).toEqual([
      { id: 'a', minor: null },
      { id: 'b', minor: '56' },
      { id: 'c', minor: null },
    ])
  })

  test('is closed at once where it is nothing, and lowers what is priced to nothing at most', async () => {
    await line('told')
    await grant('a', { priced_minor: 30 })
    await counts('told', 'a')
    await fix(0)
    expect([await statesOf(), await pricedOf()]).toEqual([{ 'acme told': ['closed', 0] }, [{ id: 'a', minor: '30' }]])
    await line('less', { state: 'open' })
    await counts('less', 'a')
    await writeAside(db, (tx) => fixLateLine(tx, { organizationId: 'acme', id: 'less', amountMinor: -40 }))
    expect(await pricedOf()).toEqual([{ id: 'a', minor: null }])
  })

  test('is closed once its item is made, and no other line with it', async () => {
    for (const id of ['asked', 'asked too']) await line(id, { state: 'closing' })
    await line('asked', { organization_id: 'other', state: 'closing' })
    await line('told')
    for (const id of ['asked', 'told']) await closeLateLine(db, { organizationId: 'acme', id })
    const others = { 'acme asked too': 'closing', 'other asked': 'closing', 'acme told': 'open' }
    expect(await statesOf()).toEqual({ 'acme asked': 'closed', ...others })
  })

  test('is nothing, and leaves no trace, where all of it was taken back before it was asked for', async () => {
    await line('gone', { quantity: 0 })
    await line('less', { quantity: 1 })
    await line('asked', { quantity: 0, state: 'closing' })
    await line('use', { quantity: 0, kind: 'usage', late_of: null })
    await line('gone', { organization_id: 'other', quantity: 0 })
    for (const id of ['gone', 'less']) await counts(id, 'a')
    await counts('gone', 'a', 1, 'other')
    for (const id of ['gone', 'less', 'asked', 'use']) await deleteEmptyLateLine(db, { organizationId: 'acme', id })
    expect(Object.keys(await statesOf()).toSorted()).toEqual(['acme asked', 'acme less', 'acme use', 'other gone'])
    const { rows } = await db.query('select organization_id as of, span_id as id from reported_grants order by 1')
    expect(rows).toEqual([
      { of: 'acme', id: 'less' },
      { of: 'other', id: 'gone' },
    ])
  })
})

describe('the item of a line of late use', () => {
  const price = {
    plan_key: 'pro',
    balance: 'calls',
    reports: 'overage',
    event_name: 'e',
    formula: 'sum',
    currency: 'usd',
    terms: {},
  }
  const item = () => findLateItem(db, { organizationId: 'acme', id: 'told' })
  const intent = (id: string, over: Row = {}) =>
    keep('stripe_intents', {
      organization_id: 'acme',
      id,
      kind: 'create_invoice_item',
      params: { metadata: { tollgate_line: 'told' } },
      idempotency_key: id,
      state: 'succeeded',
      created_at: now,
      ...over,
    })
  const subscription = (id: string, status: string) =>
    keep('stripe_subscriptions', {
      organization_id: 'acme',
      id,
      customer_id: 'cus_acme',
      status,
      currency: 'usd',
      collection_method: 'charge_automatically',
      cancel_at_period_end: false,
      created_at: now,
      data: {},
      refreshed_at: now,
    })

  beforeEach(async () => {
    await keep('usage_prices', { stripe_price_id: 'price', ...price, catalog_version: 1, created_at: now })
    await line('line', { kind: 'usage', late_of: null, starts_at: after(-3 * DAY_MS), ends_at: after(-DAY_MS) })
    await line('told')
  })

  test('goes to the customer, with the subscription while that takes items, and tells the time of its use', async () => {
    const item0 = {
      customerId: 'cus_acme',
      currency: 'usd',
      usedFrom: after(-3 * DAY_MS),
      usedUntil: after(-DAY_MS),
      state: null,
    }
    expect(await item()).toEqual({ ...item0, subscriptionId: null })
    await subscription('another', 'active')
    await subscription('sub', 'active')
    expect(await item()).toEqual({ ...item0, subscriptionId: 'sub' })
    for (const status of ['canceled', 'incomplete_expired']) {
      await db.query(`update stripe_subscriptions set status = $1 where id = 'sub'`, [status])
      expect(await item(), status).toEqual({ ...item0, subscriptionId: null })
    }
    await db.query(`update organizations set stripe_customer_id = null where id = 'acme'`)
    expect(await item()).toBeNull()
  })

  test('was made where any call made it; a call that is known to have made nothing counts no more, nor one of anything else', async () => {
    await intent('other line', { params: { metadata: { tollgate_line: 'line' } } })
    await intent('other kind', { kind: 'create_customer' })
    await intent('other organization', { organization_id: 'other' })
    await intent('abandoned', { state: 'abandoned' })
    expect((await item())?.state).toBeNull()
    await intent('failed', { state: 'failed', created_at: after(1) })
    await intent('pending', { state: 'pending', created_at: after(2) })
    expect((await item())?.state).toBe('pending')
    await intent('made')
    expect((await item())?.state).toBe('succeeded')
  })
})

describe('what a change leaves of an allowance for late use', () => {
  const standing = () => listStandingAllowances(db, { organizationId: 'acme', balanceKeys: ['calls'], now })
  const top = (id: string, over: Row = {}) => grant(id, { kind: 'top_up', priority: 70, ...over })

  test('is what neither is used, held nor revoked of the one that stands, and of other grants before and after it', async () => {
    await grant('over', { expires_at: now })
    await grant('before it', { starts_at: after(-2 * DAY_MS), expires_at: after(DAY_MS) })
    await grant('plan', { starts_at: now, expires_at: after(1), used: 30, reserved: 20, revoked: 10, used_elsewhere: 7 })
    await grant('to come', { starts_at: after(1) })
    await grant('of others', { balance: 'tokens' })
    await keep('grants', { organization_id: 'other', id: 'theirs', ...GRANT, starts_at: now })
    await top('first', { kind: 'promotion', priority: 30, amount: 9, used: 4 })
    await top('second', { kind: 'promotion', priority: 30, amount: 5, revoked: 2, starts_at: now })
    await top('last', { amount: 20, reserved: 1, used: 2 })
    const none = [
      { meters: ['calls'] },
      { expires_at: now },
      { starts_at: after(1) },
      { balance: 'tokens' },
      { organization_id: 'other' },
    ]
    for (const [index, over] of none.entries()) await top(`none ${index}`, over)
    const known = { balanceKey: 'calls', grantId: 'plan', drawn: 30n, drawnElsewhere: 7n }
    expect(await standing()).toEqual([{ ...known, room: 40n, roomBefore: 8n, roomAfter: 17n }])
  })

  test('is nothing where all of it is used', async () => {
    await grant('plan', { used: 90, reserved: 10 })
    await top('used', { used: 100 })
    expect(await standing()).toMatchObject([{ room: 0n, roomBefore: 0n, roomAfter: 0n }])
  })

  test('is without end where the allowance is, or another grant, and nothing where there is no other', async () => {
    await grant('plan', { amount: null })
    await top('endless', { amount: null })
    await top('more')
    const known = { balanceKey: 'calls', grantId: 'plan', drawn: 0n, drawnElsewhere: 0n }
    expect(await standing()).toEqual([{ ...known, room: null, roomBefore: 0n, roomAfter: null }])
  })

  test('is kept once, in the order of the lines, and told of the allowances that are asked about', async () => {
    const room = { room: 1n, roomBefore: 2n, roomAfter: null, drawn: 3n, drawnElsewhere: 4n, passed: 5n, passedElsewhere: 6n }
    await line('b', { starts_at: after(-2 * DAY_MS) })
    await line('a', { starts_at: after(-DAY_MS) })
    await line('c', { starts_at: after(-3 * DAY_MS) })
    const entry = (spanId: string, grantId = 'plan') => ({ spanId, grantId, ...room })
    await insertChangedLines(db, 'acme', [entry('a'), entry('b'), entry('c', 'else')])
    await insertChangedLines(db, 'acme', [{ ...entry('a'), room: 9n }])
    const lines = await listChangedLines(db, { organizationId: 'acme', grantIds: ['plan'] })
    expect(lines).toEqual([0, 1].map(() => ({ grantId: 'plan', ...room, told: 0n })))
    await db.query(`update late_use set told = 8 where span_id = 'b'`)
    expect((await listChangedLines(db, { organizationId: 'acme', grantIds: ['plan'] })).map(({ told }) => told)).toEqual([8n, 0n])
  })

  test('what was taken back of it is told until that is settled', async () => {
    const late = { drawn: 0, drawn_elsewhere: 0, passed: 0, passed_elsewhere: 0, grant_id: 'plan' }
    const told = (spanId: string, counted: number, billed: number, organization = 'acme') =>
      keep('late_use', { organization_id: organization, span_id: spanId, ...late, counted, billed })
    await told('b', 3, 5)
    await told('a', 1, 2)
    await told('even', 4, 4)
    await told('theirs', 0, 5, 'other')
    expect(await listFallenLate(db, 'acme')).toEqual([
      { spanId: 'a', grantId: 'plan', quantity: 1n },
      { spanId: 'b', grantId: 'plan', quantity: 2n },
    ])
    await settleFallenLate(db, 'acme')
    expect(await listFallenLate(db, 'acme')).toEqual([])
    expect(await listFallenLate(db, 'other')).toHaveLength(1)
  })
})
