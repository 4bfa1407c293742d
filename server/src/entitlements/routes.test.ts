import { describe, expect, test } from 'vitest'
import { testSubscriptions } from '../../test/subscriptions.ts'
import { START } from '../../test/test-clocks.ts'
import { defineBilling } from '../catalog/define.ts'
import { normalizeCatalog } from '../catalog/normalize.ts'
import { listEvents } from '../events/store.ts'
import { observeAccount, observeDueAccounts } from '../notifications/observe.ts'
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
    const offered = await billing.call(id, 'GET', '/api/v1/billing/add-ons')
    expect(offered.body['add_ons']).toMatchObject([{ add_on: 'more_projects', quantity: 2, features: { projects: 10 } }])
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

  test('of the default plan stay those of the catalog of when the organization was made, and there is nothing to tell', async () => {
    await billing.createOrganization('made_before')
    const newer = normalizeCatalog({
      meters: {},
      features: { projects: { type: 'number' } },
      plans: { free: { name: 'Free', allowances: {}, features: { projects: 5 } } },
      defaultPlan: 'free',
    })
    const catalogs = { ...billing.context.catalogs, current: { version: 1_000_000, catalog: newer } }
    const context = { ...billing.context, graceDays: 3, dunningDays: [1], catalogs }
    const { entitlements } = await readEntitlements(billing.database.db, context, 'made_before')
    expect(entitlements.find(({ feature }) => feature.key === 'projects')).toMatchObject({ value: 1_000_000n })
    await billing.database.db.transaction((tx) => observeAccount(tx, context, 'made_before'))
    expect(await told('made_before')).toEqual([])
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
    expect(await one('guest', 'projects')).toMatchObject({
      allowed: false,
      code: 'not_included',
      reason: 'projects has been switched off for this organization.',
      value: false,
      source: 'override',
    })
    const state = await billing.call('operator', 'GET', '/api/v1/admin/organizations/guest')
    expect(state.body['entitlements']).toMatchObject([{ feature: 'sso', value: true }, { value: false }, { value: false }])
    expect(state.body['feature_overrides']).toMatchObject([
      { feature: 'projects', value: false, expires_at: null, reason: 'abuse', set_by: 'operator:test' },
      { feature: 'sso', value: true, expires_at: null, reason: 'a pilot', set_by: 'operator:test', set_at: expect.any(String) },
    ])
    await billing.createOrganization('another_guest')
    await set('another_guest', 'projects', { value: 3, reason: 'a pilot' })
    await set('guest', 'projects', { value: null, reason: 'settled' })
    expect(await one('guest', 'projects')).toMatchObject({ allowed: true, value: 1, source: 'plan' })
    expect(await one('another_guest', 'projects')).toMatchObject({ value: 3, source: 'override' })
    const later = await billing.call('operator', 'GET', '/api/v1/admin/organizations/guest')
    expect(later.body['feature_overrides']).toMatchObject([{ feature: 'sso' }])
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

  test('is about an organization that nobody has opened an account for, too', async () => {
    await billing.createOrganization('unopened')
    await billing.database.db.query(`delete from accounts where organization_id = 'unopened'`)
    expect(await set('unopened', 'sso', { value: true, reason: 'a pilot' })).toMatchObject({
      status: 200,
      body: { plan: 'free' },
    })
    expect(await one('unopened', 'sso')).toMatchObject({ allowed: true, source: 'override' })
  })

  test('ends in the future, by the clock of the organization', async () => {
    const id = await billing.onClock('ending')
    const until = (end: Date) => set(id, 'sso', { value: true, expires_at: end.toISOString(), reason: 'a launch' })
    expect((await until(START)).body).toMatchObject({ status: 400, field: 'expires_at' })
    expect((await until(new Date(START.getTime() + 1))).status).toBe(200)
  })

  test('is told of who was last looked at before there were features', async () => {
    await billing.createOrganization('veteran')
    await billing.database.db.query(`update standing_watches set entitlements = null where organization_id = 'veteran'`)
    await set('veteran', 'sso', { value: true, reason: 'a pilot' })
    expect(await told('veteran')).toMatchObject([{ entitlements: { sso: true }, changed: expect.arrayContaining(['sso']) }])
  })

  test('ends by the clock of the organization, also while it is suspended, and is told once, whoever sets it again', async () => {
    const id = await subscribed('clocked', { tier: 'pro' })
    const end = '2026-04-20T00:00:00.000Z'
    for (const reason of ['a launch', 'the same again']) {
      expect((await set(id, 'support', { value: 'phone', expires_at: end, reason })).status).toBe(200)
    }
    await post(id, 'payment-methods', { payment_method_id: 'pm_card_chargeCustomerFail' })
    await advance(id, '40d')
    expect(await one(id, 'support')).toMatchObject({ code: 'suspended', value: 'phone' })
    await advance(id, '2d')
    expect(await one(id, 'support')).toMatchObject({ code: 'suspended', value: 'email', override_expires_at: null })
    expect((await told(id)).map((data) => data['entitlements'])).toEqual([
      { projects: 20, support: 'email' },
      { projects: 20, support: 'phone' },
      { projects: 20, support: 'email' },
    ])
    const state = await billing.call('operator', 'GET', `/api/v1/admin/organizations/${id}`)
    expect(state.body['feature_overrides']).toEqual([])
  })

  test('of several operators at once is each told and audited', async () => {
    await billing.createOrganization('contested')
    const values = [2, 3, 4, 5, 6]
    await Promise.all(values.map((value) => set('contested', 'projects', { value, reason: 'a race' })))
    const last = (await one('contested', 'projects'))['value']
    const changes = await told('contested')
    const projects = changes.map((data) => (data['entitlements'] as { projects: number }).projects)
    expect(projects.toSorted((a, b) => a - b)).toEqual(values)
    expect(projects.at(-1)).toBe(last)
    const { rows } = await billing.database.db.query<{ before: number; after: number }>(
      `select (before ->> 'value')::int as before, (after ->> 'value')::int as after from audit_log
       where organization_id = 'contested' and action = 'feature.overridden' order by id`,
    )
    // Each saw what the one before it had left.
    expect(rows.map(({ before }) => before)).toEqual([1, ...rows.slice(0, -1).map(({ after }) => after)])
  })

  test('about a feature or a value that no catalog has any more has no effect, is shown so, and can be taken back', async () => {
    await billing.createOrganization('outlived')
    await set('outlived', 'sso', { value: true, reason: 'stands' })
    await billing.database.db.query(
      `insert into feature_overrides (organization_id, feature_key, value, reason, set_by, set_at)
       select 'outlived', key, value, 'outlived', 'operator:test', now()
       from jsonb_each('{"teleport": true, "support": "pigeon"}'::jsonb)`,
    )
    const overrides = async () => {
      const state = await billing.call('operator', 'GET', '/api/v1/admin/organizations/outlived')
      return (state.body['feature_overrides'] as { feature: string; has_effect: boolean }[]).map((each) => [
        each.feature,
        each.has_effect,
      ])
    }
    const before = [
      ['sso', true],
      ['support', false],
      ['teleport', false],
    ]
    expect(await overrides()).toEqual(before)
    expect((await set('outlived', 'teleport', { value: true, reason: 'again' })).status).toBe(422)
    expect((await set('outlived', 'teleport', { value: null, reason: ' ' })).status).toBe(400)
    const end = '2099-01-01T00:00:00Z'
    expect((await set('outlived', 'teleport', { value: null, expires_at: end, reason: 'gone' })).status).toBe(400)
    expect(await overrides()).toEqual(before)

    const taken = await set('outlived', 'teleport', { value: null, reason: 'gone' })
    expect(taken).toMatchObject({
      status: 200,
      body: { feature: 'teleport', allowed: false, code: 'not_included', value: false },
    })
    expect((await set('outlived', 'support', { value: null, reason: 'gone' })).status).toBe(200)
    expect(await overrides()).toEqual([['sso', true]])
    expect((await set('outlived', 'teleport', { value: null, reason: 'gone' })).status).toBe(422)
    expect(await told('outlived')).toHaveLength(1)
    const { rows } = await billing.database.db.query(
      `select before ->> 'override' as before, after ->> 'override' as after, after ->> 'reason' as reason from audit_log
       where organization_id = 'outlived' and target = 'teleport'`,
    )
    expect(rows).toEqual([{ before: 'true', after: null, reason: 'gone' }])
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
    ['projects', { value: '' }, 400],
    ['projects', { value: '1e3' }, 400],
    ['projects', { value: '9'.repeat(63) }, 400],
    ['support', { value: 'unlimited' }, 400],
    ['teleport', { value: true }, 422],
    ['__proto__', { value: true }, 422],
    ['constructor', { value: true }, 422],
    ['a%2Fb', { value: true }, 422],
    ['x'.repeat(64), { value: true }, 400],
    ['sso%00', { value: true }, 400],
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
