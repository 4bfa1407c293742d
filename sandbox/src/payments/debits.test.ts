import type { Stripe } from 'stripe'
import { describe, expect, it } from 'vitest'
import { NOW, startTestSandbox, type TestSandbox } from '../../test/contract.ts'
import { idOf } from '../../test/ids.ts'
import { openPage } from '../../test/pages.ts'
import { refusal } from '../../test/refusal.ts'
import { debitAnsweredAfterSeconds } from './inferred.ts'

const ANSWERED = NOW + debitAnsweredAfterSeconds
const byBank = { amount: 1_000, currency: 'usd', automatic_payment_methods: { allow_redirects: 'never', enabled: true } } as const

async function customerWith({ stripe }: TestSandbox, account: string): Promise<{ customer: string; account: string }> {
  const { id: customer } = await stripe.customers.create({})
  const { id } = await stripe.paymentMethods.attach(account, { customer })
  await stripe.customers.update(customer, { invoice_settings: { default_payment_method: id } })
  return { customer, account: id }
}

const chargeOf = async (stripe: Stripe, intent: string): Promise<Stripe.Charge> => {
  const { latest_charge: charge } = await stripe.paymentIntents.retrieve(intent, { expand: ['latest_charge'] })
  return charge as Stripe.Charge
}

it('a bank account is named by its bank, in the portal and on the receipt of what it has paid', async () => {
  const test = await startTestSandbox()
  const { sandbox, stripe } = test
  const { customer, account } = await customerWith(test, 'pm_usBankAccount_success')
  const portal = await stripe.billingPortal.sessions.create({ customer })
  const home = await openPage(portal.url)
  expect(home.text).toContain('STRIPE TEST BANK ending in 6789 default')
  expect(home.text).not.toContain('expires')
  const terms = { ...byBank, confirm: true, customer, payment_method: account, off_session: true } as const
  const charge = await chargeOf(stripe, (await stripe.paymentIntents.create(terms)).id)
  sandbox.advanceTo(ANSWERED)
  expect((await openPage(charge.receipt_url ?? '')).text).toContain('STRIPE TEST BANK ending in 6789')
})

describe('a debit of a bank account', () => {
  it('is under way until the bank answers, and then paid', async () => {
    const { eventTypes, sandbox, stripe } = await startTestSandbox()
    const terms = { ...byBank, confirm: true, payment_method: 'pm_usBankAccount_success' }
    const intent = await stripe.paymentIntents.create(terms)
    expect(intent).toMatchObject({ amount_received: 0, last_payment_error: null, status: 'processing' })
    const pending = await chargeOf(stripe, intent.id)
    expect(pending).toMatchObject({
      amount: 1_000,
      balance_transaction: null,
      failure_code: null,
      payment_method_details: { type: 'us_bank_account', us_bank_account: { last4: '6789', routing_number: '110000000' } },
      status: 'pending',
    })
    expect(pending.id).toMatch(/^py_/)
    expect(eventTypes()).toEqual(['payment_intent.created', 'charge.pending', 'payment_intent.processing'])

    sandbox.advanceTo(ANSWERED - 1)
    expect((await chargeOf(stripe, intent.id)).status).toBe('pending')
    sandbox.advanceTo(ANSWERED)
    const paid = await stripe.paymentIntents.retrieve(intent.id, { expand: ['latest_charge.balance_transaction'] })
    expect(paid).toMatchObject({ amount_received: 1_000, status: 'succeeded' })
    const transaction = { amount: 1_000, type: 'charge' }
    expect(paid.latest_charge).toMatchObject({
      id: pending.id,
      paid: true,
      status: 'succeeded',
      balance_transaction: transaction,
    })
    expect(eventTypes(3)).toEqual(['charge.succeeded', 'payment_intent.succeeded'])
  })

  it.each([
    ['pm_usBankAccount_accountClosed', 'account_closed'],
    ['pm_usBankAccount_noAccount', 'no_account'],
    ['pm_usBankAccount_insufficientFunds', 'insufficient_funds'],
    ['pm_usBankAccount_debitNotAuthorized', 'debit_not_authorized'],
  ])('of %s fails when the bank answers', async (account, code) => {
    const { eventTypes, sandbox, stripe } = await startTestSandbox()
    const intent = await stripe.paymentIntents.create({ ...byBank, confirm: true, payment_method: account })
    expect(intent.status).toBe('processing')
    sandbox.advanceTo(ANSWERED)
    const failed = await stripe.paymentIntents.retrieve(intent.id)
    expect(failed).toMatchObject({ last_payment_error: { code }, payment_method: null, status: 'requires_payment_method' })
    expect(await chargeOf(stripe, intent.id)).toMatchObject({ failure_code: code, paid: false, status: 'failed' })
    expect(eventTypes(3)).toEqual(['charge.failed', 'payment_intent.payment_failed'])
  })

  it('that is never answered can be called off, and cannot be confirmed again', async () => {
    const { eventTypes, sandbox, stripe } = await startTestSandbox()
    const terms = { ...byBank, confirm: true, payment_method: 'pm_usBankAccount_processing' }
    const { id } = await stripe.paymentIntents.create(terms)
    sandbox.advanceTo(NOW + 30 * 86_400)
    expect((await stripe.paymentIntents.retrieve(id)).status).toBe('processing')
    expect((await refusal(stripe.paymentIntents.confirm(id))).code).toBe('payment_intent_unexpected_state')
    expect((await stripe.paymentIntents.cancel(id)).status).toBe('canceled')
    expect((await chargeOf(stripe, id)).status).toBe('failed')
    expect(eventTypes(3)).toEqual(['charge.failed', 'payment_intent.canceled'])
  })

  it('cannot be refunded while it is under way, and can when it is paid', async () => {
    const { sandbox, stripe } = await startTestSandbox()
    const terms = { ...byBank, confirm: true, payment_method: 'pm_usBankAccount_success' }
    const { id } = await stripe.paymentIntents.create(terms)
    await refusal(stripe.refunds.create({ payment_intent: id }))
    sandbox.advanceTo(ANSWERED)
    expect(await stripe.refunds.create({ payment_intent: id })).toMatchObject({ amount: 1_000, status: 'succeeded' })
  })

  it('is not taken as the source of a charge without an intent', async () => {
    const { stripe } = await startTestSandbox()
    const error = await refusal(stripe.charges.create({ amount: 1_000, currency: 'usd', source: 'pm_usBankAccount_success' }))
    expect(error.param).toBe('source')
  })
})

describe('an invoice that is paid by debit', () => {
  async function owed(sandbox: TestSandbox, account: string): Promise<Stripe.Invoice> {
    const { customer } = await customerWith(sandbox, account)
    const invoice = await sandbox.stripe.invoices.create({ customer, auto_advance: false })
    await sandbox.stripe.invoiceItems.create({ customer, invoice: invoice.id, amount: 4_000, currency: 'usd' })
    return sandbox.stripe.invoices.pay(invoice.id)
  }

  it('is open and tried until it is paid', async () => {
    const running = await startTestSandbox()
    const { eventTypes, sandbox, stripe } = running
    const invoice = await owed(running, 'pm_usBankAccount_success')
    expect(invoice).toMatchObject({ amount_remaining: 4_000, attempt_count: 1, attempted: true, status: 'open' })
    expect(eventTypes()).toContain('payment_intent.processing')
    expect(eventTypes()).not.toContain('invoice.payment_failed')
    const since = eventTypes().length
    sandbox.advanceTo(ANSWERED)
    expect(await stripe.invoices.retrieve(invoice.id)).toMatchObject({ amount_remaining: 0, status: 'paid' })
    expect(eventTypes(since)).toEqual([
      'charge.succeeded',
      'payment_intent.succeeded',
      'invoice.updated',
      'invoice_payment.paid',
      'invoice.paid',
      'invoice.payment_succeeded',
    ])
  })

  it('has failed when the bank refuses', async () => {
    const running = await startTestSandbox()
    const { eventTypes, sandbox, stripe } = running
    const invoice = await owed(running, 'pm_usBankAccount_debitNotAuthorized')
    const since = eventTypes().length
    sandbox.advanceTo(ANSWERED)
    expect(await stripe.invoices.retrieve(invoice.id)).toMatchObject({ attempt_count: 1, attempted: true, status: 'open' })
    const failed = ['charge.failed', 'payment_intent.payment_failed', 'invoice.payment_failed', 'customer.updated']
    expect(eventTypes(since)).toEqual(failed)
  })
})

describe('a subscription that is paid by debit', () => {
  async function subscribed(sandbox: TestSandbox, account: string): Promise<Stripe.Subscription> {
    const { customer } = await customerWith(sandbox, account)
    const { stripe } = sandbox
    const { id: product } = await stripe.products.create({ name: 'Pro' })
    const terms = { currency: 'usd', unit_amount: 2_900, recurring: { interval: 'month' as const }, product }
    const { id: price } = await stripe.prices.create(terms)
    return stripe.subscriptions.create({ customer, items: [{ price }] })
  }

  it('is active while its first payment is under way', async () => {
    const running = await startTestSandbox()
    const { sandbox, stripe } = running
    const { id, latest_invoice: invoice, status } = await subscribed(running, 'pm_usBankAccount_success')
    expect([status, (await stripe.invoices.retrieve(idOf(invoice))).status]).toEqual(['active', 'open'])
    sandbox.advanceTo(ANSWERED)
    expect((await stripe.subscriptions.retrieve(id)).status).toBe('active')
    expect((await stripe.invoices.retrieve(idOf(invoice))).status).toBe('paid')
  })

  it('is past due when the bank refuses', async () => {
    const running = await startTestSandbox()
    const { id } = await subscribed(running, 'pm_usBankAccount_insufficientFunds')
    running.sandbox.advanceTo(ANSWERED)
    expect((await running.stripe.subscriptions.retrieve(id)).status).toBe('past_due')
  })

  it('becomes active when the payment that it waits for is under way', async () => {
    const running = await startTestSandbox()
    const { stripe } = running
    const { customer, account } = await customerWith(running, 'pm_usBankAccount_success')
    const { id: product } = await stripe.products.create({ name: 'Pro' })
    const terms = { currency: 'usd', unit_amount: 2_900, recurring: { interval: 'month' as const }, product }
    const { id: price } = await stripe.prices.create(terms)
    const behavior = { payment_behavior: 'default_incomplete' as const, expand: ['latest_invoice.payments'] }
    const waiting = await stripe.subscriptions.create({ customer, items: [{ price }], ...behavior })
    expect(waiting.status).toBe('incomplete')
    const { payments } = waiting.latest_invoice as Stripe.Invoice
    const intent = idOf(payments!.data[0]!.payment.payment_intent)
    await stripe.paymentIntents.confirm(intent, { payment_method: account, off_session: true })
    expect((await stripe.subscriptions.retrieve(waiting.id)).status).toBe('active')
    running.sandbox.advanceTo(NOW + 24 * 3_600)
    expect((await stripe.subscriptions.retrieve(waiting.id)).status).toBe('active')
  })
})
