import { describe, expect, test } from 'vitest'
import { NOW, startTestSandbox } from '../../../test/contract.ts'
import { refusal } from '../../../test/refusal.ts'

describe('a tax registration', () => {
  test('is scheduled, active and over by the clock', async () => {
    const { sandbox, stripe } = await startTestSandbox()
    const registration = await stripe.tax.registrations.create({
      country: 'DE',
      country_options: { de: { type: 'standard', standard: { place_of_supply_scheme: 'standard' } } },
      active_from: NOW + 60,
      expires_at: NOW + 120,
    })
    expect(registration).toMatchObject({ active_from: NOW + 60, country: 'DE', expires_at: NOW + 120, status: 'scheduled' })
    const now = async () => (await stripe.tax.registrations.retrieve(registration.id)).status
    sandbox.advanceTo(NOW + 60)
    expect(await now()).toBe('active')
    expect((await stripe.tax.registrations.list({ status: 'active' })).data.map(({ id }) => id)).toEqual([registration.id])
    sandbox.advanceTo(NOW + 120)
    expect(await now()).toBe('expired')
    expect((await stripe.tax.registrations.list({ status: 'active' })).data).toEqual([])
    expect((await stripe.tax.registrations.list({ status: 'all' })).data).toHaveLength(1)
    expect((await stripe.tax.registrations.update(registration.id, { expires_at: '' })).status).toBe('active')
    expect((await stripe.tax.registrations.update(registration.id, { expires_at: 'now' })).expires_at).toBe(NOW + 120)
  })

  test('names its own country, and one that there is a rate for', async () => {
    const { stripe } = await startTestSandbox()
    const create = (country: string, country_options: object, more: object = {}) =>
      refusal(stripe.tax.registrations.create({ active_from: 'now', country, country_options, ...more }))
    const standard = { type: 'standard' }
    expect(await create('DE', { fr: standard })).toMatchObject({ param: 'country_options[de]' })
    expect(await create('DE', { de: standard, fr: standard })).toMatchObject({ param: 'country_options[fr]' })
    expect(await create('AE', { ae: standard })).toMatchObject({ param: 'country' })
    expect(await create('US', { us: { type: 'state_sales_tax', state: 'OH' } })).toMatchObject({
      param: 'country_options[us][state]',
    })
    expect(await create('DE', { de: { type: 'ioss' } })).toMatchObject({ param: 'country_options[de][type]' })
    expect(await create('DE', { de: standard }, { expires_at: NOW })).toMatchObject({ param: 'expires_at' })
    expect((await stripe.tax.registrations.list()).data).toEqual([])
  })
})

test('tax settings are pending until there is a head office, and are told of when they change', async () => {
  const { events, stripe } = await startTestSandbox()
  const pending = await stripe.tax.settings.retrieve()
  expect(pending).toMatchObject({
    head_office: null,
    status: 'pending',
    status_details: { pending: { missing_fields: ['head_office'] } },
  })
  await stripe.tax.settings.update({ defaults: { tax_behavior: 'inclusive', tax_code: 'txcd_10103001' } })
  const active = await stripe.tax.settings.update({ head_office: { address: { country: 'IE', city: 'Dublin' } } })
  expect(active).toMatchObject({
    defaults: { provider: 'stripe', tax_behavior: 'inclusive', tax_code: 'txcd_10103001' },
    head_office: { address: { city: 'Dublin', country: 'IE' } },
    status: 'active',
  })
  expect(await stripe.tax.settings.retrieve()).toEqual(active)
  const told = events().filter(({ type }) => type === 'tax.settings.updated')
  expect(told.map(({ data }) => data.previous_attributes)).toEqual([
    { defaults: { tax_behavior: null, tax_code: null } },
    expect.objectContaining({ head_office: null, status: 'pending' }),
  ])
  expect(await refusal(stripe.tax.settings.update({ defaults: { tax_code: 'software' } }))).toMatchObject({
    param: 'defaults[tax_code]',
  })
  expect(await refusal(stripe.tax.settings.update({ head_office: { address: { city: 'Cork' } } }))).toMatchObject({
    param: 'head_office[address][country]',
  })
  expect(await stripe.tax.settings.retrieve()).toEqual(active)
})
