import { expect, test } from 'vitest'
import { payOn } from '../../test/purchases.ts'
import { priced, testSubscriptions } from '../../test/subscriptions.ts'
import { START } from '../../test/test-clocks.ts'
import { HOUR_MS } from '../lib/period.ts'

// When an organization is new: what reports have told of a day stays so.

const billing = testSubscriptions({
  catalog: {
    meters: { call: {} },
    plans: {
      free: { name: 'Free', allowances: {} },
      open: { name: 'Open', prices: priced(0), allowances: {} },
      team: { name: 'Team', prices: priced(1000), allowances: {} },
    },
    defaultPlan: 'free',
  },
})
const { advance, succeed } = billing

/** How many days after its beginning an organization was new. */
async function newAfter(id: string): Promise<number | null> {
  const { rows } = await billing.database.db.query<{ kind: string; days: number }>(
    'select kind, extract(day from occurred_at - $2)::int as days from mrr_movements where organization_id = $1',
    [id, START],
  )
  expect(rows.map(({ kind }) => kind)).toEqual(rows.length === 0 ? [] : ['new'])
  return rows[0]?.days ?? null
}

test('is new on leaving a plan that costs nothing, not when that was subscribed to', async () => {
  await billing.subscribed('open', { tier: 'open' })
  await advance('open', '40d')
  expect(await newAfter('open')).toBeNull()
  await succeed('open', 'upgrade', { new_tier: 'team' })
  expect(await newAfter('open')).toBe(40)
})

test('is new when a discount of all of it ends', async () => {
  const terms = { code: 'NOTHING', percent_off: 100, duration: 'repeating', duration_in_months: 2 }
  expect((await billing.call('operator', 'POST', '/api/v1/billing/discounts', terms)).status).toBe(200)
  await billing.subscribed('discounted', { tier: 'open', discount_code: 'NOTHING' })
  await succeed('discounted', 'upgrade', { new_tier: 'team' })
  // Nothing moved; the plan it is counted with has changed.
  const { body: stats } = await billing.call('operator', 'GET', '/api/v1/admin/billing/stats')
  expect(stats).toMatchObject({ tier_breakdown: { team: { revenue: 10, count: 2 } } })
  await advance('discounted', '40d')
  expect(await newAfter('discounted')).toBeNull()
  await advance('discounted', '25d')
  expect(await newAfter('discounted')).toBe(65)
})

test('is new on resuming what has stopped with its trial, and where it went on when the trial ended', async () => {
  for (const id of ['stopped', 'went_on']) {
    await billing.onClock(id)
    await succeed(id, 'subscribe', { tier: 'team', trial_period_days: 7 })
  }
  const { subscription_id: stopping } = await billing.subscriptionOf('stopped')
  const trial_settings = { end_behavior: { missing_payment_method: 'pause' } } as const
  await billing.stripe.subscriptions.update(String(stopping), { trial_settings })
  await succeed('went_on', 'payment-methods', { payment_method_id: 'pm_card_visa' })
  await Promise.all(['stopped', 'went_on'].map((id) => advance(id, '20d')))
  expect(await newAfter('went_on')).toBe(7)
  // The trial's own invoice was of nothing, and no payment; the next was a draft for an hour.
  const { body: state } = await billing.call('operator', 'GET', '/api/v1/admin/organizations/went_on')
  const [{ first_paid_at: firstPaidAt }] = state['revenue'] as [{ first_paid_at: string }]
  expect(Math.floor((Date.parse(firstPaidAt) - START.getTime()) / HOUR_MS)).toBe(7 * 24 + 1)
  expect(await newAfter('stopped')).toBeNull()
  await succeed('stopped', 'payment-methods', { payment_method_id: 'pm_card_visa' })
  await succeed('stopped', 'resume')
  expect(await newAfter('stopped')).toBe(20)
})

test('is new when the first payment was made that the bank asked the customer about, not when it was asked for', async () => {
  await billing.onClock('asked')
  const asking = { tier: 'team', payment_method_id: 'pm_card_authenticationRequired' }
  const { payment_url: page } = await succeed<{ payment_url: string }>('asked', 'subscribe', asking)
  await advance('asked', '20h')
  expect(await newAfter('asked')).toBeNull()
  expect((await payOn(page)).status).toBe(303)
  await expect.poll(() => newAfter('asked')).toBe(0)
  const { rows } = await billing.database.db.query(
    `select extract(epoch from movement.occurred_at - $1)::int / 3600 as hours, occurred_at = first_paid_at as "isPayment"
     from mrr_movements movement join mrr_accounts using (organization_id) where organization_id = 'asked'`,
    [START],
  )
  expect(rows).toEqual([{ hours: 20, isPayment: true }])
})
