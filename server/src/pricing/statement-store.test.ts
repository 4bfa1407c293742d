import { beforeEach, describe, expect, test } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { keepRow, type Row } from '../../test/rows.ts'
import { writeAside } from '../../test/under-lock.ts'
import { DAY_MS, MINUTE_MS, SECOND_MS } from '../lib/period.ts'
import { toUnix } from '../stripe/gateway/wire.ts'
import { listAdjustments, listCycles, listLateUse, readIncluded, readInvoicing } from './statement-store.ts'

const { db } = testDatabase()
const period = { start: new Date('2026-03-01T00:00:00Z'), end: new Date('2026-04-01T00:00:00Z') }
const from = (ms: number): Date => new Date(period.start.getTime() + ms)
const until = (ms: number): Date => new Date(period.end.getTime() - ms)

const INVOICE = {
  customer_id: 'cus',
  subscription_id: 'sub',
  status: 'paid',
  collection_method: '',
  currency: 'usd',
  subtotal_minor: 0,
  total_minor: 0,
  amount_due_minor: 0,
  amount_paid_minor: 0,
  amount_remaining_minor: 0,
  attempted: false,
  attempt_count: 0,
  period_start: period.start,
  period_end: period.end,
  created_at: period.start,
  data: {},
  refreshed_at: period.start,
}
const invoice = (id: string, over: Row = {}) =>
  keepRow(db, 'stripe_invoices', { organization_id: 'acme', id, ...INVOICE, ...over })
const withLines = (...lines: readonly Row[]): Row => ({ data: { lines: { data: lines } } })
const line = (start: Date, over: Row = {}): Row => ({
  id: 'line',
  amount: 5,
  period: { start: toUnix(start), end: toUnix(period.end) },
  parent: { subscription_item_details: { proration: true } },
  ...over,
})
const subscription = (id: string, over: Row = {}) =>
  keepRow(db, 'stripe_subscriptions', {
    organization_id: 'acme',
    id,
    customer_id: 'cus',
    status: 'active',
    currency: 'usd',
    collection_method: '',
    cancel_at_period_end: false,
    created_at: period.start,
    data: {},
    refreshed_at: period.start,
    ...over,
  })

beforeEach(async () => {
  const tables = ['stripe_invoices', 'stripe_subscriptions', 'grants']
  await writeAside(db, (tx) => tx.query(tables.map((table) => `delete from ${table}`).join(';')))
})

describe('adjustments', () => {
  const listed = async () => (await listAdjustments(db, 'acme', period)).map(({ description }) => description)

  test('are the prorations whose time begins in the period, in their order', async () => {
    await invoice(
      'in_1',
      withLines(
        line(until(SECOND_MS), { description: 'last' }),
        line(period.start, { description: 'second', id: 'line_2' }),
        line(period.start, { description: 'first', id: 'line_1', amount: -700 }),
        line(from(-SECOND_MS), { description: 'before' }),
        line(period.end, { description: 'after' }),
        line(period.start, { description: 'a fee', parent: { subscription_item_details: { proration: false } } }),
      ),
    )
    expect(await listed()).toEqual(['first', 'second', 'last'])
    const [first] = await listAdjustments(db, 'acme', period)
    expect(first).toEqual({ description: 'first', amountMinor: -700, invoiceId: 'in_1', period })
  })

  test('are not those of an invoice that was voided, of one beside a subscription, and of somebody else', async () => {
    await invoice('void', { status: 'void', ...withLines(line(period.start, { description: 'voided' })) })
    await invoice('one-off', { subscription_id: null, ...withLines(line(period.start, { description: 'one-off' })) })
    await invoice('theirs', { organization_id: 'other', ...withLines(line(period.start, { description: 'theirs' })) })
    await invoice('open', { status: 'open', ...withLines(line(period.start, { description: 'open' })) })
    expect(await listed()).toEqual(['open'])
  })
})

describe('a period', () => {
  const read = (...subscriptionIds: readonly string[]) => readInvoicing(db, { organizationId: 'acme', period, subscriptionIds })
  const going = { isInvoiced: false, isEnded: false }

  test('is invoiced once an invoice of its subscription follows it that is no draft, by clocks that differ by a minute', async () => {
    await subscription('sub')
    await invoice('early', { created_at: until(MINUTE_MS + 1) })
    await invoice('draft', { created_at: period.end, status: 'draft' })
    await invoice('of another', { created_at: period.end, subscription_id: 'sub 2' })
    await invoice('theirs', { organization_id: 'other', created_at: period.end })
    expect(await read('sub')).toEqual(going)
    await invoice('following', { created_at: until(MINUTE_MS), status: 'open' })
    expect(await read('sub')).toEqual({ isInvoiced: true, isEnded: false })
  })

  test('is invoiced when all its subscriptions have ended; those that are not its own do not count', async () => {
    await subscription('canceled', { status: 'canceled' })
    await subscription('never paid', { status: 'incomplete_expired' })
    await subscription('goes on')
    await subscription('theirs', { organization_id: 'other' })
    const over = { isInvoiced: true, isEnded: true }
    expect([await read(), await read('canceled', 'never paid'), await read('theirs')]).toEqual([over, over, over])
    expect(await read('canceled', 'goes on')).toEqual(going)
  })

  test('is not invoiced while a draft of a subscription holds something that begins in it', async () => {
    const draft = { status: 'draft', subscription_id: 'sub' }
    await invoice('before and after', { ...draft, ...withLines(line(from(-SECOND_MS)), line(period.end)) })
    await invoice('one-off', { ...draft, subscription_id: null, ...withLines(line(period.start)) })
    await invoice('theirs', { ...draft, organization_id: 'other', ...withLines(line(period.start)) })
    await invoice('sent', { ...draft, status: 'open', ...withLines(line(period.start)) })
    expect(await read()).toEqual({ isInvoiced: true, isEnded: true })
    for (const start of [period.start, until(SECOND_MS)]) {
      await invoice('draft', { ...draft, ...withLines(line(start)) })
      expect(await read()).toEqual({ isInvoiced: false, isEnded: true })
      await db.query(`delete from stripe_invoices where id = 'draft'`)
    }
  })
})

test('the cycles of an organization are each told once, without those that ended as they began', async () => {
  const span = (id: string, over: Row) =>
    keepRow(db, 'billing_spans', {
      organization_id: 'acme',
      id,
      kind: 'usage',
      subscription_id: 'sub',
      item_id: 'si',
      stripe_price_id: 'price',
      starts_at: period.start,
      ends_at: period.end,
      whole: true,
      quantity: 0,
      state: 'open',
      collected_at: period.start,
      period_start: period.start,
      period_end: period.end,
      unit_amount_minor: 0,
      ...over,
    })
  await span('one', {})
  await span('two', {})
  await span('empty', { period_end: period.start })
  await span('theirs', { organization_id: 'other', period_end: until(DAY_MS) })
  expect(await listCycles(db, 'acme')).toEqual([period])
})

test('late use of a line is all that its reports counted of an earlier period', async () => {
  const event = (identifier: string, over: Row) =>
    keepRow(db, 'meter_events', {
      organization_id: 'acme',
      identifier,
      span_id: 'line',
      event_name: '',
      formula: '',
      customer_id: 'cus',
      quantity: 3,
      value: 0,
      at: period.start,
      late: true,
      state: 'sent',
      created_at: period.start,
      ...over,
    })
  await event('one', {})
  await event('two', { quantity: 4 })
  await event('in time', { late: false })
  await event('of another', { span_id: 'line 2', quantity: 9 })
  await event('unasked', { span_id: 'line 3' })
  await event('theirs', { organization_id: 'other' })
  expect(await listLateUse(db, 'acme', ['line', 'line 2'])).toEqual(
    new Map([
      ['line', 7n],
      ['line 2', 9n],
    ]),
  )
})

describe('what is included', () => {
  const grant = (id: string, over: Row = {}) =>
    keepRow(db, 'grants', {
      organization_id: 'acme',
      id,
      balance: 'calls',
      kind: 'plan',
      limit_kind: 'soft',
      amount: 100,
      used: 10,
      priority: 50,
      starts_at: period.start,
      expires_at: period.end,
      created_at: period.start,
      ...over,
    })
  const read = () => readIncluded(db, { organizationId: 'acme', balanceKey: 'calls', period })

  test('are the allowances of the plan that stand in a time, the first of them first', async () => {
    expect(await read()).toEqual({ amount: 0n, used: 0n, grantIds: [] })
    await grant('b', { expires_at: from(1) })
    await grant('a', { starts_at: until(1), amount: 30, used: 7 })
    await grant('over', { starts_at: from(-DAY_MS), expires_at: period.start })
    await grant('to come', { starts_at: period.end, expires_at: from(60 * DAY_MS) })
    await grant('of another balance', { balance: 'seats' })
    await grant('bought', { kind: 'top_up' })
    await grant('theirs', { organization_id: 'other' })
    expect(await read()).toEqual({ amount: 130n, used: 17n, grantIds: ['b', 'a'] })
  })

  test('is without end where one of them is', async () => {
    await grant('limited')
    await grant('unlimited', { amount: null, starts_at: from(DAY_MS) })
    expect(await read()).toEqual({ amount: null, used: 20n, grantIds: ['limited', 'unlimited'] })
  })
})
