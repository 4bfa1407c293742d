import sparticuz from '@sparticuz/chromium'
import { chromium, type Browser } from 'playwright-core'
import { Stripe } from 'stripe'
import { startSandbox } from '@tollgate/stripe-sandbox'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

// How the sandbox's pages stand on a phone, in a real browser.

const sandbox = await startSandbox({ clock: { frozen: Date.parse('2026-01-15T00:00:00Z') / 1000 } })
const { host, port, protocol } = sandbox
const stripe = new Stripe('sk_test_pages', { host, port, protocol, telemetry: false })
let browser: Browser

beforeAll(async () => {
  browser = await chromium.launch({ executablePath: await sparticuz.executablePath(), args: ['--no-sandbox'], headless: true })
})
afterAll(async () => {
  await browser.close()
  await sandbox.stop()
})

/** A customer with a long name who pays by a bank account. */
async function payer(): Promise<string> {
  const { id } = await stripe.customers.create({
    email: 'accounts.payable.of.the.northern.branch@example.com',
    invoice_settings: { default_payment_method: 'pm_usBankAccount_success' },
    name: 'Northern Branch of a Company whose Name is Longer than any Line of a Phone',
    payment_method: 'pm_usBankAccount_success',
  })
  return id
}

/** The pages of an invoice and of its payment. */
async function invoicePages(customer: string): Promise<string[]> {
  const { id } = await stripe.invoices.create({ collection_method: 'send_invoice', customer, days_until_due: 7 })
  await stripe.invoiceItems.create({ amount: 2500, currency: 'usd', customer, description: 'Work', invoice: id })
  await stripe.invoices.pay(id)
  sandbox.advanceTo(sandbox.now() + 3600)
  const [charge] = (await stripe.charges.list({ customer })).data
  return [(await stripe.invoices.retrieve(id)).hosted_invoice_url!, charge!.receipt_url!]
}

/** The portal with invoices of every width, and a change of plan in it. */
async function portalPages(customer: string): Promise<string[]> {
  const plan = (name: string) =>
    stripe.prices.create({ currency: 'usd', product_data: { name }, recurring: { interval: 'month' }, unit_amount: 129_000 })
  const [from, to] = [await plan('Professional with Priority Support'), await plan('Enterprise with Priority Support')]
  const { id: subscription } = await stripe.subscriptions.create({ customer, items: [{ price: from.id }] })
  const { id: invoice } = await stripe.invoices.create({ customer })
  await stripe.invoiceItems.create({ amount: 1_234_567, currency: 'usd', customer, description: 'Work', invoice })
  await stripe.invoices.finalizeInvoice(invoice)
  await stripe.invoices.markUncollectible(invoice)
  const products = [{ prices: [to.id], product: to.product as string }]
  const { id: configuration } = await stripe.billingPortal.configurations.create({
    features: {
      invoice_history: { enabled: true },
      payment_method_update: { enabled: true },
      subscription_update: { default_allowed_updates: ['price'], enabled: true, products },
    },
  })
  const { url } = await stripe.billingPortal.sessions.create({ configuration, customer })
  return [url, `${url}/subscriptions/${subscription}/confirm?price=${to.id}`]
}

/** What a page breaks within a word, and whether it or a table in it is wider than there is room. */
const FAULTS = `(() => {
  const broken = []
  for (const label of document.querySelectorAll('dt, th, h1, h2, h3, button, .button, .badge')) {
    for (const text of label.childNodes) {
      if (text.nodeType !== Node.TEXT_NODE) continue
      for (const word of text.textContent.matchAll(/[A-Za-z]+/g)) {
        const range = document.createRange()
        range.setStart(text, word.index)
        range.setEnd(text, word.index + word[0].length)
        if (range.getClientRects().length > 1) broken.push(word[0])
      }
    }
  }
  const boxes = [document.documentElement, ...document.querySelectorAll('.scroll')]
  return { broken, isTooWide: boxes.some((box) => box.scrollWidth > box.clientWidth) }
})()`

describe('the sandbox’s pages', () => {
  it.each([390, 1280])('break no word of a label, and fit into a window of %s pixels', async (width) => {
    const page = await browser.newPage({ viewport: { height: 800, width } })
    const customer = await payer()
    for (const url of [...(await invoicePages(customer)), ...(await portalPages(customer))]) {
      await page.goto(url)
      expect.soft(await page.evaluate(FAULTS), url).toEqual({ broken: [], isTooWide: false })
    }
    await page.close()
  })
})
