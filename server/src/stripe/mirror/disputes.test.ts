import fc from 'fast-check'
import type { Stripe } from 'stripe'
import { describe, expect, test, vi } from 'vitest'
import { PATIENCE } from '../../../test/patience.ts'
import { buyPro, payOn } from '../../../test/purchases.ts'
import { testSubscriptions } from '../../../test/subscriptions.ts'
import { withOrganizationLock } from '../intents/lock.ts'
import { reconcileOrganization } from '../reconcile/reconcile.ts'
import { disputeOutcome, unpaidSince } from './dispute-rules.ts'

const billing = testSubscriptions()
const { post, subscriptionOf } = billing
// Several things are waited for one after the other.
vi.setConfig({ testTimeout: 60_000 })

/** An organization that has paid its first month with a card. */
async function paying(id: string, paymentMethodId: string): Promise<{ charge: string }> {
  await billing.createOrganization(id)
  await buyPro(billing.context, { organizationId: id, paymentMethodId })
  const [row] = await rowsOf<{ customer: string }>('select stripe_customer_id as customer from organizations where id = $1', [id])
  const { data } = await billing.stripe.charges.list({ customer: row!.customer })
  return { charge: data[0]!.id }
}

const rowsOf = async <Row extends object>(statement: string, values: unknown[] = []) =>
  (await billing.database.db.query<Row>(statement, values)).rows

async function invoiceOf(id: string): Promise<Record<string, unknown>> {
  const { body } = await billing.call(id, 'GET', '/api/v1/billing/invoices')
  return (body as unknown as Record<string, unknown>[])[0]!
}

async function failedAt(id: string): Promise<Date | null> {
  const [row] = await rowsOf<{ at: Date | null }>('select payment_failed_at as at from accounts where organization_id = $1', [id])
  return row!.at
}

const told = async (id: string) =>
  (
    await rowsOf<{ type: string }>(
      `select type from events where organization_id = $1 and type ~ '^(payment|dispute)' order by sequence`,
      [id],
    )
  ).map(({ type }) => type)

async function disputeOf(charge: string): Promise<Stripe.Dispute> {
  const { data } = await billing.stripe.disputes.list({ charge })
  return data[0]!
}

describe('a refund', () => {
  test('shows in the invoice, the timeline, the events and the revenue, and changes no standing', async () => {
    const { charge } = await paying('refunded', 'pm_card_visa')
    expect(await invoiceOf('refunded')).toMatchObject({ amount_refunded_minor: 0, dispute: null })
    const listed = await billing.fetch('refunded', '/api/v1/billing/invoices')
    expect(listed.headers.get('x-synced-at')).toMatch(/^20\d\d-/)
    await billing.stripe.refunds.create({ charge, amount: 900 })
    await expect
      .poll(() => invoiceOf('refunded'), PATIENCE)
      .toMatchObject({ status: 'paid', amount_refunded_minor: 900, amount_refunded: 9 })
    await billing.stripe.refunds.create({ charge })
    await expect.poll(() => invoiceOf('refunded'), PATIENCE).toMatchObject({ status: 'paid', amount_refunded_minor: 2900 })
    await expect.poll(() => told('refunded'), PATIENCE).toEqual(['payment.refunded', 'payment.refunded'])
    expect(await failedAt('refunded')).toBeNull()
    const { body } = await billing.call('operator', 'GET', '/api/v1/admin/analytics/revenue?interval=month')
    const points = (body['currencies'] as { points: Record<string, number>[] }[])[0]!.points
    expect(points.at(-1)).toMatchObject({ paid_minor: 2900, refunded_minor: 2900, disputed_minor: 0, net_minor: 0 })
    const timeline = await billing.call('operator', 'GET', '/api/v1/admin/organizations/refunded/timeline?kind=billing')
    expect(JSON.stringify(timeline.body)).toContain('payment.refunded')
  })
})

describe('a dispute', () => {
  test('shows with its deadline while it is open, and changes no standing and no revenue', async () => {
    const { charge } = await paying('open', 'pm_card_createDispute')
    const dispute = await disputeOf(charge)
    await expect
      .poll(() => invoiceOf('open'), PATIENCE)
      .toMatchObject({
        status: 'paid',
        dispute: {
          id: dispute.id,
          status: 'needs_response',
          reason: 'fraudulent',
          amount_minor: 2900,
          respond_by: new Date(dispute.evidence_details.due_by! * 1000).toISOString(),
        },
      })
    expect(await told('open')).toEqual(['dispute.opened'])
    expect(await failedAt('open')).toBeNull()
    const { body } = await billing.call('operator', 'GET', '/api/v1/admin/analytics/revenue?interval=month')
    const [{ points }] = body['currencies'] as [{ points: Record<string, number>[] }]
    expect(points.at(-1)).toMatchObject({ paid_minor: 2 * 2900, disputed_minor: 0, net_minor: 2900 })
  })

  test('that is lost counts like a failed payment from then on, and lowers revenue', async () => {
    const { charge } = await paying('lost', 'pm_card_createDispute')
    await billing.stripe.disputes.close((await disputeOf(charge)).id)
    await expect.poll(() => invoiceOf('lost'), PATIENCE).toMatchObject({ status: 'paid', dispute: { status: 'lost' } })
    await expect.poll(() => failedAt('lost'), PATIENCE).not.toBeNull()
    await expect.poll(() => told('lost'), PATIENCE).toEqual(['dispute.opened', 'dispute.closed'])
    const since = await failedAt('lost')
    // Looking again moves nothing.
    await expect.poll(() => reconcileOrganization(billing.context, 'lost'), PATIENCE).toEqual([])
    expect(await failedAt('lost')).toEqual(since)
  })

  test('that is lost says what happened, how much it is about and what to do, and is settled by paying it again', async () => {
    const { charge } = await paying('pays_again', 'pm_card_createDispute')
    const { id } = await disputeOf(charge)
    const pay = (caller: string) => post(caller, `disputes/${id}/pay`)
    expect((await pay('pays_again')).status).toBe(404)
    await billing.stripe.disputes.close(id)
    await expect.poll(() => failedAt('pays_again'), PATIENCE).not.toBeNull()
    const standing = async () => (await subscriptionOf('pays_again'))['standing']
    expect(await standing()).toMatchObject({
      state: 'grace',
      notices: [
        {
          code: 'payment_charged_back',
          message: `A payment of 29.00 USD was charged back (fraudulent), and the dispute was lost. POST /api/v1/billing/disputes/${id}/pay opens a page where it is paid again; the next payment for the subscription settles it too.`,
        },
      ],
    })
    const [reminder] = await rowsOf<{ data: Record<string, unknown> }>(
      `select data from events where organization_id = 'pays_again' and type = 'dunning.reminder'`,
    )
    expect(reminder!.data).toMatchObject({
      step: 'failed',
      charged_back: { dispute_id: id, amount_minor: 2900, currency: 'usd' },
    })
    await paying('stranger', 'pm_card_visa')
    expect((await pay('stranger')).status).toBe(404)
    const { url } = (await pay('pays_again')).body as { url: string }
    const both = await Promise.all([pay('pays_again'), pay('pays_again')])
    expect(both.map(({ body }) => body['url'])).toEqual([url, url])
    const elsewhere = await post('pays_again', `disputes/${id}/pay`, {
      success_url: 'http://localhost:3000/other',
    })
    expect(elsewhere.body['url']).not.toBe(url)
    expect(billing.sandbox.all('checkout.session').map(({ status }) => status)).toEqual(['expired', 'open'])
    const { url: openUrl } = elsewhere.body as { url: string }
    expect((await payOn(openUrl)).status).toBe(303)
    await expect.poll(() => failedAt('pays_again'), PATIENCE).toBeNull()
    expect(await standing()).toMatchObject({ state: 'active', notices: [] })
    expect((await pay('pays_again')).status).toBe(404)
  })

  test('that was lost before it was ever heard of counts from its beginning, and is settled by what was paid since', async () => {
    const { charge } = await paying('lost_long_ago', 'pm_card_createDispute')
    const dispute = await disputeOf(charge)
    await billing.stripe.disputes.close(dispute.id)
    await expect.poll(() => failedAt('lost_long_ago'), PATIENCE).not.toBeNull()
    // Under the lock: what is being applied meanwhile has seen the dispute, and would write it as one that ended when it was heard of.
    await withOrganizationLock(billing.context, 'lost_long_ago', (session) =>
      session.query(`delete from stripe_disputes where organization_id = 'lost_long_ago'`),
    )
    await expect.poll(() => reconcileOrganization(billing.context, 'lost_long_ago'), PATIENCE).not.toBeNull()
    expect(await failedAt('lost_long_ago')).toEqual(new Date(dispute.created * 1000))
  })

  test('that is won leaves everything as it was', async () => {
    const { charge } = await paying('won', 'pm_card_createDispute')
    const { id } = await disputeOf(charge)
    await expect.poll(() => told('won'), PATIENCE).toEqual(['dispute.opened'])
    await billing.stripe.disputes.update(id, { evidence: { uncategorized_text: 'winning_evidence' }, submit: true })
    await expect.poll(() => invoiceOf('won'), PATIENCE).toMatchObject({ dispute: { status: 'won' } })
    expect(await told('won')).toEqual(['dispute.opened', 'dispute.closed'])
    expect(await failedAt('won')).toBeNull()
  })

  test('counts from when it is opened where that is the policy, until it is won', async () => {
    const strict = billing.with({ policy: { ...billing.context.policy, disputeCounts: 'opened' } })
    const { charge } = await paying('strict', 'pm_card_createDispute')
    // The workers of this test go by the default, so it is looked at until the policy of this one has had the last word.
    const failedByStrict = async () => {
      await reconcileOrganization(strict, 'strict')
      return failedAt('strict')
    }
    await expect.poll(failedByStrict, PATIENCE).not.toBeNull()
    const { id } = await disputeOf(charge)
    await billing.stripe.disputes.update(id, { evidence: { uncategorized_text: 'winning_evidence' }, submit: true })
    await expect.poll(failedByStrict, PATIENCE).toBeNull()
  })

  test('is heard of by its own events alone, which name no customer', async () => {
    await paying('heard', 'pm_card_createDispute')
    await expect
      .poll(
        () =>
          rowsOf(
            `select distinct outcome, organization_id from stripe_events where object_type = 'dispute' and organization_id = 'heard'`,
          ),
        PATIENCE,
      )
      .toEqual([{ outcome: 'applied', organization_id: 'heard' }])
    expect(await rowsOf(`select 1 from stripe_events where object_type = 'dispute' and outcome = 'ignored'`)).toEqual([])
  })
})

describe('since when a dispute leaves a subscription unpaid', () => {
  const createdAt = new Date('2026-03-01T00:00:00Z')
  const closedAt = new Date('2026-03-20T00:00:00Z')
  const lost = { subscriptionId: 'sub_1', status: 'lost', createdAt, closedAt, lastPaidAt: null }

  test('is when it was lost, or opened, or never, as the policy says', () => {
    expect(unpaidSince(lost, 'lost')).toEqual(closedAt)
    expect(unpaidSince(lost, 'opened')).toEqual(createdAt)
    expect(unpaidSince(lost, 'never')).toBeNull()
    const open = { ...lost, status: 'under_review', closedAt: null }
    expect(unpaidSince(open, 'lost')).toBeNull()
    expect(unpaidSince(open, 'opened')).toEqual(createdAt)
  })

  test('is never for what took no money, or is paid again', () => {
    const counts = fc.constantFrom('never', 'lost', 'opened')
    const harmless = fc.constantFrom('won', 'warning_needs_response', 'warning_under_review', 'warning_closed', 'prevented')
    fc.assert(
      fc.property(harmless, counts, (status, policy) => {
        expect(unpaidSince({ ...lost, status }, policy)).toBeNull()
      }),
    )
    expect(unpaidSince({ ...lost, lastPaidAt: new Date('2026-04-01T00:00:00Z') }, 'lost')).toBeNull()
    expect(unpaidSince({ ...lost, lastPaidAt: new Date('2026-02-20T00:00:00Z') }, 'lost')).toEqual(closedAt)
  })

  test('a status that is not known yet is open', () => {
    expect(disputeOutcome('some_new_status')).toBe('open')
  })
})

test('every line of an invoice is mirrored, also those that Stripe does not send along', async () => {
  await billing.createOrganization('long')
  await paying('long_payer', 'pm_card_visa')
  const [row] = await rowsOf<{ customer: string }>(
    `select stripe_customer_id as customer from organizations where id = 'long_payer'`,
  )
  const customer = row!.customer
  const invoice = await billing.stripe.invoices.create({ customer, auto_advance: false })
  for (let item = 0; item < 23; item += 1) {
    await billing.stripe.invoiceItems.create({
      customer,
      invoice: invoice.id,
      amount: 100,
      currency: 'usd',
      description: `line ${item}`,
    })
  }
  await billing.stripe.invoices.finalizeInvoice(invoice.id)
  const lines = () =>
    rowsOf<{ lines: number; total: number }>(
      `select jsonb_array_length(data -> 'lines' -> 'data') as lines, total_minor::int as total from stripe_invoices where id = $1`,
      [invoice.id],
    )
  await expect.poll(lines, PATIENCE).toEqual([{ lines: 23, total: 2300 }])
})

// The last one: Stripe's clock is ahead of ours from here on.
test('a refund that the bank sends back is none any more, of a payment from before others too', async () => {
  const { charge } = await paying('sent_back', 'pm_card_refundFail')
  const customer = (await billing.stripe.charges.retrieve(charge)).customer as string
  for (let made = 0; made < 4; made += 1) {
    const params = { amount: 500, currency: 'usd', customer, payment_method: 'pm_card_visa', confirm: true }
    await billing.stripe.paymentIntents.create({ ...params, off_session: true })
  }
  await billing.stripe.refunds.create({ charge })
  await expect.poll(() => invoiceOf('sent_back'), PATIENCE).toMatchObject({ amount_refunded_minor: 2900 })
  // A card of tests takes a refund, and sends it back a minute later.
  billing.sandbox.advanceTo(Math.floor(Date.now() / 1000) + 120)
  await expect.poll(() => invoiceOf('sent_back'), PATIENCE).toMatchObject({ status: 'paid', amount_refunded_minor: 0 })
  // One of the same sum is another refund, and told.
  await billing.stripe.refunds.create({ charge })
  await expect.poll(() => invoiceOf('sent_back'), PATIENCE).toMatchObject({ amount_refunded_minor: 2900 })
  expect(await told('sent_back')).toEqual(['payment.refunded', 'payment.refunded'])
})
