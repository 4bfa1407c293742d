import type { Stripe } from 'stripe'
import { beforeAll, describe, expect, test } from 'vitest'
import { startClock } from '../../test/test-clocks.ts'
import { testUse } from '../../test/used.ts'
import { reportNow } from '../pricing/actions.ts'
import { previewPlanChange } from './preview.ts'

// A preview tells what is then charged: in the moment, and with the next invoice.

const billing = testUse({
  meters: { calls: {} },
  plans: {
    free: { name: 'Free', allowances: {} },
    starter: { name: 'Starter', prices: { monthly: { amountMinor: 900 }, yearly: { amountMinor: 9000 } }, allowances: {} },
    pro: {
      name: 'Pro',
      prices: { monthly: { amountMinor: 2900 }, yearly: { amountMinor: 29_000 } },
      allowances: { calls: { amount: 100, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: 7 } } },
    },
  },
  addOns: { pack: { name: 'Pack', prices: { monthly: { amountMinor: 500 }, yearly: { amountMinor: 5000 } } } },
  defaultPlan: 'free',
})
const { invoicesOf, subscriptionOf, succeed } = billing

beforeAll(async () => {
  for (const terms of [
    { code: 'THIRD', percent_off: 33.33, duration: 'forever' },
    { code: 'TEN', amount_off: 1000, duration: 'forever' },
    { code: 'HALF', percent_off: 50, duration: 'repeating', duration_in_months: 2 },
    { code: 'ONCE', percent_off: 25, duration: 'once' },
  ]) {
    const { status } = await billing.call('operator', 'POST', '/api/v1/billing/discounts', terms)
    if (status >= 300) throw new Error(terms.code)
  }
})

type Next = { readonly at: string; readonly amount_minor: number } | null

const paidOf = async (id: string) =>
  (await invoicesOf(id)).map(({ amount_paid_minor: paid }) => paid).reduce((sum, paid) => sum + paid, 0)

/** What Stripe foretells once it has been told of all use; null when nothing. */
async function foretold(id: string, { stripe_customer_id: customer, subscription_id: subscription }: Record<string, unknown>) {
  await reportNow(billing.context, id, { isStanding: true })
  const next = await billing.stripe.invoices.createPreview({ customer: String(customer), subscription: String(subscription) })
  return { at: new Date(next.period_end * 1000).toISOString(), amount_minor: next.amount_due }
}

type Begin = { readonly body?: object; readonly also?: (id: string) => Promise<unknown> }
const withPacks = (id: string) => succeed(id, 'add-ons', { add_on: 'pack', quantity: 2 })
async function used(id: string): Promise<void> {
  await billing.use(id, 'calls', 150)
  await billing.advance(id, '1h')
}
async function withCredit(id: string, creditMinor = 700): Promise<void> {
  const { stripe_customer_id: customer } = await subscriptionOf(id)
  await billing.stripe.customers.createBalanceTransaction(String(customer), { amount: -creditMinor, currency: 'usd' })
}
async function all(id: string): Promise<void> {
  await withPacks(id)
  await billing.advance(id, '10d')
  await withCredit(id)
}

const BEGUN: Readonly<Record<string, Begin>> = {
  'seats and add-ons': { body: { quantity: 2 }, also: withPacks },
  'a percentage': { body: { discount_code: 'THIRD' }, also: all },
  'an amount off': { body: { discount_code: 'TEN' }, also: all },
  'some months off': { body: { discount_code: 'HALF' }, also: all },
  'off once': { body: { discount_code: 'ONCE' }, also: all },
  'a trial': { body: { payment_method_id: undefined, discount_code: 'TEN' }, also: withPacks },
}

type Change = {
  readonly path: string
  readonly body?: object
  readonly before?: (id: string) => Promise<unknown>
  readonly plan?: string
  readonly interval?: string
}
const cancelled = (id: string) => succeed(id, 'cancel', { immediate: false })

const CHANGES: Readonly<Record<string, Change>> = {
  'going up': { path: 'upgrade', body: { new_tier: 'pro' } },
  'more seats': { path: 'upgrade', body: { new_tier: 'starter', quantity: 5 } },
  'going down': { path: 'downgrade', body: { new_tier: 'starter' }, plan: 'pro' },
  'going down after use': { path: 'downgrade', body: { new_tier: 'starter' }, plan: 'pro', before: used },
  'going down later, after use': {
    path: 'downgrade',
    body: { new_tier: 'starter', at: 'period_end' },
    plan: 'pro',
    before: used,
  },
  'more seats after use': { path: 'upgrade', body: { new_tier: 'pro', quantity: 5 }, plan: 'pro', before: used },
  'going down later': { path: 'downgrade', body: { new_tier: 'starter', at: 'period_end' }, plan: 'pro' },
  'a year': { path: 'upgrade', body: { new_tier: 'starter', interval: 'yearly', at: 'now' } },
  'a year after use': { path: 'upgrade', body: { new_tier: 'pro', interval: 'yearly', at: 'now' }, plan: 'pro', before: used },
  'months instead of a year': {
    path: 'downgrade',
    body: { new_tier: 'starter', interval: 'monthly', at: 'now' },
    interval: 'yearly',
  },
  'months instead of a year, after use': {
    path: 'downgrade',
    body: { new_tier: 'pro', interval: 'monthly', at: 'now' },
    plan: 'pro',
    interval: 'yearly',
    before: used,
  },
  'months of a smaller plan instead of a year, after use': {
    path: 'downgrade',
    body: { new_tier: 'starter', interval: 'monthly', at: 'now' },
    plan: 'pro',
    interval: 'yearly',
    before: used,
  },
  'a larger plan for the next year': {
    path: 'upgrade',
    body: { new_tier: 'pro', at: 'period_end' },
    interval: 'yearly',
  },
  'a smaller plan for the next year, after use': {
    path: 'downgrade',
    body: { new_tier: 'starter', at: 'period_end' },
    plan: 'pro',
    interval: 'yearly',
    before: used,
  },
  'going up, which calls off an end': { path: 'upgrade', body: { new_tier: 'pro' }, before: cancelled },
  'going down, which calls off an end': { path: 'downgrade', body: { new_tier: 'starter' }, plan: 'pro', before: cancelled },
  'staying after all': { path: 'cancel/undo', before: cancelled },
}

let made = 0
async function begin({ body, also }: Begin, plan: string, more: object = {}): Promise<string> {
  made += 1
  const id = await billing.createOrganization(`preview${made}`)
  await startClock(billing.context, id)
  await succeed(id, 'subscribe', { tier: plan, payment_method_id: 'pm_card_visa', ...more, ...body })
  await also?.(id)
  return id
}

/** What comes off later invoices: the customer's credit, and what was given back of time that is not used. */
async function creditOf(id: string): Promise<number> {
  const customer = String((await subscriptionOf(id))['stripe_customer_id'])
  const { balance } = (await billing.stripe.customers.retrieve(customer)) as Stripe.Customer
  const { data } = await billing.stripe.invoiceItems.list({ customer, pending: true, limit: 100 })
  return data.filter(({ proration }) => proration).reduce((credit, { amount }) => credit - amount, -balance)
}

/** Previews a change and makes it: what was said of this moment, of what is credited, and of the next invoice is so. */
async function expectKept(id: string, path: string, body: object = {}): Promise<void> {
  const preview = await succeed(id, `${path}/preview`, body)
  const [paid, credit] = [await paidOf(id), await creditOf(id)]
  const next = preview['next_invoice'] as Next
  await succeed(id, path, { ...body, ...(path.endsWith('undo') ? {} : { proration_date: preview['proration_date'] }) })
  const subscription = await subscriptionOf(id)
  const told = (await billing.call(id, 'GET', `/api/v1/billing/status/tenant/${id}`)).body['next_invoice_amount_cents']
  expect(next).toEqual(await foretold(id, subscription))
  expect(next?.amount_minor).toBe(told)
  expect((await paidOf(id)) - paid).toBe(preview['amount_due_now_minor'])
  expect(Math.max(0, (await creditOf(id)) - credit)).toBe(preview['credit_minor'])
}

describe('the preview of a change tells the invoice of the moment and the next one', () => {
  const cases = Object.keys(CHANGES).flatMap((change) => Object.keys(BEGUN).map((begun) => [change, begun] as const))
  test.each(cases)('%s, with %s', async (name, begun) => {
    const { path, body, before, plan, interval } = CHANGES[name]!
    const id = await begin(BEGUN[begun]!, plan ?? 'starter', interval === undefined ? {} : { interval })
    await before?.(id)
    await expectKept(id, path, body)
  })
})

async function lastInvoiceOf(id: string): Promise<Record<string, unknown>> {
  return (await invoicesOf(id))[0]!
}

describe('the preview of a purchase tells the invoice of the moment and the next one', () => {
  const cases = ['monthly', 'yearly'].flatMap((interval) =>
    [undefined, 'THIRD', 'TEN', 'HALF', 'ONCE'].flatMap((code) => [0, 7].map((days) => [interval, code, days] as const)),
  )
  test.each(cases)('%s, %s, with %i days of trial', async (interval, code, days) => {
    const id = await begin({}, 'starter')
    await withCredit(id)
    await succeed(id, 'cancel', { immediate: true })
    const body = { tier: 'pro', interval, trial_period_days: days, ...(code === undefined ? {} : { discount_code: code }) }
    await expectKept(id, 'subscribe', body)
  })
})

test('what a purchase leaves of the customer’s credit comes off the next invoice, as its preview says', async () => {
  const id = await begin({}, 'starter')
  await withCredit(id, 5000)
  await succeed(id, 'cancel', { immediate: true })
  await expectKept(id, 'subscribe', { tier: 'pro', trial_period_days: 0 })
  expect((await billing.call(id, 'GET', `/api/v1/billing/status/tenant/${id}`)).body).toMatchObject({
    next_invoice_amount_cents: 800,
  })
})

test('the next invoice comes as a preview of a smaller plan, of more seats and of months instead of a year foretold it', async () => {
  for (const name of ['going down after use', 'more seats after use', 'months instead of a year']) {
    const { path, body, before, plan, interval } = CHANGES[name]!
    const id = await begin(BEGUN['some months off']!, plan ?? 'starter', interval === undefined ? {} : { interval })
    await before?.(id)
    const next = (await succeed(id, `${path}/preview`, body))['next_invoice'] as Next
    await succeed(id, path, body)
    await billing.advance(id, '32d')
    expect(await lastInvoiceOf(id)).toMatchObject({ billing_reason: 'subscription_cycle', amount_due_minor: next?.amount_minor })
  }
})

describe('the preview of an end tells the use that is billed with it', () => {
  test.each([
    ['at once', true, async () => {}],
    ['at once, use that Stripe has been told of', true, (id: string) => reportNow(billing.context, id, { isStanding: true })],
    ['at once, while it is paused', true, (id: string) => succeed(id, 'pause')],
    ['at the period’s end', false, async () => {}],
  ] as const)('%s', async (_name, immediate, before) => {
    for (const begun of ['a percentage', 'seats and add-ons']) {
      const id = await begin(BEGUN[begun]!, 'pro')
      await used(id)
      await before(id)
      const preview = await succeed(id, 'cancel/preview', { immediate })
      const next = preview['next_invoice'] as Next
      const due = immediate ? preview['amount_due_now_minor'] : (next?.amount_minor ?? 0)
      const invoices = await invoicesOf(id)
      await succeed(id, 'cancel', { immediate })
      expect(immediate || preview['amount_due_now_minor'] === 0).toBe(true)
      if (!immediate) await billing.advance(id, '32d')
      const after = await invoicesOf(id)
      expect(after.length).toBe(invoices.length + 1)
      expect(after[0]!.amount_due_minor).toBe(due)
    }
  })

  test('nothing is due, and none comes, where nothing was used', async () => {
    const id = await begin({}, 'pro')
    expect(await succeed(id, 'cancel/preview', { immediate: true })).toMatchObject({
      amount_due_now_minor: 0,
      next_invoice: null,
    })
    expect(await succeed(id, 'cancel/preview', { immediate: false })).toMatchObject({
      amount_due_now_minor: 0,
      next_invoice: null,
    })
  })
})

describe('the preview of resuming', () => {
  test.each(Object.keys(BEGUN).filter((begun) => begun !== 'a trial'))(
    'within the period tells the next invoice, with %s',
    async (begun) => {
      const id = await begin(BEGUN[begun]!, 'pro')
      await used(id)
      await succeed(id, 'pause')
      await expectKept(id, 'resume')
    },
  )

  test('tells no invoice where the subscription ends with the period', async () => {
    const id = await begin({}, 'starter')
    await succeed(id, 'pause')
    await cancelled(id)
    expect(await succeed(id, 'resume/preview')).toMatchObject({ next_invoice: null })
    await succeed(id, 'resume')
    expect(await subscriptionOf(id)).toMatchObject({ next_invoice_date: null })
  })

  test('after the period tells all that is charged: plan, add-ons, discount and the use from before', async () => {
    const id = await begin({ body: { discount_code: 'THIRD' }, also: withPacks }, 'pro')
    await used(id)
    await succeed(id, 'pause')
    await billing.advance(id, '40d')
    const { amount_due_now_minor: due } = await succeed(id, 'resume/preview')
    await succeed(id, 'resume')
    expect(await lastInvoiceOf(id)).toMatchObject({ status: 'paid', amount_paid_minor: due })
  })
})

test('the next invoice is not told where a schedule is in the way of foretelling it', async () => {
  const id = await begin({}, 'pro')
  await succeed(id, 'downgrade', { new_tier: 'starter', at: 'period_end' })
  expect(await succeed(id, 'downgrade/undo/preview')).toMatchObject({ next_invoice: null })
  expect(await succeed(id, 'upgrade/preview', { new_tier: 'pro', quantity: 2 })).toMatchObject({ next_invoice: null })
})

test('EM-10 a smaller plan at once says that what was used beyond it is not charged, and what to ask for instead', async () => {
  const id = await billing.customer('pro')
  const { reason } = await succeed(id, 'downgrade/preview', { new_tier: 'starter' })
  expect(reason).toContain('beyond the smaller plan’s it is not charged')
  expect((await succeed(id, 'downgrade/preview', { new_tier: 'starter', at: 'period_end' }))['reason']).toBeNull()
  expect((await succeed(id, 'downgrade', { new_tier: 'starter' }))['tier']).toBe('starter')
})

test('a preview counts from the second in which it is made, and from none that is still to come', async () => {
  const now = new Date('2026-03-10T12:00:00.900Z')
  const previewing = { context: billing.context, organizationId: 'nobody', customerId: null, now, invoiceItems: [] }
  const { prorationAt } = await previewPlanChange(previewing, { kind: 'none', reason: 'Nothing changes.' })
  expect(prorationAt).toEqual(new Date('2026-03-10T12:00:00Z'))
})
