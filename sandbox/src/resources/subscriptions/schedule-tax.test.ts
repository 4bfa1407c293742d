import { expect, test } from 'vitest'
import { at, type BillingBench, NOW, startBillingBench } from '../../../test/billing.ts'
import { refusal } from '../../../test/refusal.ts'

const automatic_tax = { enabled: true }

/** A customer in Germany, where the account is registered, and two prices. */
async function setUp(): Promise<BillingBench & { buyer: { id: string; clock: string }; small: string; large: string }> {
  const bench = await startBillingBench()
  const { stripe } = bench
  await stripe.tax.registrations.create({ country: 'DE', country_options: { de: { type: 'standard' } }, active_from: 'now' })
  const buyer = await bench.customer()
  await stripe.customers.update(buyer.id, { address: { country: 'DE' } })
  return { ...bench, buyer, small: (await bench.price(1000)).id, large: (await bench.price(2000)).id }
}

test('a schedule made from a subscription carries automatic tax, and each phase keeps it', async () => {
  const { advance, buyer, large, small, stripe } = await setUp()
  const subscription = await stripe.subscriptions.create({ customer: buyer.id, items: [{ price: large }], automatic_tax })
  const schedule = await stripe.subscriptionSchedules.create({ from_subscription: subscription.id })
  expect(schedule.phases[0]?.automatic_tax?.enabled).toBe(true)
  expect(schedule.default_settings.automatic_tax?.enabled).toBe(true)
  const [running] = schedule.phases
  await stripe.subscriptionSchedules.update(schedule.id, {
    phases: [
      { items: [{ price: large }], start_date: running?.start_date ?? 0, end_date: running?.end_date ?? 0, automatic_tax },
      { items: [{ price: small }], duration: { interval: 'month' } },
    ],
  })
  expect((await stripe.invoices.createPreview({ subscription: subscription.id })).total).toBe(1190)
  await advance(buyer.clock, at('2026-02-15T14:00:00Z'))
  const [renewal] = (await stripe.invoices.list({ subscription: subscription.id })).data
  expect(renewal).toMatchObject({ total: 1190, status: 'paid' })
})

test('a schedule begins and ends tax with its phases', async () => {
  const { advance, buyer, small, stripe } = await setUp()
  const schedule = await stripe.subscriptionSchedules.create({
    customer: buyer.id,
    start_date: 'now',
    default_settings: { automatic_tax: { enabled: false } },
    phases: [
      { items: [{ price: small }], duration: { interval: 'month' }, automatic_tax },
      { items: [{ price: small }], duration: { interval: 'month' } },
    ],
  })
  const totals = async () => (await stripe.invoices.list({ customer: buyer.id })).data.map((invoice) => invoice.total)
  expect(await totals()).toEqual([1190])
  const preview = await stripe.invoices.createPreview({ schedule: schedule.id })
  expect(preview.total).toBe(1000)
  await advance(buyer.clock, at('2026-02-15T14:00:00Z'))
  expect(await totals()).toEqual([1000, 1190])
})

test('a schedule goes on without tax once nobody knows where its customer is', async () => {
  const { advance, buyer, small, stripe } = await setUp()
  const schedule = await stripe.subscriptionSchedules.create({
    customer: buyer.id,
    start_date: 'now',
    default_settings: { automatic_tax },
    phases: [{ items: [{ price: small }], duration: { interval: 'month', interval_count: 3 } }],
  })
  await stripe.customers.update(buyer.id, { address: '' })
  await advance(buyer.clock, at('2026-02-15T14:00:00Z'))
  const after = await stripe.subscriptionSchedules.retrieve(schedule.id)
  const off = { enabled: false, disabled_reason: 'requires_location_inputs', liability: null }
  expect([after.default_settings.automatic_tax, after.phases[0]?.automatic_tax]).toEqual([off, off])
})

test('a schedule with tax is refused for a customer who is nowhere, and beside rates that were set by hand', async () => {
  const { buyer, customer, sandbox, small, stripe } = await setUp()
  const nowhere = await customer()
  const rate = await stripe.taxRates.create({ display_name: 'VAT', percentage: 19, inclusive: false })
  const create = (id: string, more: { default_tax_rates?: string[] }) =>
    stripe.subscriptionSchedules.create({
      customer: id,
      start_date: NOW + 60,
      phases: [{ items: [{ price: small }], duration: { interval: 'month' }, automatic_tax, ...more }],
    })
  expect((await refusal(create(nowhere.id, {}))).code).toBe('customer_tax_location_invalid')
  expect((await refusal(create(buyer.id, { default_tax_rates: [rate.id] }))).param).toBe('automatic_tax[enabled]')
  expect(sandbox.all('subscription_schedule')).toEqual([])
})
