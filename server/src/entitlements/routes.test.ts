import { describe, expect, test } from 'vitest'
import { testSubscriptions } from '../../test/subscriptions.ts'
import { defineBilling } from '../catalog/define.ts'
import { normalizeCatalog } from '../catalog/normalize.ts'
import { listEvents } from '../events/store.ts'
import { observeDueAccounts } from '../notifications/observe.ts'
import { ManualClock } from '../lib/clock.ts'
import { HOUR_MS } from '../lib/period.ts'
import { readEntitlements } from './actions.ts'

const price = (amountMinor: number) => ({ prices: { monthly: { amountMinor } } })
const catalog = defineBilling({
  meters: { calls: {} },
  features: {
    sso: { name: 'Single sign-on' },
    projects: { type: 'number', unit: 'project' },
    support: { type: 'choice', values: ['email', 'phone'] },
  },
  plans: {
    free: { name: 'Free', allowances: {}, features: { projects: 1 } },
    pro: { name: 'Pro', ...price(2900), allowances: {}, features: { projects: 20, support: 'email' } },
  },
  addOns: { more_projects: { name: 'More projects', ...price(500), features: { projects: 10 } } },
  defaultPlan: 'free',
})
const billing = testSubscriptions({ catalog })
const { advance, post, subscribed, succeed } = billing

const one = async (id: string, feature: string) =>
  (await billing.call(`${id}:read`, 'GET', `/api/v1/entitlements/${feature}`)).body
const set = (id: string, feature: string, body: object) =>
  billing.call('operator', 'PUT', `/api/v1/admin/organizations/${id}/features/${feature}`, body)
const told = async (organizationId: string) => {
  const query = { organizationId, type: 'customer.entitlements_changed', before: null, limit: 50 } as const
  return (await listEvents(billing.database.db, query)).toReversed().map(({ data }) => data)
}

describe('entitlements', () => {
  test('are those of the plan, and more with an add-on, at once; each change is told', async () => {
    await billing.createOrganization('visitor')
    const listed = await billing.call('visitor:read', 'GET', '/api/v1/entitlements')
    expect(listed.body).toMatchObject({
      plan: 'free',
      entitlements: [
        { feature: 'sso', name: 'Single sign-on', type: 'boolean', allowed: false, value: false, code: 'not_included' },
        { feature: 'projects', type: 'number', unit: 'project', allowed: true, value: 1, source: 'plan', reason: null },
        { feature: 'support', type: 'choice', allowed: false, reason: 'The plan free does not include support.' },
      ],
    })
    const id = await subscribed('grower', { tier: 'pro' })
    expect(await one(id, 'support')).toMatchObject({ allowed: true, value: 'email', plan: 'pro' })
    await succeed(id, 'add-ons', { add_on: 'more_projects', quantity: 2 })
    expect(await one(id, 'projects')).toMatchObject({ allowed: true, value: 40, source: 'add_on' })
    await succeed(id, 'cancel', { immediate: true })
    expect(await one(id, 'projects')).toMatchObject({ value: 1, plan: 'free' })
    expect(await told(id)).toEqual([
      { entitlements: { projects: 20, support: 'email' }, changed: ['projects', 'support'], plan: 'pro' },
      { entitlements: { projects: 40, support: 'email' }, changed: ['projects'], plan: 'pro' },
      { entitlements: { projects: 1 }, changed: ['projects', 'support'], plan: 'free' },
    ])
    expect(await told('visitor')).toEqual([])
  })

  test('are kept by who is suspended, who may use none of them until the invoice is paid', async () => {
    const id = await subscribed('owing', { tier: 'pro' })
    await post(id, 'payment-methods', { payment_method_id: 'pm_card_chargeCustomerFail' })
    await advance(id, '40d')
    expect(await one(id, 'projects')).toMatchObject({ allowed: false, code: 'suspended', value: 20 })
    const [open] = await billing.invoicesOf(id, '?status=open')
    await billing.call(id, 'POST', `/api/v1/billing/invoices/${open!.id}/pay`, { payment_method_id: 'pm_card_visa' })
    expect(await one(id, 'projects')).toMatchObject({ allowed: true, code: null, value: 20 })
    expect(await told(id)).toHaveLength(1)
  })

  test('of a catalog are those under which somebody bought; what was declared since is known, and not included', async () => {
    const id = await subscribed('early', { tier: 'pro' })
    const newer = normalizeCatalog({
      meters: {},
      features: { sso: {}, exports: {} },
      plans: {
        free: { name: 'Free', allowances: {}, features: { exports: true } },
        pro: { name: 'Pro', allowances: {}, features: { sso: true, exports: true } },
      },
      defaultPlan: 'free',
    })
    const catalogs = { ...billing.context.catalogs, current: { version: 1_000_000, catalog: newer } }
    const { entitlements } = await readEntitlements(billing.database.db, { ...billing.context, graceDays: 3, catalogs }, id)
    expect(entitlements.map(({ feature, value }) => [feature.key, value])).toEqual([
      ['sso', null],
      ['exports', null],
      ['projects', 20_000_000n],
      ['support', 'email'],
    ])
  })

  test('of nobody, of another organization and of a feature that there is not are none', async () => {
    expect((await billing.call('nobody', 'GET', '/api/v1/entitlements')).status).toBe(401)
    expect((await billing.call('visitor:read', 'GET', '/api/v1/entitlements?organization_id=grower')).status).toBe(404)
    const unknown = await billing.call('visitor:read', 'GET', '/api/v1/entitlements/teleport')
    expect([unknown.status, unknown.body['code']]).toEqual([422, 'unknown_feature'])
  })
})

describe('an operator’s word', () => {
  test('counts at once, is told, shown in the state of the organization and audited, until it is taken back', async () => {
    await billing.createOrganization('guest')
    const given = await set('guest', 'sso', { value: true, reason: 'a pilot' })
    expect(given.body).toMatchObject({
      feature: 'sso',
      allowed: true,
      value: true,
      source: 'override',
      override_expires_at: null,
    })
    expect(await set('guest', 'projects', { value: false, reason: 'abuse' })).toMatchObject({ status: 200 })
    expect(await one('guest', 'projects')).toMatchObject({ allowed: false, value: false, source: 'override' })
    const state = await billing.call('operator', 'GET', '/api/v1/admin/organizations/guest')
    expect(state.body['entitlements']).toMatchObject([{ feature: 'sso', value: true }, { value: false }, { value: false }])
    await set('guest', 'projects', { value: null, reason: 'settled' })
    expect(await one('guest', 'projects')).toMatchObject({ allowed: true, value: 1, source: 'plan' })
    expect((await told('guest')).map((data) => data['entitlements'])).toEqual([
      { sso: true, projects: 1 },
      { sso: true },
      { sso: true, projects: 1 },
    ])
    const { rows } = await billing.database.db.query(
      `select actor, target, before ->> 'value' as before, after ->> 'value' as after, after ->> 'reason' as reason from audit_log
       where organization_id = 'guest' and action = 'feature.overridden' order by at, target desc`,
    )
    expect(rows).toMatchObject([
      { target: 'sso', before: 'false', after: 'true', reason: 'a pilot' },
      { target: 'projects', before: '1', after: 'false', reason: 'abuse' },
      { target: 'projects', before: 'false', after: '1', reason: 'settled' },
    ])
  })

  test('ends by itself, and that is told when its time has come', async () => {
    await billing.createOrganization('for_an_hour')
    const end = new Date(billing.context.clock.now().getTime() + HOUR_MS)
    await set('for_an_hour', 'support', { value: 'phone', expires_at: end.toISOString(), reason: 'a launch' })
    expect(await one('for_an_hour', 'support')).toMatchObject({ value: 'phone', override_expires_at: end.toISOString() })
    const later = { ...billing.context, clock: new ManualClock(end), graceDays: 3, dunningDays: [1] }
    await observeDueAccounts(billing.database.db, later)
    expect((await told('for_an_hour')).map((data) => data['entitlements'])).toEqual([
      { projects: 1, support: 'phone' },
      { projects: 1 },
    ])
  })

  test.each([
    ['sso', { value: 3 }, 400],
    ['projects', { value: true }, 400],
    ['projects', { value: -1 }, 400],
    ['projects', { value: '0.0000001' }, 400],
    ['support', { value: 'pigeon' }, 400],
    ['sso', { value: true, expires_at: '2020-01-01T00:00:00Z' }, 400],
    ['sso', { value: null, expires_at: '2099-01-01T00:00:00Z' }, 400],
    ['sso', { value: true, reason: ' ' }, 400],
    ['teleport', { value: true }, 422],
  ])('about %s that says %j is refused, and changes nothing', async (feature, wrong, status) => {
    expect((await set('visitor', feature, { reason: 'a test', ...wrong })).status).toBe(status)
    expect((await told('visitor')).length).toBe(0)
    expect((await one('visitor', 'projects'))['source']).toBe('plan')
  })

  test('is for operators, and about an organization that there is', async () => {
    const path = '/api/v1/admin/organizations/visitor/features/sso'
    expect((await billing.call('visitor', 'PUT', path, { value: true, reason: 'mine' })).status).toBe(403)
    expect((await set('nobody_at_all', 'sso', { value: true, reason: 'a test' })).status).toBe(404)
  })
})
