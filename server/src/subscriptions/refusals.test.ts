import { beforeAll, describe, expect, test } from 'vitest'
import { testSubscriptions } from '../../test/subscriptions.ts'
import { performIntent } from '../stripe/intents/intents.ts'
import { withOrganizationLock } from '../stripe/intents/lock.ts'
import { COMPLETE_SCOPE } from '../stripe/mirror/fetch.ts'
import { syncOrganization } from '../stripe/mirror/sync.ts'
import { startTestClock } from '../stripe/test-clock.ts'

const plan = (name: string, amountMinor: number) => ({ name, prices: { monthly: { amountMinor } }, allowances: {} })
const billing = testSubscriptions({
  webhooks: false,
  policy: { downgradeAt: 'period_end' },
  catalog: {
    meters: { calls: {} },
    plans: { free: { name: 'Free', allowances: {} }, pro: plan('Pro', 2000), big: plan('Big', 5000) },
    defaultPlan: 'free',
  },
})
const { post, subscriptionOf, succeed } = billing

beforeAll(async () => {
  for (const id of ['one', 'other']) {
    await billing.createOrganization(id)
    await succeed(id, 'subscribe', { plan: 'big', payment_method_id: 'pm_card_visa' })
  }
})

describe('a request', () => {
  test('with another organization’s payment method is refused as with one that does not exist', async () => {
    const { rows } = await billing.database.db.query<{ id: string }>(
      `select id from stripe_payment_methods where organization_id = 'other'`,
    )
    const refusal = async (payment_method_id: string) => {
      const { status, body } = await post('one', 'payment-methods', { payment_method_id })
      return { status, code: body['code'], detail: body['detail'] }
    }
    const foreign = await refusal(rows[0]!.id)
    expect(foreign).toEqual({ status: 400, code: 'invalid_request', detail: 'There is no such payment method.' })
    expect(await refusal('pm_nobody')).toEqual(foreign)
  })

  test('with an id that is longer than any of Stripe’s is refused with its field, and nothing stays in doubt', async () => {
    await billing.createOrganization('long')
    const payment_method_id = 'pm_'.padEnd(20_000, 'x')
    const { rows } = await billing.database.db.query<{ id: string }>(`select id from stripe_invoices limit 1`)
    for (const [path, body] of [
      ['payment-methods', { payment_method_id }],
      ['subscribe', { plan: 'pro', payment_method_id }],
      ['subscribe/preview', { plan: 'pro', payment_method_id }],
      [`invoices/${rows[0]!.id}/pay`, { payment_method_id }],
    ] as const) {
      const { status, body: answer } = await post('long', path, body)
      expect([path, status, answer['detail']]).toEqual([path, 400, 'payment_method_id: at most 255 characters'])
    }
    await succeed('long', 'subscribe', { plan: 'pro', payment_method_id: 'pm_card_visa' })
  })

  test('whose fields name different plans is refused, and changes nothing', async () => {
    await billing.createOrganization('unsure')
    for (const [path, body] of [
      ['subscribe', { tier: 'pro', plan: 'big', payment_method_id: 'pm_card_visa' }],
      ['checkout', { tier: 'pro', plan: 'big' }],
      ['upgrade', { new_tier: 'pro', plan: 'big' }],
    ] as const) {
      const { status, body: answer } = await post('unsure', path, body)
      expect([path, status]).toEqual([path, 400])
      expect(answer['detail']).toContain('name one plan')
    }
    expect(await post('unsure', 'checkout', { tier: 'PRO', plan: 'pro' })).toMatchObject({ status: 200 })
  })
})

test('EM-10 going down waits for the end of the period where that is the policy, unless the request says now', async () => {
  expect(await post('one', 'downgrade', { new_tier: 'pro' })).toMatchObject({
    status: 200,
    body: { tier: 'big', scheduled_change: { tier: 'pro' } },
  })
  expect(await post('one', 'downgrade', { new_tier: 'pro', at: 'now' })).toMatchObject({ status: 200, body: { tier: 'pro' } })
})

test('collecting that is paused at Stripe does not pause the service', async () => {
  const subscriptionId = String((await subscriptionOf('other'))['subscription_id'])
  await withOrganizationLock(billing.context, 'other', async (session) => {
    const params = { subscriptionId, pauseCollection: 'void' } as const
    await performIntent(billing.context, session, { organizationId: 'other', kind: 'update_subscription', params })
    await syncOrganization(billing.context, session, 'other', { scope: COMPLETE_SCOPE, priority: 'interactive' })
  })
  expect(await subscriptionOf('other')).toMatchObject({
    status: 'active',
    standing: { state: 'active', may_use: true },
  })
})

test('an organization on a test clock is not younger than its clock, so that its first period has begun', async () => {
  await billing.createOrganization('clocked')
  await startTestClock(billing.context, 'clocked')
  const { rows } = await billing.database.db.query<{ young: boolean }>(
    `select created_at > test_clock_now as young from organizations where id = 'clocked'`,
  )
  expect(rows).toEqual([{ young: false }])
})
