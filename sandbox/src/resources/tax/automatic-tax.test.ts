import { describe, expect, test } from 'vitest'
import type { Stripe } from 'stripe'
import { at, type BillingBench, NOW, startBillingBench } from '../../../test/billing.ts'
import { idOf } from '../../../test/ids.ts'
import { refusal } from '../../../test/refusal.ts'

type Options = Stripe.Tax.RegistrationCreateParams.CountryOptions

const automatic_tax = { enabled: true }

interface TaxBench extends BillingBench {
  readonly register: (country: string, options: Options) => Promise<Stripe.Tax.Registration>
  readonly buyer: (params?: Stripe.CustomerCreateParams) => Promise<Stripe.Customer>
  /** The first invoice of a new subscription to a price, and the subscription. */
  readonly subscribe: (
    customer: string,
    price: string,
    params?: Partial<Stripe.SubscriptionCreateParams>,
  ) => Promise<{ invoice: Stripe.Invoice; subscription: Stripe.Subscription }>
}

/** An account in Ireland, registered in Germany. */
async function startTaxBench(): Promise<TaxBench> {
  const bench = await startBillingBench()
  const { stripe } = bench
  const register: TaxBench['register'] = (country, country_options) =>
    stripe.tax.registrations.create({ country, active_from: 'now', country_options })
  await stripe.tax.settings.update({ head_office: { address: { country: 'IE' } } })
  await register('DE', { de: { type: 'standard' } })
  return {
    ...bench,
    register,
    async buyer(params = {}) {
      const { id } = await bench.customer()
      return stripe.customers.update(id, { address: { country: 'DE', postal_code: '10115' }, ...withoutCreation(params) })
    },
    async subscribe(customer, price, params = {}) {
      const subscription = await stripe.subscriptions.create({ customer, items: [{ price }], automatic_tax, ...params })
      return { subscription, invoice: await stripe.invoices.retrieve(idOf(subscription.latest_invoice)) }
    },
  }
}

function withoutCreation(params: Stripe.CustomerCreateParams): Stripe.CustomerUpdateParams {
  const { payment_method: _method, tax_id_data: _taxIds, test_clock: _clock, ...rest } = params
  return rest
}

/** The sums of an invoice, and the tax of each of its lines. */
function sums(invoice: Stripe.Invoice) {
  return {
    subtotal: invoice.subtotal,
    total: invoice.total,
    untaxed: invoice.total_excluding_tax,
    taxes: (invoice.total_taxes ?? []).map((tax) => [tax.amount, tax.tax_behavior, tax.taxability_reason, tax.taxable_amount]),
    lines: invoice.lines.data.map((line) => (line.taxes ?? []).map((tax) => tax.amount)),
  }
}

describe('a subscription with automatic tax', () => {
  test('bills the standard rate of where the customer is, on top, at the start and at each renewal', async () => {
    const { advance, buyer, price, stripe, subscribe } = await startTaxBench()
    const customer = await buyer()
    const { invoice, subscription } = await subscribe(customer.id, (await price(2900)).id)
    expect(subscription.automatic_tax).toEqual({ disabled_reason: null, enabled: true, liability: { type: 'self' } })
    expect(invoice.automatic_tax).toEqual({
      disabled_reason: null,
      enabled: true,
      liability: { type: 'self' },
      provider: 'stripe',
      status: 'complete',
    })
    const taxed = {
      subtotal: 2900,
      total: 3451,
      untaxed: 2900,
      taxes: [[551, 'exclusive', 'standard_rated', 2900]],
      lines: [[551]],
    }
    expect(sums(invoice)).toEqual(taxed)
    expect(invoice.amount_paid).toBe(3451)
    const rate = await stripe.taxRates.retrieve(invoice.total_taxes?.[0]?.tax_rate_details?.tax_rate ?? '')
    expect(rate).toMatchObject({ country: 'DE', display_name: 'VAT', inclusive: false, percentage: 19, tax_type: 'vat' })
    expect((await stripe.taxRates.list()).data).toEqual([])

    await advance(idOf(customer.test_clock), at('2026-02-15T14:00:00Z'))
    const [renewal] = (await stripe.invoices.list({ subscription: subscription.id })).data
    expect(renewal?.billing_reason).toBe('subscription_cycle')
    expect(sums(renewal!)).toEqual(taxed)
    expect(renewal?.status).toBe('paid')
  })

  test('a price that includes its tax costs what it says', async () => {
    const { buyer, price, subscribe } = await startTaxBench()
    const { invoice } = await subscribe((await buyer()).id, (await price(2900, { tax_behavior: 'inclusive' })).id)
    expect(sums(invoice)).toEqual({
      subtotal: 2900,
      total: 2900,
      untaxed: 2437,
      taxes: [[463, 'inclusive', 'standard_rated', 2437]],
      lines: [[463]],
    })
  })

  test('a price that does not say so follows the default of the account', async () => {
    const { buyer, price, stripe, subscribe } = await startTaxBench()
    await stripe.tax.settings.update({ defaults: { tax_behavior: 'inclusive' } })
    const { id } = await price(2900)
    expect((await subscribe((await buyer()).id, id)).invoice.total).toBe(2900)
    await stripe.tax.settings.update({ defaults: { tax_behavior: 'inferred_by_currency' } })
    expect((await subscribe((await buyer()).id, id)).invoice.total).toBe(3451)
    const euros = await price(2900, { currency: 'eur' })
    expect((await subscribe((await buyer()).id, euros.id)).invoice.total).toBe(2900)
  })

  test('is taxed on what discounts leave, and a credit note gives back its part of the tax', async () => {
    const { buyer, price, stripe, subscribe } = await startTaxBench()
    const coupon = await stripe.coupons.create({ percent_off: 50, duration: 'forever' })
    const { invoice } = await subscribe((await buyer()).id, (await price(2000)).id, { discounts: [{ coupon: coupon.id }] })
    expect(sums(invoice)).toMatchObject({ total: 1190, taxes: [[190, 'exclusive', 'standard_rated', 1000]] })
    const note = await stripe.creditNotes.create({
      invoice: invoice.id,
      lines: [{ type: 'invoice_line_item', invoice_line_item: invoice.lines.data[0]?.id ?? '', amount: 1000 }],
      credit_amount: 595,
    })
    expect(note).toMatchObject({ total: 595, total_excluding_tax: 500 })
    expect(note.total_taxes?.map((tax) => [tax.amount, tax.taxability_reason])).toEqual([[95, 'standard_rated']])
  })

  test('taxes prorations of a change, in the preview as in the invoice', async () => {
    const { advance, buyer, price, stripe, subscribe } = await startTaxBench()
    const customer = await buyer()
    const { subscription } = await subscribe(customer.id, (await price(3000)).id)
    await advance(idOf(customer.test_clock), at('2026-01-31T00:00:00Z'))
    const items = [{ id: subscription.items.data[0]?.id ?? '', price: (await price(6000)).id }]
    const proration_date = at('2026-01-31T00:00:00Z')
    const preview = await stripe.invoices.createPreview({
      subscription: subscription.id,
      subscription_details: { items, proration_behavior: 'always_invoice', proration_date },
    })
    const changed = await stripe.subscriptions.update(subscription.id, {
      items,
      proration_behavior: 'always_invoice',
      proration_date,
    })
    const invoice = await stripe.invoices.retrieve(idOf(changed.latest_invoice))
    expect(sums(invoice)).toEqual(sums(preview))
    expect(changed.automatic_tax.enabled).toBe(true)
    for (const line of invoice.lines.data) expect(line.taxes?.[0]?.amount).toBe(Math.round(line.amount * 0.19))
  })

  test('turned off, it is taxed no more; turned on again, it is', async () => {
    const { buyer, price, stripe, subscribe } = await startTaxBench()
    const { subscription } = await subscribe((await buyer()).id, (await price(1000)).id)
    const next = async () => (await stripe.invoices.createPreview({ subscription: subscription.id })).total
    expect(await next()).toBe(1190)
    const off = await stripe.subscriptions.update(subscription.id, { automatic_tax: { enabled: false } })
    expect(off.automatic_tax).toEqual({ disabled_reason: null, enabled: false, liability: null })
    expect(await next()).toBe(1000)
    await stripe.subscriptions.update(subscription.id, { automatic_tax })
    expect(await next()).toBe(1190)
  })

  test('is refused for a customer who is nowhere, and nothing is left of it', async () => {
    const { buyer, price, sandbox, stripe } = await startTaxBench()
    const { id } = await price(1000)
    for (const address of [{ line1: 'Main Street 1' }, { country: 'US' }, { country: 'Germany' }]) {
      const customer = await buyer({ address })
      const before = sandbox.all('event').length
      const refused = await refusal(stripe.subscriptions.create({ customer: customer.id, items: [{ price: id }], automatic_tax }))
      expect(refused).toMatchObject({ statusCode: 400, type: 'StripeInvalidRequestError', code: 'customer_tax_location_invalid' })
      expect(sandbox.all('event').length).toBe(before)
      expect((await stripe.subscriptions.list({ customer: customer.id })).data).toEqual([])

      const plain = await stripe.subscriptions.create({ customer: customer.id, items: [{ price: id }] })
      expect((await refusal(stripe.subscriptions.update(plain.id, { automatic_tax }))).code).toBe('customer_tax_location_invalid')
      expect(await stripe.subscriptions.retrieve(plain.id)).toEqual(plain)
    }
  })

  test('is finalized without tax once nobody knows where the customer is, and goes on without', async () => {
    const { advance, buyer, events, price, stripe, subscribe } = await startTaxBench()
    const customer = await buyer()
    const { subscription } = await subscribe(customer.id, (await price(1000)).id)
    await stripe.customers.update(customer.id, { address: '' })
    await advance(idOf(customer.test_clock), at('2026-02-15T12:30:00Z'))
    const [draft] = (await stripe.invoices.list({ subscription: subscription.id })).data
    expect(draft).toMatchObject({ status: 'draft', automatic_tax: { enabled: true, status: 'requires_location_inputs' } })
    await advance(idOf(customer.test_clock), at('2026-02-15T14:00:00Z'))
    const paid = await stripe.invoices.retrieve(draft?.id ?? '')
    expect(paid).toMatchObject({ status: 'paid', total: 1000, total_taxes: [] })
    expect(paid.automatic_tax).toMatchObject({ enabled: false, disabled_reason: 'finalization_requires_location_inputs' })
    const { automatic_tax: now } = await stripe.subscriptions.retrieve(subscription.id)
    expect(now).toEqual({ disabled_reason: 'requires_location_inputs', enabled: false, liability: null })
    const told = events().filter((event) => event.type === 'customer.subscription.updated')
    expect(told.at(-1)?.data.previous_attributes).toMatchObject({ automatic_tax: { enabled: true } })
  })
})

describe('the tax of a line', () => {
  test.each<[string, Stripe.CustomerUpdateParams, string, number]>([
    ['an exempt customer', { tax_exempt: 'exempt' }, 'customer_exempt', 1000],
    ['a customer who accounts for the tax', { tax_exempt: 'reverse' }, 'reverse_charge', 1000],
    ['a country without a registration', { address: { country: 'FR' } }, 'not_collecting', 1000],
    ['a country that no table knows', { address: { country: 'BR' } }, 'not_collecting', 1000],
    ['the seller registered', {}, 'standard_rated', 1190],
    // Source: docs.stripe.com/tax/customer-locations: the shipping address comes first.
    ['goods that go elsewhere', { shipping: { name: 'Ada', address: { country: 'FR' } } }, 'not_collecting', 1000],
  ])('%s', async (_name, update, reason, total) => {
    const { buyer, price, stripe, subscribe } = await startTaxBench()
    const customer = await buyer()
    await stripe.customers.update(customer.id, update)
    const { invoice } = await subscribe(customer.id, (await price(1000)).id)
    expect(invoice.total).toBe(total)
    expect(invoice.total_taxes?.map((tax) => [tax.taxability_reason, tax.amount])).toEqual([[reason, total - 1000]])
  })

  test('is for a business of another country of the Union to account for, and for one of the seller’s own it is not', async () => {
    const { buyer, price, register, stripe, subscribe } = await startTaxBench()
    await register('IE', { ie: { type: 'standard' } })
    const { id } = await price(1000)
    const business = async (country: string, type: 'eu_vat' | 'gb_vat', value: string) => {
      const customer = await buyer({ address: { country } })
      await stripe.customers.createTaxId(customer.id, { type, value })
      const { invoice } = await subscribe(customer.id, id)
      expect(invoice.customer_tax_ids).toEqual([{ type, value }])
      return [invoice.total_taxes?.[0]?.taxability_reason, invoice.total]
    }
    expect(await business('DE', 'eu_vat', 'DE123456789')).toEqual(['reverse_charge', 1000])
    expect(await business('IE', 'eu_vat', 'IE1234567AB')).toEqual(['standard_rated', 1230])
    expect(await business('DE', 'gb_vat', 'GB123456789')).toEqual(['standard_rated', 1190])
  })

  test('a product that is not taxed is not, whoever buys it', async () => {
    const { buyer, stripe, subscribe } = await startTaxBench()
    const product = await stripe.products.create({ name: 'Gift card', tax_code: 'txcd_00000000' })
    const price = await stripe.prices.create({
      currency: 'usd',
      product: product.id,
      recurring: { interval: 'month' },
      unit_amount: 1000,
      tax_behavior: 'inclusive',
    })
    const { invoice } = await subscribe((await buyer()).id, price.id)
    expect(sums(invoice)).toMatchObject({ total: 1000, untaxed: 1000, taxes: [[0, 'inclusive', 'product_exempt', 0]] })
  })

  test('in the United States it is that of the state, by its code, its name or the postal code', async () => {
    const { buyer, price, register, subscribe } = await startTaxBench()
    await register('US', { us: { state: 'TX', type: 'state_sales_tax' } })
    const { id } = await price(1000)
    const taxOf = async (address: Stripe.AddressParam) => {
      const { invoice } = await subscribe((await buyer({ address: { country: 'US', ...address } })).id, id)
      return invoice.total - 1000
    }
    expect(await taxOf({ state: 'TX' })).toBe(63)
    expect(await taxOf({ state: 'texas' })).toBe(63)
    expect(await taxOf({ postal_code: '78701' })).toBe(63)
    expect(await taxOf({ postal_code: '10001' })).toBe(0)
    expect(await taxOf({ state: 'OH' })).toBe(0)
  })

  test('one registration for the whole Union covers each of its countries, from its beginning to its end', async () => {
    const { advance, buyer, price, stripe } = await startTaxBench()
    const registration = await stripe.tax.registrations.create({
      country: 'IE',
      country_options: { ie: { type: 'oss_union' } },
      active_from: NOW + 86_400,
    })
    expect(registration.status).toBe('scheduled')
    await stripe.tax.registrations.update(registration.id, { expires_at: NOW + 2 * 86_400 })
    const { id } = await price(1000)
    const customer = await buyer({ address: { country: 'FR' } })
    const total = async () => {
      const preview = { automatic_tax, customer: customer.id, subscription_details: { items: [{ price: id }] } }
      return (await stripe.invoices.createPreview(preview)).total
    }
    expect(await total()).toBe(1000)
    await advance(idOf(customer.test_clock), NOW + 86_400)
    expect(await total()).toBe(1200)
    await advance(idOf(customer.test_clock), NOW + 2 * 86_400)
    expect(await total()).toBe(1000)
  })
})

describe('an invoice with automatic tax', () => {
  test('taxes items by what they say of themselves', async () => {
    const { buyer, stripe } = await startTaxBench()
    const customer = await buyer()
    const item = { customer: customer.id, currency: 'usd', amount: 1190 }
    await stripe.invoiceItems.create({ ...item, tax_behavior: 'inclusive' })
    await stripe.invoiceItems.create({ ...item, tax_behavior: 'exclusive' })
    await stripe.invoiceItems.create({ ...item, tax_code: 'txcd_00000000' })
    const invoice = await stripe.invoices.create({
      customer: customer.id,
      automatic_tax,
      pending_invoice_items_behavior: 'include',
    })
    expect(invoice).toMatchObject({ subtotal: 3570, total: 3796, total_excluding_tax: 3380 })
    const taxes = invoice.lines.data.map((line) => [line.taxes?.[0]?.tax_behavior, line.taxes?.[0]?.amount])
    expect(taxes).toEqual(
      expect.arrayContaining([
        ['inclusive', 190],
        ['exclusive', 226],
        ['exclusive', 0],
      ]),
    )
    const off = await stripe.invoices.update(invoice.id, { automatic_tax: { enabled: false } })
    expect(off).toMatchObject({ total: 3570, total_taxes: [], automatic_tax: { enabled: false, provider: null, status: null } })
  })

  test('stays a draft while nobody knows where the customer is, says so, and is finalized once they do', async () => {
    const { advance, buyer, since, mark, stripe } = await startTaxBench()
    const customer = await buyer({ address: '' as never })
    await stripe.invoiceItems.create({ customer: customer.id, currency: 'usd', amount: 1000 })
    const invoice = await stripe.invoices.create({
      customer: customer.id,
      automatic_tax,
      auto_advance: true,
      pending_invoice_items_behavior: 'include',
    })
    expect(invoice.automatic_tax.status).toBe('requires_location_inputs')
    expect((await refusal(stripe.invoices.finalizeInvoice(invoice.id))).code).toBe('customer_tax_location_invalid')
    await stripe.invoices.update(invoice.id, { auto_advance: true, automatically_finalizes_at: NOW + 3600 })
    mark()
    await advance(idOf(customer.test_clock), NOW + 7200)
    expect(since()).toEqual(['invoice.finalization_failed'])
    const stuck = await stripe.invoices.retrieve(invoice.id)
    expect(stuck).toMatchObject({ status: 'draft', last_finalization_error: { code: 'customer_tax_location_invalid' } })
    await stripe.customers.update(customer.id, { address: { country: 'DE' } })
    const open = await stripe.invoices.finalizeInvoice(invoice.id)
    expect(open).toMatchObject({ status: 'open', total: 1190, last_finalization_error: null })
  })

  test('is previewed for somebody who is only described, and the rate that it names can be looked up', async () => {
    const { price, stripe } = await startTaxBench()
    const preview = await stripe.invoices.createPreview({
      automatic_tax,
      customer_details: { address: { country: 'DE' } },
      subscription_details: { items: [{ price: (await price(1000)).id }] },
    })
    expect(preview).toMatchObject({ total: 1190, automatic_tax: { status: 'complete' } })
    const rate = await stripe.taxRates.retrieve(preview.total_taxes?.[0]?.tax_rate_details?.tax_rate ?? '')
    expect(rate.percentage).toBe(19)
    const nowhere = await stripe.invoices.createPreview({
      automatic_tax,
      customer_details: { tax_exempt: 'none' },
      subscription_details: { items: [{ price: (await price(1000)).id }] },
    })
    expect(nowhere).toMatchObject({ total: 1000, automatic_tax: { status: 'requires_location_inputs' } })
  })
})

describe('rates that were set by hand', () => {
  test('are refused beside automatic tax, and nothing changes', async () => {
    const { buyer, price, sandbox, stripe, subscribe } = await startTaxBench()
    const rate = await stripe.taxRates.create({ display_name: 'VAT', percentage: 19, inclusive: false })
    const customer = await buyer()
    const { id } = await price(1000)
    const { subscription } = await subscribe(customer.id, id)
    const draft = await stripe.invoices.create({ customer: customer.id, automatic_tax })
    const before = sandbox.all('event').length
    const create = (params: Partial<Stripe.SubscriptionCreateParams>) =>
      stripe.subscriptions.create({ customer: customer.id, items: [{ price: id }], automatic_tax, ...params })
    const attempts = [
      () => create({ default_tax_rates: [rate.id] }),
      () => create({ items: [{ price: id, tax_rates: [rate.id] }] }),
      () => stripe.subscriptions.update(subscription.id, { default_tax_rates: [rate.id] }),
      () => stripe.subscriptionItems.update(subscription.items.data[0]?.id ?? '', { tax_rates: [rate.id] }),
      () => stripe.invoices.update(draft.id, { default_tax_rates: [rate.id] }),
      () => stripe.invoices.addLines(draft.id, { lines: [{ amount: 100, tax_rates: [rate.id] }] }),
      () =>
        stripe.invoiceItems.create({
          customer: customer.id,
          invoice: draft.id,
          currency: 'usd',
          amount: 100,
          tax_rates: [rate.id],
        }),
    ]
    for (const attempt of attempts) {
      expect(await refusal(attempt())).toMatchObject({ statusCode: 400, param: 'automatic_tax[enabled]' })
    }
    expect(sandbox.all('event').length).toBe(before)
    expect(await stripe.subscriptions.retrieve(subscription.id)).toEqual(subscription)
  })
})
