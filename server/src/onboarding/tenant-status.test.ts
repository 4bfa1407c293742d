import { describe, expect, test } from 'vitest'
import { PLANS, testSubscriptions } from '../../test/subscriptions.ts'

// What KF-9 tells of a tenant that owes for more than the subscription that counts.

const billing = testSubscriptions({ catalog: PLANS })
const { advance, call, invoicesOf, subscribed } = billing

const statusOf = async (id: string) => (await call(id, 'GET', `/api/v1/billing/status/tenant/${id}`)).body

async function customerOf(id: string): Promise<string> {
  return (await statusOf(id))['customer_id'] as string
}

/** A second subscription, made at Stripe, whose card declines from its second month on. */
async function besides(id: string, amount: number): Promise<string> {
  const customer = await customerOf(id)
  const method = await billing.stripe.paymentMethods.attach('pm_card_chargeCustomerFail', { customer })
  const product = await billing.stripe.products.create({ name: 'Support' })
  const price = await billing.stripe.prices.create({
    product: product.id,
    currency: 'usd',
    unit_amount: amount,
    recurring: { interval: 'month' },
  })
  const second = await billing.stripe.subscriptions.create({
    customer,
    items: [{ price: price.id }],
    default_payment_method: method.id,
    trial_period_days: 5,
  })
  return second.id
}

describe('a second subscription that is not paid', () => {
  test('is owed, as operators see it too, until it is paid', async () => {
    const id = await subscribed('second', { tier: 'pro' })
    const second = await besides(id, 700)
    await advance(id, '8d')
    await expect.poll(() => statusOf(id)).toMatchObject({ is_delinquent: true, outstanding_balance_cents: 700 })
    // It ends no use of the subscription that counts.
    expect(await billing.subscriptionOf(id)).toMatchObject({ payment_failed: false, standing: { state: 'active' } })
    const { rows } = await billing.database.db.query(
      'select coalesce(payment_failed_at, left_owing_since) is not null as delinquent from accounts where organization_id = $1',
      [id],
    )
    expect(rows).toEqual([{ delinquent: true }])
    const [open] = await invoicesOf(id, '?status=open')
    await billing.stripe.invoices.pay(open!.id, { paid_out_of_band: true })
    await expect.poll(() => statusOf(id)).toMatchObject({ is_delinquent: false, outstanding_balance_cents: 0 })
    expect((await billing.stripe.subscriptions.retrieve(second)).status).toBe('active')
  })
})

/** Has a customer sent an invoice, which they do not pay. */
async function invoiced(customer: string, currency: string, amount: number): Promise<void> {
  await billing.stripe.invoiceItems.create({ customer, currency, amount })
  const { id } = await billing.stripe.invoices.create({
    customer,
    currency,
    collection_method: 'send_invoice',
    days_until_due: 30,
    pending_invoice_items_behavior: 'include',
  })
  await billing.stripe.invoices.finalizeInvoice(id)
}

test('what is owed in several currencies is told of each, and the balance is in that of the subscription', async () => {
  const id = await billing.onClock('currencies')
  await billing.post(id, 'payment-methods', { payment_method_id: 'pm_card_visa' })
  // A customer has one currency, and an organization another customer once that one was deleted.
  const former = await customerOf(id)
  await invoiced(former, 'eur', 900)
  await expect
    .poll(() => statusOf(id))
    .toMatchObject({ currency: 'usd', outstanding_balance_cents: 0, outstanding_balances: { eur: 900 } })
  await billing.stripe.customers.del(former)
  await expect.poll(() => statusOf(id)).toMatchObject({ customer_id: null })
  await billing.succeed(id, 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })
  await invoiced(await customerOf(id), 'usd', 250)
  await expect
    .poll(() => statusOf(id))
    .toMatchObject({
      currency: 'usd',
      outstanding_balance_cents: 250,
      outstanding_balances: { eur: 900, usd: 250 },
    })
})
