import type { Stripe } from 'stripe'
import { expect, test } from 'vitest'
import { at, NOW, startBillingBench } from '../../../test/billing.ts'
import { refusal } from '../../../test/refusal.ts'

const END = at('2026-02-15T12:00:00Z')
const HALF = NOW + (END - NOW) / 2

test('a trial ended now is billed now; a trial added to a running subscription is free from now on', async () => {
  const { stripe, price, customer } = await startBillingBench()
  const pro = await price(1000)
  const { id } = await customer()
  const trial = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }], trial_period_days: 30 })
  const ended = await stripe.subscriptions.update(trial.id, { trial_end: 'now', expand: ['latest_invoice'] })
  expect(ended).toMatchObject({ status: 'active', trial_end: NOW, billing_cycle_anchor: NOW })
  expect(ended.latest_invoice).toMatchObject({ status: 'paid', total: 1000, billing_reason: 'subscription_update' })
  const extended = await stripe.subscriptions.update(trial.id, {
    trial_end: NOW + 86_400 * 10,
    proration_behavior: 'none',
    expand: ['latest_invoice'],
  })
  expect(extended).toMatchObject({ status: 'trialing', trial_end: NOW + 86_400 * 10 })
  expect(extended.latest_invoice).toMatchObject({ total: 0, status: 'paid' })
})

test('paused collection keeps, voids or writes off the invoices of renewals', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const pro = await price(1000)
  const outcomes: Record<string, string | null | undefined> = {}
  for (const behavior of ['keep_as_draft', 'void', 'mark_uncollectible'] as const) {
    const { id, clock } = await customer()
    const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
    await stripe.subscriptions.update(subscription.id, { pause_collection: { behavior } })
    await advance(clock, END + 3600)
    const [renewal] = (await stripe.invoices.list({ subscription: subscription.id, limit: 1 })).data
    outcomes[behavior] = renewal?.status
    expect((await stripe.subscriptions.retrieve(subscription.id)).status).toBe('active')
  }
  expect(outcomes).toEqual({ keep_as_draft: 'draft', void: 'void', mark_uncollectible: 'uncollectible' })
})

test('a paused subscription makes no invoices until it is resumed', async () => {
  const { stripe, price, customer, advance, mark, since } = await startBillingBench()
  const pro = await price(1000)
  const { id, clock } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  await advance(clock, HALF)
  mark()
  const paused = await stripe.subscriptions.pause(subscription.id)
  expect(paused).toMatchObject({ status: 'paused', status_details: { paused: { subscription: { type: 'pause_requested' } } } })
  expect(since()).toEqual(['invoiceitem.created', 'customer.subscription.updated', 'customer.subscription.paused'])
  await advance(clock, END + 86_400)
  expect((await stripe.invoices.list({ subscription: subscription.id })).data).toHaveLength(1)
  mark()
  const resumed = await stripe.subscriptions.resume(subscription.id, { expand: ['latest_invoice'] })
  expect(resumed).toMatchObject({ status: 'active', billing_cycle_anchor: END + 86_400 })
  expect(resumed.latest_invoice).toMatchObject({ status: 'paid', total: 500 })
  expect(since()).toContain('customer.subscription.resumed')
})

test('a subscription that cannot be paid when it is resumed stays paused with its invoice voided', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const pro = await price(1000)
  const { id, clock } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  await stripe.subscriptions.pause(subscription.id, { bill_for: { unused_time_from: { type: 'none' } } })
  const failing = await stripe.paymentMethods.attach('pm_card_chargeCustomerFail', { customer: id })
  await stripe.subscriptions.update(subscription.id, { default_payment_method: failing.id })
  const resumed = await stripe.subscriptions.resume(subscription.id, { payment_behavior: 'resume_on_payment_success' })
  expect(resumed.status).toBe('paused')
  await advance(clock, NOW + 23 * 3600)
  expect((await stripe.subscriptions.retrieve(subscription.id)).status).toBe('paused')
  expect((await stripe.invoices.retrieve(resumed.latest_invoice as string)).status).toBe('void')
})

test('a sent invoice is due after its days and makes the subscription past due when it is not paid', async () => {
  const { stripe, price, customer, advance, mark, since } = await startBillingBench()
  const pro = await price(1000)
  const { id, clock } = await customer(null)
  const subscription = await stripe.subscriptions.create({
    customer: id,
    items: [{ price: pro.id }],
    collection_method: 'send_invoice',
    days_until_due: 7,
    expand: ['latest_invoice'],
  })
  expect(subscription).toMatchObject({ status: 'active', latest_invoice: { status: 'draft' } })
  const invoice = subscription.latest_invoice as Stripe.Invoice
  await advance(clock, NOW + 3600)
  expect(await stripe.invoices.retrieve(invoice.id)).toMatchObject({ status: 'open', due_date: NOW + 3600 + 7 * 86_400 })
  mark()
  await advance(clock, NOW + 3600 + 7 * 86_400)
  expect(since()).toEqual(['invoice.overdue', 'customer.subscription.updated'])
  expect((await stripe.subscriptions.retrieve(subscription.id)).status).toBe('past_due')
  await stripe.invoices.pay(invoice.id, { paid_out_of_band: true })
  expect((await stripe.subscriptions.retrieve(subscription.id)).status).toBe('active')
})

test('a trial without a payment method ends as its settings say', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const pro = await price(1000)
  const outcomes: Record<string, string> = {}
  for (const [missing_payment_method, card] of [
    ['cancel', null],
    ['pause', null],
    ['create_invoice', null],
    // With one, a trial goes on to be paid, whatever they say.
    ['cancel', 'pm_card_visa'],
    ['pause', 'pm_card_visa'],
  ] as const) {
    const { id, clock } = await customer(card)
    const subscription = await stripe.subscriptions.create({
      customer: id,
      items: [{ price: pro.id }],
      trial_period_days: 7,
      trial_settings: { end_behavior: { missing_payment_method } },
    })
    await advance(clock, NOW + 7 * 86_400 + 3600)
    const name = card === null ? missing_payment_method : `${missing_payment_method}, with a card`
    outcomes[name] = (await stripe.subscriptions.retrieve(subscription.id)).status
  }
  expect(outcomes).toEqual({
    cancel: 'canceled',
    pause: 'paused',
    create_invoice: 'past_due',
    'cancel, with a card': 'active',
    'pause, with a card': 'active',
  })
})

test('when all tries failed the account setting decides', async () => {
  const outcomes: Record<string, string> = {}
  for (const afterRetries of ['unpaid', 'past_due'] as const) {
    const { stripe, price, customer, advance } = await startBillingBench({ billing: { afterRetries, retryOffsets: [86_400] } })
    const pro = await price(1000)
    const { id, clock } = await customer()
    const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
    const failing = await stripe.paymentMethods.attach('pm_card_chargeCustomerFail', { customer: id })
    await stripe.customers.update(id, { invoice_settings: { default_payment_method: failing.id } })
    await advance(clock, END + 3600 + 86_400)
    outcomes[afterRetries] = (await stripe.subscriptions.retrieve(subscription.id)).status
    await advance(clock, at('2026-03-15T14:00:00Z'))
    const [next] = (await stripe.invoices.list({ subscription: subscription.id, limit: 1 })).data
    expect(next?.status).toBe(afterRetries === 'unpaid' ? 'draft' : 'open')
  }
  expect(outcomes).toEqual({ unpaid: 'unpaid', past_due: 'past_due' })
})

test('after a hard decline nothing is charged until there is another payment method', async () => {
  const { stripe, price, customer, advance, sandbox } = await startBillingBench()
  const pro = await price(1000)
  const { id, clock } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  const absent = await stripe.paymentMethods.attach('pm_card_authenticationRequired', { customer: id })
  await stripe.customers.update(id, { invoice_settings: { default_payment_method: absent.id } })
  await advance(clock, END + 3600)
  const tried = sandbox.all('charge').length
  await advance(clock, END + 3600 + 3 * 86_400)
  const [invoice] = (await stripe.invoices.list({ subscription: subscription.id, limit: 1 })).data
  expect(invoice).toMatchObject({ status: 'open', attempt_count: 3 })
  expect(sandbox.all('charge')).toHaveLength(tried)
  const good = await stripe.paymentMethods.attach('pm_card_visa', { customer: id })
  await stripe.customers.update(id, { invoice_settings: { default_payment_method: good.id } })
  await advance(clock, END + 3600 + 5 * 86_400)
  expect(await stripe.invoices.retrieve(invoice?.id ?? '')).toMatchObject({ status: 'paid', attempt_count: 4 })
})

test('paying the failed invoice restores the subscription, also while the next draft waits', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const weekly = await price(1000, { recurring: { interval: 'week' } })
  const { id, clock, card } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: weekly.id }] })
  const failing = await stripe.paymentMethods.attach('pm_card_chargeCustomerFail', { customer: id })
  await stripe.customers.update(id, { invoice_settings: { default_payment_method: failing.id } })
  const week = 7 * 86_400
  await advance(clock, NOW + week + 3600)
  const [failed] = (await stripe.invoices.list({ subscription: subscription.id, limit: 1 })).data
  expect((await stripe.subscriptions.retrieve(subscription.id)).status).toBe('past_due')
  await advance(clock, NOW + 2 * week)
  const [draft] = (await stripe.invoices.list({ subscription: subscription.id, limit: 1 })).data
  expect(draft?.status).toBe('draft')
  await stripe.invoices.pay(failed?.id ?? '', { payment_method: card ?? '' })
  expect((await stripe.subscriptions.retrieve(subscription.id)).status).toBe('active')
})

test('a renewal before a date to cancel at bills the time until then', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const { id, clock } = await customer()
  const weekly = await price(1000, { recurring: { interval: 'week' } })
  const week = 7 * 86_400
  await stripe.subscriptions.create({ customer: id, items: [{ price: weekly.id }], cancel_at: NOW + 1.5 * week })
  await advance(clock, NOW + week + 3600)
  const [renewal] = (await stripe.invoices.list({ customer: id, limit: 1 })).data
  expect(renewal).toMatchObject({ status: 'paid', total: 500, billing_reason: 'subscription_cycle' })
})

test('an older invoice that is paid restores nothing while a later one is owed', async () => {
  const { stripe, price, customer, advance } = await startBillingBench({
    billing: { afterRetries: 'past_due', retryOffsets: [86_400] },
  })
  const { id, clock, card } = await customer()
  const pro = await price(1000)
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  const failing = await stripe.paymentMethods.attach('pm_card_chargeCustomerFail', { customer: id })
  await stripe.customers.update(id, { invoice_settings: { default_payment_method: failing.id } })
  await advance(clock, END + 2 * 86_400)
  await advance(clock, at('2026-03-17T12:00:00Z'))
  const [later, older] = (await stripe.invoices.list({ subscription: subscription.id, status: 'open' })).data
  const statusAfterPaying = async (invoice: Stripe.Invoice | undefined): Promise<string> => {
    await stripe.invoices.pay(invoice?.id ?? '', { payment_method: card ?? '' })
    return (await stripe.subscriptions.retrieve(subscription.id)).status
  }
  expect([await statusAfterPaying(older), await statusAfterPaying(later)]).toEqual(['past_due', 'active'])
})

test('the open invoice of a subscription that was canceled is collected no more', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const { id, clock, card } = await customer()
  const pro = await price(1000)
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  const failing = await stripe.paymentMethods.attach('pm_card_chargeCustomerFail', { customer: id })
  await stripe.customers.update(id, { invoice_settings: { default_payment_method: failing.id } })
  await advance(clock, END + 3600)
  await stripe.subscriptions.cancel(subscription.id)
  await stripe.customers.update(id, { invoice_settings: { default_payment_method: card ?? '' } })
  await advance(clock, END + 10 * 86_400)
  const [invoice] = (await stripe.invoices.list({ subscription: subscription.id, limit: 1 })).data
  expect(invoice).toMatchObject({ status: 'open', attempt_count: 1, auto_advance: false, next_payment_attempt: null })
})

test('a renewal that wants authentication says so and is past due', async () => {
  const { stripe, price, customer, advance, mark, since } = await startBillingBench()
  const pro = await price(1000)
  const { id, clock } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  const absent = await stripe.paymentMethods.attach('pm_card_authenticationRequired', { customer: id })
  await stripe.customers.update(id, { invoice_settings: { default_payment_method: absent.id } })
  await advance(clock, END)
  mark()
  await advance(clock, END + 3600)
  expect(since().filter((type) => type.startsWith('invoice.payment'))).toEqual([
    'invoice.payment_failed',
    'invoice.payment_action_required',
  ])
  expect((await stripe.subscriptions.retrieve(subscription.id)).status).toBe('past_due')
})

test('pending items are invoiced by themselves at their interval', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const yearly = await price(10_000, { recurring: { interval: 'year' } })
  const { id, clock } = await customer()
  const subscription = await stripe.subscriptions.create({
    customer: id,
    items: [{ price: yearly.id }],
    pending_invoice_item_interval: { interval: 'week' },
  })
  const week = 7 * 86_400
  expect(subscription.next_pending_invoice_item_invoice).toBe(NOW + week)
  await stripe.invoiceItems.create({ customer: id, subscription: subscription.id, amount: 400, currency: 'usd' })
  await advance(clock, NOW + week + 3600)
  const [invoice] = (await stripe.invoices.list({ subscription: subscription.id, limit: 1 })).data
  expect(invoice).toMatchObject({ billing_reason: 'automatic_pending_invoice_item_invoice', total: 400, status: 'paid' })
  expect(await stripe.subscriptions.retrieve(subscription.id)).toMatchObject({
    next_pending_invoice_item_invoice: NOW + 2 * week,
    items: { data: [{ current_period_start: NOW }] },
  })
})

test('the interval of pending items is one at least, and a year at most', async () => {
  const { stripe, price, customer } = await startBillingBench()
  const { id } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: (await price(1000)).id }] })
  for (const [interval, interval_count] of [
    ['day', 0],
    ['month', -1],
    ['week', 53],
    ['month', 13],
  ] as const) {
    const refused = stripe.subscriptions.update(subscription.id, { pending_invoice_item_interval: { interval, interval_count } })
    expect(await refusal(refused)).toMatchObject({ param: 'pending_invoice_item_interval[interval_count]' })
  }
  const { pending_invoice_item_interval: kept } = await stripe.subscriptions.retrieve(subscription.id)
  expect(kept).toBeNull()
})

test('a resumption is previewed with the amounts that it then has', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const pro = await price(1000)
  const { id, clock } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  await advance(clock, HALF)
  await stripe.subscriptions.pause(subscription.id)
  const preview = await stripe.invoices.createPreview({
    subscription: subscription.id,
    subscription_details: { resume_at: 'now' },
  })
  expect(preview).toMatchObject({ total: 500, status: 'draft' })
  expect((await stripe.subscriptions.retrieve(subscription.id)).status).toBe('paused')
  const resumed = await stripe.subscriptions.resume(subscription.id, { expand: ['latest_invoice'] })
  expect(resumed.latest_invoice).toMatchObject({ total: 500 })
})
