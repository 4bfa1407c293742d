import { describe, expect, test } from 'vitest'
import { movementsOf } from '../../test/movements.ts'
import { priced, testSubscriptions } from '../../test/subscriptions.ts'
import { withOrganizationLock } from '../stripe/intents/lock.ts'
import { reconcileOrganization } from '../stripe/reconcile/reconcile.ts'

const billing = testSubscriptions({
  catalog: {
    meters: { call: {} },
    plans: {
      free: { name: 'Free', allowances: {} },
      team: { name: 'Team', prices: priced(1000), allowances: {} },
      company: { name: 'Company', prices: priced(4900), allowances: {} },
    },
    defaultPlan: 'free',
  },
})
const { advance, onClock, succeed } = billing
const ANALYTICS = '/api/v1/admin/analytics'

const read = async (path: string) => (await billing.call('operator', 'GET', `${ANALYTICS}/${path}`)).body

describe('the ledger of an organization', () => {
  test('follows it through its life on its own clock, and adds up to what it brings', async () => {
    await onClock('life')
    await succeed('life', 'subscribe', { tier: 'team', payment_method_id: 'pm_card_visa' })
    await advance('life', '10d')
    await succeed('life', 'upgrade', { new_tier: 'company' })
    await advance('life', '5d')
    await succeed('life', 'upgrade', { new_tier: 'team', interval: 'yearly' })
    await succeed('life', 'cancel', { immediate: true })
    await advance('life', '2d')
    await succeed('life', 'subscribe', { tier: 'team', quantity: 2, payment_method_id: 'pm_card_visa' })
    expect(await movementsOf(billing, 'life')).toEqual([
      ['new', 1000],
      ['expansion', 3900],
      ['contraction', 833.333333 - 4900],
      ['churn', -833.333333],
      ['reactivation', 2000],
    ])
    const { rows } = await billing.database.db.query<{ days: number }>(
      `select extract(day from max(occurred_at) - min(occurred_at))::int as days from mrr_movements where organization_id = 'life'`,
    )
    expect(rows[0]!.days).toBe(17)
  })

  test('is not written twice by a replay, by reconciliation, or by two at once', async () => {
    await billing.createOrganization('once')
    await succeed('once', 'subscribe', { tier: 'company', payment_method_id: 'pm_card_visa' })
    const events = await billing.database.db.query<{ id: string }>('select event_id as id from stripe_events')
    for (const { id } of events.rows) await billing.call('operator', 'POST', `/api/v1/stripe-events/${id}/replay`)
    await Promise.all([1, 2, 3].map(() => reconcileOrganization(billing.context, 'once')))
    await withOrganizationLock(billing.context, 'once', async () => undefined)
    expect(await movementsOf(billing, 'once')).toEqual([['new', 4900]])
  })

  test('takes off what a discount takes off each month, and not what it takes off once', async () => {
    const discount = (body: Record<string, unknown>) => billing.call('operator', 'POST', '/api/v1/billing/discounts', body)
    await discount({ code: 'HALF', percent_off: 50, duration: 'forever' })
    await discount({ code: 'ONCE', percent_off: 50, duration: 'once' })
    for (const code of ['HALF', 'ONCE']) {
      await billing.createOrganization(code)
      await succeed(code, 'subscribe', { tier: 'company', payment_method_id: 'pm_card_visa', discount_code: code })
    }
    expect(await movementsOf(billing, 'HALF')).toEqual([['new', 2450]])
    expect(await movementsOf(billing, 'ONCE')).toEqual([['new', 4900]])
  })

  test('begins when a trial is paid, and loses nothing while a payment is retried', async () => {
    await onClock('trial')
    await succeed('trial', 'subscribe', { tier: 'team' })
    expect(await movementsOf(billing, 'trial')).toEqual([])
    expect(await read('trials?from=2020-01-01&to=2100-01-01')).toMatchObject({ code: 'invalid_request', field: 'interval' })
    await succeed('trial', 'payment-methods', { payment_method_id: 'pm_card_visa' })
    await advance('trial', '15d')
    expect(await movementsOf(billing, 'trial')).toEqual([['new', 1000]])
    await succeed('trial', 'payment-methods', { payment_method_id: 'pm_card_chargeCustomerFail' })
    await advance('trial', '31d')
    expect(await movementsOf(billing, 'trial')).toEqual([['new', 1000]])
  })
})

describe('figures over HTTP', () => {
  test('movements add up, and nobody but an operator sees them', async () => {
    const { currencies } = (await read('movements?interval=day')) as {
      currencies: { currency: string; points: Record<string, number>[] }[]
    }
    const [usd] = currencies
    expect(usd).toMatchObject({ currency: 'usd' })
    for (const point of usd!.points) {
      expect(point['closing_mrr_minor']! - point['opening_mrr_minor']!).toBe(
        point['new_minor']! +
          point['expansion_minor']! +
          point['reactivation_minor']! -
          point['contraction_minor']! -
          point['churn_minor']!,
      )
    }
    for (const path of ['summary', 'mrr', 'movements', 'churn', 'cohorts', 'trials', 'aging', 'revenue']) {
      expect((await billing.call('operator', 'GET', `${ANALYTICS}/${path}`)).status, path).toBe(200)
      expect((await billing.call('life', 'GET', `${ANALYTICS}/${path}`)).status).toBe(403)
      expect((await billing.call('nobody', 'GET', `${ANALYTICS}/${path}`)).status).toBe(401)
    }
  })

  test('the summary, trials, revenue, cohorts and aging tell what happened', async () => {
    const until = '2100-01-01'
    const summary = await read(`summary?from=2020-01-01&to=${until}`)
    // once 4900, HALF 2450, ONCE 4900, trial 1000, life 2000
    expect(summary).toMatchObject({
      currencies: [{ currency: 'usd', mrr_minor: 15_250, arr_minor: 183_000, customers: 5, arpu_minor: 3_050 }],
      converted: null,
      trials: { started: 1, converted: 1, lost: 0, running: 0, conversion: 1 },
    })
    const charged = billing.sandbox.all('invoice').reduce((sum, { amount_paid: paid }) => sum + paid, 0)
    const { rows } = await billing.database.db.query<{ to: Date }>(
      `select greatest(max(test_clock_now), max(created_at)) + interval '1 day' as to from organizations`,
    )
    const range = `from=2026-01-01&to=${rows[0]!.to.toISOString()}`
    const all = (await read(`revenue?${range}`)) as { currencies: { points: { paid_minor: number; invoices: number }[] }[] }
    expect(all.currencies[0]!.points.reduce((sum, point) => sum + point.paid_minor, 0)).toBe(charged)
    const { cohorts } = (await read(`cohorts?${range}`)) as { cohorts: { customers: number; months: Record<string, number>[] }[] }
    expect(cohorts.reduce((sum, { customers }) => sum + customers, 0)).toBe(5)
    expect(cohorts[0]!.months[0]).toMatchObject({ month: 0, customer_retention: 1, revenue_retention: 1 })
    // The retried invoice of the trial's second month.
    expect(await read('aging')).toMatchObject({ currencies: [{ currency: 'usd', total: { invoices: 1, amount_minor: 1000 } }] })
  })
})
