import { expect, test } from 'vitest'
import { startTestSandbox } from '../../../test/contract.ts'

test('tax ids are kept with their customer, listed, expanded and removed', async () => {
  const { stripe, eventTypes } = await startTestSandbox()
  const customer = await stripe.customers.create({ tax_id_data: [{ type: 'eu_vat', value: 'DE000000000' }] })
  const second = await stripe.customers.createTaxId(customer.id, { type: 'us_ein', value: '12-3456789' })
  const { data } = await stripe.customers.listTaxIds(customer.id)
  expect(data.map(({ type, country, verification }) => [type, country, verification?.status])).toEqual([
    ['us_ein', 'US', undefined],
    ['eu_vat', 'DE', 'verified'],
  ])
  const expanded = await stripe.customers.retrieve(customer.id, { expand: ['tax_ids'] })
  expect(expanded).toMatchObject({ tax_ids: { data: [{ id: second.id }, { value: 'DE000000000' }] } })
  await stripe.customers.deleteTaxId(customer.id, second.id)
  expect((await stripe.customers.listTaxIds(customer.id)).data).toHaveLength(1)
  expect(eventTypes()).toEqual([
    'customer.tax_id.created',
    'customer.created',
    'customer.tax_id.created',
    'customer.tax_id.deleted',
  ])
})

test('the account has tax ids of its own', async () => {
  const { stripe } = await startTestSandbox()
  const own = await stripe.taxIds.create({ type: 'gb_vat', value: 'GB111111111' })
  expect(own).toMatchObject({ customer: null, owner: { type: 'self' }, verification: { status: 'unverified' } })
  expect((await stripe.taxIds.list()).data.map(({ id }) => id)).toEqual([own.id])
  expect(await stripe.taxIds.del(own.id)).toMatchObject({ deleted: true })
})
