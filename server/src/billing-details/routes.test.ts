import { beforeAll, describe, expect, test } from 'vitest'
import { testBilling } from '../../test/billing.ts'

const billing = testBilling()
const { call } = billing
const PATH = '/api/v1/billing/details'
const ADDRESS = { line1: 'Torstraße 1', line2: '', city: 'Berlin', postal_code: '10119', state: '', country: 'DE' }
const VAT = { type: 'eu_vat', value: 'DE123456789' }

const put = (who: string, body: object) => call(who, 'PUT', PATH, body)
const read = async (who: string) => (await call(who, 'GET', PATH)).body
const customerOf = async (id: string): Promise<string> => {
  const { rows } = await billing.database.db.query<{ id: string }>(
    'select stripe_customer_id as id from organizations where id = $1',
    [id],
  )
  return rows[0]!.id
}

beforeAll(async () => {
  for (const id of ['acme', 'other', 'moved', 'refused', 'portal']) await billing.createOrganization(id)
})

describe('the billing details', () => {
  test('are what the organization is called before anything was bought, and need no customer at Stripe', async () => {
    expect(await read('other:read')).toEqual({ name: 'other', email: 'other@example.com', address: null, tax_ids: [] })
    expect(await customerOf('other')).toBeNull()
  })

  test('are those of the customer at Stripe, and what is not named stays', async () => {
    expect(await put('acme', { name: 'Acme GmbH', address: ADDRESS, tax_id: VAT })).toMatchObject({
      status: 200,
      body: { name: 'Acme GmbH', email: 'acme@example.com', address: ADDRESS, tax_ids: [VAT] },
    })
    const { country, ...rest } = ADDRESS
    const customer = await billing.stripe.customers.retrieve(await customerOf('acme'), { expand: ['tax_ids'] })
    expect(customer).toMatchObject({ name: 'Acme GmbH', address: { country, line1: rest.line1 }, tax_ids: { data: [VAT] } })
    const moved = await put('acme', { address: { country: 'AT', city: 'Wien' } })
    const empty = { line1: '', line2: '', postal_code: '', state: '' }
    expect(moved.body).toMatchObject({ name: 'Acme GmbH', address: { ...empty, city: 'Wien', country: 'AT' }, tax_ids: [VAT] })
    expect(await read('acme')).toEqual(moved.body)
  })

  test('have one tax id in place of another, and none when it is taken away', async () => {
    await put('moved', { tax_id: VAT })
    const austrian = { type: 'eu_vat', value: 'ATU12345678' }
    expect((await put('moved', { tax_id: austrian })).body['tax_ids']).toMatchObject([austrian])
    expect((await put('moved', { tax_id: austrian })).body['tax_ids']).toMatchObject([austrian])
    expect((await put('moved', { tax_id: null })).body['tax_ids']).toEqual([])
    expect(await billing.stripe.customers.listTaxIds(await customerOf('moved'))).toMatchObject({ data: [] })
  })

  test('that somebody changed at Stripe are known from its webhook', async () => {
    await put('portal', { address: ADDRESS })
    const customer = await customerOf('portal')
    await billing.stripe.customers.createTaxId(customer, { type: 'gb_vat', value: 'GB123456789' })
    await expect.poll(async () => (await read('portal'))['tax_ids']).toMatchObject([{ type: 'gb_vat' }])
  })

  test('are changed by none but admins, and bad ones change nothing', async () => {
    await put('refused', { name: 'Refused Ltd', address: ADDRESS })
    const before = await read('refused')
    expect((await put('refused:write', { name: 'x' })).status).toBe(403)
    for (const body of [
      { name: '' },
      { address: { country: 'de' } },
      { address: { city: 'Berlin' } },
      { address: { country: 'DE', street: 'x' } },
      { tax_id: { type: 'vat', value: '1' } },
      { tax_id: { type: 'eu_vat', value: ' ' } },
      { unknown: 1 },
    ]) {
      expect(await put('refused', body), JSON.stringify(body)).toMatchObject({ status: 400, body: { code: 'invalid_request' } })
    }
    expect(await put('refused', { name: 'Y', tax_id: { type: 'zz_none', value: '1' } })).toMatchObject({
      status: 400,
      body: { code: 'invalid_request', field: 'tax_id' },
    })
    expect(await read('refused')).toEqual(before)
  })

  test('are audited by which of them were changed, and not to what', async () => {
    const { rows } = await billing.database.db.query<{ after: unknown }>(
      `select after from audit_log where organization_id = 'acme' and action = 'billing_details.changed' order by id`,
    )
    expect(rows).toEqual([{ after: { changed: ['name', 'address', 'tax_id'] } }, { after: { changed: ['address'] } }])
  })
})
