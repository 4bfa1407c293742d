import { describe, expect, test } from 'vitest'
import { payOn } from '../../test/purchases.ts'
import { testSubscriptions } from '../../test/subscriptions.ts'

const billing = testSubscriptions()
const { advance, invoicesOf, onClock, post, subscriptionOf, succeed } = billing
const BILLING = '/api/v1/billing'

test('a clock moves ten years at once and no further: each period on the way is a step of its own', async () => {
  const id = await onClock('ages')
  await post(id, 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })
  const clock = `/api/v1/organizations/${id}/clock/advance`
  for (const move of [{ by: '999999w' }, { to: '9999-12-31T23:59:59Z' }]) {
    const { status, body } = await billing.call('operator', 'POST', clock, move)
    expect({ status, body }).toMatchObject({ status: 400, body: { code: 'invalid_request', field: Object.keys(move)[0] } })
  }
  expect(await billing.call('operator', 'POST', clock, { by: '1d' })).toMatchObject({ status: 200 })
})

describe('subscribe', () => {
  test('EM-9 with a payment method starts at once and is paid', async () => {
    const id = await onClock('paying')
    const preview = await post(id, 'subscribe/preview', { tier: 'pro', payment_method_id: 'pm_card_visa' })
    expect(preview.body).toMatchObject({ kind: 'start', amount_due_now_minor: 2900, currency: 'usd' })
    const answer = await post(id, 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })
    expect(answer).toMatchObject({ status: 200, body: { status: 'active', tier: 'PRO', trial_end: null } })
    expect(await subscriptionOf(id)).toMatchObject({
      tier: 'PRO',
      status: 'active',
      amount: 29,
      currency: 'usd',
      interval: 'month',
      cancel_at_period_end: false,
      standing: { state: 'active', may_use: true },
    })
    const invoices = await billing.call(id, 'GET', `${BILLING}/invoices`)
    expect(invoices.body).toMatchObject([{ status: 'paid', amount_paid: 29, amount_due: 29 }])
    const methods = await billing.call(id, 'GET', `${BILLING}/payment-methods`)
    expect(methods.body).toMatchObject([{ type: 'card', card: { brand: 'visa', last4: '4242' }, is_default: true }])
    const again = await post(id, 'subscribe', { tier: 'pro' })
    expect(again).toMatchObject({ status: 409, body: { code: 'subscription_exists' } })
  })

  test('EM-9 without a payment method begins a trial; without a card at its end, the plan falls to FREE', async () => {
    const id = await onClock('trying')
    const answer = await post(id, 'subscribe', { tier: 'starter' })
    expect(answer).toMatchObject({ status: 200, body: { status: 'trialing', tier: 'STARTER' } })
    const { trial_end: end, billing_cycle_end: cycleEnd } = answer.body
    expect(end).toBe(cycleEnd)
    expect(await subscriptionOf(id)).toMatchObject({ in_trial: true, standing: { state: 'trialing', until: end } })
    await advance(id, '15d')
    expect(await subscriptionOf(id)).toMatchObject({ tier: 'FREE', status: 'canceled', in_trial: false })
    const { rows } = await billing.database.db.query(
      `select kind from billing_events where organization_id = $1 order by recorded_at, kind`,
      [id],
    )
    expect(rows.map(({ kind }) => kind as string)).toEqual(expect.arrayContaining(['subscription.started', 'subscription.ended']))
    const second = await post(id, 'subscribe', { tier: 'starter' })
    expect(second).toMatchObject({ status: 402, body: { code: 'payment_method_missing' } })
  })

  test('a card that declines leaves nothing behind, and says why (EM-16)', async () => {
    const id = await onClock('declined')
    const answer = await post(id, 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa_chargeDeclinedInsufficientFunds' })
    expect(answer).toMatchObject({ status: 402, body: { code: 'payment_failed', decline_code: 'insufficient_funds' } })
    expect(JSON.stringify(answer.body)).not.toMatch(/stripe\.com|pi_|cus_|doc_url/)
    expect(await subscriptionOf(id)).toMatchObject({ tier: 'FREE', standing: { state: 'free' } })
    const retried = await post(id, 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })
    expect(retried).toMatchObject({ status: 200, body: { status: 'active' } })
  })

  test('KF-14 a card that wants authentication waits as incomplete, with the page where the customer gives it', async () => {
    const id = await onClock('authenticating')
    const answer = await post(id, 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_authenticationRequired' })
    expect(answer).toMatchObject({ status: 200, body: { status: 'incomplete', requires_action: true } })
    expect(answer.body['payment_url']).toMatch(/^http/)
    expect(await subscriptionOf(id)).toMatchObject({ tier: 'FREE', standing: { state: 'free', reason: 'payment_pending' } })
  })

  test('two at the same time start one subscription', async () => {
    const id = await onClock('hasty')
    const body = { tier: 'pro', payment_method_id: 'pm_card_visa' }
    const answers = await Promise.all([1, 2, 3].map(() => post(id, 'subscribe', body)))
    expect(answers.map(({ status }) => status).sort((a, b) => a - b)).toEqual([200, 409, 409])
    const started = billing.sandbox.all('subscription').filter(({ metadata }) => metadata['tollgate_organization'] === id)
    expect(started).toHaveLength(1)
  })

  test('sells only what the catalog offers', async () => {
    const id = await onClock('picky')
    expect((await post(id, 'subscribe', { tier: 'free' })).body['code']).toBe('plan_not_offered')
    expect((await post(id, 'subscribe', { tier: 'nonsense' })).body['code']).toBe('unknown_plan')
    expect((await post(id, 'checkout', { price_id: 'price_foreign' })).body['code']).toBe('unknown_price')
  })
})

describe('renewal, failure, recovery', () => {
  test('EM-7 renews, fails, has grace, is suspended, and pays its way back', async () => {
    const id = await onClock('renewing')
    await post(id, 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })
    const first = await subscriptionOf(id)
    await advance(id, '32d')
    const second = await subscriptionOf(id)
    expect(second['current_period_start']).toBe(first['current_period_end'])
    const paid = await billing.call(id, 'GET', `${BILLING}/invoices?status=paid`)
    expect(paid.body).toHaveLength(2)

    const replaced = await post(id, 'payment-methods', { payment_method_id: 'pm_card_visa_chargeDeclinedInsufficientFunds' })
    expect(replaced.status, JSON.stringify(replaced.body)).toBe(200)
    await advance(id, '31d')
    const grace = await subscriptionOf(id)
    expect(grace).toMatchObject({
      tier: 'PRO',
      status: 'past_due',
      payment_failed: true,
      standing: { state: 'grace', may_use: true },
    })
    await advance(id, '3d')
    expect(await subscriptionOf(id)).toMatchObject({ standing: { state: 'suspended', may_use: false, reason: 'payment_failed' } })

    const [open] = await invoicesOf(id, '?status=open')
    const refused = await post(id, `invoices/${open!.id}/pay`)
    expect(refused).toMatchObject({ status: 402, body: { code: 'payment_failed', decline_code: 'insufficient_funds' } })
    const recovered = await post(id, `invoices/${open!.id}/pay`, { payment_method_id: 'pm_card_visa' })
    expect(recovered).toMatchObject({ status: 200, body: { status: 'paid', amount_remaining_minor: 0 } })
    expect(await subscriptionOf(id)).toMatchObject({ status: 'active', payment_failed: false, standing: { state: 'active' } })
    const again = await post(id, `invoices/${open!.id}/pay`)
    expect(again).toMatchObject({ status: 409, body: { code: 'conflict' } })
  })
})

describe('changes of plan', () => {
  test('EM-10 up is paid at once, to the cent of its preview', async () => {
    const id = await onClock('growing')
    await post(id, 'subscribe', { tier: 'starter', payment_method_id: 'pm_card_visa' })
    await advance(id, '10d')
    const preview = await post(id, 'upgrade/preview', { new_tier: 'pro' })
    expect(preview).toMatchObject({
      status: 200,
      body: { kind: 'switch_now', direction: 'upgrade', from: { tier: 'STARTER' }, to: { tier: 'PRO' } },
    })
    const due = preview.body['amount_due_now_minor'] as number
    expect(due).toBeGreaterThan(0)
    expect(due).toBeLessThan(2000)
    const changed = await post(id, 'upgrade', { new_tier: 'pro', proration_date: preview.body['proration_date'] })
    expect(changed).toMatchObject({ status: 200, body: { tier: 'PRO', status: 'active' } })
    const [newest] = await invoicesOf(id)
    expect(newest).toMatchObject({ status: 'paid', billing_reason: 'subscription_update', amount_paid_minor: due })
    const same = await post(id, 'upgrade', { new_tier: 'pro' })
    expect(same).toMatchObject({ status: 409, body: { code: 'nothing_to_change' } })
  })

  test('an upgrade whose card declines changes nothing', async () => {
    const id = await onClock('overreaching')
    await post(id, 'subscribe', { tier: 'starter', payment_method_id: 'pm_card_visa' })
    await post(id, 'payment-methods', { payment_method_id: 'pm_card_chargeCustomerFail' })
    const refused = await post(id, 'upgrade', { new_tier: 'enterprise' })
    expect(refused).toMatchObject({ status: 402, body: { code: 'payment_failed' } })
    expect(await subscriptionOf(id)).toMatchObject({ tier: 'STARTER', status: 'active', payment_failed: false })
  })

  test('an upgrade for which the bank asks the customer waits for them, with the page where they answer', async () => {
    const id = await onClock('asked')
    await post(id, 'subscribe', { tier: 'starter', payment_method_id: 'pm_card_visa' })
    await post(id, 'payment-methods', { payment_method_id: 'pm_card_authenticationRequired' })
    const waiting = await post(id, 'upgrade', { new_tier: 'pro' })
    expect(waiting).toMatchObject({ status: 200, body: { tier: 'STARTER', requires_action: true } })
    expect(waiting.body['payment_url']).toMatch(/^http/)
    expect(await subscriptionOf(id)).toMatchObject({ tier: 'STARTER', payment_failed: false, standing: { state: 'active' } })
    const [open] = await invoicesOf(id, '?status=open')
    await succeed(id, `invoices/${open!.id}/pay`, { payment_method_id: 'pm_card_visa' })
    expect(await subscriptionOf(id)).toMatchObject({ tier: 'PRO', standing: { state: 'active' } })
  })

  test('EM-10 down happens now, and its credit lowers the next invoice as previewed', async () => {
    const id = await onClock('shrinking')
    await post(id, 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })
    await advance(id, '10d')
    const preview = await post(id, 'downgrade/preview', { new_tier: 'starter' })
    expect(preview.body).toMatchObject({ kind: 'switch_now', direction: 'downgrade', amount_due_now_minor: 0 })
    expect(preview.body['credit_minor']).toBeGreaterThan(0)
    const next = preview.body['next_invoice'] as { at: string; amount_minor: number }
    const changed = await post(id, 'downgrade', { new_tier: 'starter', proration_date: preview.body['proration_date'] })
    expect(changed).toMatchObject({ status: 200, body: { tier: 'STARTER' } })
    await advance(id, '25d')
    const [renewal] = await invoicesOf(id)
    expect(renewal).toMatchObject({ status: 'paid', billing_reason: 'subscription_cycle', amount_due_minor: next.amount_minor })
  })

  test('EM-11 a cancellation at the period’s end can be taken back, and one at once ends now', async () => {
    const id = await onClock('leaving')
    await post(id, 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })
    const { current_period_end: end } = await subscriptionOf(id)
    const preview = await post(id, 'cancel/preview', { immediate: false })
    expect(preview.body).toMatchObject({ kind: 'cancel_at_period_end', cancel_at: end, amount_due_now_minor: 0 })
    const cancelled = await post(id, 'cancel', { immediate: false })
    expect(cancelled).toMatchObject({ status: 200, body: { status: 'cancelled', cancel_at: end, tier: 'PRO' } })
    expect(await subscriptionOf(id)).toMatchObject({ cancel_at_period_end: true, next_invoice_date: null, tier: 'PRO' })
    const undone = await post(id, 'cancel/undo')
    expect(undone).toMatchObject({ status: 200, body: { cancel_at: null, status: 'active' } })
    await post(id, 'cancel', { immediate: false })
    await advance(id, '32d')
    expect(await subscriptionOf(id)).toMatchObject({ tier: 'FREE', status: 'canceled' })

    await post(id, 'subscribe', { tier: 'starter', payment_method_id: 'pm_card_visa' })
    const now = await post(id, 'cancel', { immediate: true })
    expect(now).toMatchObject({ status: 200, body: { status: 'cancelled', tier: 'FREE' } })
    expect(now.body['cancel_at']).not.toBeNull()
    expect((await post(id, 'cancel')).body['code']).toBe('subscription_missing')
  })
})

describe('checkout and portal', () => {
  test('MR-2 paid on the page, the webhooks bring the plan; a second subscription is not sold', async () => {
    const id = await onClock('buying')
    const { url } = (await post(id, 'checkout', { plan: 'pro' })).body as { url: string }
    const paid = await payOn(url)
    expect([paid.status, paid.headers.get('location')]).toEqual([303, billing.context.policy.successUrl])
    // In this very moment, whether the webhooks have come or not.
    const hasty = await post(id, 'checkout', { plan: 'pro' })
    expect(hasty).toMatchObject({ status: 409, body: { code: 'subscription_exists' } })
    await expect.poll(() => subscriptionOf(id)).toMatchObject({ tier: 'PRO', status: 'active' })
    const again = await post(id, 'checkout', { plan: 'starter' })
    expect(again).toMatchObject({ status: 409, body: { code: 'subscription_exists' } })
    const portal = await post(id, 'portal')
    expect(portal).toMatchObject({ status: 200, body: { url: expect.stringMatching(/^http/) as string } })
    expect((await fetch(portal.body['url'] as string)).status).toBe(200)
  })

  test('opened again, the page before is closed: nobody pays twice', async () => {
    const id = await onClock('opening_twice')
    const first = await post(id, 'checkout', { plan: 'starter' })
    const second = await post(id, 'checkout', { plan: 'pro' })
    const statuses = billing.sandbox
      .all('checkout.session')
      .filter(({ client_reference_id: reference }) => reference === id)
      .map((session) => [session.id, session.status])
    expect(new Map(statuses as [string, string][])).toEqual(
      new Map([
        [first.body['id'], 'expired'],
        [second.body['id'], 'open'],
      ]),
    )
  })

  test('CB-6 the routes answer at their legacy paths too', async () => {
    const id = await billing.createOrganization('legacy')
    expect((await billing.call(id, 'GET', '/api/billing/subscription')).body).toEqual(await subscriptionOf(id))
  })

  test('MR-1 checkout answers an id and the address of a page, and only sends people to where they may go', async () => {
    const id = await onClock('shopping')
    const page = await post(id, 'checkout', { plan: 'pro' })
    expect(page).toMatchObject({
      status: 200,
      body: { id: expect.stringMatching(/^cs_/) as string, url: expect.stringMatching(/^http/) as string },
    })
    const led = await post(id, 'checkout', { plan: 'pro', success_url: 'https://evil.example/' })
    expect(led).toMatchObject({ status: 400, body: { code: 'invalid_request', field: 'success_url' } })
    const nothing = await post(id, 'checkout', {})
    expect(nothing).toMatchObject({ status: 400, body: { code: 'invalid_request' } })
  })
})

describe('who may do what', () => {
  test('a stranger finds nothing, a reader changes nothing, nobody is asked to say who they are', async () => {
    const id = await onClock('guarded')
    await billing.createOrganization('stranger')
    await post(id, 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })
    const [invoice] = await invoicesOf(id)
    expect((await billing.call('nobody', 'GET', `${BILLING}/subscription`)).status).toBe(401)
    expect((await billing.call(`${id}:read`, 'POST', `${BILLING}/cancel`)).status).toBe(403)
    expect((await post('stranger', `invoices/${invoice!.id}/pay`)).status).toBe(404)
    expect((await billing.call('stranger', 'GET', `${BILLING}/subscription?organization_id=${id}`)).status).toBe(404)
    expect((await post('stranger', 'cancel', { organization_id: id })).status).toBe(404)
    expect((await billing.call('operator', 'GET', `${BILLING}/subscription?organization_id=${id}`)).body['tier']).toBe('PRO')
    expect((await billing.call(id, 'POST', `/api/v1/organizations/${id}/clock/advance`, { by: '1d' })).status).toBe(403)
  })
})

test('what is cancelled, undone and cancelled again at one moment of a test clock is told each time', async () => {
  const id = await onClock('undecided')
  await post(id, 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })
  for (const change of ['cancel', 'cancel/undo', 'cancel', 'cancel/undo']) {
    await succeed(id, change, {})
  }
  const { rows } = await billing.database.db.query<{ kind: string }>(
    `select kind from billing_events where organization_id = $1 and kind like 'subscription.cancel%' order by kind`,
    [id],
  )
  const [undone, scheduled] = ['subscription.cancel_undone', 'subscription.cancel_scheduled']
  expect(rows.map(({ kind }) => kind)).toEqual([scheduled, scheduled, undone, undone])
})
