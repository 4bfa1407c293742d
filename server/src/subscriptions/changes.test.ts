import { describe, expect, test } from 'vitest'
import { priced, testSubscriptions } from '../../test/subscriptions.ts'

const billing = testSubscriptions({
  catalog: {
    meters: { call: {} },
    plans: {
      free: { name: 'Free', allowances: { call: { amount: 10 } } },
      team: { name: 'Team', prices: priced(1000), allowances: { call: { amount: 100 } } },
      company: { name: 'Company', prices: priced(5000), allowances: { call: { amount: 1000 } } },
    },
    defaultPlan: 'free',
  },
})
const { advance, invoicesOf, post, subscribed, subscriptionOf, succeed } = billing

/** At the period's end, as a request has it, or at a date, as Stripe's portal says it. */
async function cancelled(id: string, how: 'cancel_at_period_end' | 'cancel_at'): Promise<void> {
  if (how === 'cancel_at_period_end') {
    await post(id, 'cancel', { immediate: false })
    return
  }
  await billing.stripe.subscriptions.update((await subscriptionOf(id))['subscription_id'] as string, {
    cancel_at: 'max_period_end',
  })
  await expect.poll(async () => (await subscriptionOf(id))['cancel_at']).not.toBeNull()
}

describe('a change at the end of the period', () => {
  test('is scheduled, previewed without a charge, and takes place at the renewal', async () => {
    const id = await subscribed('later', { tier: 'company' })
    const { current_period_end: end } = await subscriptionOf(id)
    const preview = await post(id, 'downgrade/preview', { new_tier: 'team', at: 'period_end' })
    expect(preview.body).toMatchObject({
      kind: 'switch_at_period_end',
      effective_at: end,
      amount_due_now_minor: 0,
      next_invoice: { at: end, amount_minor: 1000 },
    })
    const scheduled = await post(id, 'downgrade', { new_tier: 'team', at: 'period_end' })
    expect(scheduled).toMatchObject({
      status: 200,
      body: { tier: 'company', scheduled_change: { tier: 'team', interval: 'monthly', quantity: 1, at: end } },
    })
    await advance(id, '20d')
    expect(await subscriptionOf(id)).toMatchObject({ tier: 'company', scheduled_change: { tier: 'team' } })
    await advance(id, '13d')
    expect(await subscriptionOf(id)).toMatchObject({ tier: 'team', status: 'active', scheduled_change: null })
    expect((await invoicesOf(id))[0]).toMatchObject({ status: 'paid', amount_paid_minor: 1000 })
  })

  test('of seats tells how many there will be', async () => {
    const id = await subscribed('fewer_seats', { tier: 'company', quantity: 3 })
    const fewer = await post(id, 'downgrade', { new_tier: 'company', quantity: 1, at: 'period_end' })
    expect(fewer.body).toMatchObject({ quantity: 3, scheduled_change: { tier: 'company', quantity: 1 } })
  })

  test('can be taken back', async () => {
    const id = await subscribed('taken_back', { tier: 'company' })
    await post(id, 'downgrade', { new_tier: 'team', at: 'period_end' })
    const undone = await post(id, 'upgrade/undo')
    expect(undone).toMatchObject({ status: 200, body: { tier: 'company', scheduled_change: null } })
    await advance(id, '33d')
    expect(await subscriptionOf(id)).toMatchObject({ tier: 'company' })
    expect((await post(id, 'upgrade/undo')).body['code']).toBe('nothing_to_change')
  })

  test('is forgotten when another change is made now, or the subscription is cancelled', async () => {
    const id = await subscribed('overtaken', { tier: 'company' })
    await post(id, 'downgrade', { new_tier: 'team', at: 'period_end' })
    const cancelled = await post(id, 'cancel', { immediate: false })
    expect(cancelled).toMatchObject({ status: 200, body: { status: 'cancelled' } })
    expect(await subscriptionOf(id)).toMatchObject({ scheduled_change: null, cancel_at_period_end: true })
    const stays = await post(id, 'upgrade', { new_tier: 'company', quantity: 2 })
    expect(stays).toMatchObject({ status: 200, body: { quantity: 2, cancel_at: null } })
    await advance(id, '33d')
    expect(await subscriptionOf(id)).toMatchObject({ tier: 'company', quantity: 2, amount: 100 })
  })
})

test('the credit of a smaller plan outlives a cancellation at once, which says so: the next purchase uses it', async () => {
  const id = await subscribed('leaves_with_credit', { tier: 'company' })
  const { body: smaller } = await post(id, 'downgrade/preview', { new_tier: 'team' })
  expect(smaller).toMatchObject({ credit_minor: 4000 })
  await post(id, 'downgrade', { new_tier: 'team' })
  const { body: leaving } = await post(id, 'cancel/preview', { immediate: true })
  expect(leaving).toMatchObject({ credit_minor: 4000, amount_due_now_minor: 0 })
  await post(id, 'cancel', { immediate: true })
  const purchase = { tier: 'company', payment_method_id: 'pm_card_visa' }
  expect((await post(id, 'subscribe/preview', purchase)).body).toMatchObject({ amount_due_now_minor: 1000 })
  await succeed(id, 'subscribe', purchase)
  expect((await invoicesOf(id)).map((invoice) => invoice['amount_paid_minor'])).toContain(1000)
})

test('a cancellation at once credits nothing of what was paid, and makes no invoice where nothing is open', async () => {
  const id = await subscribed('leaves_paid', { tier: 'company' })
  const { body: leaving } = await post(id, 'cancel/preview', { immediate: true })
  expect(leaving).toMatchObject({ credit_minor: 0, amount_due_now_minor: 0 })
  await post(id, 'cancel', { immediate: true })
  expect(await invoicesOf(id)).toHaveLength(1)
})

describe('seats', () => {
  test('more are paid at once for the rest of the period, fewer lower the next invoice', async () => {
    const id = await subscribed('seats', { tier: 'team', quantity: 3 })
    expect((await invoicesOf(id))[0]).toMatchObject({ amount_paid_minor: 3000 })
    await advance(id, '10d')
    const preview = await post(id, 'upgrade/preview', { new_tier: 'team', quantity: 5 })
    const due = preview.body['amount_due_now_minor'] as number
    expect(due).toBeGreaterThan(1000)
    expect(due).toBeLessThan(2000)
    const more = await post(id, 'upgrade', { new_tier: 'team', quantity: 5, proration_date: preview.body['proration_date'] })
    expect(more).toMatchObject({ status: 200, body: { quantity: 5 } })
    expect((await invoicesOf(id))[0]).toMatchObject({ amount_paid_minor: due })
    const fewer = await post(id, 'upgrade', { new_tier: 'team', quantity: 2 })
    expect(fewer).toMatchObject({ status: 200, body: { quantity: 2 } })
    expect(await invoicesOf(id)).toHaveLength(2)
  })

  test('stay as many when the plan changes', async () => {
    const id = await subscribed('keeps_seats', { tier: 'team', quantity: 4 })
    await post(id, 'upgrade', { new_tier: 'company' })
    expect(await subscriptionOf(id)).toMatchObject({ tier: 'company', quantity: 4, amount: 200 })
  })
})

describe('KF-13 months and years', () => {
  test('to a year begins a year now, less what is left of the month, as previewed', async () => {
    const id = await subscribed('to_year', { tier: 'team' })
    await advance(id, '10d')
    const preview = await post(id, 'upgrade/preview', { new_tier: 'team', interval: 'yearly' })
    expect(preview.body).toMatchObject({ kind: 'switch_now', direction: 'interval' })
    const due = preview.body['amount_due_now_minor'] as number
    expect(due).toBeGreaterThan(9000)
    expect(due).toBeLessThan(10_000)
    const changed = await post(id, 'upgrade', {
      new_tier: 'team',
      interval: 'yearly',
      proration_date: preview.body['proration_date'],
    })
    expect(changed).toMatchObject({ status: 200, body: { interval: 'yearly' } })
    expect((await invoicesOf(id))[0]).toMatchObject({ status: 'paid', amount_paid_minor: due })
    const { current_period_start: start, current_period_end: end } = await subscriptionOf(id)
    expect(Date.parse(end as string) - Date.parse(start as string)).toBeGreaterThan(364 * 86_400_000)
    expect((preview.body['next_invoice'] as { at: string }).at).toBe(end)
  })

  test.each(['cancel_at_period_end', 'cancel_at'] as const)(
    'to a year after a cancellation (%s) is paid as one without it, as previewed',
    async (how) => {
      const id = await subscribed(`year_stays_${how}`, { tier: 'team' })
      await cancelled(id, how)
      const preview = await post(id, 'upgrade/preview', { new_tier: 'team', interval: 'yearly' })
      expect(preview.body).toMatchObject({ cancel_at: null, amount_due_now_minor: 9000, next_invoice: { amount_minor: 10_000 } })
      expect((await post(id, 'upgrade', { new_tier: 'team', interval: 'yearly' })).body).toMatchObject({ cancel_at: null })
      expect((await invoicesOf(id)).map((invoice) => invoice['amount_paid_minor'])).toContain(9000)
      await advance(id, '366d')
      expect((await invoicesOf(id))[0]).toMatchObject({ status: 'paid', amount_paid_minor: 10_000 })
    },
  )

  test('to a year that is declined leaves a cancellation as it was', async () => {
    const id = await subscribed('year_declined_cancelled', { tier: 'team' })
    await cancelled(id, 'cancel_at_period_end')
    const { cancel_at: cancelAt } = await subscriptionOf(id)
    await post(id, 'payment-methods', { payment_method_id: 'pm_card_chargeCustomerFail' })
    expect(await post(id, 'upgrade', { new_tier: 'team', interval: 'yearly' })).toMatchObject({ status: 402 })
    expect(cancelAt).not.toBeNull()
    expect(await subscriptionOf(id)).toMatchObject({ cancel_at: cancelAt, interval: 'month' })
  })

  test('that is not paid does not take place', async () => {
    const id = await subscribed('year_declined', { tier: 'team' })
    await post(id, 'payment-methods', { payment_method_id: 'pm_card_chargeCustomerFail' })
    const declined = await post(id, 'upgrade', { new_tier: 'team', interval: 'yearly' })
    expect(declined).toMatchObject({ status: 402, body: { code: 'payment_failed' } })
    expect(await subscriptionOf(id)).toMatchObject({ status: 'active', interval: 'month', standing: { state: 'active' } })
  })

  test('from a year to months at its end', async () => {
    const id = await subscribed('to_month', { tier: 'team', interval: 'yearly' })
    expect((await invoicesOf(id))[0]).toMatchObject({ amount_paid_minor: 10_000 })
    const scheduled = await post(id, 'downgrade', { new_tier: 'team', interval: 'monthly', at: 'period_end' })
    expect(scheduled).toMatchObject({ status: 200, body: { interval: 'yearly', scheduled_change: { interval: 'monthly' } } })
    await advance(id, '367d')
    expect(await subscriptionOf(id)).toMatchObject({ tier: 'team', interval: 'month', amount: 10 })
  })
})

describe('pause and resume', () => {
  test('a paused subscription makes no invoices and allows no use; a resumed one begins a new period', async () => {
    const id = await subscribed('pausing', { tier: 'team' })
    const paused = await post(id, 'pause')
    expect(paused, JSON.stringify(paused.body)).toMatchObject({ status: 200, body: { status: 'paused' } })
    expect(await subscriptionOf(id)).toMatchObject({ standing: { state: 'paused', may_use: false }, next_invoice_date: null })
    const before = (await invoicesOf(id)).length
    await advance(id, '40d')
    expect(await invoicesOf(id)).toHaveLength(before)
    const resumed = await post(id, 'resume')
    expect(resumed, JSON.stringify(resumed.body)).toMatchObject({ status: 200, body: { status: 'active' } })
    expect(await subscriptionOf(id)).toMatchObject({ standing: { state: 'active' } })
    expect((await invoicesOf(id))[0]).toMatchObject({ status: 'paid' })
  })
})
