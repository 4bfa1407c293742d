import { describe, expect, test } from 'vitest'
import { testBilling } from '../../test/billing.ts'

const billing = testBilling({ webhooks: false })
const override = (id: string, body: Record<string, unknown>, caller = 'operator') =>
  billing.call(caller, 'PATCH', `/api/v1/admin/billing/${id}`, body)

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
        before: { planKey: null, status: null, trialEndsAt: null, expiresAt: null },
        after: { planKey: 'pro', status: null, trialEndsAt: null, expiresAt: null, reason: 'goodwill' },
      },
    ])
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
