import { describe, expect, test, vi } from 'vitest'
import { PATIENCE } from '../../../test/patience.ts'
import { sumsOfPdf } from '../../../test/invoice-sums.ts'
import { testSubscriptions } from '../../../test/subscriptions.ts'

// Credit notes are made at Stripe's: on an open invoice they lower what is due, on a paid one they refund, go to the customer's balance, or say that the
// money was given back elsewhere.

const billing = testSubscriptions()
const { advance, onClock, post, succeed } = billing
vi.setConfig({ testTimeout: 60_000 })

type Invoice = Readonly<Record<string, unknown>> & { readonly id: string }

const newestOf = async (id: string): Promise<Invoice> => {
  const { body } = await billing.call(id, 'GET', '/api/v1/billing/invoices')
  return (body as unknown as Invoice[])[0]!
}

let hours = 0

/** An organization that has paid its first month of 2900, each at an hour of its own, by which its revenue is found. */
async function paying(id: string): Promise<string> {
  await onClock(id)
  await advance(id, `${(hours += 1)}h`)
  await succeed(id, 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })
  return (await newestOf(id)).id
}

/** One whose card declines the second month: an open invoice of 2900. */
async function owing(id: string): Promise<string> {
  await paying(id)
  await post(id, 'payment-methods', { payment_method_id: 'pm_card_chargeCustomerFail' })
  await advance(id, '31d')
  await advance(id, '2h')
  expect(await newestOf(id)).toMatchObject({ status: 'open', amount_remaining_minor: 2900 })
  return (await newestOf(id)).id
}

const standingOf = async (id: string) =>
  (await billing.call(id, 'GET', `/api/v1/billing/status/tenant/${id}`)).body['is_delinquent']

async function revenueOf(id: string): Promise<Readonly<Record<string, number>>> {
  const { rows } = await billing.database.db.query<{ at: Date }>(
    `select max(paid_at) as at from stripe_invoices where organization_id = $1 and amount_paid_minor > 0`,
    [id],
  )
  const at = rows[0]!.at.getTime()
  const span = `from=${new Date(at - 1000).toISOString()}&to=${new Date(at + 1000).toISOString()}`
  const { body } = await billing.call('operator', 'GET', `/api/v1/admin/analytics/revenue?interval=day&${span}`)
  const { currencies } = body as { currencies: { points: Record<string, number>[] }[] }
  const sum = (key: string) => currencies[0]!.points.reduce((total, point) => total + point[key]!, 0)
  return { paid: sum('paid_minor'), refunded: sum('refunded_minor'), net: sum('net_minor') }
}

describe('a credit note on an open invoice', () => {
  test('lowers what is owed, and is shown; voided, it is owed again', async () => {
    const invoice = await owing('lowered')
    const note = await billing.stripe.creditNotes.create({ invoice, amount: 1000 })
    await expect
      .poll(() => newestOf('lowered'), PATIENCE)
      .toMatchObject({ status: 'open', amount_remaining_minor: 1900, amount_credited_minor: 1000, amount_credited: 10 })
    expect(await standingOf('lowered')).toBe(true)
    expect(await sumsOfPdf(billing, 'lowered', invoice)).toEqual([
      'Subtotal 29.00 USD',
      'Total 29.00 USD',
      'Credit notes -10.00 USD',
      'Paid 0.00 USD',
      'Remaining 19.00 USD',
    ])
    await billing.stripe.creditNotes.voidCreditNote(note.id)
    await expect
      .poll(() => newestOf('lowered'), PATIENCE)
      .toMatchObject({ amount_remaining_minor: 2900, amount_credited_minor: 0 })
  })

  test('of all of it settles it: nobody owes any more, and nothing was paid', async () => {
    const invoice = await owing('settled')
    expect(await standingOf('settled')).toBe(true)
    await billing.stripe.creditNotes.create({ invoice, amount: 2900 })
    await expect
      .poll(() => newestOf('settled'), PATIENCE)
      .toMatchObject({ status: 'paid', amount_remaining_minor: 0, amount_paid_minor: 0, amount_credited_minor: 2900 })
    await expect.poll(() => standingOf('settled'), PATIENCE).toBe(false)
  })
})

describe('a credit note on a paid invoice', () => {
  test('refunds, and is shown as a refund too', async () => {
    const invoice = await paying('refunded')
    await billing.stripe.creditNotes.create({ invoice, amount: 900, refund_amount: 900 })
    await expect
      .poll(() => newestOf('refunded'), PATIENCE)
      .toMatchObject({ amount_paid_minor: 2900, amount_refunded_minor: 900, amount_credited_minor: 900 })
    expect(await sumsOfPdf(billing, 'refunded', invoice)).toEqual([
      'Subtotal 29.00 USD',
      'Total 29.00 USD',
      'Paid 29.00 USD',
      'Remaining 0.00 USD',
      'Credited afterwards 9.00 USD',
      'Refunded 9.00 USD',
    ])
    expect(await revenueOf('refunded')).toEqual({ paid: 2900, refunded: 900, net: 2000 })
  })

  test('goes to the balance, and lowers what the next one takes', async () => {
    const invoice = await paying('balance')
    await billing.stripe.creditNotes.create({ invoice, amount: 900, credit_amount: 900 })
    await expect.poll(() => newestOf('balance'), PATIENCE).toMatchObject({ amount_refunded_minor: 0, amount_credited_minor: 900 })
    expect(await revenueOf('balance')).toEqual({ paid: 2900, refunded: 0, net: 2900 })
    await advance('balance', '31d')
    await advance('balance', '2h')
    const next = await newestOf('balance')
    expect(next).toMatchObject({ amount_due_minor: 2000, amount_paid_minor: 2000, amount_credited_minor: 0 })
    expect(await sumsOfPdf(billing, 'balance', next.id)).toEqual([
      'Subtotal 29.00 USD',
      'Total 29.00 USD',
      'Customer balance -9.00 USD',
      'Paid 20.00 USD',
      'Remaining 0.00 USD',
    ])
  })

  test('that says that money was given back elsewhere lowers the revenue like a refund', async () => {
    const invoice = await paying('elsewhere')
    await billing.stripe.creditNotes.create({
      invoice,
      amount: 2900,
      out_of_band_amount: 400,
      refund_amount: 2000,
      credit_amount: 500,
    })
    await expect
      .poll(() => newestOf('elsewhere'), PATIENCE)
      .toMatchObject({ amount_credited_minor: 2900, amount_refunded_minor: 2000 })
    expect(await revenueOf('elsewhere')).toEqual({ paid: 2900, refunded: 2400, net: 500 })
  })

  test('is heard of by its own event alone, however old its invoice is', async () => {
    const invoice = await paying('old')
    for (let month = 0; month < 4; month += 1) await advance('old', '31d')
    await billing.sandbox.settled()
    await billing.stripe.creditNotes.create({ invoice, amount: 100, out_of_band_amount: 100 })
    const heard = async () => {
      const { rows } = await billing.database.db.query(
        `select object_id, outcome, organization_id from stripe_events where type = 'credit_note.created' and organization_id = 'old'`,
      )
      return rows
    }
    await expect.poll(heard, PATIENCE).toEqual([{ object_id: invoice, outcome: 'applied', organization_id: 'old' }])
  })
})
