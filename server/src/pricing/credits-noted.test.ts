import type { Stripe } from 'stripe'
import { describe, expect, test } from 'vitest'
import { testCredits } from '../../test/credits.ts'
import { giveDueCredits } from './credits.ts'

// Credit notes made at Stripe give back of an invoice what a correction may ask for as well.

const billing = testCredits()
const { customerOf, givenTo, newestInvoiceOf, paidMonth, succeed } = billing

type Note = Omit<Stripe.CreditNoteCreateParams, 'invoice'>
type LineOf = (invoice: Stripe.Invoice) => Stripe.InvoiceLineItem

const USE: LineOf = ({ lines }) => lines.data.find(({ amount }) => amount === 140)!
const FEE: LineOf = ({ lines }) => lines.data.find(({ amount }) => amount === 1000)!

/** Makes a note on an organization's newest invoice, of which the mirror then knows. */
async function noteOn(id: string, noteOf: (invoice: Stripe.Invoice) => Note): Promise<Stripe.CreditNote> {
  const invoice = await newestInvoiceOf(id)
  const note = await billing.stripe.creditNotes.create({ invoice: invoice.id, ...noteOf(invoice) })
  await reconcile(id)
  return note
}

/** `amount` off one line, for what this comes to with tax. */
const offLine =
  (lineOf: LineOf, amount: number, back: Note = {}) =>
  (invoice: Stripe.Invoice): Note => ({
    lines: [{ type: 'invoice_line_item', invoice_line_item: lineOf(invoice).id, amount }],
    ...back,
  })

const reconcile = (id: string) => billing.call('operator', 'POST', `/api/v1/organizations/${id}/reconcile`)

async function takeBack(id: string, key: string, quantity: number): Promise<void> {
  await billing.correct(id, key, -quantity)
  await giveDueCredits(billing.context)
}

test('what is taken back of an invoice that credit notes took something off comes back as far as was charged for the rest', async () => {
  const given: [Note, number][] = [
    // Of 1140, of which 140 is use.
    [{ amount: 1100, out_of_band_amount: 1100 }, 40],
    [{ amount: 1140, credit_amount: 1140 }, 0],
    [{ amount: 1140, credit_amount: 100, refund_amount: 1040 }, 0],
    [{ amount: 1000, refund_amount: 1000 }, 70],
  ]
  for (const [note, left] of given) {
    const { id, key } = await paidMonth()
    await noteOn(id, () => note)
    await takeBack(id, key, 100)
    expect(await givenTo(id), JSON.stringify(note)).toEqual(left === 0 ? [] : [left])
  }
})

describe('what a credit note gave back of a line', () => {
  test.each([
    ['all of the line', offLine(USE, 140, { refund_amount: 140 }), []],
    ['what the use had cost', offLine(USE, 70, { credit_amount: 70 }), []],
    ['less', offLine(USE, 50, { out_of_band_amount: 50 }), [20]],
    ['another line', offLine(FEE, 1000, { refund_amount: 1000 }), [70]],
  ] as const)('is not given again for its use: %s', async (_what, note, given) => {
    const { id, key } = await paidMonth()
    await noteOn(id, note)
    await takeBack(id, key, 100)
    expect(await givenTo(id)).toEqual(given)
  })

  test('counts once, however often something is taken back, before the note or after it', async () => {
    const { id, key } = await paidMonth()
    await takeBack(id, key, 20)
    await noteOn(id, offLine(USE, 40, { refund_amount: 40 }))
    for (const quantity of [40, 40, 40]) await takeBack(id, key, quantity)
    // 98 in all: 14 before the note, 40 by it, and the rest.
    expect(await givenTo(id)).toEqual([14, 16, 28])
  })

  test('is with its tax', async () => {
    const id = await billing.customer('starter')
    const rate = await billing.stripe.taxRates.create({ display_name: 'VAT', percentage: 10, inclusive: false })
    const { data } = await billing.stripe.subscriptions.list({ customer: await customerOf(id) })
    await billing.stripe.subscriptions.update(data[0]!.id, { default_tax_rates: [rate.id] })
    await billing.use(id, 'calls', 300, { key: `${id} mistaken` })
    await billing.advance(id, '33d')
    expect(await newestInvoiceOf(id)).toMatchObject({ total: 1254 })
    await noteOn(id, offLine(USE, 70, { refund_amount: 77 }))
    await takeBack(id, `${id} mistaken`, 140)
    // 98 with tax is 107.8.
    expect(await givenTo(id)).toEqual([108 - 77])
  })

  test('before it was paid counts too, unless it was voided', async () => {
    for (const isVoided of [false, true]) {
      const id = await billing.customer('starter')
      await billing.use(id, 'calls', 300, { key: `${id} mistaken` })
      await succeed(id, 'payment-methods', { payment_method_id: 'pm_card_chargeCustomerFail' })
      await billing.advance(id, '33d')
      const { id: invoice } = await newestInvoiceOf(id)
      const note = await noteOn(id, offLine(USE, 140))
      if (isVoided) await billing.stripe.creditNotes.voidCreditNote(note.id)
      await succeed(id, 'payment-methods', { payment_method_id: 'pm_card_visa' })
      await billing.post(id, `invoices/${invoice}/pay`, {})
      await reconcile(id)
      expect(await newestInvoiceOf(id)).toMatchObject({ status: 'paid' })
      await takeBack(id, `${id} mistaken`, 100)
      expect(await givenTo(id)).toEqual(isVoided ? [70] : [])
    }
  })
})

test('what Stripe’s credit grants paid of a line is not given in money', async () => {
  const id = await billing.customer('starter')
  await billing.stripe.billing.creditGrants.create({
    customer: await customerOf(id),
    category: 'promotional',
    amount: { type: 'monetary', monetary: { currency: 'usd', value: 100 } },
    applicability_config: { scope: { price_type: 'metered' } },
  })
  await billing.use(id, 'calls', 300, { key: `${id} mistaken` })
  await billing.advance(id, '33d')
  expect(await newestInvoiceOf(id)).toMatchObject({ subtotal: 1140, total: 1040 })
  await takeBack(id, `${id} mistaken`, 140)
  // 98 of the line's 140, of which 40 were charged.
  expect(await givenTo(id)).toEqual([28])
})
