import type { Stripe } from 'stripe'
import { expect, test } from 'vitest'
import { at, NOW, startBillingBench } from '../../../test/billing.ts'

const END = at('2026-02-15T12:00:00Z')
const balanceOf = async (stripe: Stripe, id: string): Promise<number> =>
  ((await stripe.customers.retrieve(id)) as Stripe.Customer).balance

test('a hand-made invoice takes the pending items, is finalized, and is paid', async () => {
  const { stripe, customer, mark, since } = await startBillingBench()
  const { id } = await customer()
  await stripe.invoiceItems.create({ customer: id, amount: 1500, currency: 'usd', description: 'Set-up' })
  const draft = await stripe.invoices.create({ customer: id, pending_invoice_items_behavior: 'include', description: 'Hello' })
  expect(draft).toMatchObject({
    status: 'draft',
    billing_reason: 'manual',
    auto_advance: false,
    number: null,
    total: 1500,
    lines: { data: [{ description: 'Set-up', amount: 1500, parent: { type: 'invoice_item_details' } }] },
  })
  await stripe.invoiceItems.create({ customer: id, invoice: draft.id, amount: 500, currency: 'usd' })
  expect(await stripe.invoices.retrieve(draft.id)).toMatchObject({ total: 2000 })
  mark()
  const open = await stripe.invoices.finalizeInvoice(draft.id, { expand: ['payments', 'confirmation_secret'] })
  expect(open).toMatchObject({
    status: 'open',
    number: expect.stringMatching(/-0001$/) as string,
    payments: { data: [{ status: 'open', amount_requested: 2000 }] },
    confirmation_secret: { type: 'payment_intent' },
  })
  expect(open.hosted_invoice_url).toContain(open.id)
  expect(since()).toEqual(['invoice.finalized', 'payment_intent.created'])
  expect(await stripe.invoices.pay(open.id)).toMatchObject({
    status: 'paid',
    amount_paid: 2000,
    amount_remaining: 0,
    attempt_count: 1,
  })
  await expect(stripe.invoices.pay(open.id)).rejects.toMatchObject({ statusCode: 400, message: 'Invoice is already paid' })
  await expect(stripe.invoices.finalizeInvoice(open.id)).rejects.toMatchObject({ statusCode: 400, code: 'invoice_not_editable' })
})

test('a customer’s invoices are numbered one after the other, each customer’s by itself, and a number given by hand stays', async () => {
  const { stripe, customer } = await startBillingBench()
  const [one, other] = [await customer(), await customer()]
  const numberOf = async (id: string, number?: string): Promise<string | null> => {
    const draft = await stripe.invoices.create({ customer: id, ...(number === undefined ? {} : { number }) })
    return (await stripe.invoices.finalizeInvoice(draft.id)).number
  }
  const first = await numberOf(one.id)
  const prefix = first?.replace(/-0001$/, '')
  expect([await numberOf(one.id), await numberOf(one.id)]).toEqual([`${prefix}-0002`, `${prefix}-0003`])
  expect(await numberOf(other.id)).toMatch(/-0001$/)
  expect(await numberOf(one.id, 'BY-HAND-7')).toBe('BY-HAND-7')
  expect(await numberOf(one.id)).toBe(`${prefix}-0004`)
})

test('a payment that is declined answers 402 and leaves the failed payment behind', async () => {
  const { stripe, customer } = await startBillingBench()
  const { id } = await customer('pm_card_chargeCustomerFail')
  await stripe.invoiceItems.create({ customer: id, amount: 1500, currency: 'usd' })
  const invoice = await stripe.invoices.create({ customer: id, pending_invoice_items_behavior: 'include' })
  await expect(stripe.invoices.pay(invoice.id)).rejects.toMatchObject({ statusCode: 402, code: 'card_declined' })
  expect(await stripe.invoices.retrieve(invoice.id)).toMatchObject({ status: 'open', attempted: true, attempt_count: 1 })
  expect((await stripe.charges.list({ customer: id })).data[0]).toMatchObject({ status: 'failed' })
})

test('the lines of a draft are added, changed and removed', async () => {
  const { stripe, price, customer } = await startBillingBench()
  const once = await price(700, { recurring: undefined as never })
  const { id } = await customer()
  const draft = await stripe.invoices.create({ customer: id })
  const added = await stripe.invoices.addLines(draft.id, {
    lines: [
      { amount: 300, description: 'Plain' },
      { pricing: { price: once.id }, quantity: 2 },
    ],
  })
  expect(added.lines.data.map((line) => line.amount)).toEqual([300, 1400])
  const [plain, priced] = added.lines.data
  const updated = await stripe.invoices.updateLines(draft.id, { lines: [{ id: priced?.id ?? '', quantity: 3 }] })
  expect(updated).toMatchObject({ total: 2400 })
  expect(await stripe.invoices.updateLineItem(draft.id, plain?.id ?? '', { amount: 400 })).toMatchObject({ amount: 400 })
  const removed = await stripe.invoices.removeLines(draft.id, { lines: [{ id: plain?.id ?? '', behavior: 'delete' }] })
  expect(removed).toMatchObject({ total: 2100 })
  expect((await stripe.invoices.listLineItems(draft.id)).data).toHaveLength(1)
  await stripe.invoices.finalizeInvoice(draft.id)
  await expect(stripe.invoices.addLines(draft.id, { lines: [{ amount: 1 }] })).rejects.toMatchObject({
    code: 'invoice_not_editable',
  })
})

test('voiding gives the customer balance back, keeps what is on the invoice, and lets nobody pay', async () => {
  const { stripe, customer, mark, since } = await startBillingBench()
  const { id } = await customer()
  await stripe.customers.createBalanceTransaction(id, { amount: -600, currency: 'usd' })
  await stripe.invoiceItems.create({ customer: id, amount: 1000, currency: 'usd' })
  const draft = await stripe.invoices.create({ customer: id, pending_invoice_items_behavior: 'include' })
  const open = await stripe.invoices.finalizeInvoice(draft.id)
  expect(open).toMatchObject({ starting_balance: -600, ending_balance: 0, amount_due: 400 })
  expect(await balanceOf(stripe, id)).toBe(0)
  mark()
  expect(await stripe.invoices.voidInvoice(open.id)).toMatchObject({ status: 'void', status_transitions: { voided_at: NOW } })
  expect(since()).toEqual(['payment_intent.canceled', 'invoice.voided', 'customer.updated'])
  expect(await balanceOf(stripe, id)).toBe(-600)
  expect((await stripe.invoiceItems.list({ customer: id, pending: true })).data).toEqual([])
  expect((await stripe.invoiceItems.list({ invoice: open.id })).data).toMatchObject([{ amount: 1000 }])
  await expect(stripe.invoices.pay(open.id)).rejects.toMatchObject({ statusCode: 400 })
})

test('an amount below the minimum is marked paid and waits on the balance', async () => {
  const { stripe, customer } = await startBillingBench()
  const { id } = await customer()
  await stripe.invoiceItems.create({ customer: id, amount: 30, currency: 'usd' })
  const draft = await stripe.invoices.create({ customer: id, pending_invoice_items_behavior: 'include' })
  expect(await stripe.invoices.finalizeInvoice(draft.id)).toMatchObject({
    status: 'paid',
    total: 30,
    amount_due: 0,
    ending_balance: 30,
  })
  await stripe.invoiceItems.create({ customer: id, amount: 100, currency: 'usd' })
  const next = await stripe.invoices.create({ customer: id, pending_invoice_items_behavior: 'include' })
  expect(await stripe.invoices.pay(next.id)).toMatchObject({ total: 100, starting_balance: 30, amount_paid: 130 })
  expect((await stripe.customers.listBalanceTransactions(id)).data.map((entry) => [entry.type, entry.amount])).toEqual([
    ['applied_to_invoice', -30],
    ['invoice_too_small', 30],
  ])
})

test('an uncollectible invoice can still be paid, a deleted draft is gone and its items are pending again', async () => {
  const { stripe, customer } = await startBillingBench()
  const { id } = await customer()
  const item = await stripe.invoiceItems.create({ customer: id, amount: 1000, currency: 'usd' })
  const draft = await stripe.invoices.create({ customer: id, pending_invoice_items_behavior: 'include' })
  expect(await stripe.invoices.del(draft.id)).toMatchObject({ deleted: true })
  await expect(stripe.invoices.retrieve(draft.id)).rejects.toMatchObject({ statusCode: 404 })
  expect((await stripe.invoiceItems.list({ customer: id, pending: true })).data.map((pending) => pending.id)).toEqual([item.id])
  const again = await stripe.invoices.create({ customer: id, pending_invoice_items_behavior: 'include' })
  await stripe.invoices.finalizeInvoice(again.id)
  expect(await stripe.invoices.markUncollectible(again.id)).toMatchObject({ status: 'uncollectible' })
  expect(await stripe.invoices.pay(again.id)).toMatchObject({ status: 'paid' })
})

test('a sent invoice says when it is due, and sending is told', async () => {
  const { stripe, customer, since, mark } = await startBillingBench()
  const { id } = await customer(null)
  await stripe.invoiceItems.create({ customer: id, amount: 1000, currency: 'usd' })
  const draft = await stripe.invoices.create({
    customer: id,
    collection_method: 'send_invoice',
    days_until_due: 30,
    pending_invoice_items_behavior: 'include',
  })
  mark()
  const sent = await stripe.invoices.sendInvoice(draft.id)
  expect(sent).toMatchObject({ status: 'open', due_date: NOW + 30 * 86_400, next_payment_attempt: null })
  expect(since()).toEqual(['invoice.finalized', 'payment_intent.created', 'invoice.sent'])
})

test('a credit note lowers what is open, or pays back what was paid', async () => {
  const { stripe, customer, mark, since } = await startBillingBench()
  const { id } = await customer()
  const make = async (): Promise<Stripe.Invoice> => {
    await stripe.invoiceItems.create({ customer: id, amount: 1000, currency: 'usd', description: 'Work' })
    const draft = await stripe.invoices.create({ customer: id, pending_invoice_items_behavior: 'include' })
    return stripe.invoices.finalizeInvoice(draft.id)
  }
  const open = await make()
  mark()
  const before = await stripe.creditNotes.create({
    invoice: open.id,
    lines: [{ type: 'invoice_line_item', invoice_line_item: open.lines.data[0]?.id ?? '', amount: 400 }],
  })
  expect(before).toMatchObject({
    type: 'pre_payment',
    amount: 400,
    pre_payment_amount: 400,
    number: `${open.number ?? ''}-CN-01`,
  })
  expect(since()).toEqual(['invoice.updated', 'credit_note.created'])
  const lowered = await stripe.invoices.pay(open.id)
  expect(lowered).toMatchObject({
    total: 1000,
    amount_due: 600,
    amount_paid: 600,
    pre_payment_credit_notes_amount: 400,
    status: 'paid',
  })
  const preview = await stripe.creditNotes.preview({ invoice: open.id, amount: 300, credit_amount: 100, refund_amount: 200 })
  const after = await stripe.creditNotes.create({ invoice: open.id, amount: 300, credit_amount: 100, refund_amount: 200 })
  expect(preview.amount).toBe(after.amount)
  expect(after).toMatchObject({ type: 'post_payment', post_payment_amount: 300, refunds: [{ amount_refunded: 200 }] })
  expect(await balanceOf(stripe, id)).toBe(-100)
  expect((await stripe.refunds.list()).data.map((refund) => refund.amount)).toEqual([200])
  await expect(stripe.creditNotes.create({ invoice: open.id, amount: 500, credit_amount: 500 })).rejects.toMatchObject({
    statusCode: 400,
  })
  await expect(stripe.creditNotes.create({ invoice: open.id, amount: 100 })).rejects.toMatchObject({ param: 'credit_amount' })
  const next = await make()
  const whole = await stripe.creditNotes.create({ invoice: next.id, amount: 1000 - 100 })
  expect(await stripe.creditNotes.voidCreditNote(whole.id).catch((error: unknown) => error)).toMatchObject({ statusCode: 400 })
  expect((await stripe.creditNotes.list({ invoice: open.id })).data).toHaveLength(2)
})

test('a voided credit note lets the invoice owe its amount again', async () => {
  const { stripe, customer } = await startBillingBench()
  const { id } = await customer()
  await stripe.invoiceItems.create({ customer: id, amount: 1000, currency: 'usd' })
  const draft = await stripe.invoices.create({ customer: id, pending_invoice_items_behavior: 'include' })
  const open = await stripe.invoices.finalizeInvoice(draft.id)
  const note = await stripe.creditNotes.create({ invoice: open.id, amount: 400 })
  expect(await stripe.creditNotes.voidCreditNote(note.id)).toMatchObject({ status: 'void', voided_at: NOW })
  expect(await stripe.invoices.pay(open.id)).toMatchObject({ amount_paid: 1000, pre_payment_credit_notes_amount: 0 })
})

test('a payment intent made elsewhere can pay an invoice', async () => {
  const { stripe, customer } = await startBillingBench()
  const { id, card } = await customer()
  await stripe.invoiceItems.create({ customer: id, amount: 1000, currency: 'usd' })
  const draft = await stripe.invoices.create({ customer: id, pending_invoice_items_behavior: 'include' })
  const open = await stripe.invoices.finalizeInvoice(draft.id)
  const intent = await stripe.paymentIntents.create({
    amount: 1000,
    currency: 'usd',
    customer: id,
    payment_method: card ?? '',
    confirm: true,
    off_session: true,
  })
  const paid = await stripe.invoices.attachPayment(open.id, { payment_intent: intent.id, expand: ['payments'] })
  expect(paid).toMatchObject({ status: 'paid', amount_paid: 1000, amount_remaining: 0 })
  expect((await stripe.invoicePayments.list({ invoice: open.id, status: 'paid' })).data).toMatchObject([
    { amount_paid: 1000, payment: { payment_intent: intent.id } },
  ])
})

test('tax rates of lines and of the subscription are on the invoice', async () => {
  const { stripe, price, customer } = await startBillingBench()
  const pro = await price(1000)
  const vat = await stripe.taxRates.create({ display_name: 'VAT', percentage: 20, inclusive: false })
  const { id } = await customer()
  const subscription = await stripe.subscriptions.create({
    customer: id,
    items: [{ price: pro.id }],
    default_tax_rates: [vat.id],
    expand: ['latest_invoice'],
  })
  expect(subscription.default_tax_rates?.map((rate) => rate.id)).toEqual([vat.id])
  expect(subscription.latest_invoice).toMatchObject({
    subtotal: 1000,
    total: 1200,
    total_excluding_tax: 1000,
    total_taxes: [{ amount: 200, taxable_amount: 1000, tax_rate_details: { tax_rate: vat.id } }],
  })
})

test('what was used is billed at the end of the period, credits pay for it first', async () => {
  const { stripe, customer, advance, sandbox } = await startBillingBench()
  const meter = await stripe.billing.meters.create({
    display_name: 'Calls',
    event_name: 'calls',
    default_aggregation: { formula: 'sum' },
  })
  const product = await stripe.products.create({ name: 'API calls' })
  const metered = await stripe.prices.create({
    currency: 'usd',
    product: product.id,
    billing_scheme: 'per_unit',
    unit_amount_decimal: '0.5',
    recurring: { interval: 'month', usage_type: 'metered', meter: meter.id },
  } as never)
  const { id, clock } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: metered.id }] })
  expect(subscription).toMatchObject({ status: 'active', latest_invoice: null })
  expect(subscription.items.data[0]?.quantity).toBeUndefined()
  await stripe.billing.creditGrants.create({
    customer: id,
    name: 'Welcome',
    category: 'promotional',
    amount: { type: 'monetary', monetary: { currency: 'usd', value: 200 } },
    applicability_config: { scope: { price_type: 'metered' } },
  })
  await stripe.billing.meterEvents.create({
    event_name: 'calls',
    payload: { stripe_customer_id: id, value: '2001' },
    timestamp: NOW,
  })
  await advance(clock, END + 3600)
  const [invoice] = (await stripe.invoices.list({ subscription: subscription.id })).data
  expect(invoice).toMatchObject({
    status: 'paid',
    subtotal: 1001,
    total: 801,
    amount_paid: 801,
    lines: {
      data: [
        { amount: 1001, quantity: 2001, description: '2001 × API calls (at $0.005 / month)', period: { start: NOW, end: END } },
      ],
    },
  })
  expect(invoice?.total_pretax_credit_amounts).toMatchObject([{ amount: 200, type: 'credit_balance_transaction' }])
  expect(sandbox.all('billing.credit_grant')[0]?._.remaining).toBe(0)
})

test('graduated tiers show a line each, at the documented sum', async () => {
  const { stripe, price, customer } = await startBillingBench()
  const tiered = await price(0, {
    billing_scheme: 'tiered',
    tiers_mode: 'graduated',
    tiers: [
      { up_to: 5, unit_amount: 500, flat_amount: 1000 },
      { up_to: 10, unit_amount: 400, flat_amount: 2000 },
      { up_to: 'inf', unit_amount: 300, flat_amount: 3000 },
    ],
  })
  const { id } = await customer()
  const subscription = await stripe.subscriptions.create({
    customer: id,
    items: [{ price: tiered.id, quantity: 12 }],
    expand: ['latest_invoice'],
  })
  const invoice = subscription.latest_invoice as Stripe.Invoice
  expect(invoice.total).toBe(11_100)
  expect(invoice.lines.data.map((line) => line.amount)).toEqual([2500, 1000, 2000, 2000, 600, 3000])
})

test('invoices and subscriptions are found by searching', async () => {
  const { stripe, price, customer } = await startBillingBench()
  const pro = await price(1000)
  const { id } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }], metadata: { team: 'red' } })
  expect(
    (await stripe.subscriptions.search({ query: "status:'active' AND metadata['team']:'red'" })).data.map((found) => found.id),
  ).toEqual([subscription.id])
  expect((await stripe.invoices.search({ query: `subscription:'${subscription.id}' AND total>500` })).data).toHaveLength(1)
  expect((await stripe.subscriptions.list({ status: 'all', customer: id })).data).toHaveLength(1)
})

test('previews name no invoice and change nothing', async () => {
  const { stripe, price, customer, sandbox } = await startBillingBench()
  const pro = await price(1000)
  const coupon = await stripe.coupons.create({ percent_off: 10, duration: 'once' })
  const { id } = await customer()
  const first = await stripe.invoices.createPreview({
    customer: id,
    subscription_details: { items: [{ price: pro.id, quantity: 2 }] },
    discounts: [{ coupon: coupon.id }],
  })
  expect(first).toMatchObject({ status: 'draft', total: 1800, id: expect.stringMatching(/^upcoming_in_/) as string })
  await expect(stripe.invoices.createPreview({ customer: id })).rejects.toMatchObject({ code: 'invoice_upcoming_none' })
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  const events = sandbox.all('event').length
  const cancel = await stripe.invoices.createPreview({
    subscription: subscription.id,
    subscription_details: { cancel_now: true },
  })
  expect(cancel).toMatchObject({ total: -1000, amount_due: 0 })
  expect(sandbox.all('event')).toHaveLength(events)
  expect(sandbox.all('invoiceitem')).toEqual([])
  expect(await stripe.coupons.retrieve(coupon.id)).toMatchObject({ times_redeemed: 0 })
})
