import { describe, expect, test, vi } from 'vitest'
import { PATIENCE } from '../../test/patience.ts'
import { testClocks } from '../../test/test-clocks.ts'
import { testUse } from '../../test/used.ts'
import { StripeCallError } from '../stripe/gateway/errors.ts'
import { reportNow } from './actions.ts'
import { lessDiscounts, readUpcomingMinor } from './upcoming.ts'

const billing = testUse({
  meters: { calls: {} },
  plans: {
    free: { name: 'Free', allowances: {} },
    starter: { name: 'Starter', prices: { monthly: { amountMinor: 900 } }, allowances: {} },
    pro: {
      name: 'Pro',
      prices: { monthly: { amountMinor: 2900 }, yearly: { amountMinor: 29_000 } },
      allowances: { calls: { amount: 100, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: 7 } } },
    },
  },
  addOns: { support: { name: 'Support', prices: { monthly: { amountMinor: 1500 }, yearly: { amountMinor: 15_000 } } } },
  defaultPlan: 'free',
})
const { invoicesOf, succeed } = billing
const { onClock } = testClocks(billing)
let made = 0

async function subscribed(body: object): Promise<string> {
  made += 1
  const id = await onClock(`next${made}`)
  await succeed(id, 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa', ...body })
  return id
}

const told = async (id: string) =>
  (await billing.call(id, 'GET', `/api/v1/billing/status/tenant/${id}`)).body['next_invoice_amount_cents'] as number

/** What Stripe foretells once everything that was used has been reported. */
async function foretold(id: string): Promise<number> {
  await reportNow(billing.context, id, { isStanding: true })
  const status = await billing.call(id, 'GET', '/api/v1/billing/subscription')
  const { stripe_customer_id: customer, subscription_id: subscription } = status.body as Record<string, string>
  return (await billing.stripe.invoices.createPreview({ customer: customer!, subscription: subscription! })).amount_due
}

const discount = (code: string, terms: object) =>
  billing.call('operator', 'POST', '/api/v1/billing/discounts', { code, duration: 'forever', ...terms })

describe('KF-9 the next invoice is told as it will come', () => {
  test.each<[string, object, (id: string) => Promise<unknown>, number]>([
    ['plan', {}, async () => {}, 2900],
    ['trial', { payment_method_id: undefined, quantity: 2 }, async () => {}, 5800],
    ['seats', { quantity: 3 }, async () => {}, 8700],
    ['percent', { discount_code: 'THIRD' }, (id) => billing.use(id, 'calls', 111), 1984],
    ['amount', { discount_code: 'TEN' }, (id) => billing.use(id, 'calls', 150), 2250],
    ['amount that leaves nothing', { discount_code: 'MORE' }, (id) => billing.use(id, 'calls', 200), 600],
    ['overage', {}, (id) => billing.use(id, 'calls', 150), 3250],
    ['add-on', {}, (id) => succeed(id, 'add-ons', { add_on: 'support', quantity: 2 }), 5900],
  ])('%s', async (_name, body, prepare, amount) => {
    await discount('THIRD', { percent_off: 33.33 })
    await discount('TEN', { amount_off: 1000 })
    await discount('MORE', { amount_off: 3000 })
    const id = await subscribed(body)
    // Asked before, so that what comes is beside an answer that is kept.
    await told(id)
    await prepare(id)
    const before = await told(id)
    expect(before).toBe(amount)
    expect(await foretold(id)).toBe(before)
    expect(await told(id)).toBe(before)
  })

  test('with what a smaller plan left over, and it is what is then charged', async () => {
    const id = await subscribed({})
    await billing.advance(id, '10d')
    await billing.use(id, 'calls', 130)
    await succeed(id, 'downgrade', { new_tier: 'starter', at: 'now' })
    const amount = await told(id)
    expect(amount).toBe(await foretold(id))
    expect(amount).toBeLessThan(900)
    await billing.advance(id, '25d')
    const [newest] = await invoicesOf(id)
    expect(newest).toMatchObject({ amount_due_minor: amount })
  })

  test('less the customer’s credit', async () => {
    const id = await subscribed({})
    const { body } = await billing.call(id, 'GET', '/api/v1/billing/subscription')
    await billing.stripe.customers.createBalanceTransaction(String(body['stripe_customer_id']), { amount: -500, currency: 'usd' })
    await billing.call('operator', 'POST', `/api/v1/organizations/${id}/reconcile`)
    expect(await told(id)).toBe(2400)
    expect(await foretold(id)).toBe(2400)
  })

  test('of a yearly plan, of a scheduled change, and of one that is cancelled', async () => {
    const yearly = await subscribed({ interval: 'yearly' })
    expect(await told(yearly)).toBe(await foretold(yearly))
    const changing = await subscribed({})
    await succeed(changing, 'downgrade', { new_tier: 'starter', at: 'period_end' })
    expect(await told(changing)).toBe(await foretold(changing))
    const leaving = await subscribed({})
    await succeed(leaving, 'cancel', { immediate: false })
    expect(await told(leaving)).toBe(0)
    // Overage up to the end is still invoiced.
    await billing.use(leaving, 'calls', 120)
    expect(await told(leaving)).toBe(140)
    await billing.advance(leaving, '32d')
    expect(await told(leaving)).toBe(0)
    const [last] = (await billing.call(leaving, 'GET', '/api/v1/billing/invoices')).body as unknown as {
      amount_due_minor: number
    }[]
    expect(last).toMatchObject({ amount_due_minor: 140 })
  })

  test('asks Stripe once for each change, and tells it while Stripe is away', async () => {
    const id = await subscribed({ quantity: 2 })
    const gateway = billing.context.gateway!
    let asked = 0
    const counting = billing.with({
      gateway: {
        ...gateway,
        reads: {
          ...gateway.reads,
          previewInvoice(query) {
            asked += 1
            return gateway.reads.previewInvoice(query)
          },
        },
      },
    })
    for (let read = 0; read < 3; read += 1) expect(await readUpcomingMinor(counting, id)).toBe(5800)
    expect(asked).toBe(1)
    const away = billing.with({
      gateway: {
        ...gateway,
        reads: {
          ...gateway.reads,
          previewInvoice: () => Promise.reject(new StripeCallError('stripe_unavailable', 'Stripe is away.', 'unknown')),
        },
      },
    })
    await billing.use(id, 'calls', 110)
    expect(await readUpcomingMinor(away, id)).toBe(5870)
    // Never asked before: what the mirror knows.
    const other = await subscribed({ quantity: 3 })
    expect(await readUpcomingMinor(away, other)).toBe(8700)
    expect(await readUpcomingMinor(billing.with({ gateway: null }), other)).toBe(8700)
  })

  test('while Stripe is away: with the discount and the credit that stand, and of one that is cancelled only the use', async () => {
    await discount('FIFTH', { percent_off: 20 })
    const away = billing.with({ gateway: null })
    const id = await subscribed({ discount_code: 'FIFTH' })
    expect(await readUpcomingMinor(away, id)).toBe(2320)
    const { body } = await billing.call(id, 'GET', '/api/v1/billing/subscription')
    await billing.stripe.customers.createBalanceTransaction(String(body['stripe_customer_id']), { amount: -200, currency: 'usd' })
    await billing.call('operator', 'POST', `/api/v1/organizations/${id}/reconcile`)
    expect(await readUpcomingMinor(away, id)).toBe(2120)
    await succeed(id, 'cancel', { immediate: false })
    expect(await readUpcomingMinor(away, id)).toBe(0)
    await billing.use(id, 'calls', 200)
    expect(await readUpcomingMinor(away, id)).toBe(560 - 200)
  })

  test('of one that is paused not at all: what it used is invoiced when it goes on, or ends', async () => {
    const id = await subscribed({})
    await billing.use(id, 'calls', 150)
    await billing.advance(id, '1h')
    await succeed(id, 'pause')
    expect(await told(id)).toBe(0)
    await succeed(id, 'resume')
    expect(await told(id)).toBe(3250)
  })

  test('with what is used on, where a discount is larger than what Stripe has been told of', async () => {
    await discount('MOST', { amount_off: 3000 })
    const id = await subscribed({ discount_code: 'MOST' })
    await billing.use(id, 'calls', 107)
    expect(await foretold(id)).toBe(0)
    expect(await told(id)).toBe(0)
    await billing.use(id, 'calls', 23)
    expect(await told(id)).toBe(110)
    expect(await foretold(id)).toBe(110)
  })

  test('of one that is cancelled: the use that is left, less the credit or with the debt; where none is left, a debt stays where it is', async () => {
    const id = await subscribed({})
    await succeed(id, 'cancel', { immediate: false })
    const { body } = await billing.call(id, 'GET', '/api/v1/billing/subscription')
    const owe = async (amount: number) => {
      await billing.stripe.customers.createBalanceTransaction(String(body['stripe_customer_id']), { amount, currency: 'usd' })
      await billing.call('operator', 'POST', `/api/v1/organizations/${id}/reconcile`)
    }
    await owe(500)
    expect(await told(id)).toBe(0)
    await billing.use(id, 'calls', 120)
    expect(await told(id)).toBe(640)
    await owe(-560)
    expect(await told(id)).toBe(80)
    await billing.advance(id, '32d')
    expect((await invoicesOf(id))[0]).toMatchObject({ amount_due_minor: 80 })
  })
})

test('a Stripe that hangs is asked by one reader, and waited for briefly by any', async () => {
  const id = await subscribed({ quantity: 2 })
  const gateway = billing.context.gateway!
  const { promise, resolve } = Promise.withResolvers<Awaited<ReturnType<typeof gateway.reads.previewInvoice>>>()
  let calls = 0
  let query: Parameters<typeof gateway.reads.previewInvoice>[0] | undefined
  const hanging = billing.with({
    gateway: {
      ...gateway,
      reads: {
        ...gateway.reads,
        previewInvoice(wanted) {
          calls += 1
          query = wanted
          return promise
        },
      },
    },
  })
  expect(await Promise.all([readUpcomingMinor(hanging, id), readUpcomingMinor(hanging, id)])).toEqual([5800, 5800])
  expect(calls).toBe(1)
  // What it says in the end is kept.
  resolve(await gateway.reads.previewInvoice(query!))
  await vi.waitFor(async () => {
    expect(
      (await billing.database.db.query('select 1 from upcoming_invoices where organization_id = $1', [id])).rows,
    ).toHaveLength(1)
  }, PATIENCE)
})

test('discounts come off one after the other, of the lines that they are for: percentages rounded line by line, amounts down to nothing', () => {
  const all = { itemId: null, products: null, percentOff: null, amountOffMinor: 0 }
  const percent = (percentOff: number) => ({ ...all, percentOff })
  const amount = (amountOffMinor: number) => ({ ...all, amountOffMinor })
  const plan = (amountMinor: number) => ({ amountMinor, productId: 'plan', itemId: 'si_plan' })
  const use = (amountMinor: number) => ({ amountMinor, productId: 'use', itemId: 'si_use' })
  expect(lessDiscounts([plan(2900), use(77)], [percent(33.33)])).toBe(1984)
  expect(lessDiscounts([plan(1000)], [percent(10), percent(50)])).toBe(450)
  expect(lessDiscounts([plan(1000)], [percent(10), amount(1000)])).toBe(0)
  expect(lessDiscounts([plan(600), use(400)], [amount(100), percent(10)])).toBe(810)
  expect(lessDiscounts([plan(-100)], [amount(50)])).toBe(-100)
  expect(lessDiscounts([plan(-100), use(400)], [amount(500)])).toBe(-100)
  expect(lessDiscounts([plan(1000), use(400)], [{ ...percent(50), products: ['plan'] }])).toBe(900)
  expect(lessDiscounts([plan(1000), use(400)], [{ ...amount(1200), products: ['plan'] }])).toBe(400)
  expect(lessDiscounts([plan(1000), use(400)], [{ ...percent(50), itemId: 'si_use' }, amount(700)])).toBe(500)
})

describe('KF-9 takes off use what is taken off it on the next invoice', () => {
  test('a code that is over by then takes nothing off', async () => {
    await discount('MONTH', { percent_off: 50, duration: 'repeating', duration_in_months: 1 })
    const id = await subscribed({ discount_code: 'MONTH' })
    await told(id)
    await billing.use(id, 'calls', 150)
    expect(await told(id)).toBe(2900 + 350)
    expect(await foretold(id)).toBe(2900 + 350)
    // Nor for one who leaves with the month.
    await succeed(id, 'cancel', { immediate: false })
    expect(await told(id)).toBe(350)
  })

  test.each([
    ['a percentage of the plan', { percent_off: 50 }, 'Pro', 1450 + 350],
    ['an amount of the plan', { amount_off: 5000, currency: 'usd' }, 'Pro', 350],
    ['a percentage of use', { percent_off: 50 }, 'calls', 2900 + 175],
  ])('%s', async (_name, terms, product, amount) => {
    const { data: products } = await billing.stripe.products.list()
    const only = products.find(({ name }) => name === product)!.id
    const coupon = await billing.stripe.coupons.create({ ...terms, duration: 'forever', applies_to: { products: [only] } })
    const id = await subscribed({})
    const { subscription_id: subscription } = (await billing.subscriptionOf(id)) as { subscription_id: string }
    await billing.stripe.subscriptions.update(subscription, { discounts: [{ coupon: coupon.id }] })
    await billing.call('operator', 'POST', `/api/v1/organizations/${id}/reconcile`)
    await told(id)
    await billing.use(id, 'calls', 150)
    expect(await told(id)).toBe(amount)
    expect(await readUpcomingMinor(billing.with({ gateway: null }), id)).toBe(amount)
    expect(await foretold(id)).toBe(amount)
  })
})

test('KF-9 counts use once on an invoice of more than ten lines', async () => {
  const id = await subscribed({})
  await billing.use(id, 'calls', 130)
  const { body } = await billing.call(id, 'GET', '/api/v1/billing/subscription')
  const { stripe_customer_id: customer, subscription_id: subscription } = body as Record<string, string>
  for (let index = 0; index < 11; index += 1) {
    await billing.stripe.invoiceItems.create({ customer: customer!, subscription: subscription!, amount: 100, currency: 'usd' })
  }
  expect(await foretold(id)).toBe(1100 + 2900 + 210)
  expect(await told(id)).toBe(1100 + 2900 + 210)
  await billing.use(id, 'calls', 1)
  expect(await told(id)).toBe(1100 + 2900 + 217)
})
