import type { Stripe } from 'stripe'
import { describe, expect, test } from 'vitest'
import { type BillingBench, NOW, startBillingBench } from '../../../test/billing.ts'
import { idOf } from '../../../test/ids.ts'
import { refusal } from '../../../test/refusal.ts'

interface Bench extends BillingBench {
  /** A customer in Germany with a card. */
  readonly buyer: (update?: Stripe.CustomerUpdateParams) => Promise<Stripe.Customer>
  /** A payment of what a calculation comes to. */
  readonly pay: (
    calculation: Stripe.Tax.Calculation,
    params?: Partial<Stripe.PaymentIntentCreateParams>,
  ) => Promise<Stripe.PaymentIntent>
  /** The attempts to record the tax of a payment, in order. */
  readonly attempts: (intent: Stripe.PaymentIntent) => Promise<readonly Stripe.Tax.Association.TaxTransactionAttempt[]>
}

/** An account in Ireland, registered in Germany. */
async function startTaxes(): Promise<Bench> {
  const bench = await startBillingBench()
  const { stripe } = bench
  await stripe.tax.settings.update({ head_office: { address: { country: 'IE' } } })
  await stripe.tax.registrations.create({ country: 'DE', active_from: 'now', country_options: { de: { type: 'standard' } } })
  return {
    ...bench,
    buyer: async (update = {}) => {
      const { id } = await bench.customer()
      return stripe.customers.update(id, { address: { country: 'DE', postal_code: '10115' }, ...update })
    },
    pay: async (calculation, params = {}) => {
      const customer = await stripe.customers.retrieve(calculation.customer ?? '')
      const method = 'invoice_settings' in customer ? customer.invoice_settings.default_payment_method : null
      return stripe.paymentIntents.create({
        amount: calculation.amount_total,
        currency: calculation.currency,
        customer: customer.id,
        payment_method: idOf(method),
        confirm: true,
        off_session: true,
        hooks: { inputs: { tax: { calculation: calculation.id ?? '' } } },
        ...params,
      })
    },
    attempts: async ({ id }) => (await stripe.tax.associations.find({ payment_intent: id })).tax_transaction_attempts ?? [],
  }
}

const line = { amount: 1000, reference: 'package' }

describe('a calculation of tax', () => {
  test('adds the tax of where the customer is, line by line, and can be asked for again', async () => {
    const { buyer, stripe } = await startTaxes()
    const customer = await buyer()
    const lines = [line, { amount: 333, reference: 'seats', quantity: 3, tax_behavior: 'inclusive' as const }]
    const made = await stripe.tax.calculations.create({ customer: customer.id, currency: 'EUR', line_items: lines })
    expect(made).toMatchObject({
      object: 'tax.calculation',
      amount_total: 1523,
      currency: 'eur',
      customer: customer.id,
      tax_amount_exclusive: 190,
      tax_amount_inclusive: 53,
      tax_date: NOW,
      tax_breakdown: [
        {
          amount: 190,
          inclusive: false,
          taxability_reason: 'standard_rated',
          taxable_amount: 1000,
          tax_rate_details: { country: 'DE', percentage_decimal: '19', rate_type: 'percentage', tax_type: 'vat' },
        },
        { amount: 53, inclusive: true, taxability_reason: 'standard_rated', taxable_amount: 280 },
      ],
    })
    expect(made.customer_details).toMatchObject({
      address: { country: 'DE' },
      address_source: 'billing',
      taxability_override: 'none',
    })
    expect(made.line_items).toBeUndefined()
    const expanded = await stripe.tax.calculations.retrieve(made.id ?? '', { expand: ['line_items'] })
    expect({ ...expanded, line_items: undefined }).toEqual({ ...made, line_items: undefined })
    const { data } = await stripe.tax.calculations.listLineItems(made.id ?? '')
    expect(expanded.line_items?.data).toEqual(data)
    expect(data).toMatchObject([
      { amount: 1000, amount_tax: 190, quantity: 1, reference: 'package', tax_behavior: 'exclusive', tax_code: 'txcd_10000000' },
      { amount: 333, amount_tax: 53, quantity: 3, reference: 'seats', tax_behavior: 'inclusive' },
    ])
  })

  test('knows who need not pay it, what is not taxed, and where goods are shipped', async () => {
    const { buyer, stripe } = await startTaxes()
    const total = async (customer: string, item: Partial<Stripe.Tax.CalculationCreateParams.LineItem> = {}) =>
      (await stripe.tax.calculations.create({ customer, currency: 'eur', line_items: [{ ...line, ...item }] })).amount_total
    const gift = await stripe.products.create({ name: 'Gift card', tax_code: 'txcd_00000000' })
    const plain = (await buyer()).id
    expect(await total(plain)).toBe(1190)
    expect(await total(plain, { product: gift.id })).toBe(1000)
    expect(await total(plain, { tax_code: 'txcd_00000000' })).toBe(1000)
    expect(await total((await buyer({ tax_exempt: 'exempt' })).id)).toBe(1000)
    expect(await total((await buyer({ shipping: { name: 'Shop', address: { country: 'FR' } } })).id)).toBe(1000)
    await stripe.customers.createTaxId(plain, { type: 'eu_vat', value: 'DE123456789' })
    expect(await total(plain)).toBe(1000)
  })

  test('is made for somebody who is no customer yet, by what is said of them', async () => {
    const { stripe } = await startTaxes()
    const of = (customer_details: Stripe.Tax.CalculationCreateParams.CustomerDetails) =>
      stripe.tax.calculations.create({ currency: 'eur', line_items: [line], customer_details })
    const made = await of({ address: { country: 'DE' }, address_source: 'billing' })
    expect(made).toMatchObject({
      amount_total: 1190,
      customer: null,
      customer_details: { address: { country: 'DE', city: null } },
    })
    const business = { type: 'eu_vat', value: 'DE123456789' } as const
    const reverse = await of({ address: { country: 'DE' }, address_source: 'billing', tax_ids: [business] })
    expect(reverse.tax_breakdown.map((tax) => [tax.taxability_reason, tax.amount])).toEqual([['reverse_charge', 0]])
    const exempt = await of({ address: { country: 'DE' }, address_source: 'billing', taxability_override: 'customer_exempt' })
    expect(exempt.amount_total).toBe(1000)
  })

  test('is refused where it is not known where the customer is, and for what makes no sense', async () => {
    const { buyer, sandbox, stripe } = await startTaxes()
    const nowhere = await buyer({ address: '' })
    const before = sandbox.all('tax.calculation').length
    const refused = (params: Partial<Stripe.Tax.CalculationCreateParams>) =>
      refusal(stripe.tax.calculations.create({ customer: nowhere.id, currency: 'eur', line_items: [line], ...params }))
    expect(await refused({})).toMatchObject({ statusCode: 400, code: 'customer_tax_location_invalid' })
    expect(await refused({ customer: 'cus_none' })).toMatchObject({ param: 'customer', code: 'resource_missing' })
    expect(await refused({ currency: 'euros' })).toMatchObject({ param: 'currency' })
    const { id: customer } = await buyer()
    expect(await refused({ customer, line_items: [] })).toMatchObject({ param: 'line_items' })
    expect(await refused({ customer, line_items: [line, line] })).toMatchObject({ param: 'line_items[1][reference]' })
    expect(await refused({ customer, line_items: [{ amount: -1 }] })).toMatchObject({ param: 'line_items[0][amount]' })
    expect(await refused({ customer, line_items: [{ ...line, product: 'prod_none' }] })).toMatchObject({
      param: 'line_items[0][product]',
    })
    const unknown = await refusal(stripe.tax.calculations.create({ currency: 'eur', line_items: [line] }))
    expect(unknown).toMatchObject({ param: 'customer_details[address]' })
    expect(sandbox.all('tax.calculation').length).toBe(before)
  })
})

describe('a payment that names a calculation', () => {
  test('records its tax once it succeeds, and its refunds take back their part', async () => {
    const { attempts, buyer, pay, stripe } = await startTaxes()
    const made = await stripe.tax.calculations.create({
      customer: (await buyer()).id,
      currency: 'eur',
      line_items: [line, { amount: 500, reference: 'books', tax_code: 'txcd_00000000' }],
    })
    const intent = await pay(made)
    expect(intent).toMatchObject({ status: 'succeeded', amount: 1690, hooks: { inputs: { tax: { calculation: made.id } } } })
    const [paid] = await attempts(intent)
    expect(paid).toMatchObject({ source: intent.id, status: 'committed' })
    const transaction = await stripe.tax.transactions.retrieve(paid?.committed?.transaction ?? '', { expand: ['line_items'] })
    expect(transaction).toMatchObject({ type: 'transaction', reference: intent.id, reversal: null, currency: 'eur' })
    expect(transaction.line_items?.data).toMatchObject([
      { amount: 1000, amount_tax: 190, reference: 'package', type: 'transaction' },
      { amount: 500, amount_tax: 0, reference: 'books' },
    ])

    const half = await stripe.refunds.create({ payment_intent: intent.id, amount: 845 })
    const rest = await stripe.refunds.create({ payment_intent: intent.id })
    const found = await attempts(intent)
    expect(found.map(({ source }) => source)).toEqual([intent.id, half.id, rest.id])
    const reversals = await Promise.all(
      found.slice(1).map(({ committed }) => stripe.tax.transactions.listLineItems(committed?.transaction ?? '')),
    )
    const sums = reversals.map(({ data }) => data.map(({ amount, amount_tax: tax }) => [amount, tax]))
    expect(sums[0]).toEqual([
      [-500, -95],
      [-250, 0],
    ])
    // All that was paid has been given back, and with it all of its tax.
    expect(sums.flat().reduce((sum, [amount = 0, tax = 0]) => sum + amount + tax, 0)).toBe(-1690)
    expect(await stripe.tax.transactions.retrieve(found[1]?.committed?.transaction ?? '')).toMatchObject({
      type: 'reversal',
      reference: half.id,
      reversal: { original_transaction: transaction.id },
    })
  })

  test('takes back what it took back for a refund that failed', async () => {
    const { advance, attempts, buyer, pay, stripe } = await startTaxes()
    const customer = await buyer()
    const made = await stripe.tax.calculations.create({ customer: customer.id, currency: 'eur', line_items: [line] })
    const intent = await pay(made, { payment_method: 'pm_card_refundFail' })
    const refund = await stripe.refunds.create({ payment_intent: intent.id, amount: 595 })
    await advance(idOf(customer.test_clock), NOW + 86_400)
    expect((await stripe.refunds.retrieve(refund.id)).status).toBe('failed')
    const found = await attempts(intent)
    expect(found.map(({ source }) => source)).toEqual([intent.id, refund.id, refund.id])
    const lines = await Promise.all(found.map(({ committed }) => stripe.tax.transactions.listLineItems(committed!.transaction)))
    expect(lines.map(({ data }) => [data[0]?.amount, data[0]?.amount_tax, data[0]?.type])).toEqual([
      [1000, 190, 'transaction'],
      [-500, -95, 'reversal'],
      [500, 95, 'reversal'],
    ])
  })

  test('records nothing while it is declined, nor for a calculation that another payment has used', async () => {
    const { attempts, buyer, pay, stripe } = await startTaxes()
    const made = await stripe.tax.calculations.create({ customer: (await buyer()).id, currency: 'eur', line_items: [line] })
    const declined = await refusal(pay(made, { payment_method: 'pm_card_visa_chargeDeclined' }))
    const left = declined.payment_intent as Stripe.PaymentIntent
    expect(await attempts(left)).toEqual([])
    const first = await pay(made)
    expect(await attempts(first)).toMatchObject([{ status: 'committed' }])
    const second = await pay(made)
    expect(await attempts(second)).toEqual([
      { errored: { reason: 'another_payment_associated_with_calculation' }, source: second.id, status: 'errored' },
    ])
    const dollars = await stripe.tax.calculations.create({ customer: (await buyer()).id, currency: 'usd', line_items: [line] })
    expect(await attempts(await pay(dollars, { currency: 'eur' }))).toMatchObject([{ errored: { reason: 'currency_mismatch' } }])
  })

  test('may name it later, another one, or none any more; one that there is not is refused', async () => {
    const { attempts, buyer, stripe } = await startTaxes()
    const { id: customer } = await buyer()
    const of = (amount: number) => stripe.tax.calculations.create({ customer, currency: 'eur', line_items: [{ amount }] })
    const hooks = (calculation: string) => ({ hooks: { inputs: { tax: { calculation } } } })
    const [first, second] = [await of(1000), await of(2000)]
    const intent = await stripe.paymentIntents.create({ amount: 1190, currency: 'eur', customer, ...hooks(first.id ?? '') })
    const wrong = await refusal(stripe.paymentIntents.update(intent.id, hooks('taxcalc_none')))
    expect(wrong).toMatchObject({ code: 'resource_missing', param: 'hooks[inputs][tax][calculation]' })
    await stripe.paymentIntents.update(intent.id, { amount: 2380, ...hooks(second.id ?? '') })
    expect(await attempts(intent)).toEqual([])
    expect((await stripe.tax.associations.find({ payment_intent: intent.id })).calculation).toBe(second.id)
    expect((await stripe.paymentIntents.update(intent.id, hooks(''))).hooks).toEqual({})
    const none = await refusal(stripe.tax.associations.find({ payment_intent: 'pi_none' }))
    expect(none).toMatchObject({ code: 'resource_missing' })
  })
})
