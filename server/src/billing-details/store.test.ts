import { expect, test } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { keepRow, type Row } from '../../test/rows.ts'
import { findBillingDetails } from './store.ts'

const { db } = testDatabase()
const now = new Date('2026-03-10T12:00:00Z')
const organization = (id: string, customerId: string | null) =>
  keepRow(db, 'organizations', { id, name: id, email: '', created_at: now, stripe_customer_id: customerId })
const customer = (organizationId: string, id: string, over: Row = {}) =>
  keepRow(db, 'stripe_customers', {
    organization_id: organizationId,
    id,
    email: 'billing@example.com',
    name: `${id} Inc.`,
    deleted: false,
    balance_minor: 0,
    delinquent: false,
    created_at: now,
    data: {},
    refreshed_at: now,
    ...over,
  })

test('are those of the customer that an organization has, while that is there', async () => {
  await organization('acme', 'cus_2')
  await customer('acme', 'cus_1', { name: 'Of before' })
  await customer('acme', 'cus_2', {
    data: {
      address: { city: 'Berlin', country: 'DE', line2: null },
      tax_ids: {
        data: [
          { id: 'txi_1', type: 'eu_vat', value: 'DE1', verification: { status: 'pending' } },
          { id: 'txi_2', type: 'gb_vat', value: 'GB1', verification: null },
        ],
      },
    },
  })
  await organization('bare', 'cus_bare')
  await customer('bare', 'cus_bare', { name: null, email: null })
  await organization('gone', 'cus_gone')
  await customer('gone', 'cus_gone', { deleted: true })
  await organization('visitor', null)
  const address = { line1: '', line2: '', city: 'Berlin', postal_code: '', state: '', country: 'DE' }
  expect(await findBillingDetails(db, 'acme')).toEqual({
    name: 'cus_2 Inc.',
    email: 'billing@example.com',
    address,
    taxIds: [
      { id: 'txi_1', type: 'eu_vat', value: 'DE1', verification: 'pending' },
      { id: 'txi_2', type: 'gb_vat', value: 'GB1', verification: null },
    ],
  })
  expect(await findBillingDetails(db, 'bare')).toEqual({ name: null, email: null, address: null, taxIds: [] })
  expect([await findBillingDetails(db, 'gone'), await findBillingDetails(db, 'visitor')]).toEqual([null, null])
})
