import type { Stripe } from 'stripe'
import { expect, test } from 'vitest'
import { at, NOW, startBillingBench } from '../../../test/billing.ts'

const END = at('2026-02-15T12:00:00Z')
const HALF = NOW + (END - NOW) / 2

const itemOf = (subscription: Stripe.Subscription, index = 0): Stripe.SubscriptionItem => {
  const item = subscription.items.data[index]
  if (item === undefined) throw new Error('no such item')
  return item
}

const linesOf = (invoice: Stripe.Invoice): Array<[number, string | null]> =>
  invoice.lines.data.map((line) => [line.amount, line.description])

test('create_prorations waits for the renewal, whose preview and invoice agree', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const [pro, team] = [await price(1000, { name: 'Pro' }), await price(2000, { name: 'Team' })]
  const { id, clock } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  await advance(clock, HALF)
  await stripe.subscriptions.update(subscription.id, { items: [{ id: itemOf(subscription).id, price: team.id }] })
  expect((await stripe.invoices.list({ subscription: subscription.id })).data).toHaveLength(1)
  expect(
    (await stripe.invoiceItems.list({ customer: id, pending: true })).data.map((item) => [item.amount, item.proration]),
  ).toEqual([
    [1000, true],
    [-500, true],
  ])
  const preview = await stripe.invoices.createPreview({ subscription: subscription.id })
  expect(linesOf(preview)).toEqual([
    [-500, 'Unused time on Pro after 31 Jan 2026'],
    [1000, 'Remaining time on Team after 31 Jan 2026'],
    [2000, '1 × Team (at $20.00 / month)'],
  ])
  await advance(clock, END + 3600)
  const [renewal] = (await stripe.invoices.list({ subscription: subscription.id, limit: 1 })).data
  expect(renewal && linesOf(renewal)).toEqual(linesOf(preview))
  expect(renewal).toMatchObject({ total: 2500, status: 'paid' })
})

test('none changes the price without any proration', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const [pro, team] = [await price(1000), await price(2000)]
  const { id, clock } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  await advance(clock, HALF)
  await stripe.subscriptions.update(subscription.id, {
    items: [{ id: itemOf(subscription).id, price: team.id }],
    proration_behavior: 'none',
  })
  expect((await stripe.invoiceItems.list({ customer: id })).data).toEqual([])
})

test('flexible mode credits what was debited, classic mode the current price', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const [three, five] = [await price(300), await price(500)]
  const credits: number[] = []
  for (const type of ['flexible', 'classic'] as const) {
    const { id, clock } = await customer()
    const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: three.id }], billing_mode: { type } })
    await stripe.subscriptions.update(subscription.id, {
      items: [{ id: itemOf(subscription).id, price: five.id }],
      proration_behavior: 'none',
    })
    await advance(clock, NOW + (END - NOW) / 6 - (((END - NOW) / 6) % 1))
    await stripe.subscriptions.cancel(subscription.id, { prorate: true })
    const [credit] = (await stripe.invoiceItems.list({ customer: id, pending: true })).data
    credits.push(credit?.amount ?? 0)
  }
  expect(credits).toEqual([-250, -417])
})

test('a quantity of seats is prorated, and a swapped price without quantity starts at one', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const [seat, other] = [await price(1000, { name: 'Seat' }), await price(700, { name: 'Other' })]
  const { id, clock } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: seat.id, quantity: 3 }] })
  await advance(clock, HALF)
  const more = await stripe.subscriptions.update(subscription.id, {
    items: [{ id: itemOf(subscription).id, quantity: 5 }],
    proration_behavior: 'always_invoice',
    expand: ['latest_invoice'],
  })
  expect(linesOf(more.latest_invoice as Stripe.Invoice)).toEqual([
    [-1500, 'Unused time on 3 × Seat after 31 Jan 2026'],
    [2500, 'Remaining time on 5 × Seat after 31 Jan 2026'],
  ])
  const swapped = await stripe.subscriptions.update(subscription.id, {
    items: [{ id: itemOf(subscription).id, price: other.id }],
  })
  expect(itemOf(swapped).quantity).toBe(1)
})

test('items are added, changed and removed one by one', async () => {
  const { stripe, price, customer, mark, since } = await startBillingBench()
  const [pro, extra] = [await price(1000), await price(500, { name: 'Extra' })]
  const { id } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  mark()
  const added = await stripe.subscriptionItems.create({ subscription: subscription.id, price: extra.id, quantity: 2 })
  expect(added).toMatchObject({ quantity: 2, current_period_start: NOW, current_period_end: END, subscription: subscription.id })
  expect(since()).toEqual(['customer.subscription.updated', 'invoiceitem.created'])
  expect(await stripe.subscriptionItems.update(added.id, { metadata: { seat: 'a' }, quantity: 3 })).toMatchObject({ quantity: 3 })
  expect((await stripe.subscriptionItems.list({ subscription: subscription.id })).data.map((item) => item.id)).toEqual([
    itemOf(subscription).id,
    added.id,
  ])
  expect(await stripe.subscriptionItems.del(added.id)).toMatchObject({ id: added.id, deleted: true })
  await expect(stripe.subscriptionItems.del(itemOf(subscription).id)).rejects.toMatchObject({ statusCode: 400, param: 'items' })
  await expect(stripe.subscriptionItems.retrieve(added.id)).rejects.toMatchObject({ statusCode: 404, code: 'resource_missing' })
})

test('resetting the anchor bills a whole period now and credits the rest of the old one', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const pro = await price(1000)
  const { id, clock } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  await advance(clock, HALF)
  const reset = await stripe.subscriptions.update(subscription.id, {
    billing_cycle_anchor: { type: 'now' },
    expand: ['latest_invoice'],
  })
  expect(itemOf(reset)).toMatchObject({ current_period_start: HALF, current_period_end: at('2026-02-28T00:00:00Z') })
  expect(linesOf(reset.latest_invoice as Stripe.Invoice).map(([amount]) => amount)).toEqual([-500, 1000])
  expect(reset.latest_invoice).toMatchObject({ status: 'paid', total: 500 })
})

test('a change that is only made when it is paid waits, and is made by the payment', async () => {
  const { stripe, price, customer, mark, since } = await startBillingBench()
  const [pro, team] = [await price(1000), await price(5000)]
  const { id } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  const failing = await stripe.paymentMethods.attach('pm_card_chargeCustomerFail', { customer: id })
  await stripe.subscriptions.update(subscription.id, { default_payment_method: failing.id })
  mark()
  const waiting = await stripe.subscriptions.update(subscription.id, {
    items: [{ id: itemOf(subscription).id, price: team.id }],
    proration_behavior: 'always_invoice',
    payment_behavior: 'pending_if_incomplete',
  })
  expect(itemOf(waiting).price.id).toBe(pro.id)
  expect(waiting).toMatchObject({ status: 'active', pending_update: { subscription_items: [{ price: { id: team.id } }] } })
  // What is only wished for puts nobody in arrears.
  await expect(stripe.invoices.pay(waiting.latest_invoice as string)).rejects.toMatchObject({ code: 'card_declined' })
  expect((await stripe.subscriptions.retrieve(subscription.id)).status).toBe('active')
  const good = await stripe.paymentMethods.attach('pm_card_visa', { customer: id })
  await stripe.invoices.pay(waiting.latest_invoice as string, { payment_method: good.id })
  const made = await stripe.subscriptions.retrieve(subscription.id)
  expect(itemOf(made).price.id).toBe(team.id)
  expect(made.pending_update).toBeNull()
  expect(since()).toContain('customer.subscription.pending_update_applied')
})

test('a change that waits for its payment takes a cancellation back when it is made, and not when it is dropped', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const [pro, team] = [await price(1000), await price(5000)]
  const { id, clock } = await customer()
  const { id: subscriptionId } = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  const failing = await stripe.paymentMethods.attach('pm_card_chargeCustomerFail', { customer: id })
  const ending = await stripe.subscriptions.update(subscriptionId, {
    default_payment_method: failing.id,
    cancel_at_period_end: true,
  })
  const { cancel_at, canceled_at, cancellation_details } = ending
  const change = () =>
    stripe.subscriptions.update(subscriptionId, {
      items: [{ id: itemOf(ending).id, price: team.id }],
      cancel_at_period_end: false,
      proration_behavior: 'always_invoice',
      payment_behavior: 'pending_if_incomplete',
    })
  const asBefore = { cancel_at_period_end: true, cancel_at, canceled_at, cancellation_details }
  expect(await change()).toMatchObject({ ...asBefore, pending_update: { cancel_at_period_end: false } })
  await advance(clock, NOW + 23 * 3600)
  expect(await stripe.subscriptions.retrieve(subscriptionId)).toMatchObject({ ...asBefore, pending_update: null })
  const good = await stripe.paymentMethods.attach('pm_card_visa', { customer: id })
  await stripe.invoices.pay((await change()).latest_invoice as string, { payment_method: good.id })
  const made = await stripe.subscriptions.retrieve(subscriptionId)
  expect(made).toMatchObject({ cancel_at_period_end: false, cancel_at: null, canceled_at: null, pending_update: null })
  expect(itemOf(made).price.id).toBe(team.id)
})

test('a change that is not paid in time is dropped, and its invoice voided', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const [pro, team] = [await price(1000), await price(5000)]
  const { id, clock } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  const failing = await stripe.paymentMethods.attach('pm_card_chargeCustomerFail', { customer: id })
  await stripe.subscriptions.update(subscription.id, { default_payment_method: failing.id })
  const waiting = await stripe.subscriptions.update(subscription.id, {
    items: [{ id: itemOf(subscription).id, price: team.id }],
    proration_behavior: 'always_invoice',
    payment_behavior: 'pending_if_incomplete',
  })
  await advance(clock, NOW + 23 * 3600)
  expect((await stripe.subscriptions.retrieve(subscription.id)).pending_update).toBeNull()
  expect((await stripe.invoices.retrieve(waiting.latest_invoice as string)).status).toBe('void')
})

test('the first period up to a future anchor is prorated, and a configured day keeps month ends', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const pro = await price(3100)
  const { id, clock } = await customer()
  const anchored = await stripe.subscriptions.create({
    customer: id,
    items: [{ price: pro.id }],
    billing_cycle_anchor: at('2026-02-01T00:00:00Z'),
    expand: ['latest_invoice'],
  })
  expect(itemOf(anchored)).toMatchObject({ current_period_start: NOW, current_period_end: at('2026-02-01T00:00:00Z') })
  expect(anchored.latest_invoice).toMatchObject({ total: 1650 })
  await stripe.subscriptions.cancel(anchored.id)
  const monthEnd = await stripe.subscriptions.create({
    customer: id,
    items: [{ price: pro.id }],
    billing_cycle_anchor_config: { day_of_month: 31, hour: 0 },
  })
  expect(itemOf(monthEnd).current_period_end).toBe(at('2026-01-31T00:00:00Z'))
  await advance(clock, at('2026-01-31T01:00:00Z'))
  await advance(clock, at('2026-02-28T01:00:00Z'))
  expect(itemOf(await stripe.subscriptions.retrieve(monthEnd.id)).current_period_end).toBe(at('2026-03-31T00:00:00Z'))
  await expect(
    stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }], billing_cycle_anchor: at('2026-09-01T00:00:00Z') }),
  ).rejects.toMatchObject({ statusCode: 400, param: 'billing_cycle_anchor' })
})

test('a backdated start bills the time since then with the first period', async () => {
  const { stripe, price, customer } = await startBillingBench()
  const pro = await price(3100)
  const { id } = await customer()
  const subscription = await stripe.subscriptions.create({
    customer: id,
    items: [{ price: pro.id }],
    backdate_start_date: at('2025-12-15T12:00:00Z'),
    expand: ['latest_invoice'],
  })
  expect(subscription.start_date).toBe(at('2025-12-15T12:00:00Z'))
  expect(linesOf(subscription.latest_invoice as Stripe.Invoice).map(([amount]) => amount)).toEqual([3100, 3100])
})

test('a monthly price becomes yearly: classic mode starts a new year now, flexible mode keeps the anchor', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const monthly = await price(1000)
  const yearly = await price(10_000, { recurring: { interval: 'year' } })
  const outcomes: Record<string, unknown> = {}
  for (const type of ['classic', 'flexible'] as const) {
    const { id, clock } = await customer()
    const subscription = await stripe.subscriptions.create({
      customer: id,
      items: [{ price: monthly.id }],
      billing_mode: { type },
    })
    await advance(clock, HALF)
    const changed = await stripe.subscriptions.update(subscription.id, {
      items: [{ id: itemOf(subscription).id, price: yearly.id }],
      expand: ['latest_invoice'],
    })
    const invoice = changed.latest_invoice as Stripe.Invoice
    outcomes[type] = [itemOf(changed).current_period_end, invoice.lines.data.map((line) => line.amount), invoice.status]
  }
  const whole = at('2027-01-15T12:00:00Z') - NOW
  const rest = Math.round((10_000 * (at('2027-01-15T12:00:00Z') - HALF)) / whole)
  expect(outcomes).toEqual({
    classic: [at('2027-01-31T00:00:00Z'), [-500, 10_000], 'paid'],
    flexible: [at('2027-01-15T12:00:00Z'), [-500, rest], 'paid'],
  })
})

test('items of different intervals are billed by themselves in flexible mode and refused in classic mode', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const monthly = await price(1000)
  const quarterly = await price(5000, { recurring: { interval: 'month', interval_count: 3 } })
  const { id, clock } = await customer()
  const items = [{ price: monthly.id }, { price: quarterly.id }]
  await expect(stripe.subscriptions.create({ customer: id, items, billing_mode: { type: 'classic' } })).rejects.toMatchObject({
    param: 'items',
  })
  const subscription = await stripe.subscriptions.create({ customer: id, items, expand: ['latest_invoice'] })
  expect(subscription.latest_invoice).toMatchObject({ total: 6000 })
  await advance(clock, END + 3600)
  const [renewal] = (await stripe.invoices.list({ subscription: subscription.id, limit: 1 })).data
  expect(renewal).toMatchObject({ total: 1000 })
  const rolled = await stripe.subscriptions.retrieve(subscription.id)
  expect(rolled.items.data.map((item) => item.current_period_end)).toEqual([
    at('2026-03-15T12:00:00Z'),
    at('2026-04-15T12:00:00Z'),
  ])
})

test('a date to cancel at within the period credits what follows it, and is billed back when it is taken away', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const pro = await price(1000)
  const { id, clock } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  await stripe.subscriptions.update(subscription.id, { cancel_at: HALF })
  await stripe.subscriptions.update(subscription.id, { cancel_at: '' })
  await stripe.subscriptions.update(subscription.id, { cancel_at: HALF })
  const items = (await stripe.invoiceItems.list({ customer: id, pending: true })).data.map((item) => item.amount)
  expect(items).toEqual([-500, 500, -500])
  await advance(clock, HALF)
  expect(await stripe.subscriptions.retrieve(subscription.id)).toMatchObject({ status: 'canceled', ended_at: HALF })
  expect((await stripe.customers.retrieve(id)) as Stripe.Customer).toMatchObject({ balance: -500 })
})

test('a credit names the line that it takes back, also when that was a proration', async () => {
  const { stripe, price, customer } = await startBillingBench()
  const seat = await price(1000)
  const { id } = await customer()
  const subscription = await stripe.subscriptions.create({
    customer: id,
    items: [{ price: seat.id }],
    expand: ['latest_invoice'],
  })
  const change = async (quantity: number): Promise<Stripe.Invoice> => {
    const updated = await stripe.subscriptions.update(subscription.id, {
      items: [{ id: itemOf(subscription).id, quantity }],
      proration_behavior: 'always_invoice',
      expand: ['latest_invoice'],
    })
    return updated.latest_invoice as Stripe.Invoice
  }
  const first = subscription.latest_invoice as Stripe.Invoice
  const second = await change(3)
  const third = await change(2)
  const credited = (invoice: Stripe.Invoice): unknown =>
    invoice.lines.data[0]?.parent?.subscription_item_details?.proration_details?.credited_items
  expect(credited(second)).toEqual({ invoice: first.id, invoice_line_items: [first.lines.data[0]?.id] })
  expect(credited(third)).toEqual({ invoice: second.id, invoice_line_items: [second.lines.data[1]?.id] })
  expect(third.total).toBe(-1000)
})

test('a price with several currencies is billed in the one asked for, and the customer keeps it', async () => {
  const { stripe, price, customer } = await startBillingBench()
  const pro = await price(2900, { currency_options: { eur: { unit_amount: 2700 }, jpy: { unit_amount: 4000 } } })
  const other = await price(1000)
  const { id } = await customer()
  const subscription = await stripe.subscriptions.create({
    customer: id,
    items: [{ price: pro.id }],
    currency: 'eur',
    expand: ['latest_invoice'],
  })
  expect(subscription).toMatchObject({ currency: 'eur', latest_invoice: { currency: 'eur', total: 2700 } })
  expect((subscription.latest_invoice as Stripe.Invoice).lines.data[0]?.description).toBe('1 × Pro (at €27.00 / month)')
  await expect(stripe.subscriptions.create({ customer: id, items: [{ price: other.id }] })).rejects.toMatchObject({
    statusCode: 400,
  })
})

test('what is not understood is refused by name', async () => {
  const { stripe, price, customer } = await startBillingBench()
  const pro = await price(1000)
  const { id } = await customer()
  const create = (more: Partial<Stripe.SubscriptionCreateParams>) =>
    stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }], ...more })
  await expect(create({ on_behalf_of: 'acct_1' })).rejects.toMatchObject({ statusCode: 400, param: 'on_behalf_of' })
  await expect(
    create({ billing_mode: { type: 'flexible', flexible: { proration_discounts: 'itemized' } } }),
  ).rejects.toMatchObject({
    statusCode: 400,
    message: '`proration_discounts=itemized` is not supported by this sandbox.',
  })
  await expect(create({ payment_behavior: 'pending_if_incomplete' })).rejects.toMatchObject({ param: 'payment_behavior' })
  await expect(create({ items: [] })).rejects.toMatchObject({ statusCode: 400 })
  await expect(create({ trial_end: NOW - 5 })).rejects.toMatchObject({ param: 'trial_end' })
  expect((await stripe.subscriptions.list({ customer: id, status: 'all' })).data).toEqual([])
})
