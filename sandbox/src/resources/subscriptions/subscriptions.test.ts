import { expect, test } from 'vitest'
import { at, NOW, startBillingBench } from '../../../test/billing.ts'

test('a paid subscription is told of in the documented order', async () => {
  const { stripe, price, customer, mark, since } = await startBillingBench()
  const pro = await price(2900)
  const { id } = await customer()
  mark()
  const subscription = await stripe.subscriptions.create({
    customer: id,
    items: [{ price: pro.id }],
    expand: ['latest_invoice.payments'],
  })
  expect(subscription.status).toBe('active')
  expect(subscription.items.data[0]).toMatchObject({
    current_period_start: NOW,
    current_period_end: at('2026-02-15T12:00:00Z'),
    quantity: 1,
  })
  expect(subscription.latest_invoice).toMatchObject({
    status: 'paid',
    billing_reason: 'subscription_create',
    amount_paid: 2900,
    amount_remaining: 0,
    period_start: NOW,
    period_end: NOW,
    number: expect.stringMatching(/^[A-Z0-9]{8}-0001$/) as string,
    parent: { subscription_details: { subscription: subscription.id } },
    lines: {
      data: [
        { description: '1 × Pro (at $29.00 / month)', amount: 2900, period: { start: NOW, end: at('2026-02-15T12:00:00Z') } },
      ],
    },
    payments: { data: [{ status: 'paid', amount_paid: 2900, payment: { type: 'payment_intent' } }] },
  })
  // The first thing billed binds the customer to its currency.
  expect(since()).toEqual([
    'customer.updated',
    'payment_intent.created',
    'charge.succeeded',
    'payment_intent.succeeded',
    'invoice.created',
    'invoice.finalized',
    'invoice.updated',
    'invoice_payment.paid',
    'invoice.paid',
    'invoice.payment_succeeded',
    'customer.subscription.created',
  ])
})

test('a month later the draft is made at the boundary and paid an hour later', async () => {
  const { stripe, price, customer, advance, mark, since } = await startBillingBench()
  const pro = await price(2900)
  const { id, clock } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  const end = at('2026-02-15T12:00:00Z')
  mark()
  await advance(clock, end)
  expect(since()).toEqual(['invoice.upcoming', 'customer.subscription.updated', 'invoice.created'])
  const rolled = await stripe.subscriptions.retrieve(subscription.id, { expand: ['latest_invoice'] })
  expect(rolled.items.data[0]).toMatchObject({ current_period_start: end, current_period_end: at('2026-03-15T12:00:00Z') })
  expect(rolled.latest_invoice).toMatchObject({
    status: 'draft',
    billing_reason: 'subscription_cycle',
    automatically_finalizes_at: end + 3600,
    period_start: NOW,
    period_end: end,
  })
  mark()
  await advance(clock, end + 3600)
  expect(since()).toEqual([
    'invoice.finalized',
    'payment_intent.created',
    'charge.succeeded',
    'payment_intent.succeeded',
    'invoice.updated',
    'invoice_payment.paid',
    'invoice.paid',
    'invoice.payment_succeeded',
  ])
  expect((await stripe.subscriptions.retrieve(subscription.id)).status).toBe('active')
})

test('a trial begins with an invoice of nothing, is announced three days before its end, and is then billed', async () => {
  const { stripe, price, customer, advance, mark, since } = await startBillingBench()
  const pro = await price(2900)
  const { id, clock } = await customer()
  mark()
  const subscription = await stripe.subscriptions.create({
    customer: id,
    items: [{ price: pro.id }],
    trial_period_days: 14,
    expand: ['latest_invoice'],
  })
  const trialEnd = NOW + 14 * 86_400
  expect(subscription).toMatchObject({ status: 'trialing', trial_end: trialEnd, billing_cycle_anchor: trialEnd })
  expect(subscription.latest_invoice).toMatchObject({
    status: 'paid',
    amount_due: 0,
    lines: { data: [{ description: 'Free trial for 1 × Pro', amount: 0 }] },
  })
  expect(since()).toEqual([
    'customer.updated',
    'invoice.created',
    'invoice.finalized',
    'invoice.updated',
    'invoice.paid',
    'invoice.payment_succeeded',
    'customer.subscription.created',
  ])
  mark()
  await advance(clock, trialEnd - 3 * 86_400)
  expect(since().filter((type) => type !== 'invoice.upcoming')).toEqual(['customer.subscription.trial_will_end'])
  mark()
  await advance(clock, trialEnd)
  expect(since()).toEqual(['customer.subscription.updated', 'invoice.created'])
  await advance(clock, trialEnd + 3600)
  const billed = await stripe.subscriptions.retrieve(subscription.id, { expand: ['latest_invoice'] })
  expect(billed.status).toBe('active')
  expect(billed.latest_invoice).toMatchObject({ status: 'paid', amount_paid: 2900, billing_reason: 'subscription_cycle' })
})

test('a renewal that fails is past due, is tried again, and is active again once the open invoice is paid', async () => {
  const { stripe, price, customer, advance, mark, since } = await startBillingBench()
  const pro = await price(2900)
  const { id, clock } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  const failing = await stripe.paymentMethods.attach('pm_card_chargeCustomerFail', { customer: id })
  await stripe.customers.update(id, { invoice_settings: { default_payment_method: failing.id } })
  const end = at('2026-02-15T12:00:00Z')
  await advance(clock, end)
  mark()
  await advance(clock, end + 3600)
  expect(since()).toEqual([
    'invoice.finalized',
    'payment_intent.created',
    'charge.failed',
    'payment_intent.payment_failed',
    'invoice.payment_failed',
    'invoice.updated',
    'customer.updated',
    'customer.subscription.updated',
  ])
  const late = await stripe.subscriptions.retrieve(subscription.id, { expand: ['latest_invoice'] })
  expect(late.status).toBe('past_due')
  expect(late.latest_invoice).toMatchObject({ status: 'open', attempt_count: 1, next_payment_attempt: end + 3600 + 86_400 })
  await advance(clock, end + 3600 + 86_400)
  expect(await stripe.invoices.retrieve((late.latest_invoice as { id: string }).id)).toMatchObject({ attempt_count: 2 })
  const good = await stripe.paymentMethods.attach('pm_card_visa', { customer: id })
  const paid = await stripe.invoices.pay((late.latest_invoice as { id: string }).id, { payment_method: good.id })
  expect(paid).toMatchObject({ status: 'paid', attempt_count: 2, next_payment_attempt: null })
  expect((await stripe.subscriptions.retrieve(subscription.id)).status).toBe('active')
})

test('after the last try the subscription is canceled for the failed payment', async () => {
  const { stripe, price, customer, advance, events } = await startBillingBench()
  const pro = await price(2900)
  const { id, clock } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  const failing = await stripe.paymentMethods.attach('pm_card_chargeCustomerFail', { customer: id })
  await stripe.customers.update(id, { invoice_settings: { default_payment_method: failing.id } })
  const end = at('2026-02-15T12:00:00Z')
  await advance(clock, end + 3600)
  await advance(clock, end + 16 * 86_400)
  const gone = await stripe.subscriptions.retrieve(subscription.id)
  expect(gone).toMatchObject({ status: 'canceled', cancellation_details: { reason: 'payment_failed' } })
  expect(events().filter((event) => event.type === 'invoice.payment_failed')).toHaveLength(9)
  expect(events().at(-2)?.type).toBe('customer.subscription.deleted')
})

test('an upgrade half-way credits the old price and debits the new one, and its preview says the same', async () => {
  const { stripe, price, customer, advance, mark, since } = await startBillingBench()
  const pro = await price(1000, { name: 'Pro' })
  const team = await price(2000, { name: 'Team' })
  const { id, clock } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  const half = NOW + (at('2026-02-15T12:00:00Z') - NOW) / 2
  await advance(clock, half)
  const item = subscription.items.data[0]?.id ?? ''
  const change = { items: [{ id: item, price: team.id }], proration_behavior: 'always_invoice' as const, proration_date: half }
  const preview = await stripe.invoices.createPreview({
    customer: id,
    subscription: subscription.id,
    subscription_details: change,
  })
  expect(preview.lines.data.map((line) => [line.amount, line.description])).toEqual([
    [-500, 'Unused time on Pro after 31 Jan 2026'],
    [1000, 'Remaining time on Team after 31 Jan 2026'],
  ])
  expect(preview).toMatchObject({ total: 500, amount_due: 500, status: 'draft' })
  expect((await stripe.subscriptions.retrieve(subscription.id)).items.data[0]?.price.id).toBe(pro.id)
  mark()
  const upgraded = await stripe.subscriptions.update(subscription.id, { ...change, expand: ['latest_invoice'] })
  expect(upgraded.items.data[0]).toMatchObject({ id: item, price: { id: team.id } })
  expect(upgraded.latest_invoice).toMatchObject({
    billing_reason: 'subscription_update',
    status: 'paid',
    total: 500,
    amount_paid: 500,
  })
  expect(since().slice(0, 5)).toEqual([
    'customer.subscription.updated',
    'invoiceitem.created',
    'invoiceitem.created',
    'invoice.created',
    'invoice.finalized',
  ])
})

test('a downgrade leaves credit that the renewal uses', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const team = await price(3000, { name: 'Team' })
  const pro = await price(1000, { name: 'Pro' })
  const { id, clock } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: team.id }] })
  const half = NOW + (at('2026-02-15T12:00:00Z') - NOW) / 2
  await advance(clock, half)
  await stripe.subscriptions.update(subscription.id, {
    items: [{ id: subscription.items.data[0]?.id ?? '', price: pro.id }],
    proration_behavior: 'always_invoice',
  })
  expect((await stripe.customers.retrieve(id)) as { balance: number }).toMatchObject({ balance: -1000 })
  await advance(clock, at('2026-02-15T13:00:00Z'))
  const { data } = await stripe.invoices.list({ subscription: subscription.id, limit: 1 })
  expect(data[0]).toMatchObject({ total: 1000, starting_balance: -1000, amount_due: 0, status: 'paid' })
})

test('canceling now ends at once, canceling at the period end waits for it and can be undone', async () => {
  const { stripe, price, customer, advance, mark, since } = await startBillingBench()
  const pro = await price(2900)
  const { id, clock } = await customer()
  const now = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  mark()
  expect(await stripe.subscriptions.cancel(now.id)).toMatchObject({ status: 'canceled', ended_at: NOW, canceled_at: NOW })
  expect(since()).toEqual(['customer.subscription.deleted'])
  const later = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  const end = at('2026-02-15T12:00:00Z')
  const scheduled = await stripe.subscriptions.update(later.id, { cancel_at_period_end: true })
  expect(scheduled).toMatchObject({ status: 'active', cancel_at: end, cancel_at_period_end: true, canceled_at: NOW })
  expect(await stripe.subscriptions.update(later.id, { cancel_at_period_end: false })).toMatchObject({
    cancel_at: null,
    cancel_at_period_end: false,
    canceled_at: null,
  })
  await stripe.subscriptions.update(later.id, { cancel_at_period_end: true })
  mark()
  await advance(clock, end + 7200)
  expect(since()).toEqual(['customer.subscription.deleted'])
  expect(await stripe.subscriptions.retrieve(later.id)).toMatchObject({ status: 'canceled', ended_at: end })
  const { data } = await stripe.invoices.list({ subscription: later.id })
  expect(data).toHaveLength(1)
})

test('an unpaid first invoice keeps a subscription incomplete for 23 hours and is then voided', async () => {
  const { stripe, price, customer, advance, mark, since } = await startBillingBench()
  const pro = await price(2900)
  const { id, clock } = await customer('pm_card_chargeCustomerFail')
  mark()
  const subscription = await stripe.subscriptions.create({
    customer: id,
    items: [{ price: pro.id }],
    payment_behavior: 'default_incomplete',
    expand: ['latest_invoice.confirmation_secret'],
  })
  expect(subscription.status).toBe('incomplete')
  const invoice = subscription.latest_invoice as { id: string; status: string; confirmation_secret: { client_secret: string } }
  expect(invoice.status).toBe('open')
  expect(invoice.confirmation_secret.client_secret).toMatch(/^pi_.*_secret_/)
  expect(since()).toEqual([
    'customer.updated',
    'payment_intent.created',
    'invoice.created',
    'invoice.finalized',
    'customer.subscription.created',
  ])
  await advance(clock, NOW + 23 * 3600)
  expect((await stripe.subscriptions.retrieve(subscription.id)).status).toBe('incomplete_expired')
  expect((await stripe.invoices.retrieve(invoice.id)).status).toBe('void')
})

test('the payment behavior decides what a declined card does to a new subscription', async () => {
  const { stripe, price, customer } = await startBillingBench()
  const pro = await price(2900)
  const { id } = await customer('pm_card_chargeCustomerFail')
  const create = (payment_behavior: 'allow_incomplete' | 'error_if_incomplete') =>
    stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }], payment_behavior })
  expect((await create('allow_incomplete')).status).toBe('incomplete')
  await expect(create('error_if_incomplete')).rejects.toMatchObject({
    statusCode: 402,
    type: 'StripeCardError',
    code: 'card_declined',
  })
  expect((await stripe.subscriptions.list({ customer: id, status: 'all' })).data).toHaveLength(1)
  const without = await customer(null)
  await expect(stripe.subscriptions.create({ customer: without.id, items: [{ price: pro.id }] })).rejects.toMatchObject({
    statusCode: 400,
    code: 'resource_missing',
  })
})
