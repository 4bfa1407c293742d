import { describe, expect, test } from 'vitest'
import { testBilling } from '../../test/billing.ts'
import { DAY_MS } from '../lib/period.ts'
import { ManualClock } from '../lib/clock.ts'
import { readBalances } from '../metering/reads.ts'
import { listOrganizations } from '../operators/lists-store.ts'
import { startTestClock } from '../stripe/test-clock.ts'
import { readStanding } from './actions.ts'
import { overrideStanding } from './overrides.ts'
import { findClockTime } from './store.ts'

const billing = testBilling({ webhooks: false })
const override = (id: string, body: Record<string, unknown>, caller = 'operator') =>
  billing.call(caller, 'PATCH', `/api/v1/admin/billing/${id}`, { reason: 'a test', ...body })
const inDays = (days: number) => new Date(billing.context.clock.now().getTime() + days * DAY_MS).toISOString()

const NO_FILTER = {
  search: null,
  createdFrom: null,
  createdTo: null,
  plan: null,
  status: null,
  currency: null,
  delinquent: null,
  overridden: null,
}

describe('MR-6 an operator overrides', () => {
  test('the plan, which counts at once, for its grants too, and can be taken back', async () => {
    const id = await billing.createOrganization('given')
    expect(await override(id, { plan: 'pro', reason: 'a partner' })).toMatchObject({
      status: 200,
      body: { plan: 'pro', standing: { state: 'free', may_use: true }, override: { plan: 'pro' } },
    })
    const grants = await billing.database.db.query(
      `select amount from grants where organization_id = $1 and expires_at > now()`,
      [id],
    )
    expect(grants.rows).toEqual([{ amount: 100_000_000_000n }])
    expect(await override(id, { plan: null })).toMatchObject({ body: { plan: 'free', override: null } })
    // Nothing stands any more for which there would be a reason.
    const noted = await billing.database.db.query(
      'select override_reason as reason, override_set_by as by, override_set_at as at from accounts where organization_id = $1',
      [id],
    )
    expect(noted.rows).toEqual([{ reason: null, by: null, at: null }])
  })

  test('MR-13 the status: past_due stops use, trialing ends when it is said to', async () => {
    const id = await billing.createOrganization('stopped')
    expect(await override(id, { billing_status: 'past_due' })).toMatchObject({
      body: { billing_status: 'past_due', standing: { state: 'suspended', may_use: false } },
    })
    const ended = await override(id, { billing_status: 'trialing', trial_ends_at: '2020-01-01T00:00:00Z' })
    expect(ended.body).toMatchObject({ billing_status: 'trialing', standing: { state: 'free', reason: 'trial_ended' } })
    const open = await override(id, { trial_ends_at: '2100-01-01T00:00:00+01:00', plan: 'pro' })
    expect(open.body).toMatchObject({ plan: 'pro', trial_ends_at: '2099-12-31T23:00:00.000Z', standing: { state: 'trialing' } })
  })

  test('and the audit log has who, what, before, after and why', async () => {
    const id = await billing.createOrganization('audited')
    await override(id, { plan: 'pro', reason: 'goodwill' })
    const { rows } = await billing.database.db.query(
      `select actor, action, before, after from audit_log where organization_id = $1`,
      [id],
    )
    expect(rows).toEqual([
      {
        actor: 'operator:test',
        action: 'standing.overridden',
        before: { planKey: null, status: null, trialEndsAt: null, expiresAt: null, endsAt: null },
        after: { planKey: 'pro', status: null, trialEndsAt: null, expiresAt: null, endsAt: null, reason: 'goodwill' },
      },
    ])
  })

  test('with a reason, which is shown with who and until when', async () => {
    const id = await billing.createOrganization('explained')
    for (const reason of [undefined, null, '', '  ']) {
      expect(await override(id, { plan: 'pro', reason })).toMatchObject({ status: 400 })
    }
    expect((await billing.call(id, 'GET', '/api/v1/admin/billing')).body).toMatchObject({ organizations: [{ override: null }] })
    const until = inDays(3)
    const lent = { plan: 'pro', reason: 'trying PRO', override_expires_at: until, set_by: 'operator:test' }
    expect((await override(id, { plan: 'PRO', reason: 'trying PRO', override_expires_at: until })).body).toMatchObject({
      plan: 'pro',
      override: lent,
    })
    expect((await billing.call(id, 'GET', '/api/v1/admin/billing')).body).toMatchObject({ organizations: [{ override: lent }] })
    const state = await billing.call('operator', 'GET', `/api/v1/admin/organizations/${id}`)
    expect(state.body).toMatchObject({ override: lent })
    expect((await override(id, { plan: null })).body['override']).toBeNull()
    for (const past of [inDays(-1), billing.context.clock.now().toISOString()]) {
      expect((await override(id, { plan: 'pro', override_expires_at: past })).body).toMatchObject({
        field: 'override_expires_at',
      })
    }
  })

  test('until it expires, by the clock alone: for standing, gate, grants, lists and the next override', async () => {
    const id = await billing.createOrganization('lent')
    await override(id, { plan: 'enterprise', billing_status: 'active', override_expires_at: inDays(2) })
    const clock = new ManualClock(new Date(inDays(1)))
    const { db } = billing.context
    const later = billing.with({ clock })
    const grants = { ...later, graceDays: later.policy.graceDays }
    const stands = async () => (await readStanding(db, grants, id))!
    const amount = async () => (await readBalances(db, grants, id)).balances[0]!.amount
    const listed = async (filter: object) => {
      const asked = { ...NO_FILTER, ...filter, sort: '-created', offset: 0, cursor: null, limit: 50 } as const
      const { rows } = await listOrganizations(db, asked, { defaultPlanKey: 'free', now: clock.now() })
      return rows.find((row) => row.organizationId === id)
    }
    expect(await stands()).toMatchObject({ billingStatus: 'active', standing: { state: 'active', planKey: 'enterprise' } })
    expect(await amount()).toBeNull()
    expect(await listed({ plan: 'enterprise' })).toMatchObject({ tier: 'enterprise', overridden: true })
    expect(await listed({ overridden: true })).toBeDefined()
    expect(await listed({ plan: 'free' })).toBeUndefined()
    clock.set(new Date(inDays(2)))
    expect(await stands()).toMatchObject({ billingStatus: 'none', override: null, standing: { state: 'free', planKey: 'free' } })
    expect(await amount()).toBe(100_000_000n)
    expect(await listed({ plan: 'free' })).toMatchObject({ tier: 'free', overridden: false })
    expect(await listed({ overridden: false })).toBeDefined()
    expect(await listed({ plan: 'enterprise' })).toBeUndefined()
    expect(await listed({ overridden: true })).toBeUndefined()
    // What has ended is not taken up again by the next one.
    const request = { organizationId: id, change: { status: 'past_due' as const }, reason: 'another' }
    const set = await overrideStanding(grants, request, { actor: 'operator:test', requestId: 'req_1' })
    expect(set).toEqual({ planKey: null, status: 'past_due', trialEndsAt: null, expiresAt: null, endsAt: null })
  })

  test('on the clock of an organization that has one', async () => {
    const id = await billing.createOrganization('clocked')
    await startTestClock(billing.context, id)
    await override(id, { billing_status: 'past_due', override_expires_at: inDays(5) })
    const state = async () => {
      const answer = await billing.call(id, 'GET', '/api/v1/billing/subscription')
      return (answer.body['standing'] as { state: string }).state
    }
    expect(await state()).toBe('suspended')
    await billing.call('operator', 'POST', `/api/v1/organizations/${id}/clock/advance`, { by: '6d' })
    expect(await state()).toBe('free')
    expect((await override(id, { plan: 'pro', override_expires_at: inDays(5) })).status).toBe(400)
    const own = (await findClockTime(billing.context.db, id))!
    const until = (ms: number) => override(id, { plan: 'pro', override_expires_at: new Date(own.getTime() + ms).toISOString() })
    expect([(await until(0)).status, (await until(1_000)).status]).toEqual([400, 200])
  })

  test('nothing that does not exist, and nobody else may', async () => {
    const id = await billing.createOrganization('refused')
    expect((await override(id, { plan: 'nonsense' })).body['code']).toBe('unknown_plan')
    expect((await override(id, { billing_status: 'great' })).status).toBe(400)
    expect((await override(id, { plann: 'pro' })).status).toBe(400)
    expect((await override('nowhere', { plan: 'pro' })).status).toBe(404)
    expect((await override(id, { plan: 'pro' }, id)).status).toBe(403)
    expect((await override(id, { plan: 'pro' }, 'nobody')).status).toBe(401)
  })
})

test('MR-5 operators see every organization, an admin their own', async () => {
  const id = await billing.createOrganization('seen')
  const all = await billing.call('operator', 'GET', '/api/v1/admin/billing?limit=2')
  expect(all.body).toMatchObject({ has_more: true, organizations: [{}, {}] })
  const own = await billing.call(id, 'GET', '/api/v1/admin/billing')
  expect(own.body).toMatchObject({
    has_more: false,
    organizations: [{ organization_id: id, billing_status: 'none', plan: 'free' }],
  })
  expect((await billing.call(`${id}:read`, 'GET', '/api/v1/admin/billing')).status).toBe(403)
})
