import { expect, test } from 'vitest'
import { testDatabase } from '../../../test/database.ts'
import { writeAside } from '../../../test/under-lock.ts'
import { readUnsettled } from './unsettled-store.ts'

const { db } = testDatabase()

const invoice = (organizationId: string, id: string, status: string) =>
  writeAside(db, (tx) =>
    tx.query(
      `insert into stripe_invoices (organization_id, id, customer_id, status, collection_method, currency, subtotal_minor, total_minor, amount_due_minor,
         amount_paid_minor, amount_remaining_minor, attempted, attempt_count, period_start, period_end, created_at, data, refreshed_at)
       values ($1, $2, 'cus_' || $1, $3, '', 'usd', 0, 0, 0, 0, 0, false, 0, now(), now(), now(), '{}', now())`,
      [organizationId, id, status],
    ),
  )

const dispute = (organizationId: string, id: string, closedAt: Date | null) =>
  writeAside(db, (tx) =>
    tx.query(
      `insert into stripe_disputes (organization_id, id, charge_id, amount_minor, currency, reason, status, created_at, closed_at, data, refreshed_at)
       values ($1, $2, 'ch_' || $2, 0, 'usd', '', '', now(), $3, '{}', now())`,
      [organizationId, id, closedAt],
    ),
  )

test('drafts, open invoices and disputes that are not over are looked at again, each organization’s own', async () => {
  for (const status of ['draft', 'open', 'paid', 'void', 'uncollectible']) await invoice('acme', status, status)
  await invoice('other', 'theirs', 'open')
  await dispute('acme', 'lasting', null)
  await dispute('acme', 'over', new Date())
  await dispute('other', 'against them', null)
  const { unsettled } = await readUnsettled(db, ['acme', 'nobody'])
  expect([...unsettled.keys()].toSorted()).toEqual(['acme', 'nobody'])
  expect(unsettled.get('nobody')).toEqual({ invoices: [], disputedChargeIds: [] })
  const { invoices, disputedChargeIds } = unsettled.get('acme')!
  expect(invoices.toSorted((a, b) => (a.id < b.id ? -1 : 1))).toEqual([
    { id: 'draft', customerId: 'cus_acme' },
    { id: 'open', customerId: 'cus_acme' },
  ])
  expect(disputedChargeIds).toEqual(['ch_lasting'])
})
