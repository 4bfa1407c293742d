import type { TestSandbox } from '../../sandbox/test/contract.ts'
import { Browser } from './browser.ts'

const HOUR = 3600
const DAY = 86_400

type Stripe = TestSandbox['stripe']

/** The prices of the business. */
interface Catalog {
  readonly basic: string
  readonly pro: string
  readonly volume: string
  readonly metered: string
  readonly setup: string
  readonly addOns: readonly string[]
}

/**
 * Two and a half months of a business: every kind of object that the engine has a table for, most of them in several states. Each step
 * is some time after the one before, as on a real account.
 */
export async function runBusiness(test: TestSandbox): Promise<void> {
  const { stripe } = test
  const catalog = await openShop(stripe)
  await welcomeCrowd(stripe)
  const rejected = await makeMistakes(stripe)
  await pass(test, HOUR)
  await takeBack(stripe, rejected)
  await sellSubscriptions(stripe, catalog)
  await pass(test, HOUR)
  await sellAtCheckout(stripe, catalog)
  await takePayments(stripe)
  await pass(test, 10 * DAY)
  await changeMinds(stripe, catalog)
  await pass(test, 30 * DAY)
  await regret(stripe)
  await pass(test, 30 * DAY)
}

/** Lets every webhook arrive, some time go by, and what happened in that time be told too. */
async function pass({ sandbox }: TestSandbox, seconds: number): Promise<void> {
  await sandbox.settled()
  sandbox.advanceTo(sandbox.now() + seconds)
  await sandbox.settled()
}

async function openShop(stripe: Stripe): Promise<Catalog> {
  const product = await stripe.products.create({ name: 'App', description: 'All of it', metadata: { team: 'core' } })
  const monthly = { currency: 'usd', product: product.id, recurring: { interval: 'month' } } as const
  const meter = await stripe.billing.meters.create({
    display_name: 'Calls',
    event_name: 'calls',
    default_aggregation: { formula: 'sum' },
  })
  const basic = await stripe.prices.create({ ...monthly, unit_amount: 900, lookup_key: 'basic' })
  const pro = await stripe.prices.create({ ...monthly, unit_amount: 2900, nickname: 'Pro' })
  const volume = await stripe.prices.create({
    ...monthly,
    billing_scheme: 'tiered',
    tiers_mode: 'volume',
    tiers: [
      { up_to: 10, unit_amount: 500 },
      { up_to: 'inf', unit_amount: 400 },
    ],
  })
  const metered = await stripe.prices.create({
    currency: 'usd',
    product: product.id,
    unit_amount_decimal: decimal('0.25'),
    recurring: { interval: 'month', usage_type: 'metered', meter: meter.id },
  })
  const setup = await stripe.prices.create({ currency: 'usd', product_data: { name: 'Installation' }, unit_amount: 5000 })
  const addOns: string[] = []
  for (let index = 1; index <= 12; index += 1) {
    addOns.push((await stripe.prices.create({ ...monthly, unit_amount: index * 100, nickname: `Add-on ${index}` })).id)
  }
  const feature = await stripe.entitlements.features.create({ name: 'Export', lookup_key: 'export' })
  const entitled = await stripe.products.create({ name: 'Plus' })
  await stripe.products.createFeature(entitled.id, { entitlement_feature: feature.id })
  const plus = await stripe.prices.create({ ...monthly, product: entitled.id, unit_amount: 1500 })
  const holder = await customer(stripe, 'holder')
  await stripe.subscriptions.create({ customer: holder, items: [{ price: plus.id }] })
  const retired = await stripe.products.create({ name: 'Retired' })
  await stripe.products.update(retired.id, { active: false })
  await stripe.taxIds.create({ type: 'eu_vat', value: 'DE999999999' })
  return { basic: basic.id, pro: pro.id, volume: volume.id, metered: metered.id, setup: setup.id, addOns }
}

/** The client's decimal type, made as the client makes it from text. */
function decimal(text: string): NonNullable<Parameters<Stripe['prices']['create']>[0]['unit_amount_decimal']> {
  return text as unknown as ReturnType<typeof decimal>
}

/** More than a page of customers. */
async function welcomeCrowd(stripe: Stripe): Promise<void> {
  for (let index = 0; index < 105; index += 1) {
    await stripe.customers.create({ email: `crowd${index}@example.com`, name: `Crowd ${index}` })
  }
}

interface Mistakes {
  readonly product: string
  readonly customer: string
  readonly taxId: string
}

async function makeMistakes(stripe: Stripe): Promise<Mistakes> {
  const product = await stripe.products.create({ name: 'Never sold' })
  const holder = await stripe.customers.create({ name: 'Twice' })
  const taxId = await stripe.customers.createTaxId(holder.id, { type: 'gb_vat', value: 'GB123456789' })
  return { product: product.id, customer: holder.id, taxId: taxId.id }
}

async function takeBack(stripe: Stripe, { product, customer: holder, taxId }: Mistakes): Promise<void> {
  await stripe.products.del(product)
  await stripe.customers.deleteTaxId(holder, taxId)
  await stripe.customers.del(holder)
}

async function customer(stripe: Stripe, name: string, payment_method = 'pm_card_visa'): Promise<string> {
  const made = await stripe.customers.create({
    email: `${name}@example.com`,
    name,
    metadata: { name },
    address: { line1: '1 Main Street', city: 'Springfield', country: 'US' },
    payment_method,
    invoice_settings: { default_payment_method: payment_method },
  })
  return made.id
}

async function sellSubscriptions(stripe: Stripe, { basic, pro, volume, metered, addOns }: Catalog): Promise<void> {
  await stripe.subscriptions.create({ customer: await customer(stripe, 'loyal'), items: [{ price: basic }] })
  await stripe.subscriptions.create({
    customer: await customer(stripe, 'trying'),
    items: [{ price: pro }],
    trial_period_days: 14,
  })
  await stripe.subscriptions.create({ customer: await customer(stripe, 'many'), items: [{ price: volume, quantity: 12 }] })
  await stripe.subscriptions.create({
    customer: await customer(stripe, 'collector'),
    items: addOns.map((price) => ({ price })),
    metadata: { name: 'collector' },
  })
  const user = await customer(stripe, 'user')
  await stripe.subscriptions.create({ customer: user, items: [{ price: metered }] })
  await stripe.billing.meterEvents.create({ event_name: 'calls', payload: { stripe_customer_id: user, value: '4000' } })
  await stripe.subscriptions.create({
    customer: await customer(stripe, 'billed'),
    items: [{ price: pro }],
    collection_method: 'send_invoice',
    days_until_due: 14,
  })
  const coupon = await stripe.coupons.create({ percent_off: 25, duration: 'repeating', duration_in_months: 2 })
  await stripe.subscriptions.create({
    customer: await customer(stripe, 'thrifty'),
    items: [{ price: basic }],
    discounts: [{ coupon: coupon.id }],
  })
  await stripe.subscriptions.create({
    customer: await customer(stripe, 'undecided'),
    items: [{ price: basic }],
    payment_behavior: 'default_incomplete',
  })
  await stripe.subscriptionSchedules.create({
    customer: await customer(stripe, 'planner'),
    start_date: 'now',
    end_behavior: 'release',
    phases: [
      { items: [{ price: basic }], duration: { interval: 'month', interval_count: 1 } },
      { items: [{ price: pro }], duration: { interval: 'month', interval_count: 1 } },
    ],
  })
}

async function sellAtCheckout(stripe: Stripe, { basic, setup }: Catalog): Promise<void> {
  const success_url = 'https://shop.example/done'
  const order = () =>
    stripe.checkout.sessions.create({ mode: 'subscription', success_url, line_items: [{ price: basic, quantity: 2 }] })
  const bought = await order()
  const person = new Browser()
  const card = { card_number: '4242424242424242', exp: '12/34', cvc: '123' }
  await person.submit(await person.open(bought.url ?? ''), { email: 'walk-in@example.com', ...card })
  const once = await stripe.checkout.sessions.create({
    mode: 'payment',
    success_url,
    line_items: [{ price: setup, quantity: 1 }],
    customer: await customer(stripe, 'builder'),
  })
  await person.submit(await person.open(once.url ?? ''), card)
  await stripe.checkout.sessions.expire((await order()).id)
}

async function takePayments(stripe: Stripe): Promise<void> {
  const pay = (customerId: string, payment_method: string, amount: number, more = {}) =>
    stripe.paymentIntents.create({
      amount,
      currency: 'usd',
      customer: customerId,
      payment_method,
      confirm: true,
      off_session: true,
      ...more,
    })
  const buyer = await customer(stripe, 'buyer')
  await pay(buyer, 'pm_card_visa', 5000, { description: 'Two shirts' })
  await pay(buyer, 'pm_card_visa', 700)
  const angry = await customer(stripe, 'angry')
  await pay(angry, 'pm_card_createDispute', 9900)
  const wrong = await pay(angry, 'pm_card_createDispute', 1900)
  const [dispute] = (await stripe.disputes.list({ payment_intent: wrong.id })).data
  await stripe.disputes.update(dispute!.id, { evidence: { uncategorized_text: 'losing_evidence' }, submit: true })
  await pay(buyer, 'pm_card_visa_chargeDeclined', 100).catch(() => undefined)
  const abandoned = await stripe.paymentIntents.create({ amount: 300, currency: 'usd' })
  await stripe.paymentIntents.cancel(abandoned.id)
  const held = await pay(buyer, 'pm_card_visa', 1200, { capture_method: 'manual' })
  await stripe.paymentIntents.capture(held.id, { amount_to_capture: 1000 })
  await stripe.setupIntents.create({
    customer: buyer,
    payment_method: 'pm_card_mastercard',
    confirm: true,
    automatic_payment_methods: { enabled: true, allow_redirects: 'never' },
  })
  await stripe.setupIntents.cancel((await stripe.setupIntents.create({ customer: buyer })).id)
  await stripe.customers.createTaxId(buyer, { type: 'eu_vat', value: 'DE123456789' })
}

async function changeMinds(stripe: Stripe, { pro }: Catalog): Promise<void> {
  const subscriptions = await byName(stripe)
  const loyal = subscriptions.get('loyal')!
  await stripe.subscriptions.update(loyal.id, {
    items: [{ id: loyal.items.data[0]!.id, price: pro }],
    proration_behavior: 'always_invoice',
  })
  await stripe.subscriptions.update(subscriptions.get('trying')!.id, { cancel_at_period_end: true })
  const collector = subscriptions.get('collector')!
  await stripe.subscriptions.update(collector.id, { items: [{ id: collector.items.data[3]!.id, deleted: true }] })
  const failing = await stripe.paymentMethods.attach('pm_card_chargeCustomerFail', {
    customer: customerOf(subscriptions.get('many')!),
  })
  await stripe.subscriptions.update(subscriptions.get('many')!.id, { default_payment_method: failing.id })
  await stripe.subscriptions.update(subscriptions.get('thrifty')!.id, { pause_collection: { behavior: 'void' } })
  const [paid] = (await stripe.invoices.list({ customer: customerOf(loyal) })).data
  await stripe.invoices.update(paid!.id, { metadata: { seen: 'yes' } })
  const item = { customer: customerOf(loyal), currency: 'usd' }
  await stripe.invoiceItems.create({ ...item, amount: 4200, description: 'Consulting' })
  const manual = await stripe.invoices.create({ customer: item.customer, pending_invoice_items_behavior: 'include' })
  await stripe.invoices.pay((await stripe.invoices.finalizeInvoice(manual.id)).id)
  const wrong = await stripe.invoices.create({ customer: item.customer })
  await stripe.invoiceItems.create({ ...item, invoice: wrong.id, amount: 100 })
  await stripe.invoices.voidInvoice((await stripe.invoices.finalizeInvoice(wrong.id)).id)
}

async function regret(stripe: Stripe): Promise<void> {
  const subscriptions = await byName(stripe)
  const consulting = (await stripe.invoices.list({ customer: customerOf(subscriptions.get('loyal')!), limit: 100 })).data.find(
    ({ billing_reason, status }) => billing_reason === 'manual' && status === 'paid',
  )
  await stripe.creditNotes.create({ invoice: consulting!.id, amount: 1200, refund_amount: 1200, reason: 'order_change' })
  await stripe.subscriptions.cancel(subscriptions.get('user')!.id, { invoice_now: true, prorate: true })
  const [full, part] = (await stripe.paymentIntents.list({ customer: (await find(stripe, 'buyer')).id, limit: 100 })).data.filter(
    ({ status }) => status === 'succeeded',
  )
  await stripe.refunds.create({ payment_intent: full!.id })
  await stripe.refunds.create({
    payment_intent: part!.id,
    amount: 100,
    reason: 'requested_by_customer',
    metadata: { by: 'desk' },
  })
  const crowd = await find(stripe, 'crowd8')
  await stripe.customers.update(crowd.id, { name: 'Renamed', metadata: { vip: 'true' }, phone: '+1 555 0100' })
  const method = await stripe.paymentMethods.attach('pm_card_amex', { customer: crowd.id })
  await stripe.paymentMethods.update(method.id, { billing_details: { name: 'Renamed' } })
  await stripe.paymentMethods.detach((await stripe.paymentMethods.attach('pm_card_visa', { customer: crowd.id })).id)
}

/** The running subscriptions by the name of their customer. */
async function byName(stripe: Stripe) {
  const { data } = await stripe.subscriptions.list({ limit: 100, expand: ['data.customer'] })
  return new Map(data.map((subscription) => [nameOf(subscription.customer), subscription]))
}

function nameOf(holder: unknown): string {
  return String((holder as { name?: string | null }).name)
}

function customerOf({ customer: holder }: { customer: string | { id: string } }): string {
  return typeof holder === 'string' ? holder : holder.id
}

async function find(stripe: Stripe, name: string) {
  const { data } = await stripe.customers.list({ email: `${name}@example.com` })
  return data[0]!
}
