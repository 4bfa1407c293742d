import { describe, expect, it } from 'vitest'
import type { Stripe } from 'stripe'
import { NOW, startTestSandbox } from '../../../test/contract.ts'
import { idOf } from '../../../test/ids.ts'
import { refusal } from '../../../test/refusal.ts'

async function paid(stripe: Stripe, payment_method = 'pm_card_visa', amount = 1000): Promise<Stripe.PaymentIntent> {
  return stripe.paymentIntents.create({
    amount,
    automatic_payment_methods: { allow_redirects: 'never', enabled: true },
    confirm: true,
    currency: 'usd',
    payment_method,
  })
}

describe('charges', () => {
  it('are listed by customer and intent, newest first, and carry metadata and a receipt address', async () => {
    const { eventTypes, stripe } = await startTestSandbox()
    const first = await paid(stripe)
    await paid(stripe)
    expect((await stripe.charges.list({ payment_intent: first.id })).data.map((charge) => charge.id)).toEqual([
      first.latest_charge,
    ])
    const changed = await stripe.charges.update(idOf(first.latest_charge), {
      metadata: { note: 'x' },
      receipt_email: 'payer@example.com',
    })
    expect(changed).toMatchObject({ metadata: { note: 'x' }, receipt_email: 'payer@example.com' })
    expect(eventTypes().at(-1)).toBe('charge.updated')
  })

  it('can still be made from a token alone', async () => {
    const { stripe } = await startTestSandbox()
    expect(await stripe.charges.create({ amount: 900, currency: 'usd', source: 'tok_visa' })).toMatchObject({
      paid: true,
      payment_intent: null,
    })
    expect(await refusal(stripe.charges.create({ amount: 900, currency: 'usd', source: 'tok_chargeDeclined' }))).toMatchObject({
      code: 'card_declined',
    })
    const held = await stripe.charges.create({ amount: 900, capture: false, currency: 'usd', source: 'tok_visa' })
    expect(await stripe.charges.capture(held.id, { amount: 500 })).toMatchObject({
      amount_captured: 500,
      amount_refunded: 400,
      captured: true,
    })
    expect(await refusal(stripe.charges.capture(held.id))).toMatchObject({ code: 'charge_already_captured' })
  })

  it('are found by what they are, and so are intents', async () => {
    const { stripe } = await startTestSandbox()
    const small = await paid(stripe, 'pm_card_mastercard', 700)
    const large = await paid(stripe, 'pm_card_visa', 7000)
    await refusal(paid(stripe, 'pm_card_visa_chargeDeclined', 7000))
    const found = async (query: string): Promise<string[]> => (await stripe.charges.search({ query })).data.map(({ id }) => id)
    expect(await found("status:'succeeded' AND amount>1000")).toEqual([large.latest_charge])
    expect(await found("payment_method_details.card.last4:'4444'")).toEqual([small.latest_charge])
    const intents = await stripe.paymentIntents.search({ query: "status:'requires_payment_method' OR amount<1000" })
    expect(intents.data).toHaveLength(2)
    expect(await refusal(stripe.charges.search({ query: "colour:'red'" }))).toMatchObject({ statusCode: 400 })
  })

  it('move the balance: what is paid, its fee, what is given back; available two days later', async () => {
    const { sandbox, stripe } = await startTestSandbox()
    const intent = await paid(stripe)
    await stripe.refunds.create({ amount: 400, payment_intent: intent.id })
    await paid(stripe, 'pm_card_bypassPending', 500)
    const { data } = await stripe.balanceTransactions.list()
    expect(data.map(({ amount, fee, net, status, type }) => ({ amount, fee, net, status, type }))).toEqual([
      { amount: 500, fee: 45, net: 455, status: 'available', type: 'charge' },
      { amount: -400, fee: 0, net: -400, status: 'available', type: 'refund' },
      { amount: 1000, fee: 59, net: 941, status: 'pending', type: 'charge' },
    ])
    sandbox.advanceTo(NOW + 2 * 86_400)
    expect((await stripe.balanceTransactions.list({ type: 'charge' })).data.map(({ status }) => status)).toEqual([
      'available',
      'available',
    ])
  })
})

describe('refunds', () => {
  it('give back in parts until nothing is left', async () => {
    const { eventTypes, stripe } = await startTestSandbox()
    const intent = await paid(stripe)
    const first = await stripe.refunds.create({
      amount: 300,
      metadata: { why: 'late' },
      payment_intent: intent.id,
      reason: 'requested_by_customer',
    })
    expect(first).toMatchObject({ amount: 300, metadata: { why: 'late' }, reason: 'requested_by_customer', status: 'succeeded' })
    expect(await stripe.charges.retrieve(idOf(intent.latest_charge))).toMatchObject({ amount_refunded: 300, refunded: false })
    expect((await refusal(stripe.refunds.create({ amount: 701, payment_intent: intent.id }))).message).toBe(
      'Refund amount ($7.01) is greater than unrefunded amount on charge ($7.00)',
    )
    await stripe.refunds.create({ charge: idOf(intent.latest_charge) })
    const charge = await stripe.charges.retrieve(idOf(intent.latest_charge), { expand: ['refunds'] })
    expect(charge).toMatchObject({ amount_refunded: 1000, refunded: true })
    expect(charge.refunds?.data.map(({ amount }) => amount)).toEqual([700, 300])
    expect(await refusal(stripe.refunds.create({ payment_intent: intent.id }))).toMatchObject({ code: 'charge_already_refunded' })
    expect(eventTypes().slice(-4)).toEqual(['refund.created', 'charge.refunded', 'refund.created', 'charge.refunded'])
    expect((await stripe.refunds.list({ payment_intent: intent.id })).data).toHaveLength(2)
    expect(await refusal(stripe.refunds.cancel(first.id))).toMatchObject({ statusCode: 400 })
  })

  it('give back what was captured and not what was released, and release what was not captured', async () => {
    const { stripe } = await startTestSandbox()
    const held = await stripe.charges.create({ amount: 1000, capture: false, currency: 'usd', source: 'tok_visa' })
    await stripe.charges.capture(held.id, { amount: 700 })
    expect((await stripe.refunds.create({ charge: held.id })).amount).toBe(700)
    expect(await stripe.charges.retrieve(held.id)).toMatchObject({ amount_refunded: 1000, refunded: true })
    const other = await stripe.charges.create({ amount: 1000, capture: false, currency: 'usd', source: 'tok_visa' })
    expect(await refusal(stripe.refunds.create({ amount: 1, charge: other.id }))).toMatchObject({ param: 'charge' })
    expect((await stripe.refunds.create({ charge: other.id })).balance_transaction).toBeNull()
    expect(await refusal(stripe.charges.capture(other.id))).toMatchObject({ statusCode: 400 })
  })

  it('stay pending or fail later for the cards that play it', async () => {
    const { events, sandbox, stripe } = await startTestSandbox()
    const [slow, failing] = [await paid(stripe, 'pm_card_pendingRefund'), await paid(stripe, 'pm_card_refundFail')]
    const pending = await stripe.refunds.create({ payment_intent: slow.id })
    const doomed = await stripe.refunds.create({ payment_intent: failing.id })
    expect([pending.status, doomed.status]).toEqual(['pending', 'succeeded'])
    sandbox.advanceTo(NOW + 3600)
    expect((await stripe.refunds.retrieve(pending.id)).status).toBe('succeeded')
    expect(await stripe.refunds.retrieve(doomed.id)).toMatchObject({
      failure_reason: 'expired_or_canceled_card',
      status: 'failed',
    })
    expect(
      events()
        .slice(-2)
        .map(({ type }) => type),
    ).toEqual(['refund.updated', 'refund.failed'])
    expect(await stripe.charges.retrieve(idOf(failing.latest_charge))).toMatchObject({ amount_refunded: 0, refunded: false })
  })
})

describe('disputes', () => {
  it('open with the card that plays them, and take the money until they are won', async () => {
    const { eventTypes, stripe } = await startTestSandbox()
    const intent = await paid(stripe, 'pm_card_createDispute')
    expect(eventTypes().slice(-3)).toEqual([
      'payment_intent.succeeded',
      'charge.dispute.created',
      'charge.dispute.funds_withdrawn',
    ])
    const [dispute] = (await stripe.disputes.list({ payment_intent: intent.id })).data
    expect(dispute).toMatchObject({
      amount: 1000,
      balance_transactions: [{ amount: -1000, fee: 1500, net: -2500 }],
      reason: 'fraudulent',
      status: 'needs_response',
    })
    const id = dispute?.id ?? ''
    expect(await refusal(stripe.refunds.create({ payment_intent: intent.id }))).toMatchObject({ code: 'charge_disputed' })
    expect(await stripe.disputes.update(id, { evidence: { product_description: 'A report' }, submit: false })).toMatchObject({
      evidence: { product_description: 'A report' },
      evidence_details: { has_evidence: true, submission_count: 0 },
      status: 'needs_response',
    })
    expect(await stripe.disputes.update(id, { evidence: { uncategorized_text: 'winning_evidence' } })).toMatchObject({
      balance_transactions: [{ amount: -1000 }, { amount: 1000 }],
      status: 'won',
    })
    expect(eventTypes().slice(-4)).toEqual([
      'charge.dispute.updated',
      'charge.dispute.updated',
      'charge.dispute.closed',
      'charge.dispute.funds_reinstated',
    ])
  })

  it('are lost when accepted, and when nobody answers in time', async () => {
    const { sandbox, stripe } = await startTestSandbox()
    const accepted = await paid(stripe, 'pm_card_createDispute')
    const [first] = (await stripe.disputes.list({ charge: idOf(accepted.latest_charge) })).data
    expect((await stripe.disputes.close(first?.id ?? '')).status).toBe('lost')
    expect(await refusal(stripe.disputes.close(first?.id ?? ''))).toMatchObject({ statusCode: 400 })
    const ignored = await paid(stripe, 'pm_card_createDisputeProductNotReceived')
    const [second] = (await stripe.disputes.list({ payment_intent: ignored.id })).data
    sandbox.advanceTo((second?.evidence_details.due_by ?? 0) + 1)
    expect(await stripe.disputes.retrieve(second?.id ?? '')).toMatchObject({
      evidence_details: { past_due: true },
      status: 'lost',
    })
  })

  it('take no money while they are only inquiries', async () => {
    const { eventTypes, stripe } = await startTestSandbox()
    const intent = await paid(stripe, 'pm_card_createDisputeInquiry')
    const [inquiry] = (await stripe.disputes.list({ payment_intent: intent.id })).data
    expect(inquiry).toMatchObject({ balance_transactions: [], is_charge_refundable: true, status: 'warning_needs_response' })
    expect(eventTypes()).not.toContain('charge.dispute.funds_withdrawn')
  })
})
