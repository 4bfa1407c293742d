import type { EventType } from '../engine/context.ts'

/** Calls the API as a client would; throws the error's message. */
export type Call = (method: 'DELETE' | 'GET' | 'POST', path: string, params?: Record<string, unknown>) => Promise<Answer>

/** The parts of an answer that recipes go on with. */
export interface Answer {
  readonly id: string
  readonly [field: string]: unknown
}

type Recipe = (call: Call) => Promise<unknown>

const CARD = 'pm_card_visa'

async function customer(call: Call, card?: string): Promise<Answer> {
  const made = await call('POST', '/v1/customers', {
    email: 'jenny@example.com',
    name: 'Jenny Rosen',
    description: '(made by trigger)',
  })
  if (card === undefined) return made
  const method = await call('POST', `/v1/payment_methods/${card}/attach`, { customer: made.id })
  return call('POST', `/v1/customers/${made.id}`, { invoice_settings: { default_payment_method: method.id } })
}

function price(call: Call): Promise<Answer> {
  const productData = { name: 'Gold plan (made by trigger)' }
  return call('POST', '/v1/prices', {
    currency: 'usd',
    unit_amount: 2900,
    recurring: { interval: 'month' },
    product_data: productData,
  })
}

async function subscription(call: Call, more: Record<string, unknown> = {}): Promise<Answer> {
  const [who, what] = [await customer(call, CARD), await price(call)]
  return call('POST', '/v1/subscriptions', { customer: who.id, items: [{ price: what.id }], ...more })
}

async function invoice(call: Call): Promise<Answer> {
  const who = await customer(call, CARD)
  const made = await call('POST', '/v1/invoices', { customer: who.id, auto_advance: false })
  await call('POST', '/v1/invoiceitems', {
    customer: who.id,
    invoice: made.id,
    amount: 2000,
    currency: 'usd',
    description: 'Work',
  })
  return made
}

async function payment(call: Call, card: string, more: Record<string, unknown> = {}): Promise<Answer> {
  return call('POST', '/v1/payment_intents', {
    amount: 2000,
    currency: 'usd',
    payment_method: card,
    automatic_payment_methods: { enabled: true, allow_redirects: 'never' },
    ...more,
  })
}

/** An open session that sells the gold plan. */
async function checkoutSession(call: Call): Promise<Answer> {
  const what = await price(call)
  const lines = [{ price: what.id, quantity: 1 }]
  return call('POST', '/v1/checkout/sessions', {
    mode: 'subscription',
    line_items: lines,
    success_url: 'https://example.com/success',
  })
}

/** A decline is what the recipe is for. */
async function declined(work: Promise<unknown>): Promise<void> {
  await work.catch(() => undefined)
}

/** What leads to each event. Each makes its own objects. */
const recipes: { readonly [T in EventType]?: Recipe } = {
  'customer.created': (call) => customer(call),
  'customer.updated': async (call) => call('POST', `/v1/customers/${(await customer(call)).id}`, { name: 'Jenny R.' }),
  'customer.deleted': async (call) => call('DELETE', `/v1/customers/${(await customer(call)).id}`),
  'product.created': (call) => call('POST', '/v1/products', { name: 'Gold plan' }),
  'price.created': price,
  'coupon.created': (call) => call('POST', '/v1/coupons', { percent_off: 25, duration: 'once' }),
  'promotion_code.created': async (call) => {
    const coupon = await call('POST', '/v1/coupons', { percent_off: 25, duration: 'once' })
    return call('POST', '/v1/promotion_codes', { promotion: { type: 'coupon', coupon: coupon.id } })
  },
  'payment_method.attached': (call) => customer(call, CARD),
  'setup_intent.succeeded': async (call) => {
    const who = await customer(call)
    return call('POST', '/v1/setup_intents', {
      customer: who.id,
      payment_method: CARD,
      automatic_payment_methods: { enabled: true, allow_redirects: 'never' },
      confirm: true,
    })
  },
  'payment_intent.created': (call) => payment(call, CARD),
  'payment_intent.succeeded': (call) => payment(call, CARD, { confirm: true }),
  'charge.succeeded': (call) => payment(call, CARD, { confirm: true }),
  'payment_intent.payment_failed': (call) => declined(payment(call, 'pm_card_visa_chargeDeclined', { confirm: true })),
  'charge.failed': (call) => declined(payment(call, 'pm_card_visa_chargeDeclined', { confirm: true })),
  'payment_intent.requires_action': (call) => payment(call, 'pm_card_authenticationRequired', { confirm: true }),
  'payment_intent.canceled': async (call) => call('POST', `/v1/payment_intents/${(await payment(call, CARD)).id}/cancel`),
  'charge.refunded': async (call) =>
    call('POST', '/v1/refunds', { payment_intent: (await payment(call, CARD, { confirm: true })).id }),
  'refund.created': async (call) =>
    call('POST', '/v1/refunds', { payment_intent: (await payment(call, CARD, { confirm: true })).id }),
  'charge.dispute.created': (call) => payment(call, 'pm_card_createDispute', { confirm: true }),
  'invoice.created': invoice,
  'invoice.finalized': async (call) => call('POST', `/v1/invoices/${(await invoice(call)).id}/finalize`),
  'invoice.paid': async (call) => call('POST', `/v1/invoices/${(await invoice(call)).id}/pay`),
  'invoice.payment_succeeded': async (call) => call('POST', `/v1/invoices/${(await invoice(call)).id}/pay`),
  'invoice.payment_failed': async (call) => {
    const [who, what] = [await customer(call, 'pm_card_chargeCustomerFail'), await price(call)]
    return call('POST', '/v1/subscriptions', { customer: who.id, items: [{ price: what.id }] })
  },
  'invoice.voided': async (call) => {
    const made = await invoice(call)
    await call('POST', `/v1/invoices/${made.id}/finalize`)
    return call('POST', `/v1/invoices/${made.id}/void`)
  },
  'customer.subscription.created': (call) => subscription(call),
  'customer.subscription.updated': async (call) =>
    call('POST', `/v1/subscriptions/${(await subscription(call)).id}`, { cancel_at_period_end: true }),
  'customer.subscription.deleted': async (call) => call('DELETE', `/v1/subscriptions/${(await subscription(call)).id}`),
  'customer.subscription.trial_will_end': (call) => subscription(call, { trial_period_days: 2 }),
  'billing.meter.created': (call) =>
    call('POST', '/v1/billing/meters', {
      display_name: 'Requests',
      event_name: `requests_${Math.floor(performance.now() * 1000)}`,
      default_aggregation: { formula: 'sum' },
    }),
  'checkout.session.completed': async (call) => {
    const session = await checkoutSession(call)
    const form = { email: 'jenny@example.com', card_number: '4242424242424242', exp: '12/40', cvc: '123' }
    await fetch(String(session['url']), { method: 'POST', body: new URLSearchParams(form), redirect: 'manual' })
  },
  'checkout.session.expired': async (call) => call('POST', `/v1/checkout/sessions/${(await checkoutSession(call)).id}/expire`),
  'charge.dispute.closed': async (call) => {
    await payment(call, 'pm_card_createDispute', { confirm: true })
    const { data } = await call('GET', '/v1/disputes', { limit: 1 })
    return call('POST', `/v1/disputes/${(data as Answer[])[0]?.id ?? ''}/close`)
  },
  'test_helpers.test_clock.ready': async (call) => {
    const clock = await call('POST', '/v1/test_helpers/test_clocks', { frozen_time: 1_767_225_600 })
    return call('POST', `/v1/test_helpers/test_clocks/${clock.id}/advance`, { frozen_time: 1_767_225_600 + 86_400 })
  },
}

/** The events that `trigger` knows, sorted. */
export function triggerableEvents(): string[] {
  return Object.keys(recipes).sort()
}

/** Makes the objects that lead to an event. Throws a `RangeError` that lists what there is for an unknown one. */
export async function trigger(event: string, call: Call): Promise<void> {
  const recipe = recipes[event as EventType]
  if (recipe === undefined)
    throw new RangeError(`No recipe leads to '${event}'. There is one for: ${triggerableEvents().join(', ')}.`)
  await recipe(call)
}
