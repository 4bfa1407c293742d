import { describe, expect, test } from 'vitest'
import { testSubscriptions } from '../../../test/subscriptions.ts'
import { readStanding } from '../../standing/actions.ts'
import { withOrganizationLock } from '../intents/lock.ts'
import { readOrganization } from '../organizations.ts'
import { RECENT_SCOPE } from './fetch.ts'
import { syncOrganization } from './sync.ts'

// A debit of a bank account is under way for days: its invoice stays open and tried, its charge is pending until the bank has answered. The
// bank of one of Stripe's test accounts answers after minutes.

const billing = testSubscriptions()
const { advance, invoicesOf, onClock, post, succeed } = billing

/** An organization whose renewal is about to be paid with `method`, an hour after the clock has been moved. */
async function renewing(id: string, method: string): Promise<void> {
  await billing.subscribed(id, { tier: 'pro' })
  await succeed(id, 'payment-methods', { payment_method_id: method })
  const { rows } = await billing.database.db.query<{ left: string }>(
    `select ceil(extract(epoch from current_period_end - o.test_clock_now) / 60) + 60 || 'm' as left
     from accounts a join organizations o on o.id = a.organization_id where o.id = $1`,
    [id],
  )
  await advance(id, rows[0]!.left)
}

/** What the sandbox has as the status of the newest invoice and of its charge, and what the server tells of the customer. */
async function seen(id: string): Promise<Record<string, unknown>> {
  const { customerId: customer } = await readOrganization(billing.database.db, id)
  const [invoice] = (await billing.stripe.invoices.list({ customer: customer!, limit: 1 })).data
  const [charge] = (await billing.stripe.charges.list({ customer: customer!, limit: 1 })).data
  const { rows } = await billing.database.db.query<{ subscription: string; failedAt: Date | null; told: number }>(
    `select subscription_status as subscription, payment_failed_at as "failedAt",
       (select count(*)::int from events e where e.organization_id = a.organization_id and e.type = 'invoice.payment_failed') as told
     from accounts a where organization_id = $1`,
    [id],
  )
  const { catalogs, clock, policy } = billing.context
  const read = await readStanding(billing.database.db, { catalogs, clock, graceDays: policy.graceDays }, id)
  return { invoice: invoice!.status, charge: charge!.status, ...rows[0]!, standing: read!.standing.state }
}

const clockOf = async (id: string): Promise<Date> => (await readOrganization(billing.database.db, id)).testClockNow!

describe('an invoice that is paid by debit', () => {
  test('has not failed while the bank has not answered, and is paid when it does', async () => {
    await renewing('paying', 'pm_usBankAccount_success')
    const nothing = { failedAt: null, told: 0, subscription: 'active', standing: 'active' }
    expect(await seen('paying')).toEqual({ ...nothing, invoice: 'open', charge: 'pending' })
    await advance('paying', '3m')
    expect(await seen('paying')).toEqual({ ...nothing, invoice: 'paid', charge: 'succeeded' })
  })

  test('has not failed either for as many days as the bank takes', async () => {
    await renewing('slow', 'pm_usBankAccount_processing')
    await advance('slow', '5d')
    const nothing = { failedAt: null, told: 0, subscription: 'active', standing: 'active' }
    expect(await seen('slow')).toEqual({ ...nothing, invoice: 'open', charge: 'pending' })
  })

  test('is not paid a second time while the bank has not answered, by another method either', async () => {
    await renewing('hasty', 'pm_usBankAccount_success')
    const [open] = await invoicesOf('hasty')
    for (const body of [{}, { payment_method_id: 'pm_card_visa' }]) {
      const answer = await post('hasty', `invoices/${open!.id}/pay`, body)
      expect(answer).toMatchObject({ status: 409, body: { code: 'conflict' } })
    }
    const methods = (await billing.call('hasty', 'GET', '/api/v1/billing/payment-methods')).body as unknown as { type: string }[]
    expect(methods.map(({ type }) => type).toSorted()).toEqual(['card', 'us_bank_account'])
    await advance('hasty', '3m')
    expect(await seen('hasty')).toMatchObject({ invoice: 'paid', charge: 'succeeded', standing: 'active' })
  })

  test('has failed since the bank refused it: the days of grace begin then', async () => {
    await renewing('refused', 'pm_usBankAccount_insufficientFunds')
    expect(await seen('refused')).toMatchObject({ charge: 'pending', failedAt: null, told: 0 })
    const underWay = await clockOf('refused')
    await advance('refused', '3m')
    const failed = await seen('refused')
    expect(failed).toMatchObject({ invoice: 'open', charge: 'failed', subscription: 'past_due', told: 1, standing: 'grace' })
    const since = failed['failedAt'] as Date
    expect(since.getTime()).toBeGreaterThan(underWay.getTime())

    await advance('refused', '71h')
    expect(await seen('refused')).toMatchObject({ failedAt: since, told: 1, standing: 'grace' })
    await advance('refused', '1h')
    expect(await seen('refused')).toMatchObject({ failedAt: since, told: 1, standing: 'suspended' })
  })

  test('has not failed when its subscription is ended meanwhile, and is owed from when the bank refuses', async () => {
    await renewing('leaving', 'pm_usBankAccount_debitNotAuthorized')
    await succeed('leaving', 'cancel', { immediate: true })
    const owing = async () => {
      const { rows } = await billing.database.db.query<{ since: Date | null }>(
        `select left_owing_since as since from accounts where organization_id = 'leaving'`,
      )
      return rows[0]!.since
    }
    const delinquent = async () =>
      (await billing.call('leaving', 'GET', '/api/v1/billing/status/tenant/leaving')).body['is_delinquent']
    expect([await owing(), await delinquent()]).toEqual([null, false])
    const underWay = await clockOf('leaving')
    await advance('leaving', '3m')
    expect((await owing())?.getTime()).toBeGreaterThan(underWay.getTime())
    expect(await delinquent()).toBe(true)
  })

  test('is seen as under way where only the invoice is told of', async () => {
    const { context } = billing
    await renewing('told_of', 'pm_usBankAccount_processing')
    await billing.database.db.query(`delete from stripe_charges where organization_id = 'told_of' and status = 'pending'`)
    const scope = { ...RECENT_SCOPE, charges: false }
    await withOrganizationLock(context, 'told_of', (session) =>
      syncOrganization(context, session, 'told_of', { scope, priority: 'interactive' }),
    )
    expect(await seen('told_of')).toMatchObject({ charge: 'pending', failedAt: null, told: 0 })
  })
})

test('a first invoice that is paid by debit sells the plan at once', async () => {
  await onClock('new')
  const path = '/api/v1/billing/subscribe'
  const { body } = await billing.call('new', 'POST', path, { tier: 'pro', payment_method_id: 'pm_usBankAccount_success' })
  expect(body).toMatchObject({ status: 'active' })
  expect(await seen('new')).toMatchObject({ invoice: 'open', charge: 'pending', standing: 'active', told: 0 })
  await advance('new', '3m')
  expect(await seen('new')).toMatchObject({ invoice: 'paid', charge: 'succeeded', standing: 'active', told: 0 })
})

test('an invoice whose card is declined has failed since it was due', async () => {
  await renewing('declined', 'pm_card_chargeCustomerFail')
  const failed = await seen('declined')
  expect(failed).toMatchObject({ charge: 'failed', told: 1, standing: 'grace' })
  expect((failed['failedAt'] as Date).getTime()).toBeLessThanOrEqual((await clockOf('declined')).getTime())
})
