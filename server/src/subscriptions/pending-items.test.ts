import type { Stripe } from 'stripe'
import { describe, expect, test } from 'vitest'
import { failing, KILLED } from '../../test/failing.ts'
import { changeByOperator } from '../../test/purchases.ts'
import { testUse } from '../../test/used.ts'
import { sumRevenue } from '../analytics/reports-store.ts'
import { HOUR_MS } from '../lib/period.ts'
import { giveDueCredits } from '../pricing/credits.ts'
import { readStatement } from '../pricing/statement.ts'
import type { BillingContext } from '../stripe/context.ts'
import { StripeCallError } from '../stripe/gateway/errors.ts'
import { finishStrandedIntents } from '../stripe/intents/finish-intents.ts'
import { finishChanges } from './jobs.ts'

// The invoice of a change takes along what waits for the next one. A change that waits for the bank and is never paid leaves that as it was.

const billing = testUse({
  meters: { calls: {} },
  plans: {
    free: { name: 'Free', allowances: {} },
    basic: { name: 'Basic', prices: { monthly: { amountMinor: 900 } }, allowances: {} },
    pro: {
      name: 'Pro',
      prices: { monthly: { amountMinor: 2900 } },
      allowances: { calls: { amount: 100, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: 7 } } },
    },
    max: { name: 'Max', prices: { monthly: { amountMinor: 9900 } }, allowances: {} },
  },
  defaultPlan: 'free',
})
const { invoicesOf, subscriptionOf, succeed } = billing
const BILLING = '/api/v1/billing'
const ASKS = { payment_method_id: 'pm_card_authenticationRequired' }
const GOOD = { payment_method_id: 'pm_card_visa' }
const USED = 350

/** What the invoices of a status ask for, in minor units. */
const dueOf = async (id: string, status: string) =>
  (await invoicesOf(id))
    .filter((invoice) => invoice.status === status)
    .map(({ amount_due_minor: due }) => due)
    .sort((a, b) => a - b)

async function customerOf(id: string): Promise<string> {
  return String((await subscriptionOf(id))['stripe_customer_id'])
}

/** What all organizations have paid for use, in minor units. */
async function revenueOfUse(): Promise<number> {
  const ever = [new Date('2000-01-01T00:00:00Z'), new Date('2100-01-01T00:00:00Z')]
  const sums = await sumRevenue(billing.context.db, ever)
  return sums.reduce((sum, { usageMinor }) => sum + Number(usageMinor), 0)
}

/** What waits for the customer's next invoice at Stripe, in minor units. */
async function pendingOf(id: string): Promise<readonly number[]> {
  const { data } = await billing.stripe.invoiceItems.list({ customer: await customerOf(id), pending: true })
  return data.map(({ amount }) => amount)
}

const balanceOf = async (id: string) =>
  ((await billing.stripe.customers.retrieve(await customerOf(id))) as Stripe.Customer).balance

/** Paused after 50 calls beyond the allowance, resumed after the period with a card whose bank asks. */
async function askedToResume(): Promise<{ id: string; began: Date; invoiceId: string; key: string }> {
  const id = await billing.customer('pro')
  const began = await billing.nowOf(id)
  const key = `${id} mistaken`
  await billing.advance(id, '5d')
  await billing.use(id, 'calls', 150, { key })
  await succeed(id, 'pause')
  await succeed(id, 'payment-methods', ASKS)
  await billing.advance(id, '32d')
  expect(await succeed(id, 'resume')).toMatchObject({ status: 'paused', requires_action: true })
  expect(await dueOf(id, 'open')).toEqual([2900 + USED])
  const waiting = (await invoicesOf(id)).find(({ status }) => status === 'open')
  expect(await pendingOf(id)).toEqual([])
  return { id, began, invoiceId: waiting!.id, key }
}

/** Down to a smaller plan in the middle of the month, whose credit waits; then up with a card whose bank asks. */
async function askedToUpgrade(): Promise<{ id: string; invoiceId: string; credit: number }> {
  const id = await billing.customer('pro')
  await billing.advance(id, '15d')
  await succeed(id, 'downgrade', { new_tier: 'basic', at: 'now' })
  const credit = (await pendingOf(id)).reduce((sum, amount) => sum + amount, 0)
  expect(credit).toBeLessThan(-900)
  await succeed(id, 'payment-methods', ASKS)
  expect(await succeed(id, 'upgrade', { new_tier: 'max' })).toMatchObject({ requires_action: true })
  const waiting = (await invoicesOf(id)).find(({ status }) => status === 'open')
  expect(await pendingOf(id)).toEqual([])
  return { id, invoiceId: waiting!.id, credit }
}

/** The ways in which nobody pays an invoice that waits for the bank. */
const UNPAID = {
  expires: (id: string) => billing.advance(id, '1d'),
  'is voided at Stripe': (_id: string, invoiceId: string) => billing.stripe.invoices.voidInvoice(invoiceId),
}
const WAYS = Object.keys(UNPAID) as (keyof typeof UNPAID)[]

/** A server that is killed when Stripe has voided an invoice. */
const dyingAtTheVoid = () => failing(billing.context, 'after', 'void_invoice', KILLED)

describe('use that a resumption was to bill', () => {
  test.each(WAYS)('is billed by the next one where the page %s', async (how) => {
    const { id, invoiceId } = await askedToResume()
    await UNPAID[how](id, invoiceId)
    await succeed(id, 'payment-methods', GOOD)
    await succeed(id, 'resume')
    expect(await dueOf(id, 'paid')).toEqual([2900, 2900 + USED])
    expect(await dueOf(id, 'void')).toEqual([2900 + USED])
    expect(await pendingOf(id)).toEqual([])
  })

  test('waits again within a minute of the page’s end, without anybody asking', async () => {
    const { id } = await askedToResume()
    await billing.advance(id, '1d')
    await finishChanges(billing.context)
    expect(await pendingOf(id)).toEqual([USED])
    await finishChanges(billing.context)
    expect(await pendingOf(id)).toEqual([USED])
  })

  test('is billed by a cancellation at once, as its preview says', async () => {
    const { id } = await askedToResume()
    await succeed(id, 'payment-methods', GOOD)
    expect(await succeed(id, 'cancel/preview', { immediate: true })).toMatchObject({ amount_due_now_minor: USED })
    await succeed(id, 'cancel', { immediate: true })
    expect(await dueOf(id, 'paid')).toEqual([USED, 2900])
    expect(await dueOf(id, 'open')).toEqual([])
  })

  test('survives any number of resumptions that nobody pays', async () => {
    const { id } = await askedToResume()
    for (let time = 0; time < 2; time += 1) {
      await billing.advance(id, '1d')
      expect(await succeed(id, 'resume')).toMatchObject({ requires_action: true })
      expect(await dueOf(id, 'open')).toEqual([2900 + USED])
    }
    await succeed(id, 'payment-methods', GOOD)
    await succeed(id, 'resume')
    expect(await dueOf(id, 'paid')).toEqual([2900, 2900 + USED])
  })

  test('is on the statement once, with the invoice that was paid', async () => {
    const { id, began } = await askedToResume()
    await billing.advance(id, '1d')
    await succeed(id, 'payment-methods', GOOD)
    const before = await revenueOfUse()
    await succeed(id, 'resume')
    expect((await revenueOfUse()) - before).toBe(USED)
    const paid = (await invoicesOf(id)).find(({ amount_due_minor: due, status }) => due === 2900 + USED && status === 'paid')
    const { usage, adjustments, totalMinor } = await readStatement(billing.context, { organizationId: id, at: began })
    expect(usage.filter(({ amountMinor }) => amountMinor > 0)).toMatchObject([{ amountMinor: USED, invoiceId: paid!.id }])
    expect({ adjustments, totalMinor }).toEqual({ adjustments: [], totalMinor: 2900 + USED })
  })

  test.each([
    ['after it waits again', [finishChanges, giveDueCredits]],
    ['before it waits again', [giveDueCredits, finishChanges]],
  ])('comes back to the balance once it is paid, where it is taken back %s', async (_, jobs) => {
    const { id, key } = await askedToResume()
    await billing.advance(id, '1d')
    if (jobs[0] === finishChanges) await finishChanges(billing.context)
    await billing.correct(id, key, -10)
    for (const job of jobs) await job(billing.context)
    expect(await balanceOf(id)).toBe(0)
    await succeed(id, 'payment-methods', GOOD)
    await succeed(id, 'resume')
    await giveDueCredits(billing.context)
    expect(await dueOf(id, 'paid')).toEqual([2900, 2900 + USED])
    expect(await balanceOf(id)).toBe(-70)
  })

  test('is not billed a second time where the invoice is paid after all', async () => {
    const { id, invoiceId } = await askedToResume()
    await succeed(id, 'payment-methods', GOOD)
    await succeed(id, `invoices/${invoiceId}/pay`)
    await finishChanges(billing.context)
    expect(await succeed(id, 'pause')).toMatchObject({ status: 'paused' })
    expect(await pendingOf(id)).toEqual([])
  })

  test('is forgiven with the invoice of a resumption that has come about unpaid', async () => {
    const { id, invoiceId } = await askedToResume()
    await billing.stripe.invoices.voidInvoice(invoiceId)
    await succeed(id, 'payment-methods', { payment_method_id: 'pm_card_chargeCustomerFail' })
    expect(await billing.post(id, 'resume')).toMatchObject({ status: 402 })
    const owing = (await invoicesOf(id)).find(({ status }) => status === 'open')
    expect(owing).toMatchObject({ amount_due_minor: 2900 + USED })
    await billing.stripe.invoices.voidInvoice(owing!.id)
    await billing.call('operator', 'POST', `/api/v1/organizations/${id}/reconcile`)
    await finishChanges(billing.context)
    expect(await pendingOf(id)).toEqual([])
  })

  test('is on the first invoice of what is bought next, where the subscription has ended', async () => {
    const { id } = await askedToResume()
    const { subscription_id } = await subscriptionOf(id)
    await billing.advance(id, '1d')
    await billing.stripe.subscriptions.cancel(String(subscription_id))
    await billing.call('operator', 'POST', `/api/v1/organizations/${id}/reconcile`)
    await finishChanges(billing.context)
    await succeed(id, 'subscribe', { tier: 'basic', ...GOOD })
    expect(await dueOf(id, 'paid')).toEqual([900 + USED, 2900])
  })

  test('stays on an invoice that is written off: that can still be paid', async () => {
    const { id, invoiceId } = await askedToResume()
    await billing.stripe.invoices.markUncollectible(invoiceId)
    await billing.call('operator', 'POST', `/api/v1/organizations/${id}/reconcile`)
    await finishChanges(billing.context)
    expect(await succeed(id, 'pause')).toMatchObject({ status: 'paused' })
    expect(await pendingOf(id)).toEqual([])
  })
})

test('use that an upgrade was to bill and did not is billed with its period, once', async () => {
  const id = await billing.customer('pro')
  await billing.advance(id, '5d')
  await billing.use(id, 'calls', 150)
  await succeed(id, 'payment-methods', ASKS)
  expect(await succeed(id, 'upgrade', { new_tier: 'max' })).toMatchObject({ requires_action: true })
  await billing.advance(id, '1d')
  await finishChanges(billing.context)
  expect(await pendingOf(id)).toEqual([])
  await succeed(id, 'payment-methods', GOOD)
  await billing.advance(id, '28d')
  expect(await dueOf(id, 'paid')).toEqual([2900, 2900 + USED])
})

describe('what is made again', () => {
  test.each([1, 2])('is taxed by Stripe Tax as its price and product say: made %i time(s)', async (times) => {
    const { product } = await billing.stripe.prices.update(await billing.priceOf('pro'), { tax_behavior: 'inclusive' })
    await billing.stripe.products.update(product as string, { tax_code: 'txcd_10103001' })
    const { id, invoiceId } = await askedToUpgrade()
    await billing.stripe.invoices.voidInvoice(invoiceId)
    for (let time = 1; time < times; time += 1) {
      expect(await succeed(id, 'upgrade', { new_tier: 'max' })).toMatchObject({ requires_action: true })
      const again = (await invoicesOf(id)).find(({ status }) => status === 'open')
      await billing.stripe.invoices.voidInvoice(again!.id)
    }
    await billing.call('operator', 'POST', `/api/v1/organizations/${id}/reconcile`)
    await finishChanges(billing.context)
    const customer = await customerOf(id)
    const waiting = billing.sandbox.all('invoiceitem').filter((item) => item.customer === customer && item.invoice === null)
    const taxed = (isCredit: boolean) => waiting.find(({ amount }) => amount < 0 === isCredit)!._
    expect(taxed(true)).toMatchObject({ taxBehavior: 'inclusive', taxCode: 'txcd_10103001' })
    expect(taxed(false)).toMatchObject({ taxBehavior: null, taxCode: null })
  })
})

describe('the credit of a smaller plan', () => {
  test.each(WAYS)('lowers the next invoices where an upgrade’s page %s', async (how) => {
    const { id, invoiceId, credit } = await askedToUpgrade()
    await UNPAID[how](id, invoiceId)
    await succeed(id, 'payment-methods', GOOD)
    await billing.call('operator', 'POST', `/api/v1/organizations/${id}/reconcile`)
    await finishChanges(billing.context)
    expect(await pendingOf(id)).toHaveLength(2)
    await billing.advance(id, '17d')
    expect(await dueOf(id, 'paid')).toEqual([0, 2900])
    expect(await balanceOf(id)).toBe(900 + credit)
  })

  test('is kept for later by a cancellation at once in the middle, as its preview says', async () => {
    const { id, credit } = await askedToUpgrade()
    expect(await succeed(id, 'cancel/preview', { immediate: true })).toMatchObject({ credit_minor: -credit })
    await succeed(id, 'cancel', { immediate: true })
    expect(await balanceOf(id)).toBe(credit)
  })

  test('is taken off another upgrade in its place, as its preview says', async () => {
    const { id } = await askedToUpgrade()
    await succeed(id, 'payment-methods', GOOD)
    const two = { new_tier: 'max', quantity: 2 }
    const { proration_date, amount_due_now_minor: due } = await succeed(id, 'upgrade/preview', two)
    await succeed(id, 'upgrade', { ...two, proration_date })
    expect(await dueOf(id, 'paid')).toEqual([2900, due])
    expect(await pendingOf(id)).toEqual([])
  })

  test('is an adjustment of its month on the statement', async () => {
    const { id, credit } = await askedToUpgrade()
    const at = await billing.nowOf(id)
    await billing.advance(id, '1d')
    await finishChanges(billing.context)
    await succeed(id, 'payment-methods', GOOD)
    await billing.advance(id, '18d')
    const { adjustments } = await readStatement(billing.context, { organizationId: id, at })
    expect(adjustments.reduce((sum, { amountMinor }) => sum + amountMinor, 0)).toBe(credit)
  })
})

test('use that a smaller plan left to be settled is told (KF-9) as it is billed, after an upgrade that nobody paid', async () => {
  const id = await billing.customer('pro')
  const began = await billing.nowOf(id)
  await billing.advance(id, '15d')
  await billing.use(id, 'calls', 600)
  await succeed(id, 'downgrade', { new_tier: 'basic', at: 'now' })
  const left = (await pendingOf(id)).reduce((sum, amount) => sum + amount, 0)
  await succeed(id, 'payment-methods', ASKS)
  expect(await succeed(id, 'upgrade', { new_tier: 'max' })).toMatchObject({ requires_action: true })
  await billing.advance(id, '1d')
  const told = async () => (await billing.call(id, 'GET', `${BILLING}/status/tenant/${id}`)).body['next_invoice_amount_cents']
  expect(await told()).toBe(900)
  await finishChanges(billing.context)
  expect(await told()).toBe(900 + left)
  await succeed(id, 'payment-methods', GOOD)
  await billing.advance(id, '17d')
  expect(await dueOf(id, 'paid')).toEqual([2900, 900 + left])
  const { totalMinor } = await readStatement(billing.context, { organizationId: id, at: began })
  expect(totalMinor).toBe(2900 + left)
})

describe('what is to wait again', () => {
  const cancel = (context: BillingContext, id: string) => changeByOperator(context, id, { kind: 'cancel', immediate: true })

  test('does, where the server is killed when the invoice has been voided', async () => {
    const { id } = await askedToResume()
    await expect(cancel(dyingAtTheVoid(), id)).rejects.toThrow('killed')
    expect(await pendingOf(id)).toEqual([])
    await succeed(id, 'payment-methods', GOOD)
    await succeed(id, 'cancel', { immediate: true })
    expect(await dueOf(id, 'paid')).toEqual([USED, 2900])
  })

  test('is made once, where Stripe’s answer is lost', async () => {
    const { id } = await askedToResume()
    await billing.advance(id, '1d')
    billing.sandbox.setChaos({ api: [{ route: 'POST /v1/invoiceitems', lostResponse: 1 }] })
    await expect(finishChanges(billing.context)).rejects.toMatchObject({ code: 'stripe_unavailable' })
    billing.sandbox.setChaos({})
    await succeed(id, 'payment-methods', GOOD)
    await succeed(id, 'resume')
    expect(await dueOf(id, 'paid')).toEqual([2900, 2900 + USED])
    expect(await pendingOf(id)).toEqual([])
  })

  test('is made once, where it is only looked for when Stripe has forgotten the key', async () => {
    const { id } = await askedToResume()
    await billing.advance(id, '1d')
    billing.sandbox.setChaos({ api: [{ route: 'POST /v1/invoiceitems', lostResponse: 1 }] })
    await expect(finishChanges(billing.context)).rejects.toMatchObject({ code: 'stripe_unavailable' })
    billing.sandbox.setChaos({})
    await expect.poll(() => finishStrandedIntents(billing.later(25 * HOUR_MS))).toBe(0)
    await finishChanges(billing.context)
    expect(await pendingOf(id)).toEqual([USED])
  })

  test('is not made, where Stripe has let the item itself wait again', async () => {
    const { id } = await askedToResume()
    await billing.advance(id, '1d')
    const { gateway } = billing.context
    const elsewhere = { ...gateway!.reads, listItemsOfInvoice: async () => [] }
    await finishChanges(billing.with({ gateway: { ...gateway!, reads: elsewhere } }))
    expect(await pendingOf(id)).toEqual([])
  })

  test('is told in the log where Stripe refuses it, and holds up nothing else', async () => {
    const { id } = await askedToResume()
    await billing.advance(id, '1d')
    const refused = new StripeCallError('invalid_request', 'no', 'refused')
    const refusing = failing(billing.context, 'before', 'create_invoice_item', refused)
    await finishChanges(refusing)
    await finishChanges(refusing)
    const told = billing.logged.filter(
      ({ fields }) => fields['event'] === 'billing.item_not_restored' && fields['organization_id'] === id,
    )
    expect(told).toMatchObject([{ level: 'error', fields: { amount_minor: USED } }])
    await succeed(id, 'payment-methods', GOOD)
    expect(await succeed(id, 'resume')).toMatchObject({ status: 'active' })
  })

  test('is told in the audit log', async () => {
    const { id, invoiceId } = await askedToResume()
    await billing.advance(id, '1d')
    await finishChanges(billing.context)
    const { rows } = await billing.database.db.query(
      `select actor, after from audit_log where organization_id = $1 and action = 'invoice_item.restored'`,
      [id],
    )
    expect(rows).toEqual([{ actor: 'system:billing', after: { amount_minor: USED, currency: 'usd', invoice_id: invoiceId } }])
  })
})
