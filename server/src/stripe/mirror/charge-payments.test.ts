import { expect, test, vi } from 'vitest'
import { testSubscriptions } from '../../../test/subscriptions.ts'
import { readOrganization } from '../organizations.ts'

// Invoices from before payment intents are paid by charges alone. Nothing makes them any more, so such a payment is put into the sandbox's state.

const billing = testSubscriptions({ webhooks: false })
const { onClock, post } = billing
vi.setConfig({ testTimeout: 60_000 })

const reconcile = (id: string) => billing.call('operator', 'POST', `/api/v1/organizations/${id}/reconcile`)

/** An organization of whose subscription an invoice was paid by a charge alone, with the card of a token. */
async function paidByCharge(id: string, source: string): Promise<{ invoice: string; charge: string }> {
  // On no test clock: a dispute runs by the sandbox's own.
  await billing.createOrganization(id)
  const bought = await post(id, 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })
  const customer = (await readOrganization(billing.database.db, id)).customerId!
  const subscription = String(bought.body['subscription_id'])
  const { id: invoice } = await billing.stripe.invoices.create({ customer, subscription, auto_advance: false })
  await billing.stripe.invoiceItems.create({ customer, invoice, amount: 1200, currency: 'usd' })
  await billing.stripe.invoices.finalizeInvoice(invoice)
  await billing.stripe.invoices.pay(invoice, { paid_out_of_band: true })
  const { id: charge, created } = await billing.stripe.charges.create({ amount: 1200, currency: 'usd', customer, source })
  const payment = {
    id: `inpay_${charge}`,
    object: 'invoice_payment',
    amount_paid: 1200,
    amount_requested: 1200,
    created,
    currency: 'usd',
    invoice,
    is_default: true,
    livemode: false,
    payment: { type: 'charge', charge },
    status: 'paid',
    status_transitions: { canceled_at: null, paid_at: created },
  }
  const state = { format: 'stripe-sandbox', version: 1, objects: { invoice_payment: [payment] } }
  const { url } = billing.sandbox
  const imported = await fetch(`${url}/_sandbox/import`, { method: 'POST', body: JSON.stringify(state) })
  expect(imported.status).toBe(200)
  return { invoice, charge }
}

async function seen(id: string, invoice: string): Promise<Record<string, unknown>> {
  await reconcile(id)
  const { body } = await billing.call(id, 'GET', '/api/v1/billing/invoices')
  const found = (body as unknown as Record<string, unknown>[]).find((one) => one['id'] === invoice)
  const { rows } = await billing.database.db.query<{ failedAt: Date | null }>(
    'select payment_failed_at as "failedAt" from accounts where organization_id = $1',
    [id],
  )
  return { ...found, isOwed: rows[0]!.failedAt !== null }
}

test('a refund of an invoice that a charge alone paid is told of', async () => {
  const { invoice, charge } = await paidByCharge('refunded', 'tok_visa')
  expect(await seen('refunded', invoice)).toMatchObject({ status: 'paid', amount_refunded_minor: 0, dispute: null })
  await billing.stripe.refunds.create({ charge, amount: 700 })
  expect(await seen('refunded', invoice)).toMatchObject({ status: 'paid', amount_refunded_minor: 700, isOwed: false })
})

test('a dispute of an invoice that a charge alone paid is told of, and lost, it is owed again', async () => {
  const { invoice, charge } = await paidByCharge('disputed', 'tok_createDispute')
  expect(await seen('disputed', invoice)).toMatchObject({ dispute: { status: 'needs_response' }, isOwed: false })
  const [dispute] = (await billing.stripe.disputes.list({ charge })).data
  await billing.stripe.disputes.close(dispute!.id)
  expect(await seen('disputed', invoice)).toMatchObject({ dispute: { status: 'lost' }, isOwed: true })
})

test('an invoice that was paid outside of Stripe is paid, and nothing of it is refunded or disputed', async () => {
  await onClock('outside')
  await post('outside', 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })
  const { customerId } = await readOrganization(billing.database.db, 'outside')
  const { id } = await billing.stripe.invoices.create({ customer: customerId!, auto_advance: false })
  await billing.stripe.invoiceItems.create({ customer: customerId!, invoice: id, amount: 1200, currency: 'usd' })
  await billing.stripe.invoices.finalizeInvoice(id)
  expect(await seen('outside', id)).toMatchObject({ status: 'open', amount_remaining_minor: 1200 })
  await billing.stripe.invoices.pay(id, { paid_out_of_band: true })
  const outside = { amount_remaining_minor: 0, amount_refunded_minor: 0, dispute: null, isOwed: false }
  expect(await seen('outside', id)).toMatchObject({ status: 'paid', paid: true, amount_paid_minor: 1200, ...outside })
})
