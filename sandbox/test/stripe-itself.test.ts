/**
 * The same guarantees on the sandbox and on Stripe itself. With `STRIPE_TEST_KEY` (a test-mode secret key) every test runs on both;
 * without it only on the sandbox, and a line says so. On Stripe everything lives on test clocks, which are deleted afterwards.
 */
import { Stripe } from 'stripe'
import { afterEach, describe, expect, test } from 'vitest'
import { startTestSandbox } from './contract.ts'

const key = process.env['STRIPE_TEST_KEY']
if (key === undefined) console.info('On Stripe itself: not run, because STRIPE_TEST_KEY is not set.')
else if (!/^(sk|rk)_test_/.test(key)) throw new Error('STRIPE_TEST_KEY must be a test-mode key.')

const targets: Array<[string, () => Promise<Stripe>]> = [
  ['the sandbox', async () => (await startTestSandbox({ clock: 'real' })).stripe],
  ...(key === undefined ? [] : [['Stripe itself', async () => new Stripe(key)] as [string, () => Promise<Stripe>]]),
]

const JAN_31 = Date.UTC(2027, 0, 31, 10) / 1000
const clocks: Array<() => Promise<unknown>> = []

afterEach(async () => {
  await Promise.all(clocks.splice(0).map((remove) => remove()))
})

interface Bench {
  readonly customer: string
  readonly price: (params: Partial<Stripe.PriceCreateParams>) => Promise<string>
  readonly advance: (to: number) => Promise<void>
  readonly invoices: (subscription: string) => Promise<Stripe.Invoice[]>
}

/** A customer with a working card on a test clock of its own. */
async function benchOn(stripe: Stripe, start: number, card = 'pm_card_visa'): Promise<Bench> {
  const clock = await stripe.testHelpers.testClocks.create({ frozen_time: start })
  clocks.push(() => stripe.testHelpers.testClocks.del(clock.id))
  const customer = await stripe.customers.create({
    test_clock: clock.id,
    payment_method: card,
    invoice_settings: { default_payment_method: card },
  })
  return {
    customer: customer.id,
    price: async (params) => {
      const defaults = { currency: 'usd', recurring: { interval: 'month' as const }, product_data: { name: 'Contract test' } }
      return (await stripe.prices.create({ ...defaults, ...params })).id
    },
    advance: async (to) => {
      await stripe.testHelpers.testClocks.advance(clock.id, { frozen_time: to })
      await expect
        .poll(async () => (await stripe.testHelpers.testClocks.retrieve(clock.id)).status, { timeout: 120_000, interval: 100 })
        .toBe('ready')
    },
    invoices: async (subscription) => (await stripe.invoices.list({ subscription })).data.toReversed(),
  }
}

describe.each(targets)('on %s', (_name, connect) => {
  test('errors carry type, code and param', async () => {
    const stripe = await connect()
    await expect(stripe.customers.retrieve('cus_none')).rejects.toMatchObject({
      statusCode: 404,
      code: 'resource_missing',
      param: 'id',
      message: "No such customer: 'cus_none'",
    })
    await expect(stripe.customers.create({ nonsense: 'x' } as object)).rejects.toMatchObject({
      statusCode: 400,
      code: 'parameter_unknown',
      param: 'nonsense',
      message: 'Received unknown parameter: nonsense',
    })
    await expect(stripe.customers.create({ balance: 'ten' as never })).rejects.toMatchObject({
      code: 'parameter_invalid_integer',
      param: 'balance',
    })
    await expect(stripe.prices.create({ currency: 'usd', unit_amount: 1, product: 'prod_none' })).rejects.toMatchObject({
      statusCode: 400,
      code: 'resource_missing',
      param: 'product',
    })
  })

  test('an idempotency key repeats its answer and refuses other parameters', async () => {
    const stripe = await connect()
    const { customer } = await benchOn(stripe, JAN_31)
    const options = { idempotencyKey: `contract-${customer}` }
    const first = await stripe.customers.update(customer, { name: 'Ada' }, options)
    expect((await stripe.customers.update(customer, { name: 'Ada' }, options)).id).toBe(first.id)
    await expect(stripe.customers.update(customer, { name: 'Bob' }, options)).rejects.toMatchObject({
      type: 'StripeIdempotencyError',
    })
  })

  test('metadata merges, and a cleared key is gone', async () => {
    const stripe = await connect()
    const { customer } = await benchOn(stripe, JAN_31)
    await stripe.customers.update(customer, { metadata: { a: '1', b: '2' } })
    expect((await stripe.customers.update(customer, { metadata: { a: '', c: '3' } })).metadata).toEqual({ b: '2', c: '3' })
  })

  test('months end where they end, and the anchor comes back', async () => {
    const stripe = await connect()
    const bench = await benchOn(stripe, JAN_31)
    const price = await bench.price({ unit_amount: 2900 })
    const { id } = await stripe.subscriptions.create({ customer: bench.customer, items: [{ price }] })
    const end = async () => (await stripe.subscriptions.retrieve(id)).items.data[0]?.current_period_end
    expect(await end()).toBe(Date.UTC(2027, 1, 28, 10) / 1000)
    await bench.advance(Date.UTC(2027, 1, 28, 12) / 1000)
    expect(await end()).toBe(Date.UTC(2027, 2, 31, 10) / 1000)
    const invoices = await bench.invoices(id)
    expect(invoices.map((invoice) => [invoice.billing_reason, invoice.status, invoice.amount_paid])).toEqual([
      ['subscription_create', 'paid', 2900],
      ['subscription_cycle', 'paid', 2900],
    ])
  }, 300_000)

  test('an upgrade in the middle of a period credits the old price and debits the new one', async () => {
    const stripe = await connect()
    const april = Date.UTC(2027, 3, 1) / 1000
    const bench = await benchOn(stripe, april)
    const [small, large] = [await bench.price({ unit_amount: 1000 }), await bench.price({ unit_amount: 2000 })]
    const subscription = await stripe.subscriptions.create({ customer: bench.customer, items: [{ price: small }] })
    const preview = await stripe.invoices.createPreview({
      subscription: subscription.id,
      subscription_details: {
        items: [{ id: subscription.items.data[0]?.id ?? '', price: large }],
        proration_behavior: 'always_invoice',
        proration_date: april + 10 * 86_400,
      },
    })
    expect(preview.lines.data.map(({ amount }) => amount).toSorted((a, b) => a - b)).toEqual([-667, 1333])
    expect(preview.amount_due).toBe(666)
  })

  // Graduated: 5 × 7 + 5 × 6.50 + 2 × 6. Volume: all twelve at 6.
  test.each([
    ['graduated', 7950],
    ['volume', 7200],
  ] as const)('twelve units at %s tiers cost %d', async (mode, total) => {
    const stripe = await connect()
    const bench = await benchOn(stripe, JAN_31)
    const tiers = [
      { up_to: 5, unit_amount: 700 },
      { up_to: 10, unit_amount: 650 },
      { up_to: 'inf' as const, unit_amount: 600 },
    ]
    const price = await bench.price({ billing_scheme: 'tiered', tiers_mode: mode, tiers })
    const items = [{ price, quantity: 12 }]
    const subscription = await stripe.subscriptions.create({ customer: bench.customer, items, expand: ['latest_invoice'] })
    expect((subscription.latest_invoice as Stripe.Invoice).total).toBe(total)
  })

  test('a trial costs nothing until its end', async () => {
    const stripe = await connect()
    const bench = await benchOn(stripe, JAN_31)
    const price = await bench.price({ unit_amount: 2900 })
    const { id, status } = await stripe.subscriptions.create({
      customer: bench.customer,
      items: [{ price }],
      trial_period_days: 14,
    })
    expect(status).toBe('trialing')
    await bench.advance(JAN_31 + 14 * 86_400 + 2 * 3600)
    expect((await stripe.subscriptions.retrieve(id)).status).toBe('active')
    expect((await bench.invoices(id)).map(({ amount_paid }) => amount_paid)).toEqual([0, 2900])
  }, 300_000)

  test('a renewal that is declined makes the subscription past due', async () => {
    const stripe = await connect()
    const bench = await benchOn(stripe, JAN_31)
    const price = await bench.price({ unit_amount: 2900 })
    const { id } = await stripe.subscriptions.create({ customer: bench.customer, items: [{ price }] })
    const bad = await stripe.paymentMethods.attach('pm_card_chargeCustomerFail', { customer: bench.customer })
    await stripe.customers.update(bench.customer, { invoice_settings: { default_payment_method: bad.id } })
    await bench.advance(Date.UTC(2027, 1, 28, 12) / 1000)
    expect((await stripe.subscriptions.retrieve(id)).status).toBe('past_due')
    const [, renewal] = await bench.invoices(id)
    expect(renewal).toMatchObject({ status: 'open', attempt_count: 1, amount_remaining: 2900 })
  }, 300_000)
})
