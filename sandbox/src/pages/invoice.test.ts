import { describe, expect, it } from 'vitest'
import type { Stripe } from 'stripe'
import { NOW, startTestSandbox, type TestSandbox } from '../../test/contract.ts'
import { idOf } from '../../test/ids.ts'
import { cardFields, openPage, sendForm } from '../../test/pages.ts'
import { debitAnsweredAfterSeconds } from '../payments/inferred.ts'

/** An open invoice of $25.00, due in a week, for a customer with or without a payment method. */
async function openInvoice({ stripe }: TestSandbox, method: string | null): Promise<Stripe.Invoice & { url: string }> {
  const customer = await stripe.customers.create({
    email: 'payer@example.com',
    name: 'P. Payer & Co',
    ...(method === null ? {} : { invoice_settings: { default_payment_method: method }, payment_method: method }),
  })
  const invoice = await stripe.invoices.create({ collection_method: 'send_invoice', customer: customer.id, days_until_due: 7 })
  await stripe.invoiceItems.create({
    amount: 2500,
    currency: 'usd',
    customer: customer.id,
    description: 'Consulting <hours>',
    invoice: invoice.id,
  })
  const open = await stripe.invoices.finalizeInvoice(invoice.id)
  return { ...open, url: open.hosted_invoice_url ?? '' }
}

describe('the hosted invoice page', () => {
  it('shows what is due, to whom and until when, and gives it as a PDF', async () => {
    const test = await startTestSandbox()
    const invoice = await openInvoice(test, null)
    const page = await openPage(invoice.url)
    for (const words of ['Payment due', 'P. Payer & Co', 'Consulting <hours>', 'Due January 22, 2026', 'Amount due $25.00']) {
      expect(page.text).toContain(words)
    }
    expect(page.html).not.toContain('on_file')
    const pdf = await fetch(invoice.invoice_pdf ?? '')
    expect(pdf.headers.get('content-type')).toBe('application/pdf')
    expect(pdf.headers.get('content-disposition')).toContain(`Invoice-${invoice.number ?? ''}.pdf`)
    expect((await pdf.text()).startsWith('%PDF-')).toBe(true)
  })

  it('is paid with the card on file, once', async () => {
    const test = await startTestSandbox()
    const invoice = await openInvoice(test, 'pm_card_visa')
    expect((await openPage(invoice.url)).text).toContain('Visa ending in 4242')
    expect((await sendForm(invoice.url, { pay_with: 'on_file' })).status).toBe(303)
    expect((await sendForm(invoice.url, { pay_with: 'on_file' })).status).toBe(303)
    expect(test.sandbox.all('charge')).toHaveLength(1)
    expect(await test.stripe.invoices.retrieve(invoice.id)).toMatchObject({ amount_paid: 2500, status: 'paid' })
    const page = await openPage(invoice.url)
    expect(page.text).toContain('Nothing is due.')
    expect(page.html).not.toContain('<form')
  })

  it('takes another card after a decline, which it says in words', async () => {
    const test = await startTestSandbox()
    const invoice = await openInvoice(test, 'pm_card_chargeCustomerFail')
    const declined = await sendForm(invoice.url, { pay_with: 'on_file' })
    expect(declined.status).toBe(402)
    expect(declined.text).toContain('Your card was declined.')
    const wrong = await sendForm(invoice.url, { ...cardFields('4242424242424242'), exp: '', pay_with: 'new' })
    expect(wrong.text).toContain('Enter the expiry.')
    expect((await sendForm(invoice.url, { ...cardFields('5555555555554444'), pay_with: 'new' })).status).toBe(303)
    expect((await test.stripe.invoices.retrieve(invoice.id)).status).toBe('paid')
  })

  it('leads over the challenge of a 3D Secure card back to the paid invoice', async () => {
    const test = await startTestSandbox()
    const invoice = await openInvoice(test, null)
    const asked = await sendForm(invoice.url, { ...cardFields('4000002760003184'), pay_with: 'new' })
    expect(asked.location).toContain('/3ds/pi_')
    const back = await sendForm(asked.location, { outcome: 'complete' })
    expect(back.location.startsWith(invoice.url)).toBe(true)
    expect((await openPage(back.location)).text).toContain('Nothing is due.')
  })

  it('pays an overdue renewal of a subscription, which is active again', async () => {
    const test = await startTestSandbox()
    const { stripe } = test
    const clock = await stripe.testHelpers.testClocks.create({ frozen_time: test.sandbox.now() })
    const customer = await stripe.customers.create({
      invoice_settings: { default_payment_method: 'pm_card_visa' },
      payment_method: 'pm_card_visa',
      test_clock: clock.id,
    })
    const price = await stripe.prices.create({
      currency: 'usd',
      product_data: { name: 'Pro' },
      recurring: { interval: 'month' },
      unit_amount: 2900,
    })
    const subscription = await stripe.subscriptions.create({ customer: customer.id, items: [{ price: price.id }] })
    const poor = await stripe.paymentMethods.attach('pm_card_visa_chargeDeclinedInsufficientFunds', { customer: customer.id })
    await stripe.customers.update(customer.id, { invoice_settings: { default_payment_method: poor.id } })
    await stripe.testHelpers.testClocks.advance(clock.id, { frozen_time: test.sandbox.now() + 32 * 86_400 })
    await test.sandbox.settled()
    const late = await stripe.subscriptions.retrieve(subscription.id, { expand: ['latest_invoice'] })
    expect(late).toMatchObject({ latest_invoice: { status: 'open' }, status: 'past_due' })
    const url = (late.latest_invoice as Stripe.Invoice).hosted_invoice_url ?? ''
    expect((await sendForm(url, { ...cardFields('4242424242424242'), pay_with: 'new' })).status).toBe(303)
    expect((await stripe.subscriptions.retrieve(subscription.id)).status).toBe('active')
  })

  it('calls a bank account by its name, and asks for nothing while the bank has not answered', async () => {
    const test = await startTestSandbox()
    const invoice = await openInvoice(test, 'pm_usBankAccount_success')
    const due = await openPage(invoice.url)
    for (const words of ['Bank account on file STRIPE TEST BANK ending in 6789', 'Pay by card']) expect(due.text).toContain(words)
    expect(due.html).not.toMatch(/card on file|another card/i)

    expect((await sendForm(invoice.url, { pay_with: 'on_file' })).status).toBe(303)
    const underWay = await openPage(invoice.url)
    expect(underWay.text).toContain('Payment under way')
    expect(underWay.text).toContain('STRIPE TEST BANK ending in 6789')
    expect(underWay.html).not.toContain('<form')
    for (const form of [{ pay_with: 'on_file' }, { ...cardFields('4242424242424242'), pay_with: 'new' }]) {
      expect((await sendForm(invoice.url, form)).status).toBe(303)
    }
    expect(test.sandbox.all('charge')).toHaveLength(1)
    const portal = await test.stripe.billingPortal.sessions.create({ customer: invoice.customer as string })
    const home = await openPage(portal.url)
    expect(home.text).toContain('processing $25.00')
    expect(home.text).not.toContain('card')

    test.sandbox.advanceTo(NOW + debitAnsweredAfterSeconds)
    expect((await openPage(invoice.url)).text).toContain('Nothing is due.')
  })

  it('has no page for drafts and unknown invoices', async () => {
    const test = await startTestSandbox()
    const customer = await test.stripe.customers.create({})
    const draft = await test.stripe.invoices.create({ customer: customer.id })
    expect((await openPage(`${test.sandbox.url}/i/${draft.id}`)).status).toBe(404)
    expect((await fetch(`${test.sandbox.url}/i/in_none/pdf`)).status).toBe(404)
  })
})

describe('the receipt of a charge', () => {
  it('shows the card, the amount and what was given back', async () => {
    const { stripe } = await startTestSandbox()
    const charge = await stripe.charges.create({ amount: 900, currency: 'usd', description: 'Report', source: 'tok_visa' })
    await stripe.refunds.create({ amount: 400, charge: idOf(charge) })
    const page = await openPage(charge.receipt_url ?? '')
    for (const words of ['$9.00', 'Visa ending in 4242', 'For Report', 'Refunded $4.00']) expect(page.text).toContain(words)
  })
})
