import { describe, expect, test } from 'vitest'
import { failing, KILLED } from '../../test/failing.ts'
import { changeByOperator } from '../../test/purchases.ts'
import { PLANS, testSubscriptions } from '../../test/subscriptions.ts'
import { MINUTE_MS } from '../lib/period.ts'
import { StripeCallError } from '../stripe/gateway/errors.ts'
import { finishStrandedIntents } from '../stripe/intents/finish-intents.ts'
import { runExclusively } from './actions.ts'
import { finishChanges } from './jobs.ts'

// Cancelling and pausing while another plan is scheduled: whatever happens on the way, there is what was asked for, or what was scheduled.

const billing = testSubscriptions({ catalog: PLANS })
const { advance, post, subscribed, subscriptionOf, succeed } = billing

async function goingDown(id: string): Promise<string> {
  await subscribed(id, { tier: 'pro' })
  await succeed(id, 'downgrade', { new_tier: 'starter', at: 'period_end' })
  return id
}

const GOES_DOWN = { plan: 'pro', status: 'active', cancel_at: null, scheduled_change: { tier: 'starter' } }
const WISHES = {
  leave: {
    path: 'cancel',
    body: { immediate: false },
    request: { kind: 'cancel', immediate: false },
    asked: { plan: 'pro', status: 'active', cancel_at: expect.any(String) as string, scheduled_change: null },
    afterwards: { plan: 'free', status: 'canceled' },
  },
  leave_now: {
    path: 'cancel',
    body: { immediate: true },
    request: { kind: 'cancel', immediate: true },
    asked: { plan: 'free', status: 'canceled', scheduled_change: null },
    afterwards: { plan: 'free', status: 'canceled' },
  },
  rest: {
    path: 'pause',
    body: {},
    request: { kind: 'pause' },
    asked: { plan: 'pro', status: 'paused', cancel_at: null, scheduled_change: null },
    afterwards: { plan: 'pro', status: 'paused' },
  },
} as const
type Wish = keyof typeof WISHES

/** Who goes down in two months, by a schedule of Stripe's dashboard. */
async function goingDownLater(id: string): Promise<string> {
  await subscribed(id, { tier: 'pro' })
  const { subscription_id: from_subscription } = await subscriptionOf(id)
  const { subscriptionSchedules: schedules } = billing.stripe
  const { id: schedule, phases } = await schedules.create({ from_subscription: String(from_subscription) })
  const { start_date, items } = phases[0]!
  await schedules.update(schedule, {
    phases: [
      { start_date, duration: { interval: 'month', interval_count: 2 }, items: [{ price: items[0]!.price as string }] },
      { items: [{ price: await billing.priceOf('starter') }] },
    ],
  })
  await advance(id, '32d')
  expect(await subscriptionOf(id)).toMatchObject(GOES_DOWN)
  return id
}

/** A server that dies before or after its n-th call that changes something at Stripe. */
const dyingAt = (moment: 'before' | 'after', nth: number, context = billing.context) => failing(context, moment, nth, KILLED)

/** What the jobs make of what nobody came back for. */
async function laterOn(minutes = 5): Promise<void> {
  const later = billing.later(minutes * MINUTE_MS)
  // While webhooks of an organization are being handled, nothing of it is looked at.
  await expect.poll(() => finishStrandedIntents(later)).toBe(0)
  await finishChanges(later)
}

async function killed(id: string, wish: Wish, moment: 'before' | 'after', nth: number): Promise<void> {
  await expect(changeByOperator(dyingAt(moment, nth), id, WISHES[wish].request)).rejects.toThrow('killed')
}

const MOMENTS = [
  ['leave', 'before', 1, 'scheduled'],
  ['leave', 'after', 1, 'asked'],
  ['leave', 'before', 2, 'asked'],
  ['leave', 'after', 2, 'asked'],
  ['leave_now', 'before', 1, 'scheduled'],
  ['leave_now', 'after', 1, 'asked'],
  ['rest', 'before', 1, 'scheduled'],
  ['rest', 'after', 1, 'scheduled'],
  ['rest', 'before', 2, 'scheduled'],
  ['rest', 'after', 2, 'asked'],
] as const

describe('a server that dies', () => {
  test.each(MOMENTS)('who wishes to %s, %s call %i: it is as %s, and comes so', async (wish, moment, nth, expected) => {
    const id = await goingDown(`${wish}_${moment}_${nth}`)
    await killed(id, wish, moment, nth)
    await laterOn()
    const { asked, afterwards } = WISHES[wish]
    await expect.poll(() => subscriptionOf(id)).toMatchObject(expected === 'asked' ? asked : GOES_DOWN)
    await advance(id, '32d')
    const goneDown = { plan: 'starter', status: 'active' }
    expect(await subscriptionOf(id)).toMatchObject(expected === 'asked' ? afterwards : goneDown)
  })

  test.each(['leave', 'leave_now', 'rest'] as const)('after its first call: who asks again to %s has it', async (wish) => {
    const id = await goingDown(`again_${wish}`)
    await killed(id, wish, 'after', 1)
    await laterOn()
    const { path, body, asked } = WISHES[wish]
    for (let round = 0; round < 2; round += 1) {
      const { status } = await post(id, path, body)
      expect(round === 0 ? [200] : [200, 404, 409]).toContain(status)
      expect(await subscriptionOf(id)).toMatchObject(asked)
    }
  })

  test('between the schedule and the pause puts back what was scheduled', async () => {
    const id = await goingDown('in_between')
    await killed(id, 'rest', 'before', 2)
    // As if it had died a moment earlier, before the pause was written down.
    await billing.context.db.query(`delete from stripe_intents where organization_id = $1 and state = 'pending'`, [id])
    await expect.poll(() => subscriptionOf(id)).toMatchObject({ scheduled_change: null })
    await laterOn()
    expect(await subscriptionOf(id)).toMatchObject(GOES_DOWN)
  })

  test.each([
    ['after', 1],
    ['before', 2],
    ['after', 2],
  ] as const)('while it puts that back (%s call %i) leaves it to the next', async (moment, nth) => {
    const id = await goingDown(`put_back_${moment}_${nth}`)
    await killed(id, 'rest', 'before', 2)
    const dying = dyingAt(moment, nth, billing.later(5 * MINUTE_MS))
    await expect(runExclusively(dying, id, async () => undefined)).rejects.toThrow('killed')
    await expect.poll(() => subscriptionOf(id)).toMatchObject({ status: 'active' })
    await laterOn(10)
    await expect.poll(() => subscriptionOf(id)).toMatchObject(GOES_DOWN)
    await advance(id, '32d')
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'starter', status: 'active' })
  })
})

describe('who is to go down by a schedule whose running phase began some periods ago', () => {
  test('leaves with the period', async () => {
    const id = await goingDownLater('left_later')
    expect(await post(id, 'cancel', { immediate: false })).toMatchObject({ status: 200, body: { status: 'cancelled' } })
    expect(await subscriptionOf(id)).toMatchObject(WISHES.leave.asked)
    await advance(id, '32d')
    expect(await subscriptionOf(id)).toMatchObject(WISHES.leave.afterwards)
  })

  test('has another plan scheduled instead', async () => {
    const id = await goingDownLater('changed_later')
    await succeed(id, 'downgrade', { new_tier: 'starter', at: 'period_end' })
    expect(await subscriptionOf(id)).toMatchObject(GOES_DOWN)
  })
})

describe('what was scheduled', () => {
  test('goes with a pause that came about, and does not come back with the next change', async () => {
    const id = await goingDown('rested')
    expect((await post(id, 'pause')).status).toBe(200)
    expect((await post(id, 'resume')).status).toBe(200)
    await laterOn()
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'pro', status: 'active', scheduled_change: null })
  })

  test('goes with a cancellation, and does not come back with one that is taken back', async () => {
    const id = await goingDown('left')
    expect((await post(id, 'cancel', { immediate: false })).body).toMatchObject({ status: 'cancelled' })
    expect((await post(id, 'cancel/undo')).status).toBe(200)
    await laterOn()
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'pro', cancel_at: null, scheduled_change: null })
    await advance(id, '32d')
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'pro', status: 'active' })
  })

  test('and that Stripe takes neither pause nor schedule for is told once, and not tried for ever', async () => {
    const id = await goingDown('refused')
    await killed(id, 'rest', 'before', 2)
    const refused = new StripeCallError('stripe_failed', 'refused', 'refused')
    const refusing = failing(billing.later(5 * MINUTE_MS), 'before', 'schedule_switch', refused)
    await runExclusively(refusing, id, async () => undefined)
    await laterOn()
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'pro', status: 'active', scheduled_change: null })
    const told = billing.logged.filter(({ fields }) => fields['event'] === 'billing.change_not_scheduled_again')
    expect(told).toMatchObject([{ level: 'error', fields: { organization_id: id } }])
  })
})

describe('a cancellation of a trial beside a schedule of Stripe’s dashboard', () => {
  /** Who is to go down as the trial ends. */
  async function trying(id: string): Promise<string> {
    await subscribed(id, { tier: 'pro', trial_period_days: 14 })
    const { subscription_id: from_subscription } = await subscriptionOf(id)
    const { subscriptionSchedules: schedules } = billing.stripe
    const { id: schedule, phases } = await schedules.create({ from_subscription: String(from_subscription) })
    const { start_date, trial_end, items } = phases[0]!
    await schedules.update(schedule, {
      phases: [
        { start_date, end_date: trial_end!, trial: true, items: [{ price: items[0]!.price as string }] },
        { items: [{ price: await billing.priceOf('starter') }] },
      ],
    })
    await expect.poll(() => subscriptionOf(id), { timeout: 10_000 }).toMatchObject({ status: 'trialing', ...SCHEDULED })
    return id
  }
  const SCHEDULED = { plan: 'pro', scheduled_change: { tier: 'starter' }, cancel_at: null }
  const LEAVES = { plan: 'pro', status: 'trialing', scheduled_change: null, cancel_at: expect.any(String) as string }
  const paidBy = async (id: string) =>
    (await billing.invoicesOf(id)).reduce((sum, { amount_paid_minor: minor }) => sum + minor, 0)

  test('ends it with the trial, and nothing is paid', async () => {
    const id = await trying('tries')
    await succeed(id, 'cancel', { immediate: false })
    expect(await subscriptionOf(id)).toMatchObject(LEAVES)
    await advance(id, '15d')
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'free', status: 'canceled' })
    expect(await paidBy(id)).toBe(0)
  })

  test.each([
    ['before', 1, { status: 'trialing', ...SCHEDULED }, 900],
    ['after', 1, LEAVES, 0],
    ['before', 2, LEAVES, 0],
  ] as const)(
    'leaves what was scheduled, or ends it, where the server is killed %s call %i',
    async (moment, nth, expected, paid) => {
      const id = await trying(`tries_${moment}_${nth}`)
      await killed(id, 'leave', moment, nth)
      await laterOn()
      expect(await subscriptionOf(id)).toMatchObject(expected)
      await advance(id, '15d')
      await advance(id, '2h')
      expect(await paidBy(id)).toBe(paid)
    },
  )
})
