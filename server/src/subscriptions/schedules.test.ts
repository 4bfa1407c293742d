import { expect, test } from 'vitest'
import { failing, KILLED } from '../../test/failing.ts'
import { changeByOperator, switchTo } from '../../test/purchases.ts'
import { PLANS, testSubscriptions } from '../../test/subscriptions.ts'
import { MINUTE_MS } from '../lib/period.ts'
import { StripeCallError } from '../stripe/gateway/errors.ts'
import { finishStrandedIntents } from '../stripe/intents/finish-intents.ts'

// A change at the period's end, of which not every step comes about.

const billing = testSubscriptions({ catalog: PLANS })
const { advance, post, subscribed, subscriptionOf, succeed } = billing

async function leaving(id: string): Promise<string> {
  await subscribed(id, { tier: 'pro' })
  await succeed(id, 'cancel', { immediate: false })
  return id
}

/** What becomes of what nobody came back for. */
async function laterOn(): Promise<void> {
  // While webhooks of an organization are being handled, nothing of it is looked at.
  await expect.poll(() => finishStrandedIntents(billing.later(5 * MINUTE_MS))).toBe(0)
}

const LEAVES = { plan: 'pro', cancel_at: expect.any(String) as string, scheduled_change: null }
const GOES_DOWN = { plan: 'pro', cancel_at: null, scheduled_change: { tier: 'starter' } }
const FAILURES = [
  ['POST /v1/subscription_schedules', 'serverError'],
  ['POST /v1/subscription_schedules', 'lostResponse'],
  ['POST /v1/subscription_schedules/*', 'serverError'],
  ['POST /v1/subscription_schedules/*', 'lostResponse'],
] as const

async function goingDownFails(id: string, route: string, failure: 'serverError' | 'lostResponse') {
  billing.sandbox.setChaos({ api: [{ route, [failure]: 1 }] })
  const { status } = await post(id, 'downgrade', { new_tier: 'starter', at: 'period_end' })
  billing.sandbox.setChaos({})
  await laterOn()
  return status
}

test.each(FAILURES)('going down by who has cancelled comes about whole or not at all: %s %s', async (route, failure) => {
  const id = await leaving(`leaving_${FAILURES.findIndex((each) => each[0] === route && each[1] === failure)}`)
  expect(await goingDownFails(id, route, failure)).toBeGreaterThanOrEqual(500)
  const isMade = route.endsWith('/*') && failure === 'lostResponse'
  await expect.poll(() => subscriptionOf(id)).toMatchObject(isMade ? GOES_DOWN : LEAVES)
  await advance(id, '32d')
  expect(await subscriptionOf(id)).toMatchObject(isMade ? { plan: 'starter', status: 'active' } : { status: 'canceled' })
})

test('going down by who has cancelled leaves the cancellation where the server dies on the way', async () => {
  const id = await leaving('leaving_killed')
  const dying = failing(billing.context, 'after', () => true, KILLED)
  await expect(changeByOperator(dying, id, switchTo('starter', 'period_end'))).rejects.toThrow('killed')
  await laterOn()
  await advance(id, '32d')
  expect(await subscriptionOf(id)).toMatchObject({ status: 'canceled' })
})

test.each([
  ['goes down', 'downgrade', { new_tier: 'starter', at: 'period_end' }, GOES_DOWN],
  ['stays', 'cancel/undo', {}, { plan: 'pro', cancel_at: null, scheduled_change: null }],
  ['goes up', 'upgrade', { new_tier: 'pro', quantity: 2 }, { plan: 'pro', quantity: 2, cancel_at: null }],
  ['leaves at once', 'cancel', { immediate: true }, { plan: 'free', status: 'canceled' }],
] as const)('who has cancelled, and could not go down, %s', async (_, path, body, expected) => {
  const id = await leaving(`left_over_${path.replace('/', '_')}_${Object.keys(body).length}`)
  expect(await goingDownFails(id, 'POST /v1/subscription_schedules/*', 'serverError')).toBeGreaterThanOrEqual(500)
  await succeed(id, path, body)
  expect(await subscriptionOf(id)).toMatchObject(expected)
})

/** What a seller has put on at Stripe: a tax of a fifth on all of it, and on the plan's item another one and a discount in place of that. */
async function sellAt(id: string, terms: 'all' | 'item'): Promise<void> {
  const { subscription_id: subscription } = (await subscriptionOf(id)) as { subscription_id: string }
  const rate = async (percentage: number) =>
    (await billing.stripe.taxRates.create({ display_name: 'Sales tax', inclusive: false, percentage })).id
  if (terms === 'all') {
    await billing.stripe.subscriptions.update(subscription, { default_tax_rates: [await rate(20)] })
  } else {
    const coupon = await billing.stripe.coupons.create({ percent_off: 50, duration: 'forever' })
    const [item] = (await billing.stripe.subscriptions.retrieve(subscription)).items.data
    const own = { tax_rates: [await rate(10)], discounts: [{ coupon: coupon.id }] }
    await billing.stripe.subscriptionItems.update(item!.id, own)
  }
  // While its webhooks are handled, it is refused.
  const reconcile = () => billing.call('operator', 'POST', `/api/v1/organizations/${id}/reconcile`)
  await expect.poll(async () => (await reconcile()).status).toBe(200)
}

test.each([
  ['all', 1080],
  ['item', 495],
] as const)('what is scheduled is taxed and discounted as what it takes the place of: %s', async (terms, amount) => {
  const id = await subscribed(`taxed_${terms}`, { tier: 'pro' })
  await sellAt(id, terms)
  const goingDown = { new_tier: 'starter', at: 'period_end' }
  expect(await succeed(id, 'downgrade/preview', goingDown)).toMatchObject({ next_invoice: { amount_minor: amount } })
  await succeed(id, 'downgrade', goingDown)
  const { subscription_id: subscription } = await subscriptionOf(id)
  const schedule = billing.sandbox.all('subscription_schedule').find((each) => each.subscription === subscription)!
  const shown = schedule.phases.map(({ default_tax_rates: rates, items: [plan] }) => [
    rates?.length,
    plan!.tax_rates?.length,
    plan!.discounts.length,
  ])
  const phase = terms === 'all' ? [1, 0, 0] : [0, 1, 1]
  expect(shown).toEqual([phase, phase])
  await advance(id, '32d')
  const [renewal] = await billing.invoicesOf(id)
  expect(renewal).toMatchObject({ billing_reason: 'subscription_cycle', amount_due_minor: amount })
})

test('who cancels beside what is scheduled is taxed until the end', async () => {
  const id = await subscribed('taxed_leaving', { tier: 'pro' })
  await sellAt(id, 'all')
  await succeed(id, 'downgrade', { new_tier: 'starter', at: 'period_end' })
  await succeed(id, 'cancel', { immediate: false })
  await succeed(id, 'cancel/undo')
  await advance(id, '32d')
  const [renewal] = await billing.invoicesOf(id)
  expect(renewal).toMatchObject({ billing_reason: 'subscription_cycle', amount_due_minor: 3480 })
})

test('what Stripe refuses to schedule leaves no schedule behind, which would be in the way of a pause', async () => {
  const id = await billing.subscribed('refused', { tier: 'pro' })
  const refusal = new StripeCallError('stripe_failed', 'Stripe refused this request.', 'refused')
  const refusing = failing(billing.context, 'before', 'schedule_switch', refusal)
  await expect(changeByOperator(refusing, id, switchTo('starter', 'period_end'))).rejects.toThrow('refused')
  const { subscription_id: subscription } = await subscriptionOf(id)
  expect((await billing.stripe.subscriptions.retrieve(String(subscription))).schedule).toBeNull()
  expect(await subscriptionOf(id)).toMatchObject({ plan: 'pro', scheduled_change: null })
})
