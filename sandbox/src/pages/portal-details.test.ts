import { expect, test } from 'vitest'
import { startTestSandbox } from '../../test/contract.ts'
import { openPage, sendForm } from '../../test/pages.ts'

test('the portal takes the tax id of a business in place of the one before, and lets be what was not changed', async () => {
  const { sandbox, stripe } = await startTestSandbox()
  const { id: customer } = await stripe.customers.create({ email: 'ada@example.com' })
  const url = `${(await stripe.billingPortal.sessions.create({ customer })).url}/customer`
  const taxIds = async () => (await stripe.customers.listTaxIds(customer)).data.map(({ type, value }) => [type, value])
  const german = { city: 'Berlin', country: 'DE', email: 'ada@example.com', line1: 'Allee 1', postal_code: '10115' }
  const wrong = await sendForm(url, { ...german, tax_id: 'FR12345678901' })
  expect([wrong.status, wrong.text]).toEqual([400, expect.stringContaining('Enter the tax id as it is written for the country')])
  expect(await taxIds()).toEqual([])
  const saved = await sendForm(url, { ...german, tax_id: 'de 123456789' })
  const home = await openPage(new URL(saved.location, sandbox.url).href)
  expect(home.text).toContain('DE123456789')
  expect(await taxIds()).toEqual([['eu_vat', 'DE123456789']])
  await sendForm(url, { ...german, tax_id: 'DE999999999' })
  expect(await taxIds()).toEqual([['eu_vat', 'DE999999999']])

  // Of a country whose tax ids the page does not take: shown, and kept with whatever else is changed.
  await sendForm(url, { ...german, tax_id: '' })
  await stripe.customers.createTaxId(customer, { type: 'br_cnpj', value: '01.234.456/5432-10' })
  const shown = { ...german, country: 'BR', tax_id: '01.234.456/5432-10' }
  expect((await sendForm(url, shown)).status).toBe(303)
  expect(await taxIds()).toEqual([['br_cnpj', '01.234.456/5432-10']])
  const other = await sendForm(url, { ...shown, tax_id: '123' })
  expect([other.status, other.text]).toEqual([400, expect.stringContaining('takes no tax ids of this country')])
})
