import { expect, test } from 'vitest'
import { stepsTo, type BillingDetails } from './details.ts'

const ADDRESS = { line1: 'Torstraße 1', line2: '', city: 'Berlin', postal_code: '10119', state: '', country: 'DE' }
const VAT = { type: 'eu_vat', value: 'DE123456789' }
const AUSTRIAN = { type: 'eu_vat', value: 'ATU12345678' }
const stored = (id: string, taxId: typeof VAT) => ({ id, ...taxId, verification: null })
const present: BillingDetails = { name: 'Acme', email: null, address: ADDRESS, taxIds: [stored('txi_1', VAT)] }

const created = (taxId: typeof VAT) => ({ kind: 'create_tax_id', params: { customerId: 'cus', ...taxId } })
const deleted = (taxId: string) => ({ kind: 'delete_tax_id', params: { customerId: 'cus', taxId } })
const updated = (changes: object) => ({ kind: 'update_customer', params: { customerId: 'cus', ...changes } })
const steps = (wanted: Parameters<typeof stepsTo>[2], from = present) => stepsTo('cus', from, wanted)

test('nothing is asked of Stripe that is so already', () => {
  expect([
    steps({}),
    steps({ name: 'Acme', address: ADDRESS, taxId: VAT }),
    steps({ taxId: null }, { ...present, taxIds: [] }),
  ]).toEqual([[], [], []])
})

test('a name and an address are changed together, each only where it differs', () => {
  expect(steps({ name: 'Acme GmbH', address: ADDRESS })).toEqual([updated({ name: 'Acme GmbH' })])
  for (const field of Object.keys(ADDRESS)) {
    const address = { ...ADDRESS, [field]: 'another' }
    expect(steps({ name: 'Acme', address }), field).toEqual([updated({ address })])
  }
  expect(steps({ name: 'Acme GmbH', address: ADDRESS }, { ...present, address: null })).toEqual([
    updated({ name: 'Acme GmbH', address: ADDRESS }),
  ])
})

test('a tax id, which Stripe may refuse, comes first, and what it takes the place of goes last', () => {
  expect(steps({ name: 'Acme GmbH', taxId: AUSTRIAN })).toEqual([
    created(AUSTRIAN),
    updated({ name: 'Acme GmbH' }),
    deleted('txi_1'),
  ])
  // The same value of another type is another tax id.
  const british = { ...VAT, type: 'gb_vat' }
  expect(steps({ taxId: british })).toEqual([created(british), deleted('txi_1')])
})

test('one of several stays alone, and none stays where none is wanted', () => {
  const two = { ...present, taxIds: [stored('txi_1', VAT), stored('txi_2', AUSTRIAN)] }
  expect(steps({ taxId: AUSTRIAN }, two)).toEqual([deleted('txi_1')])
  expect(steps({ taxId: null }, two)).toEqual([deleted('txi_1'), deleted('txi_2')])
  expect(steps({ name: 'Acme' }, two)).toEqual([])
})
