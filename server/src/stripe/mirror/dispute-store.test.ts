import { beforeEach, expect, test } from 'vitest'
import { testDatabase } from '../../../test/database.ts'
import { keepRow, type Row } from '../../../test/rows.ts'
import { writeAside } from '../../../test/under-lock.ts'
import { DAY_MS } from '../../lib/period.ts'
import { DISPUTE_METADATA, listCountedDisputes, listLostDisputes } from './dispute-store.ts'

const { db } = testDatabase()
const now = new Date('2026-03-10T12:00:00Z')
const after = (ms: number): Date => new Date(now.getTime() + ms)

beforeEach(async () => {
  const tables = ['stripe_disputes', 'stripe_invoices', 'stripe_charges']
  await writeAside(db, (tx) => tx.query(tables.map((table) => `delete from ${table}`).join(';')))
})

const invoice = (id: string, over: Row = {}) =>
  keepRow(db, 'stripe_invoices', {
    organization_id: 'acme',
    id,
    customer_id: 'cus',
    subscription_id: 'sub',
    status: 'paid',
    collection_method: '',
    currency: 'usd',
    subtotal_minor: 0,
    total_minor: 0,
    amount_due_minor: 0,
    amount_paid_minor: 2900,
    amount_remaining_minor: 0,
    attempted: true,
    attempt_count: 1,
    period_start: now,
    period_end: now,
    paid_at: now,
    created_at: now,
    data: {},
    refreshed_at: now,
    ...over,
  })
const charge = (id: string, over: Row = {}) =>
  keepRow(db, 'stripe_charges', {
    organization_id: 'acme',
    id,
    customer_id: 'cus',
    amount_minor: 2900,
    amount_refunded_minor: 0,
    currency: 'usd',
    status: 'succeeded',
    paid: true,
    refunded: false,
    disputed: false,
    created_at: now,
    data: {},
    refreshed_at: now,
    ...over,
  })
/** A dispute that was lost, of an invoice that it is the newest of. */
async function lost(id: string, over: Row = {}, organizationId = 'acme'): Promise<void> {
  await invoice(`in ${id}`, { organization_id: organizationId, dispute_id: id })
  await keepRow(db, 'stripe_disputes', {
    organization_id: organizationId,
    id,
    charge_id: `ch ${id}`,
    amount_minor: 2900,
    currency: 'usd',
    reason: 'fraudulent',
    status: 'lost',
    created_at: now,
    closed_at: after(DAY_MS),
    data: {},
    refreshed_at: now,
    ...over,
  })
}

const counted = async () => (await listCountedDisputes(db, ['acme'])).map(({ id }) => id)
const lostIds = async () => (await listLostDisputes(db, ['acme'])).map(({ id }) => id)

test('disputes count that may cost something, the newest first; of invoices that a later one disputes, and of others, none do', async () => {
  await lost('first')
  await lost('open', { status: 'needs_response', closed_at: null, created_at: after(1) })
  for (const status of ['won', 'warning_closed', 'prevented']) await lost(status, { status })
  await lost('theirs', {}, 'other')
  await lost('disputed again')
  await db.query(`update stripe_invoices set dispute_id = 'a later one' where id = 'in disputed again'`)
  expect([await counted(), await lostIds()]).toEqual([['open', 'first'], ['first']])
})

test('a lost dispute is settled by a payment that names it, unless that was refunded, and by none of somebody else’s', async () => {
  const paying = (dispute: string, over: Row = {}) => ({ data: { metadata: { [DISPUTE_METADATA]: dispute } }, ...over })
  for (const id of ['paid again', 'not yet', 'refunded', 'paid by others']) await lost(id)
  await charge('ch_1', paying('paid again'))
  await charge('ch_2', paying('not yet', { paid: false }))
  await charge('ch_3', paying('refunded', { refunded: true }))
  await charge('ch_4', { organization_id: 'other', ...paying('paid by others') })
  expect((await counted()).toSorted()).toEqual(['not yet', 'paid by others', 'refunded'])
})

test('a lost dispute is settled by the next payment for its subscription, of more than nothing', async () => {
  await lost('owed')
  const later = { paid_at: after(2 * DAY_MS) }
  await invoice('before it was lost', { paid_at: after(DAY_MS) })
  await invoice('of nothing', { ...later, amount_paid_minor: 0 })
  await invoice('of another subscription', { ...later, subscription_id: 'sub 2' })
  await invoice('theirs', { ...later, organization_id: 'other' })
  await invoice('open', { ...later, status: 'open' })
  expect(await listLostDisputes(db, ['acme'])).toMatchObject([{ id: 'owed', since: after(DAY_MS), amountMinor: 2900 }])
  await invoice('paid since', later)
  expect(await lostIds()).toEqual([])
})
