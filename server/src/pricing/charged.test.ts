import type { Stripe } from 'stripe'
import { describe, expect, test } from 'vitest'
import { sumsOfPdf } from '../../test/invoice-sums.ts'
import { START } from '../../test/test-clocks.ts'
import { USE_CATALOG } from '../../test/use-catalog.ts'
import { testUse } from '../../test/used.ts'
import { sumRevenue } from '../analytics/reports-store.ts'
import { HOUR_MS } from '../lib/period.ts'
import { readOrganization } from '../stripe/organizations.ts'
import { collectUse } from './collect.ts'
import { giveCredits, giveDueCredits } from './credits.ts'
import { readStatement } from './statement.ts'

// From what use costs to what is charged for it: discounts, taxes on top and within prices, and credits that are larger than an invoice.

const billing = testUse(USE_CATALOG)

const customerOf = async (id: string) => (await readOrganization(billing.database.db, id)).customerId!

async function subscriptionOf(id: string): Promise<string> {
  const [subscription] = (await billing.stripe.subscriptions.list({ customer: await customerOf(id) })).data
  return subscription!.id
}

/** The newest, each of a moment of its own. */
async function newestInvoice(id: string): Promise<Stripe.Invoice> {
  return (await billing.stripe.invoices.list({ customer: await customerOf(id), limit: 1 })).data[0]!
}

/** What the customer's balance at Stripe has for the next invoices. */
async function creditOf(id: string): Promise<number> {
  return 0 - ((await billing.stripe.customers.retrieve(await customerOf(id))) as Stripe.Customer).balance
}

const reconcile = (id: string) => billing.call('operator', 'POST', `/api/v1/organizations/${id}/reconcile`)

/** What one invoice brought, each organization's paid at a time of its own. */
async function revenueOf(invoice: Stripe.Invoice): Promise<{ paid: number; usage: number }> {
  const at = invoice.status_transitions.paid_at! * 1000
  const [sum] = await sumRevenue(billing.database.db, [new Date(at), new Date(at + 1)])
  return { paid: Number(sum!.paidMinor), usage: Number(sum!.usageMinor) }
}

/** A month at 1000 with 200 calls beyond the allowance, which cost 140, on terms that its seller has made at Stripe. */
async function month(hours: number, terms: Stripe.SubscriptionUpdateParams): Promise<{ id: string; invoice: Stripe.Invoice }> {
  const id = await billing.customer('starter', 'monthly', new Date(START.getTime() + hours * HOUR_MS))
  await billing.advance(id, '1h')
  await billing.stripe.subscriptions.update(await subscriptionOf(id), terms)
  await reconcile(id)
  const began = await billing.nowOf(id)
  await billing.use(id, 'calls', 300, { key: `${id} mistaken` })
  await reconcile(id)
  await billing.advance(id, '33d')
  const invoice = await newestInvoice(id)
  // The statement is without discounts and taxes on top.
  expect(await readStatement(billing.context, { organizationId: id, at: began })).toMatchObject({ totalMinor: invoice.subtotal })
  expect(invoice).toMatchObject({ status: 'paid', subtotal: 1140 })
  return { id, invoice }
}

describe('what use brought', () => {
  test('is what its lines came to with discounts off, and without the tax on top', async () => {
    const [half, rate] = await Promise.all([
      billing.stripe.coupons.create({ percent_off: 50, duration: 'forever' }),
      billing.stripe.taxRates.create({ display_name: 'Sales tax', inclusive: false, percentage: 20 }),
    ])
    const { id, invoice } = await month(1, { discounts: [{ coupon: half.id }], default_tax_rates: [rate.id] })
    expect(await sumsOfPdf(billing, id, invoice.id)).toEqual([
      'Subtotal 11.40 USD',
      'Discounts -5.70 USD',
      'Tax 1.14 USD',
      'Total 6.84 USD',
      'Paid 6.84 USD',
      'Remaining 0.00 USD',
    ])
    expect(await revenueOf(invoice)).toEqual({ paid: 684, usage: 70 })
    // Half of it is taken back: 70 of 140, for which half was charged, and a fifth of that for tax.
    // What more of it is taken back comes to what both cost together, whatever each was rounded to.
    for (const [quantity, credit] of [
      [100, 42],
      [1, 43],
      [2, 43],
    ] as const) {
      await billing.correct(id, `${id} mistaken`, -quantity)
      await giveDueCredits(billing.context)
      expect(await creditOf(id)).toBe(credit)
    }
  })

  test('is without the tax that its price includes', async () => {
    const rate = await billing.stripe.taxRates.create({ display_name: 'VAT', inclusive: true, percentage: 25 })
    const { id, invoice } = await month(2, { default_tax_rates: [rate.id] })
    expect(await sumsOfPdf(billing, id, invoice.id)).toEqual([
      'Subtotal 11.40 USD',
      'Total 11.40 USD',
      'Tax included 2.28 USD',
      'Paid 11.40 USD',
      'Remaining 0.00 USD',
    ])
    expect(await revenueOf(invoice)).toEqual({ paid: 1140, usage: 112 })
    await billing.correct(id, `${id} mistaken`, -100)
    await giveDueCredits(billing.context)
    expect(await creditOf(id)).toBe(70)
  })
})

test('what is taken back of two lines of an invoice is in all no more than was not refunded of it', async () => {
  const id = await billing.customer('starter')
  await billing.use(id, 'calls', 300, { key: `${id} calls` })
  await billing.use(id, 'tokens', 1500, { key: `${id} tokens` })
  await billing.advance(id, '33d')
  const invoice = await newestInvoice(id)
  expect(invoice).toMatchObject({ status: 'paid', total: 1000 + 140 + 20 })
  const charge = billing.sandbox.all('charge').find(({ customer, amount }) => customer === invoice.customer && amount === 1160)
  const refund = async (amount: number) => {
    await billing.stripe.refunds.create({ charge: charge!.id, amount })
    await reconcile(id)
  }
  const takeBack = async (meter: string, quantity: number) => {
    await billing.correct(id, `${id} ${meter}`, -quantity)
    await giveDueCredits(billing.context)
    return creditOf(id)
  }
  await refund(1010)
  expect(await takeBack('calls', 190)).toBe(133)
  expect(await takeBack('tokens', 1500)).toBe(150)
  // More was given back in all than was paid: nothing is asked for again.
  await refund(150)
  expect(await takeBack('calls', 10)).toBe(150)
})

test('what is taken back of one organization leaves every other as it is', async () => {
  const changed = async () => {
    const id = await billing.customer('starter')
    await billing.use(id, 'calls', 130, { key: `${id} mistaken` })
    await billing.advance(id, '3d')
    await billing.succeed(id, 'upgrade', { new_tier: 'pro' })
    return id
  }
  const [one, other] = [await changed(), await changed()]
  const costsOf = async (id: string) => {
    const { body } = await billing.ask('GET', '/api/v1/usage/explain?balance=calls', undefined, id)
    return (body['grants'] as { overage_cost: { amount_minor: number } | null }[]).map(
      (grant) => grant.overage_cost?.amount_minor ?? 0,
    )
  }
  expect(await costsOf(other)).toEqual([21])
  await billing.correct(one, `${one} mistaken`, -130)
  await collectUse(billing.context, one)
  expect([await costsOf(one), await costsOf(other)]).toEqual([[0], [21]])

  await billing.correct(other, `${other} mistaken`, -130)
  await collectUse(billing.context, other)
  await billing.context.db.session((session) => giveCredits(billing.context, session, other))
  expect([await creditOf(one), await creditOf(other)]).toEqual([0, 21])
  await giveDueCredits(billing.context)
  expect([await creditOf(one), await creditOf(other)]).toEqual([21, 21])
})

test('a credit that is larger than the next invoices pays them, one after the other, and what is left stays when they leave', async () => {
  const id = await billing.customer('pro', 'yearly')
  const change = (what: string, body: object) => billing.call(id, 'POST', `/api/v1/billing/${what}`, body)
  const balance = async () => {
    const { rows } = await billing.database.db.query<{ balance: number }>(
      'select balance_minor::int as balance from stripe_customers where organization_id = $1',
      [id],
    )
    const atStripe = await billing.stripe.customers.retrieve(await customerOf(id))
    expect(atStripe).toMatchObject({ balance: rows[0]!.balance })
    return rows[0]!.balance
  }
  const mrr = async () => {
    const { rows } = await billing.database.db.query<{ mrr: number }>(
      'select (mrr / 1000000)::int as mrr from mrr_accounts where organization_id = $1',
      [id],
    )
    return rows[0]!.mrr
  }
  expect([await balance(), await mrr()]).toEqual([0, 2500])
  expect((await change('upgrade', { new_tier: 'starter', interval: 'monthly' })).status).toBe(200)
  const [credit, larger] = [await balance(), (await billing.stripe.invoices.list({ customer: await customerOf(id) })).data]
  const negative = larger.find(({ total }) => total < 0)!
  expect([credit, await mrr()]).toEqual([negative.total, 1000])
  expect(negative).toMatchObject({ status: 'paid', amount_due: 0, amount_paid: 0 })
  const amount = (minor: number) => `${(minor / 100).toFixed(2)} USD`
  expect(await sumsOfPdf(billing, id, negative.id)).toEqual([
    `Subtotal ${amount(negative.subtotal)}`,
    `Total ${amount(negative.total)}`,
    `Customer balance ${amount(-negative.total)}`,
    'Paid 0.00 USD',
    'Remaining 0.00 USD',
  ])
  for (const months of [1, 2]) {
    await billing.advance(id, '32d')
    expect(await balance()).toBe(credit + 1000 * months)
    const renewal = await newestInvoice(id)
    expect(await sumsOfPdf(billing, id, renewal.id)).toEqual([
      'Subtotal 10.00 USD',
      'Total 10.00 USD',
      'Customer balance -10.00 USD',
      'Paid 0.00 USD',
      'Remaining 0.00 USD',
    ])
  }
  const status = await billing.call(id, 'GET', `/api/v1/billing/status/tenant/${id}`)
  expect(status.body).toMatchObject({ is_delinquent: false, outstanding_balance_cents: 0, next_invoice_amount_cents: 0 })
  const aging = await billing.call('operator', 'GET', '/api/v1/admin/analytics/aging')
  expect(aging.body).toMatchObject({ currencies: [] })
  expect((await change('cancel', { immediate: true })).status).toBe(200)
  expect([await balance(), await mrr()]).toEqual([credit + 2000, 0])
  // Who comes back pays with it.
  expect((await change('subscribe', { tier: 'starter', payment_method_id: 'pm_card_visa' })).status).toBe(200)
  expect([await balance(), await mrr()]).toEqual([credit + 3000, 1000])
})
