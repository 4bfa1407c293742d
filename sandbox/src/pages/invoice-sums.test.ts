import { describe, expect, it } from 'vitest'
import type { Stripe } from 'stripe'
import { startTestSandbox, type TestSandbox } from '../../test/contract.ts'
import { openPage } from '../../test/pages.ts'

type Sums = Readonly<Record<string, number>>

/** The amounts of a page with their labels, in cents. */
async function rowsAt(url: string): Promise<ReadonlyArray<readonly [label: string, cents: number]>> {
  const { html } = await openPage(url)
  return [...html.matchAll(/<dt>([^<]+)<\/dt>\s*<dd>(-?)\$([\d.]+)<\/dd>/g)].map(
    ([, label, sign, amount]) => [label!.trim(), Math.round(Number(`${sign}${amount}`) * 100)] as const,
  )
}

/** The sums below the lines of an invoice's page. */
async function sumsAt(url: string): Promise<Sums> {
  const rows = await rowsAt(url)
  return Object.fromEntries(rows.slice(rows.findIndex(([label]) => label === 'Subtotal')))
}

interface Draft extends Stripe.InvoiceCreateParams {
  readonly amounts: readonly number[]
  readonly customer: string
}

/** An open invoice of amounts, and where its page is. */
async function openInvoice({ stripe }: TestSandbox, { amounts, customer, ...rest }: Draft): Promise<{ id: string; url: string }> {
  const { id } = await stripe.invoices.create({ collection_method: 'send_invoice', customer, days_until_due: 7, ...rest })
  for (const amount of amounts) {
    await stripe.invoiceItems.create({ amount, currency: 'usd', customer, description: 'Work', invoice: id })
  }
  const open = await stripe.invoices.finalizeInvoice(id)
  return { id, url: open.hosted_invoice_url ?? '' }
}

async function payer({ stripe }: TestSandbox, more: Stripe.CustomerCreateParams = {}): Promise<string> {
  const invoice_settings = { default_payment_method: 'pm_card_visa' }
  return (await stripe.customers.create({ invoice_settings, payment_method: 'pm_card_visa', ...more })).id
}

describe('the sums of the hosted invoice page', () => {
  it('add up to what is due, with discounts, tax, a credit note and a balance', async () => {
    const test = await startTestSandbox()
    const customer = await payer(test, { balance: -350 })
    const vat = await test.stripe.taxRates.create({ display_name: 'VAT', inclusive: false, percentage: 19 })
    const coupon = await test.stripe.coupons.create({ duration: 'once', percent_off: 20 })
    const draft = { default_tax_rates: [vat.id], discounts: [{ coupon: coupon.id }] }
    const invoice = await openInvoice(test, { amounts: [10_000, 2_500], customer, ...draft })
    await test.stripe.creditNotes.create({ amount: 1500, invoice: invoice.id })
    expect(await sumsAt(invoice.url)).toEqual({
      Subtotal: 12_500,
      Discount: -2500,
      Tax: 1900,
      Total: 11_900,
      'Credit notes': -1500,
      'Applied balance': -350,
      'Amount due': 10_050,
    })
  })

  it('tell tax that the prices include apart from tax on top, and what was given back after the payment', async () => {
    const test = await startTestSandbox()
    const customer = await payer(test)
    const gst = await test.stripe.taxRates.create({ display_name: 'GST', inclusive: true, percentage: 10 })
    const invoice = await openInvoice(test, { amounts: [11_000], customer, default_tax_rates: [gst.id] })
    await test.stripe.invoices.pay(invoice.id)
    await test.stripe.creditNotes.create({ amount: 2000, credit_amount: 800, invoice: invoice.id, refund_amount: 1200 })
    expect(await sumsAt(invoice.url)).toEqual({
      Subtotal: 11_000,
      Total: 11_000,
      'Tax included': 1000,
      'Amount paid': -11_000,
      'Amount due': 0,
      'Credited afterwards': 2000,
      Refunded: 1200,
    })
  })

  it('say of a voided invoice that nothing is due, and why', async () => {
    const test = await startTestSandbox()
    const invoice = await openInvoice(test, { amounts: [9900], customer: await payer(test) })
    await test.stripe.invoices.voidInvoice(invoice.id)
    expect(await sumsAt(invoice.url)).toEqual({ Subtotal: 9900, Total: 9900, Voided: -9900, 'Amount due': 0 })
    expect((await openPage(invoice.url)).text).toContain('Nothing is due.')
  })
})

/** The confirmation of a change from a plan of $10.00 to one of $29.00, for who has half off, pays 20 % tax and has a dollar on the balance. */
async function confirmation(test: TestSandbox, proration_behavior: 'always_invoice' | 'create_prorations'): Promise<string> {
  const { stripe } = test
  const price = async (unit_amount: number) =>
    stripe.prices.create({ currency: 'usd', product_data: { name: 'Plan' }, recurring: { interval: 'month' }, unit_amount })
  const [starter, pro] = [await price(1000), await price(2900)]
  const [vat, coupon] = [
    await stripe.taxRates.create({ display_name: 'VAT', inclusive: false, percentage: 20 }),
    await stripe.coupons.create({ duration: 'forever', percent_off: 50 }),
  ]
  const customer = await payer(test)
  const terms = { default_tax_rates: [vat.id], discounts: [{ coupon: coupon.id }] }
  const subscription = await stripe.subscriptions.create({ customer, items: [{ price: starter.id }], ...terms })
  await stripe.customers.update(customer, { balance: -100 })
  const products = [{ prices: [pro.id], product: pro.product as string }]
  const { id: configuration } = await stripe.billingPortal.configurations.create({
    features: { subscription_update: { default_allowed_updates: ['price'], enabled: true, products, proration_behavior } },
  })
  const { url } = await stripe.billingPortal.sessions.create({ configuration, customer })
  return `${url}/subscriptions/${subscription.id}/confirm?price=${pro.id}`
}

describe('a change of plan in the portal', () => {
  it('shows amounts that add up to what is due now, with a discount, tax and the balance', async () => {
    const rows = await rowsAt(await confirmation(await startTestSandbox(), 'always_invoice'))
    const due = rows.findIndex(([label]) => label === 'Due now')
    expect(rows.slice(0, due).reduce((sum, [, cents]) => sum + cents, 0)).toBe(rows[due]![1])
    expect(Object.fromEntries(rows)).toMatchObject({ Tax: 190, 'Applied balance': -100, 'Due now': 1040 })
  })

  it('says of amounts that are not due now that they go onto the next invoice', async () => {
    const words = 'The amounts for the rest of the period go onto the next invoice.'
    const later = await openPage(await confirmation(await startTestSandbox(), 'create_prorations'))
    expect(later.text).toContain('Due now $0.00')
    expect(later.text).toContain(words)
    expect((await openPage(await confirmation(await startTestSandbox(), 'always_invoice'))).text).not.toContain(words)
  })
})
