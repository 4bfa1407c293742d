import { describe, expect, test } from 'vitest'
import type { Stripe } from 'stripe'
import { startTestSandbox, type TestSandbox } from '../../../test/contract.ts'
import { idOf } from '../../../test/ids.ts'
import { cardFields, openPage, sendForm } from '../../../test/pages.ts'
import { refusal } from '../../../test/refusal.ts'

const success_url = 'https://shop.example/done'
const automatic_tax = { enabled: true }
const payer = { email: 'payer@example.com', ...cardFields('4242424242424242') }

interface Shop extends TestSandbox {
  readonly session: (
    more?: Partial<Stripe.Checkout.SessionCreateParams>,
    price?: Partial<Stripe.PriceCreateParams>,
  ) => Promise<Stripe.Checkout.Session & { url: string }>
  readonly reload: (session: { id: string }) => Promise<Stripe.Checkout.Session>
}

/** An account in Ireland that is registered in Germany and Texas and sells a subscription of $20.00. */
async function startShop(): Promise<Shop> {
  const bench = await startTestSandbox()
  const { stripe } = bench
  await stripe.tax.settings.update({ head_office: { address: { country: 'IE' } } })
  const register = (country: string, country_options: Stripe.Tax.RegistrationCreateParams.CountryOptions) =>
    stripe.tax.registrations.create({ active_from: 'now', country, country_options })
  await register('DE', { de: { type: 'standard' } })
  await register('US', { us: { state: 'TX', type: 'state_sales_tax' } })
  return {
    ...bench,
    async session(more = {}, price = {}) {
      const product_data = { name: 'Pro' }
      const recurring = more.mode === 'payment' ? {} : { recurring: { interval: 'month' as const } }
      const { id } = await stripe.prices.create({ currency: 'usd', product_data, unit_amount: 2000, ...recurring, ...price })
      const session = await stripe.checkout.sessions.create({
        automatic_tax,
        line_items: [{ price: id, quantity: 1 }],
        mode: 'subscription',
        success_url,
        ...more,
      })
      return { ...session, url: session.url ?? '' }
    },
    reload: ({ id }) => stripe.checkout.sessions.retrieve(id),
  }
}

describe('a checkout with automatic tax', () => {
  test('asks for the address first, shows the tax, and sells with it', async () => {
    const { reload, session, stripe } = await startShop()
    const made = await session()
    expect(made).toMatchObject({
      amount_total: 2000,
      automatic_tax: { enabled: true, liability: { type: 'self' }, provider: 'stripe', status: 'requires_location_inputs' },
      total_details: { amount_tax: 0 },
    })
    const first = await openPage(made.url)
    for (const name of ['country', 'postal_code', 'line1', 'city']) expect(first.html).toContain(`name="${name}"`)
    expect(first.html).not.toContain('name="card_number"')
    expect(first.text).toContain('Follows from your address')

    const place = { country: 'de', postal_code: '10115', city: 'Berlin', line1: 'Invalidenstr. 1' }
    const second = await sendForm(made.url, { ...place, email: payer.email, action: 'set_address' })
    expect(second.status).toBe(200)
    expect(second.text).toContain('Subtotal $20.00 Tax $3.80 Due today $23.80')
    expect(second.html).toContain('name="card_number"')
    expect(second.html).toContain('value="payer@example.com"')
    expect(await reload(made)).toMatchObject({
      amount_subtotal: 2000,
      amount_total: 2380,
      automatic_tax: { status: 'complete' },
      total_details: { amount_tax: 380 },
    })

    expect((await sendForm(made.url, { ...place, ...payer, action: 'pay' })).location).toBe(success_url)
    const done = await stripe.checkout.sessions.retrieve(made.id, { expand: ['subscription', 'invoice', 'customer'] })
    expect(done).toMatchObject({
      amount_total: 2380,
      customer: { address: { city: 'Berlin', country: 'DE', line1: 'Invalidenstr. 1', postal_code: '10115' } },
      customer_details: { address: { country: 'DE' } },
      invoice: { total: 2380, amount_paid: 2380, total_taxes: [{ amount: 380, taxability_reason: 'standard_rated' }] },
      subscription: { automatic_tax: { enabled: true } },
    })
  })

  test('says what is wrong with an address, and keeps nothing of it', async () => {
    const { reload, sandbox, session } = await startShop()
    const made = await session({ tax_id_collection: { enabled: true } })
    const before = await reload(made)
    const events = sandbox.all('event').length
    for (const [fields, words] of [
      [{ country: '' }, 'Enter the country as two letters'],
      [{ country: 'Germany' }, 'Enter the country as two letters'],
      [{ country: 'US' }, 'Enter a postal code of five digits, or the state as two letters.'],
      [{ country: 'DE', tax_id: 'DE123456789' }, 'Enter the name of the company'],
      [{ country: 'DE', tax_id: 'FR123456789', business_name: 'Acme' }, 'Enter the tax id as it is written'],
      [{ country: 'BR', tax_id: '123456789', business_name: 'Acme' }, 'takes no tax ids of this country'],
    ] as const) {
      for (const action of ['set_address', 'pay']) {
        const page = await sendForm(made.url, { ...payer, ...fields, action })
        expect(page.status).toBe(400)
        expect(page.text).toContain(words)
        expect(await reload(made)).toEqual(before)
      }
    }
    expect(sandbox.all('event').length).toBe(events)
  })

  test('nobody pays a tax that they have not seen', async () => {
    const { reload, sandbox, session } = await startShop()
    const made = await session()
    const unseen = await sendForm(made.url, { ...payer, country: 'DE', action: 'pay' })
    expect(unseen.text).toContain('The total has changed. Check it, and pay.')
    expect(await reload(made)).toMatchObject({ status: 'open', amount_total: 2380 })
    const moved = await sendForm(made.url, { ...payer, country: 'US', postal_code: '78701', action: 'pay' })
    expect(moved.text).toContain('Due today $21.25')
    expect(sandbox.all('subscription')).toEqual([])
    expect((await sendForm(made.url, { ...payer, country: 'US', postal_code: '78701', action: 'pay' })).status).toBe(303)
    expect(await reload(made)).toMatchObject({ status: 'complete', amount_total: 2125, total_details: { amount_tax: 125 } })
  })

  test('a payment is taxed, with its invoice where one is made, and a price that includes its tax stays what it is', async () => {
    const { reload, session, stripe } = await startShop()
    for (const [tax_behavior, total, tax] of [
      ['exclusive', 2380, 380],
      ['inclusive', 2000, 319],
    ] as const) {
      const made = await session({ mode: 'payment', invoice_creation: { enabled: true } }, { tax_behavior })
      const page = await sendForm(made.url, { ...payer, country: 'DE', action: 'set_address' })
      expect(page.text).toContain(tax_behavior === 'inclusive' ? 'Tax included $3.19' : 'Tax $3.80')
      expect((await sendForm(made.url, { ...payer, country: 'DE', action: 'pay' })).status).toBe(303)
      const done = await reload(made)
      expect(done).toMatchObject({ amount_total: total, total_details: { amount_tax: tax }, payment_status: 'paid' })
      const invoice = await stripe.invoices.retrieve(idOf(done.invoice))
      expect(invoice).toMatchObject({ status: 'paid', total, total_taxes: [{ amount: tax }] })
      expect(invoice.amount_remaining).toBe(0)
    }
    const guest = await session({ mode: 'payment' })
    await sendForm(guest.url, { ...payer, country: 'DE', action: 'set_address' })
    expect((await sendForm(guest.url, { ...payer, country: 'DE', action: 'pay' })).status).toBe(303)
    const intent = await stripe.paymentIntents.retrieve(idOf((await reload(guest)).payment_intent))
    expect(intent.amount_received).toBe(2380)
  })

  test('a company with a tax id of another country pays no tax, and both become its customer’s', async () => {
    const { reload, session, stripe } = await startShop()
    const made = await session({ tax_id_collection: { enabled: true } })
    expect(made.tax_id_collection).toEqual({ enabled: true, required: 'never' })
    const company = { country: 'DE', business_name: 'Acme GmbH', tax_id: 'DE 123456789' }
    const page = await sendForm(made.url, { ...company, action: 'set_address' })
    expect(page.text).toContain('Tax $0.00 Due today $20.00')
    expect((await sendForm(made.url, { ...company, ...payer, action: 'pay' })).status).toBe(303)
    const done = await reload(made)
    expect(done.customer_details).toMatchObject({
      business_name: 'Acme GmbH',
      name: 'Acme GmbH',
      tax_ids: [{ type: 'eu_vat', value: 'DE123456789' }],
    })
    const customer = await stripe.customers.retrieve(idOf(done.customer), { expand: ['tax_ids'] })
    expect(customer).toMatchObject({ name: 'Acme GmbH', tax_ids: { data: [{ type: 'eu_vat', value: 'DE123456789' }] } })
    const invoice = await stripe.invoices.retrieve(idOf(done.invoice))
    expect(invoice).toMatchObject({ total: 2000, total_taxes: [{ amount: 0, taxability_reason: 'reverse_charge' }] })
  })

  test('a company pays after its bank asked for authentication, and is still the company', async () => {
    const { reload, session, stripe } = await startShop()
    const made = await session({ tax_id_collection: { enabled: true } })
    const company = { country: 'DE', business_name: 'Acme GmbH', tax_id: 'DE123456789' }
    await sendForm(made.url, { ...company, action: 'set_address' })
    const challenged = { ...company, email: payer.email, ...cardFields('4000002500003155'), action: 'pay' }
    expect((await sendForm(made.url, challenged)).location).toContain('/authenticate')
    expect((await sendForm(`${made.url}/authenticate`, { outcome: 'complete' })).location).toBe(success_url)
    const customer = await stripe.customers.retrieve(idOf((await reload(made)).customer), { expand: ['tax_ids'] })
    expect(customer).toMatchObject({ address: { country: 'DE' }, name: 'Acme GmbH', tax_ids: { data: [{ type: 'eu_vat' }] } })
  })
})

describe('a checkout with automatic tax for a known customer', () => {
  test('takes their address, and asks for nothing', async () => {
    const { reload, session, stripe } = await startShop()
    const customer = await stripe.customers.create({ email: payer.email, address: { country: 'DE' } })
    const made = await session({ customer: customer.id })
    expect(made).toMatchObject({ amount_total: 2380, automatic_tax: { status: 'complete' } })
    const page = await openPage(made.url)
    expect(page.text).toContain('Tax $3.80')
    expect(page.html).not.toContain('name="country"')
    expect((await sendForm(made.url, { ...payer, action: 'pay' })).status).toBe(303)
    expect((await reload(made)).amount_total).toBe(2380)
  })

  test('with customer_update writes what they say to the customer', async () => {
    const { reload, session, stripe } = await startShop()
    const customer = await stripe.customers.create({
      email: payer.email,
      name: 'Ada',
      address: { country: 'DE', city: 'Berlin' },
    })
    const made = await session({
      billing_address_collection: 'auto',
      customer: customer.id,
      customer_update: { address: 'auto', name: 'auto' },
      tax_id_collection: { enabled: true },
    })
    expect((await openPage(made.url)).html).toContain('value="Berlin"')
    const company = { country: 'GB', business_name: 'Acme Ltd', tax_id: 'GB123456789' }
    await sendForm(made.url, { ...company, action: 'set_address' })
    expect((await sendForm(made.url, { ...company, ...payer, action: 'pay' })).status).toBe(303)
    expect(await reload(made)).toMatchObject({ amount_total: 2000, status: 'complete' })
    const after = await stripe.customers.retrieve(customer.id, { expand: ['tax_ids'] })
    expect(after).toMatchObject({
      address: { country: 'GB', city: null },
      name: 'Acme Ltd',
      tax_ids: { data: [{ type: 'gb_vat', value: 'GB123456789' }] },
    })
  })

  test('needs an address of them or leave to ask for one, and leave to rename them for a tax id', async () => {
    const { sandbox, session, stripe } = await startShop()
    const customer = await stripe.customers.create({ email: payer.email })
    expect(await refusal(session({ customer: customer.id }))).toMatchObject({
      statusCode: 400,
      code: 'customer_tax_location_invalid',
      message: expect.stringContaining(
        'Automatic tax calculation in Checkout requires a valid address on the Customer.',
      ) as string,
    })
    const named = { customer: customer.id, customer_update: { address: 'auto' as const } }
    expect(await refusal(session({ ...named, tax_id_collection: { enabled: true } }))).toMatchObject({
      message: expect.stringContaining('please set `customer_update[name]` to `auto`') as string,
    })
    expect(sandbox.all('checkout.session')).toEqual([])
    expect((await session(named)).automatic_tax.status).toBe('requires_location_inputs')
  })

  test('is refused beside rates that were set by hand', async () => {
    const { session, stripe } = await startShop()
    const rate = await stripe.taxRates.create({ display_name: 'VAT', percentage: 19, inclusive: false })
    expect(await refusal(session({ subscription_data: { default_tax_rates: [rate.id] } }))).toMatchObject({
      param: 'automatic_tax[enabled]',
    })
  })
})
