import { beforeAll, describe, expect, test } from 'vitest'
import { failing } from '../../test/failing.ts'
import { payOn } from '../../test/purchases.ts'
import { testSubscriptions } from '../../test/subscriptions.ts'
import { StripeCallError } from '../stripe/gateway/errors.ts'
import { endReplaced } from './replaced.ts'

// A subscription that is paused, by somebody or since its trial ended with nothing to charge: what can be bought beside it, and what
// resuming it costs.

const billing = testSubscriptions({
  policy: { trialEndBehavior: 'pause' },
  catalog: {
    meters: { call: {} },
    plans: {
      free: { name: 'Free', allowances: { call: { amount: 10 } } },
      starter: { name: 'Starter', prices: { monthly: { amountMinor: 900 } }, allowances: { call: { amount: 100 } } },
      pro: { name: 'Pro', prices: { monthly: { amountMinor: 2900 } }, allowances: { call: { amount: 1000 } } },
    },
    addOns: { seats: { name: 'Seats', prices: { monthly: { amountMinor: 500 } }, allowances: { call: 50 } } },
    defaultPlan: 'free',
  },
})
const { advance, invoicesOf, onClock, post, subscriptionOf, succeed } = billing
const BILLING = '/api/v1/billing'
const GOOD = { payment_method_id: 'pm_card_visa' }

const statusesOf = async (id: string) =>
  (
    await billing.context.db.query<{ status: string }>(
      'select status from stripe_subscriptions where organization_id = $1 order by created_at, id',
      [id],
    )
  ).rows.map(({ status }) => status)

async function triedOut(id: string): Promise<string> {
  await onClock(id)
  expect((await post(id, 'subscribe', { tier: 'pro' })).body).toMatchObject({ status: 'trialing' })
  await advance(id, '15d')
  expect(await subscriptionOf(id)).toMatchObject({ status: 'paused', standing: { reason: 'trial_ended' } })
  return id
}

describe('a subscription that somebody paused', () => {
  test.each(['subscribe', 'checkout'])('is not sold a second time by %s: what was paid of it stays paid', async (path) => {
    const id = await onClock(`paused_${path}`)
    await succeed(id, 'subscribe', { tier: 'pro', ...GOOD })
    await post(id, 'pause')
    const refused = await post(id, path, { tier: 'starter', ...(path === 'subscribe' ? GOOD : {}) })
    expect(refused).toMatchObject({ status: 409, body: { code: 'subscription_exists', tier: 'pro' } })
    expect(refused.body['detail']).toBe('The subscription is paused: resume it with /resume, or cancel it first.')
    expect(await statusesOf(id)).toEqual(['paused'])
    await succeed(id, 'cancel', { immediate: true })
    await succeed(id, path, { tier: 'starter', ...(path === 'subscribe' ? GOOD : {}) })
  })

  test('after a trial that was paid for is no trial that ended', async () => {
    const id = await onClock('tried_and_paid')
    await post(id, 'subscribe', { tier: 'pro', trial_period_days: 7, ...GOOD })
    await advance(id, '8d')
    await post(id, 'pause')
    expect(await subscriptionOf(id)).toMatchObject({ status: 'paused', standing: { reason: 'collection_paused' } })
    expect(await post(id, 'checkout', { tier: 'starter' })).toMatchObject({ status: 409 })
  })
})

describe('a subscription that is paused', () => {
  test('and cancelled foretells no invoice when it is taken back: none comes while it is paused', async () => {
    const id = await onClock('paused_cancelled')
    await post(id, 'subscribe', { tier: 'starter', ...GOOD })
    await post(id, 'pause')
    await post(id, 'cancel', { immediate: false })
    expect((await post(id, 'cancel/undo/preview')).body).toMatchObject({ kind: 'undo_cancel', next_invoice: null })
  })

  test('for longer than its period ends at once when it is cancelled, as the preview says', async () => {
    const id = await onClock('paused_long_cancelled')
    await post(id, 'subscribe', { tier: 'starter', ...GOOD })
    await post(id, 'pause')
    await advance(id, '40d')
    const preview = await post(id, 'cancel/preview', { immediate: false })
    expect(preview.body).toMatchObject({ kind: 'cancel_now', cancel_at: preview.body['effective_at'] })
    expect((await post(id, 'cancel', { immediate: false })).body).toMatchObject({ tier: 'free' })
    expect(await subscriptionOf(id)).toMatchObject({ status: 'canceled' })
  })
})

describe('a subscription that is resumed after its period', () => {
  test('and whose card declines goes on owing it: 402 says so, and where it is paid', async () => {
    const id = await onClock('resumed_declined')
    await post(id, 'subscribe', { tier: 'starter', ...GOOD })
    await post(id, 'pause')
    await post(id, 'payment-methods', { payment_method_id: 'pm_card_chargeCustomerFail' })
    await advance(id, '40d')
    const refused = await post(id, 'resume')
    expect(refused).toMatchObject({ status: 402, body: { code: 'payment_failed' } })
    expect(await subscriptionOf(id)).toMatchObject({ status: 'past_due', standing: { state: 'grace', may_use: true } })
    expect((await payOn(String(refused.body['payment_url']))).status).toBe(303)
    await expect.poll(async () => (await subscriptionOf(id))['status']).toBe('active')
  })
})

describe('a subscription that is resumed after its period, and whose bank asks the customer', () => {
  const ASKED = {
    status: 200,
    body: { status: 'paused', requires_action: true, payment_url: expect.stringMatching(/^http/) as string },
  }

  async function asked(id: string): Promise<string> {
    await onClock(id)
    await post(id, 'subscribe', { tier: 'starter', ...GOOD })
    await post(id, 'payment-methods', { payment_method_id: 'pm_card_authenticationRequired' })
    await post(id, 'pause')
    await advance(id, '32d')
    expect(await post(id, 'resume')).toMatchObject(ASKED)
    return id
  }

  test('waits for them: the page is answered, also to a second try, and nothing is given or owed before', async () => {
    const id = await asked('resumed_asked')
    expect(await subscriptionOf(id)).toMatchObject({ payment_failed: false, standing: { state: 'paused', may_use: false } })
    expect((await post(id, 'resume/preview')).body).toMatchObject({ amount_due_now_minor: 900 })
    const second = await post(id, 'resume')
    expect(second).toMatchObject(ASKED)
    expect(await subscriptionOf(id)).toMatchObject({ status: 'paused', standing: { state: 'paused' } })
    expect((await payOn(String(second.body['payment_url']))).status).toBe(303)
    await expect.poll(async () => (await subscriptionOf(id))['status']).toBe('active')
    expect((await invoicesOf(id)).map(({ status }) => status)).toEqual(['paid', 'paid'])
  })

  test('goes on once another card pays the same invoice', async () => {
    const id = await asked('resumed_other_card')
    await post(id, 'payment-methods', GOOD)
    expect(await post(id, 'resume')).toMatchObject({ body: { status: 'active', requires_action: false, payment_url: null } })
    expect((await invoicesOf(id)).map((invoice) => [invoice['status'], invoice['amount_paid_minor']])).toEqual([
      ['paid', 900],
      ['paid', 900],
    ])
  })

  test('is given no period that nobody has paid, however often it is resumed', async () => {
    const id = await asked('resumed_never_paid')
    await advance(id, '1d')
    expect((await invoicesOf(id))[0]).toMatchObject({ status: 'void' })
    expect((await post(id, 'resume/preview')).body).toMatchObject({ amount_due_now_minor: 900 })
    expect(await post(id, 'resume')).toMatchObject(ASKED)
    expect(await subscriptionOf(id)).toMatchObject({ status: 'paused', standing: { state: 'paused' } })
  })

  test.each([true, false])('ends at once when it is cancelled (immediate: %s), and owes nothing', async (immediate) => {
    const id = await asked(`resumed_then_left_${immediate}`)
    expect((await post(id, 'cancel/preview', { immediate })).body).toMatchObject({ kind: 'cancel_now' })
    expect(await post(id, 'cancel', { immediate })).toMatchObject({ status: 200 })
    expect((await invoicesOf(id))[0]).toMatchObject({ status: 'void' })
    expect(await post(id, 'subscribe', { tier: 'starter', ...GOOD })).toMatchObject({ status: 200 })
  })

  test('keeps a period that was paid, although an upgrade in it was never answered', async () => {
    const id = await onClock('resumed_upgrade_unanswered')
    await post(id, 'subscribe', { tier: 'starter', ...GOOD })
    await post(id, 'payment-methods', { payment_method_id: 'pm_card_authenticationRequired' })
    expect((await post(id, 'upgrade', { tier: 'pro' })).body).toMatchObject({ requires_action: true })
    await post(id, 'pause')
    await advance(id, '3d')
    expect((await post(id, 'resume')).body).toMatchObject({ status: 'active', plan: 'starter', requires_action: false })
  })
})

describe('a subscription that stopped with its trial', () => {
  test('gives way to one that is bought, and stays when the card declines', async () => {
    const id = await triedOut('tried_then_bought')
    const declined = await post(id, 'subscribe', { tier: 'starter', payment_method_id: 'pm_card_chargeCustomerFail' })
    expect(declined).toMatchObject({ status: 402, body: { code: 'payment_failed' } })
    expect(await statusesOf(id)).toEqual(['paused'])
    expect((await post(id, 'subscribe', { tier: 'starter', ...GOOD })).body).toMatchObject({ plan: 'starter', status: 'active' })
    expect(await statusesOf(id)).toEqual(['canceled', 'active'])
  })

  test('gives way to one that is bought on a page, once that is paid', async () => {
    const id = await triedOut('tried_then_paid_page')
    const { url } = (await post(id, 'checkout', { plan: 'starter' })).body as { url: string }
    expect(await endReplaced(billing.context)).toBe(0)
    expect(await statusesOf(id)).toEqual(['paused'])
    expect((await payOn(url)).status).toBe(303)
    await expect.poll(() => statusesOf(id)).toEqual(['paused', 'active'])
    await endReplaced(billing.context)
    expect(await statusesOf(id)).toEqual(['canceled', 'active'])
    expect(await endReplaced(billing.context)).toBe(0)
    expect(await subscriptionOf(id)).toMatchObject({ plan: 'starter', status: 'active' })
    const { rows } = await billing.context.db.query(
      `select action, after from audit_log where organization_id = $1 and actor = 'system:replaced'`,
      [id],
    )
    expect(rows).toEqual([
      { action: 'subscription.canceled', after: { replaced_by: (await subscriptionOf(id))['subscription_id'] } },
    ])
  })

  test('is ended although those before it cannot be, however often the run begins', async () => {
    const ids = ['stuck_1', 'stuck_2', 'stuck_3', 'well_last']
    for (const id of ids) {
      const { url } = (await post(await triedOut(id), 'checkout', { plan: 'starter' })).body as { url: string }
      expect((await payOn(url)).status).toBe(303)
      await expect.poll(() => statusesOf(id)).toEqual(['paused', 'active'])
    }
    const { rows } = await billing.context.db.query<{ id: string }>(
      `select id from stripe_subscriptions where organization_id like 'stuck%'`,
    )
    const isStuck = ({ params }: { params: object }) =>
      'subscriptionId' in params && rows.some(({ id }) => id === params.subscriptionId)
    const stuck = failing(billing.context, 'before', isStuck, new StripeCallError('stripe_unavailable', 'stuck', 'later'))
    // Each run stops after three failures; it is the last of four in every fourth.
    for (let run = 0; run < 60 && (await statusesOf('well_last'))[0] === 'paused'; run += 1) {
      await endReplaced(stuck).catch(() => undefined)
    }
    expect(await statusesOf('well_last')).toEqual(['canceled', 'active'])
    expect(await statusesOf('stuck_1')).toEqual(['paused', 'active'])
  })

  test('that is resumed closes the page on which another could be bought', async () => {
    const id = await triedOut('tried_then_resumed')
    const { url } = (await post(id, 'checkout', { plan: 'starter' })).body as { url: string }
    await post(id, 'payment-methods', GOOD)
    expect((await post(id, 'resume')).body).toMatchObject({ plan: 'pro', status: 'active' })
    expect((await payOn(url)).status).not.toBe(303)
    expect(await statusesOf(id)).toEqual(['active'])
  })
})

type Before = { readonly name: string; readonly begin: (id: string) => Promise<unknown> }

const BEFORE: readonly Before[] = [
  { name: 'a plan', begin: (id) => post(id, 'subscribe', { tier: 'pro', ...GOOD }) },
  { name: 'three seats of it', begin: (id) => post(id, 'subscribe', { tier: 'pro', quantity: 3, ...GOOD }) },
  {
    name: 'a plan and add-ons',
    async begin(id) {
      await post(id, 'subscribe', { tier: 'pro', ...GOOD })
      await post(id, 'add-ons', { add_on: 'seats', quantity: 4 })
    },
  },
  {
    name: 'a discount that lasts',
    async begin(id) {
      await post(id, 'subscribe', { tier: 'pro', quantity: 2, discount_code: 'ALWAYS', ...GOOD })
      await post(id, 'add-ons', { add_on: 'seats', quantity: 1 })
    },
  },
  { name: 'a discount that is over', begin: (id) => post(id, 'subscribe', { tier: 'pro', discount_code: 'ONCE', ...GOOD }) },
  {
    name: 'a credit for a smaller plan',
    async begin(id) {
      await post(id, 'subscribe', { tier: 'pro', ...GOOD })
      await advance(id, '25d')
      await post(id, 'downgrade', { tier: 'starter', at: 'now' })
    },
  },
]

describe('resuming after the period that was paid', () => {
  beforeAll(async () => {
    for (const terms of [
      { code: 'ALWAYS', percent_off: 25, duration: 'forever' },
      { code: 'ONCE', percent_off: 50, duration: 'once' },
    ]) {
      const made = await billing.call('operator', 'POST', `${BILLING}/discounts`, terms)
      if (made.status >= 300) throw new Error(JSON.stringify(made.body))
    }
  })

  test.each(BEFORE)('charges what its preview said: $name', async ({ begin }) => {
    const id = await onClock(`resumed_${BEFORE.findIndex((each) => each.begin === begin)}`)
    await begin(id)
    await succeed(id, 'pause')
    await advance(id, '40d')
    const preview = await post(id, 'resume/preview')
    const resumed = await post(id, 'resume')
    expect(resumed.body).toMatchObject({ status: 'active' })
    const lines = preview.body['lines'] as { proration: boolean; period_end: string }[]
    expect(lines.find(({ proration }) => !proration)!.period_end).toBe(resumed.body['billing_cycle_end'])
    const [invoice] = await invoicesOf(id)
    expect(invoice).toMatchObject({ status: 'paid', amount_paid_minor: preview.body['amount_due_now_minor'] })
    expect(invoice!['amount_paid_minor']).toBeGreaterThan(0)
  })

  test('charges what its preview said: after a trial that nobody paid for', async () => {
    const id = await triedOut('resumed_after_trial')
    await post(id, 'payment-methods', GOOD)
    expect((await post(id, 'resume/preview')).body).toMatchObject({ amount_due_now_minor: 2900 })
    await post(id, 'resume')
    const [invoice] = await invoicesOf(id)
    expect(invoice).toMatchObject({ status: 'paid', amount_paid_minor: 2900 })
  })
})
