import { describe, expect, test } from 'vitest'
import { testSubscriptions } from '../../test/subscriptions.ts'

// What Stripe asks for of an invoice that is less than can be charged, or whose customer owes on their balance.

const billing = testSubscriptions({
  catalog: {
    meters: { calls: {} },
    plans: {
      free: { name: 'Free', allowances: {} },
      tiny: { name: 'Tiny', prices: { monthly: { amountMinor: 30 } }, allowances: {} },
      pro: { name: 'Pro', prices: { monthly: { amountMinor: 2000 } }, allowances: {} },
    },
    addOns: { spark: { name: 'Spark', prices: { monthly: { amountMinor: 10 } } } },
    defaultPlan: 'free',
  },
  policy: { trialDays: 14 },
})
const { advance, call, invoicesOf, onClock, post, succeed } = billing

async function withCard(id: string): Promise<string> {
  await onClock(id)
  await post(id, 'payment-methods', { payment_method_id: 'pm_card_visa' })
  return id
}

const statusOf = async (id: string) => (await call(id, 'GET', `/api/v1/billing/status/tenant/${id}`)).body
const nextOf = async (id: string) => (await statusOf(id))['next_invoice_amount_cents']

/** What was asked for on each invoice, oldest first. */
const asked = async (id: string) => (await invoicesOf(id)).map((invoice) => invoice.amount_due_minor).toReversed()

async function owing(id: string, amount: number): Promise<void> {
  const customer = (await statusOf(id))['customer_id'] as string
  await billing.stripe.customers.createBalanceTransaction(customer, { amount, currency: 'usd' })
}

describe('what is less than can be charged', () => {
  test('is not asked for, and comes with the next invoice, as was foretold', async () => {
    const id = await withCard('tiny')
    const bought = { tier: 'tiny', trial_period_days: 0 }
    const preview = await succeed(id, 'subscribe/preview', bought)
    expect(preview).toMatchObject({ amount_due_now_minor: 0, next_invoice: { amount_minor: 60 } })
    await succeed(id, 'subscribe', bought)
    const foretold = [preview['amount_due_now_minor']]
    // A day after each renewal: its invoice is a draft for an hour.
    for (const [to, next] of [
      ['2026-04-11', 60],
      ['2026-05-11', 0],
      ['2026-06-11', 60],
    ] as const) {
      await expect.poll(() => nextOf(id)).toBe(next)
      foretold.push(await nextOf(id))
      await advance(id, new Date(to))
    }
    expect(await asked(id)).toEqual(foretold)
  })

  test('is foretold for who is no customer of Stripe yet', async () => {
    await billing.createOrganization('nobody_yet')
    const now = await succeed('nobody_yet', 'subscribe/preview', { tier: 'tiny', payment_method_id: 'pm_card_visa' })
    expect(now).toMatchObject({ amount_due_now_minor: 0 })
    const trial = await succeed('nobody_yet', 'subscribe/preview', { tier: 'tiny', trial_period_days: 7 })
    expect(trial).toMatchObject({ amount_due_now_minor: 0, next_invoice: { amount_minor: 0 } })
  })

  test('of an add-on waits likewise', async () => {
    const id = await withCard('spark')
    await succeed(id, 'subscribe', { tier: 'pro', trial_period_days: 0 })
    const more = { add_on: 'spark', quantity: 1 }
    expect(await succeed(id, 'add-ons/preview', more)).toMatchObject({ amount_due_now_minor: 0 })
    await advance(id, '1d')
    await succeed(id, 'add-ons', more)
    await expect.poll(() => nextOf(id)).toBe(2020)
    await advance(id, '31d')
    expect(await asked(id)).toEqual([2000, 0, 2020])
  })
})

describe('a customer who owes on their balance', () => {
  test('pays it with the invoice of nothing that a trial begins with, as its preview says', async () => {
    const id = await withCard('trial')
    await owing(id, 3000)
    const bought = { tier: 'pro', trial_period_days: 5 }
    const preview = await succeed(id, 'subscribe/preview', bought)
    expect(preview).toMatchObject({ amount_due_now_minor: 3000, next_invoice: { amount_minor: 2000 } })
    await succeed(id, 'subscribe', bought)
    await advance(id, '6d')
    expect(await asked(id)).toEqual([3000, 2000])
  })

  test('of less than can be charged pays it when the trial is over', async () => {
    const id = await withCard('trial_small')
    await owing(id, 20)
    const bought = { tier: 'pro', trial_period_days: 5 }
    expect(await succeed(id, 'subscribe/preview', bought)).toMatchObject({
      amount_due_now_minor: 0,
      next_invoice: { amount_minor: 2020 },
    })
    await succeed(id, 'subscribe', bought)
    await advance(id, '6d')
    expect(await asked(id)).toEqual([0, 2020])
  })
})
