import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Stripe } from 'stripe'
import { afterEach, expect, test } from 'vitest'
import { sendForm } from '../../test/pages.ts'
import { refusal } from '../../test/refusal.ts'

const bin = fileURLToPath(new URL('../../bin/stripe-sandbox.mjs', import.meta.url))
const cleanups: Array<() => void> = []

afterEach(() => {
  for (const clean of cleanups.splice(0)) clean()
})

/** A good card, a declined one (neither among those that the pages name as examples), one that is no test card and one with a wrong check digit. */
const numbers = ['5555555555554444', '4000000000009987', '4111111111111111', '4242424242424241'] as const

interface Running {
  readonly child: ChildProcess
  readonly url: URL
  readonly output: () => string
}

async function start(data: string): Promise<Running> {
  const child = spawn(process.execPath, [bin, '--port', '0', '--data', data], { stdio: ['ignore', 'pipe', 'pipe'] })
  cleanups.push(() => child.kill('SIGKILL'))
  let output = ''
  const url = await new Promise<URL>((done, fail) => {
    const hear = (chunk: Buffer): void => {
      output += chunk.toString()
      const [, address] = /listening on (\S+)/.exec(output) ?? []
      if (address !== undefined) done(new URL(address))
    }
    child.stdout.on('data', hear)
    child.stderr.on('data', hear)
    child.once('exit', () => fail(new Error(output)))
  })
  return { child, output: () => output, url }
}

/** Where a number would show if it were kept: also with spaces, and in either half of a buffer's text. */
function findings(text: string): string[] {
  const digits = text.replace(/(?<=\d)[ -](?=\d)/g, '')
  return numbers.filter((number) => digits.includes(number))
}

/** Sends every number everywhere where a card is taken. */
async function plant(stripe: Stripe, base: string): Promise<string[]> {
  const pages: string[] = []
  const customer = await stripe.customers.create({ email: 'payer@example.com' })
  const price = await stripe.prices.create({
    currency: 'usd',
    product_data: { name: 'Pro' },
    recurring: { interval: 'month' },
    unit_amount: 2900,
  })
  const portal = await stripe.billingPortal.sessions.create({ customer: customer.id })
  for (const [index, number] of numbers.entries()) {
    const create = stripe.paymentMethods.create(
      { card: { cvc: '123', exp_month: 12, exp_year: 2040, number }, type: 'card' },
      { idempotencyKey: `method ${index}` },
    )
    const method = await create.catch(() => null)
    if (method !== null) await stripe.paymentMethods.attach(method.id, { customer: customer.id }).catch(() => null)
    const session = await stripe.checkout.sessions.create({
      line_items: [{ price: price.id, quantity: 1 }],
      mode: 'subscription',
      success_url: 'https://shop.example',
    })
    const setup = await stripe.setupIntents.create({ customer: customer.id })
    const invoice = await stripe.invoices.create({ collection_method: 'send_invoice', customer: customer.id, days_until_due: 1 })
    await stripe.invoiceItems.create({ amount: 900, currency: 'usd', customer: customer.id, invoice: invoice.id })
    const open = await stripe.invoices.finalizeInvoice(invoice.id)
    const typed = number.replace(/(\d{4})(?=\d)/g, '$1 ')
    const fields = { card_number: typed, cvc: '123', email: 'payer@example.com', exp: '12/40', pay_with: 'new' }
    for (const url of [
      session.url ?? '',
      `${base}/setup/${setup.client_secret ?? ''}`,
      open.hosted_invoice_url ?? '',
      `${portal.url}/payment-method`,
    ]) {
      pages.push((await sendForm(url, fields)).html)
    }
  }
  // What a caller sends by mistake is refused without being repeated or kept.
  await refusal(stripe.paymentMethods.create({ card: { exp_month: 99, exp_year: 2040, number: numbers[0] }, type: 'card' }))
  return pages
}

test('a card number is nowhere once it was checked: not in the data file, the events, the answers, the pages or the log', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'sandbox-'))
  cleanups.push(() => rmSync(folder, { force: true, recursive: true }))
  const { child, output, url } = await start(join(folder, 'state.db'))
  const stripe = new Stripe('sk_test_x', {
    host: url.hostname,
    maxNetworkRetries: 0,
    port: url.port,
    protocol: 'http',
    telemetry: false,
  })
  const pages = await plant(stripe, url.origin)
  expect(findings(pages.join('\n'))).toEqual([])

  const state = await (await fetch(new URL('/_sandbox/export', url))).text()
  expect(state).toContain('"last4":"4444"')
  expect(findings(state)).toEqual([])

  const ended = new Promise((done) => child.once('exit', done))
  child.kill('SIGTERM')
  await ended
  const files = readdirSync(folder).map((name) => readFileSync(join(folder, name), 'latin1'))
  expect(files.join('').length).toBeGreaterThan(10_000)
  expect(findings(files.join('\n'))).toEqual([])
  expect(findings(output())).toEqual([])
})
