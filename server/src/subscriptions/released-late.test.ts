import { describe, expect, test } from 'vitest'
import { failing, KILLED } from '../../test/failing.ts'
import { changeByOperator } from '../../test/purchases.ts'
import { OFFERED, priced, testSubscriptions } from '../../test/subscriptions.ts'
import { MINUTE_MS } from '../lib/period.ts'
import { listTimeline } from '../operators/timeline-store.ts'
import { StripeCallError } from '../stripe/gateway/errors.ts'
import { finishStrandedIntents } from '../stripe/intents/finish-intents.ts'
import { readFollowing } from '../stripe/reconcile/following-store.ts'
import { runExclusively } from './actions.ts'
import { finishChanges } from './jobs.ts'
import { listReleased } from './released.ts'

// A server that dies between releasing a schedule and the pause for which it does, in the last minutes of a period: Stripe begins the next one without what was
// scheduled for it, before anybody can schedule it again.

const { free, ...sold } = OFFERED.plans
const plans = { free, pro: { ...sold.pro, prices: priced(2000) }, max: { ...sold.max, prices: priced(9000) } }
const billing = testSubscriptions({ catalog: { ...OFFERED, plans } })
const { advance, invoicesOf, post, subscribed, subscriptionOf, succeed } = billing

/** Who is renewed at the larger plan although a smaller one had been scheduled. */
async function overtaken(id: string): Promise<string> {
  await goDownAndDie(await subscribed(id, { tier: 'max' }))
  return id
}

async function goDownAndDie(id: string, { interval = 'monthly', period = '32d' } = {}): Promise<void> {
  await succeed(id, 'downgrade', { new_tier: 'pro', interval, at: 'period_end' })
  const dying = failing(billing.context, 'before', 'pause_subscription', KILLED)
  await expect(changeByOperator(dying, id, { kind: 'pause' })).rejects.toThrow('killed')
  // As if it had died a moment earlier, before the pause was written down.
  await billing.context.db.query(`delete from stripe_intents where organization_id = $1 and state = 'pending'`, [id])
  await advance(id, period)
  expect(await subscriptionOf(id)).toMatchObject({ plan: 'max', status: 'active', scheduled_change: null })
}

/** What the jobs make of what nobody came back for. */
async function laterOn(minutes = 5): Promise<void> {
  const later = billing.later(minutes * MINUTE_MS)
  // While webhooks of an organization are being handled, nothing of it is looked at.
  await expect.poll(() => finishStrandedIntents(later)).toBe(0)
  await finishChanges(later)
}

/** What a customer has paid in all, less what is in their balance. */
async function paidBy(id: string): Promise<number> {
  const { rows } = await billing.database.db.query<{ balance: number }>(
    'select balance_minor::int as balance from stripe_customers where organization_id = $1',
    [id],
  )
  const paid = (await invoicesOf(id)).reduce((sum, { amount_paid_minor: minor }) => sum + minor, 0)
  return paid + rows[0]!.balance
}

describe('what was scheduled for a period that has begun without it', () => {
  test('comes in that period, at the price that the whole of it would have had', async () => {
    const id = await overtaken('late')
    await laterOn()
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'pro', status: 'active', scheduled_change: null })
    await advance(id, '31d')
    expect(await paidBy(id)).toBe(9000 + 2 * 2000)
    await laterOn()
    await advance(id, '31d')
    expect(await paidBy(id)).toBe(9000 + 3 * 2000)
    const { rows } = await billing.database.db.query(
      `select actor, before, after from audit_log where organization_id = $1 and action = 'subscription.switched'`,
      [id],
    )
    expect(rows).toMatchObject([{ actor: 'system:billing', before: { quantity: 1 }, after: { quantity: 1 } }])
  })

  test.each(['before', 'after'] as const)('comes once, where the server is killed %s the call that brings it', async (moment) => {
    const id = await overtaken(`late_${moment}`)
    const dying = failing(billing.later(5 * MINUTE_MS), moment, 'update_subscription', KILLED)
    await expect(runExclusively(dying, id, async () => undefined)).rejects.toThrow('killed')
    await laterOn(10)
    await laterOn(10)
    await expect.poll(() => subscriptionOf(id)).toMatchObject({ plan: 'pro', status: 'active' })
    await advance(id, '31d')
    expect(await paidBy(id)).toBe(9000 + 2 * 2000)
  })

  test('comes before what the customer asks for next: who asks again to pause has it', async () => {
    const id = await overtaken('asks_again')
    expect((await post(id, 'pause')).status).toBe(200)
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'pro', status: 'paused', scheduled_change: null })
    await succeed(id, 'resume')
    await laterOn()
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'pro', status: 'active', scheduled_change: null })
    await advance(id, '31d')
    expect(await paidBy(id)).toBe(9000 + 2 * 2000)
  })

  test('is with its seats and add-ons what the schedule would have made it', async () => {
    const id = await subscribed('beside', { tier: 'max' })
    await succeed(id, 'add-ons', { add_on: 'support', quantity: 2 })
    await goDownAndDie(id)
    await laterOn()
    const { rows } = await billing.database.db.query(
      `select unit_amount_minor::int as price, quantity::int from stripe_subscription_items where organization_id = $1 order by 1`,
      [id],
    )
    expect(rows).toEqual([
      { price: 2000, quantity: 1 },
      { price: 3000, quantity: 2 },
    ])
    await advance(id, '31d')
    expect(await paidBy(id)).toBe(9000 + 2 * 2000 + 3 * 6000)
  })

  test('and that Stripe does not take is told once, and not tried for ever', async () => {
    const id = await overtaken('refused')
    const refused = new StripeCallError('stripe_failed', 'refused', 'refused')
    await runExclusively(failing(billing.context, 'before', 'update_subscription', refused), id, async () => undefined)
    await laterOn()
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'max', status: 'active' })
    const told = billing.logged.filter(({ fields }) => fields['event'] === 'billing.change_not_scheduled_again')
    expect(told).toMatchObject([{ level: 'error', fields: { organization_id: id } }])
  })

  test('does not come over what was changed at Stripe meanwhile, nor in the period after, of which operators are told once', async () => {
    const [changed, tooLate] = [await overtaken('changed'), await overtaken('too_late')]
    const { subscription_id: id } = await subscriptionOf(changed)
    const { items } = await billing.stripe.subscriptions.retrieve(String(id))
    await billing.stripe.subscriptions.update(String(id), { items: [{ id: items.data[0]!.id, quantity: 2 }] })
    await advance(tooLate, '31d')
    const before = await readFollowing(billing.context.db, billing.context.clock.now())
    await laterOn()
    for (const each of [changed, tooLate]) expect(await subscriptionOf(each)).toMatchObject({ plan: 'max', status: 'active' })
    await laterOn()
    const { rows } = await billing.database.db.query(
      `select organization_id as id, actor, target from audit_log where organization_id = any($1) and action = 'scheduled_change.lost'`,
      [[changed, tooLate]],
    )
    const { subscription_id: target } = await subscriptionOf(tooLate)
    expect(rows).toEqual([{ id: tooLate, actor: 'system:billing', target }])
    const [entry] = await listTimeline(billing.database.db, {
      organizationId: tooLate,
      kinds: ['billing'],
      limit: 1,
      after: null,
    })
    expect(entry!.data).toMatchObject({ type: 'scheduled_change.lost', quantity: 1 })
    const after = await readFollowing(billing.context.db, billing.context.clock.now())
    expect(after.leftToOperators['scheduled_change.lost']).toBe(before.leftToOperators['scheduled_change.lost'] + 1)
    expect(await listReleased(billing.context.db, billing.context.clock.now(), 10)).toEqual([])
  })
})

test('a year that was renewed although a month had been scheduled comes back, and the month is paid', async () => {
  const id = await subscribed('year', { tier: 'max', interval: 'yearly' })
  await goDownAndDie(id, { interval: 'monthly', period: '366d' })
  expect(await paidBy(id)).toBe(2 * 90_000)
  await laterOn()
  expect(await subscriptionOf(id)).toMatchObject({ plan: 'pro', status: 'active', scheduled_change: null })
  expect(await paidBy(id)).toBe(90_000 + 2000)
})
