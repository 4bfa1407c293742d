import { describe, expect, test } from 'vitest'
import { testSubscriptions } from '../../test/subscriptions.ts'

const billing = testSubscriptions()
const { advance, invoicesOf, post, subscribed } = billing
const GATE = '/api/v1/billing/gate'

const gate = async (id: string, body: object = {}) => (await billing.call(`${id}:read`, 'POST', GATE, body)).body
const refused = (status: string) => ({
  allowed: false,
  billing_status: status,
  detail: `Workspace billing status '${status}' does not permit ingestion.`,
})

describe('MR-13 ingestion is permitted', () => {
  test('in a trial until it ends, and then no more', async () => {
    const id = await subscribed('trial', { tier: 'pro', payment_method_id: undefined })
    expect(await gate(id)).toMatchObject({ allowed: true, billing_status: 'trialing', detail: null })
    await advance(id, '15d')
    expect(await gate(id)).toMatchObject(refused('canceled'))
  })

  test('while the subscription is paid, renewals included', async () => {
    const id = await subscribed('payer', { tier: 'pro' })
    expect(await gate(id)).toMatchObject({ allowed: true, billing_status: 'active' })
    await advance(id, '40d')
    expect(await gate(id)).toMatchObject({ allowed: true, billing_status: 'active' })
  })

  test('while a renewal is not heard of for as long as a failed payment would be waited for, by the organization’s clock', async () => {
    const id = await subscribed('unheard', { tier: 'pro' })
    const { db } = billing.database
    const at = async (hoursAfterEnd: number): Promise<unknown> => {
      await db.query(
        `update organizations o set test_clock_now = a.current_period_end + make_interval(hours => $2)
         from accounts a where a.organization_id = o.id and o.id = $1`,
        [id, hoursAfterEnd],
      )
      return (await gate(id))['allowed']
    }
    expect([await at(-1), await at(71), await at(72)]).toEqual([true, true, false])
  })

  test('not after a payment has failed, and again when it is paid', async () => {
    const id = await subscribed('owing', { tier: 'pro' })
    await post(id, 'payment-methods', { payment_method_id: 'pm_card_chargeCustomerFail' })
    await advance(id, '32d')
    // Grace lets metered use go on (EM-7); what is for those who pay stops.
    expect(await gate(id)).toMatchObject(refused('past_due'))
    const [open] = await invoicesOf(id, '?status=open')
    const pay = `/api/v1/billing/invoices/${open!.id}/pay`
    expect((await billing.call(id, 'POST', pay, { payment_method_id: 'pm_card_visa' })).status).toBe(200)
    expect(await gate(id)).toMatchObject({ allowed: true, billing_status: 'active' })
  })

  test('not without a subscription, and the log says who was blocked and why', async () => {
    await billing.createOrganization('free_one')
    expect(await gate('free_one', { workspace_id: 'ws_7', user: 'ada@example.com', activity: 'ingestion' })).toMatchObject(
      refused('none'),
    )
    expect(billing.logged.filter(({ fields }) => fields['event'] === 'billing.blocked').at(-1)).toMatchObject({
      level: 'warn',
      fields: { organization_id: 'free_one', workspace_id: 'ws_7', user: 'ada@example.com', reason: 'no_subscription' },
    })
  })

  test('until the minute that an operator named (MR-6)', async () => {
    await billing.createOrganization('guest')
    const now = billing.context.clock.now().getTime()
    const override = async (fields: object) =>
      billing.call('operator', 'PATCH', '/api/v1/admin/billing/guest', { ...fields, reason: 'a guest' })
    const at = (ms: number) => new Date(now + ms).toISOString()
    await override({ billing_status: 'active', subscription_expires_at: at(3_600_000) })
    expect(await gate('guest')).toMatchObject({ allowed: true, billing_status: 'active' })
    await override({ subscription_expires_at: at(-1000) })
    expect(await gate('guest')).toMatchObject(refused('active'))
    await override({ billing_status: 'past_due', subscription_expires_at: null })
    expect(await gate('guest')).toMatchObject(refused('past_due'))
    await override({ billing_status: 'trialing', trial_ends_at: at(-1000) })
    expect(await gate('guest')).toMatchObject(refused('trialing'))
  })

  test('and another organization’s gate is not found', async () => {
    const answer = await billing.call('guest:read', 'POST', GATE, { organization_id: 'payer' })
    expect(answer.status).toBe(404)
    expect((await billing.call('nobody', 'POST', GATE, {})).status).toBe(401)
  })
})
