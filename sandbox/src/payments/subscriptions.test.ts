import { describe, expect, it } from 'vitest'
import type { Stripe } from 'stripe'
import { NOW, startTestSandbox, type TestSandbox } from '../../test/contract.ts'
import { idOf } from '../../test/ids.ts'
import { cardFields, sendForm } from '../../test/pages.ts'

const month = 31 * 86_400

interface Setting extends TestSandbox {
  readonly clock: string
  readonly customer: string
  readonly price: string
  /** Moves the customer's clock and waits until everything that follows has happened. */
  readonly advance: (seconds: number) => Promise<void>
}

/** A customer on a test clock, with a card unless it is null. */
async function withCustomer(card: string | null): Promise<Setting> {
  const test = await startTestSandbox()
  const { stripe } = test
  const clock = await stripe.testHelpers.testClocks.create({ frozen_time: NOW })
  const method = card === null ? {} : { invoice_settings: { default_payment_method: card }, payment_method: card }
  const customer = await stripe.customers.create({ test_clock: clock.id, ...method })
  const price = await stripe.prices.create({
    currency: 'usd',
    product_data: { name: 'Pro' },
    recurring: { interval: 'month' },
    unit_amount: 2900,
  })
  return {
    ...test,
    advance: async (seconds) => {
      const { frozen_time } = await stripe.testHelpers.testClocks.retrieve(clock.id)
      await stripe.testHelpers.testClocks.advance(clock.id, { frozen_time: frozen_time + seconds })
      await test.sandbox.settled()
    },
    clock: clock.id,
    customer: customer.id,
    price: price.id,
  }
}

async function invoiceSecret(stripe: Stripe, invoice: string | Stripe.Invoice | null): Promise<string> {
  const expanded = await stripe.invoices.retrieve(idOf(invoice), { expand: ['confirmation_secret'] })
  return expanded.confirmation_secret?.client_secret ?? ''
}

describe('subscriptions and the cards that pay them', () => {
  it('waits as incomplete until its first payment is made by the form, and saves the card for renewals', async () => {
    const test = await withCustomer(null)
    const subscription = await test.stripe.subscriptions.create({
      customer: test.customer,
      items: [{ price: test.price }],
      payment_behavior: 'default_incomplete',
      payment_settings: { save_default_payment_method: 'on_subscription' },
    })
    expect(subscription.status).toBe('incomplete')
    const secret = await invoiceSecret(test.stripe, subscription.latest_invoice)
    const declined = await sendForm(`${test.sandbox.url}/pay/${secret}`, cardFields('4000000000000002'))
    expect(declined.status).toBe(402)
    expect((await test.stripe.subscriptions.retrieve(subscription.id)).status).toBe('incomplete')
    await sendForm(`${test.sandbox.url}/pay/${secret}`, cardFields('4242424242424242'))
    const active = await test.stripe.subscriptions.retrieve(subscription.id)
    expect(active.status).toBe('active')
    expect(active.default_payment_method).not.toBeNull()
    await test.advance(month + 7200)
    const invoices = await test.stripe.invoices.list({ subscription: subscription.id })
    expect(invoices.data.map(({ status }) => status)).toEqual(['paid', 'paid'])
  })

  it('is active once the holder of 4000 0025 0000 3155 has authenticated, and renews without them', async () => {
    const test = await withCustomer('pm_card_authenticationRequiredOnSetup')
    const subscription = await test.stripe.subscriptions.create({ customer: test.customer, items: [{ price: test.price }] })
    expect(subscription.status).toBe('incomplete')
    expect(test.eventTypes()).toContain('invoice.payment_action_required')
    const secret = await invoiceSecret(test.stripe, subscription.latest_invoice)
    expect((await sendForm(`${test.sandbox.url}/3ds/${secret}`, { outcome: 'complete' })).status).toBe(200)
    expect((await test.stripe.subscriptions.retrieve(subscription.id)).status).toBe('active')
    await test.advance(month + 7200)
    expect((await test.stripe.subscriptions.retrieve(subscription.id)).status).toBe('active')
    expect((await test.stripe.charges.list({ customer: test.customer })).data.map(({ status }) => status)).toEqual([
      'succeeded',
      'succeeded',
    ])
  })

  it('is past due when a card asks for authentication at a renewal, and pays by the hosted page', async () => {
    const test = await withCustomer('pm_card_visa')
    const subscription = await test.stripe.subscriptions.create({ customer: test.customer, items: [{ price: test.price }] })
    const strict = await test.stripe.paymentMethods.attach('pm_card_authenticationRequired', { customer: test.customer })
    await test.stripe.customers.update(test.customer, { invoice_settings: { default_payment_method: strict.id } })
    await test.advance(month + 7200)
    const late = await test.stripe.subscriptions.retrieve(subscription.id, { expand: ['latest_invoice'] })
    expect(late.status).toBe('past_due')
    const [failed] = (await test.stripe.charges.list({ customer: test.customer })).data
    expect(failed).toMatchObject({ failure_code: 'authentication_required', status: 'failed' })
    const url = (late.latest_invoice as Stripe.Invoice).hosted_invoice_url ?? ''
    const asked = await sendForm(url, { pay_with: 'on_file' })
    await sendForm(asked.location, { outcome: 'complete' })
    expect((await test.stripe.subscriptions.retrieve(subscription.id)).status).toBe('active')
  })

  it('collects a card for the end of a trial by its pending setup intent', async () => {
    const test = await withCustomer(null)
    const subscription = await test.stripe.subscriptions.create({
      customer: test.customer,
      items: [{ price: test.price }],
      payment_behavior: 'default_incomplete',
      trial_period_days: 7,
    })
    expect(subscription.status).toBe('trialing')
    const setup = await test.stripe.setupIntents.retrieve(idOf(subscription.pending_setup_intent))
    await sendForm(`${test.sandbox.url}/setup/${setup.client_secret ?? ''}`, cardFields('4242424242424242'))
    const ready = await test.stripe.subscriptions.retrieve(subscription.id)
    expect(ready.pending_setup_intent).toBeNull()
    expect(ready.default_payment_method).not.toBeNull()
    await test.advance(8 * 86_400)
    expect((await test.stripe.subscriptions.retrieve(subscription.id)).status).toBe('active')
    expect((await test.stripe.charges.list({ customer: test.customer })).data).toMatchObject([
      { amount: 2900, status: 'succeeded' },
    ])
  })

  it('pays with the method of the subscription before that of the customer', async () => {
    const test = await withCustomer('pm_card_chargeCustomerFail')
    const own = await test.stripe.paymentMethods.attach('pm_card_mastercard', { customer: test.customer })
    const subscription = await test.stripe.subscriptions.create({
      customer: test.customer,
      default_payment_method: own.id,
      items: [{ price: test.price }],
    })
    expect(subscription.status).toBe('active')
    const [charge] = (await test.stripe.charges.list({ customer: test.customer })).data
    expect(charge?.payment_method).toBe(own.id)
    await test.stripe.paymentMethods.detach(own.id)
    expect((await test.stripe.subscriptions.retrieve(subscription.id)).default_payment_method).toBeNull()
    await test.advance(month + 7200)
    expect((await test.stripe.subscriptions.retrieve(subscription.id)).status).toBe('past_due')
  })

  it('sells by checkout to a customer on a test clock, in the time of that clock', async () => {
    const test = await withCustomer(null)
    await test.advance(10 * 86_400)
    const session = await test.stripe.checkout.sessions.create({
      customer: test.customer,
      line_items: [{ price: test.price, quantity: 1 }],
      mode: 'subscription',
      success_url: 'https://shop.example',
    })
    expect(session.created).toBe(NOW + 10 * 86_400)
    const sent = await sendForm(session.url ?? '', { email: 'payer@example.com', ...cardFields('4242424242424242') })
    expect(sent.status).toBe(303)
    const done = await test.stripe.checkout.sessions.retrieve(session.id)
    await test.advance(month + 7200)
    const invoices = await test.stripe.invoices.list({ subscription: idOf(done.subscription) })
    expect(invoices.data.map(({ status }) => status)).toEqual(['paid', 'paid'])
  })
})
