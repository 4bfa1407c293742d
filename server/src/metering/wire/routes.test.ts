import { pino } from 'pino'
import { beforeAll, describe, expect, test } from 'vitest'
import { testMetering } from '../../../test/metering.ts'
import type { Principal } from '../../auth/principal.ts'
import { createApp, type App } from '../../http/app.ts'
import type { ApiKeyId, OrganizationId } from '../../lib/ids.ts'
import { registerUsageRoutes } from './routes.ts'

const fixture = testMetering()
let app: App
let organizationId: string
let keys = 0

function principalOf(name: string | null): Principal | null {
  if (name === null) return null
  if (name === 'operator') return { kind: 'operator', name: 'test' }
  const [organization, ...scopes] = name.split(' ')
  return {
    kind: 'api_key',
    keyId: 'key_1' as ApiKeyId,
    organizationId: organization as OrganizationId,
    scopes: scopes as ('read' | 'write')[],
  }
}

beforeAll(async () => {
  organizationId = await fixture.newOrganization()
  app = createApp({
    log: pino({ level: 'silent' }),
    authenticate: async (request) => principalOf(request.headers.get('x-api-key')),
    register: [
      (routes) => registerUsageRoutes(routes, { ...fixture.context(), metering: fixture.metering(), db: fixture.database.db }),
    ],
  })
})

async function call(path: string, body?: unknown, as: string | null = `${organizationId} read write`) {
  const response = await app.request(path, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { ...(as === null ? {} : { 'x-api-key': as }), 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  })
  return { status: response.status, headers: response.headers, body: (await response.json()) as Record<string, unknown> }
}

const consume = (over: Record<string, unknown> = {}) => ({
  meter: 'episode_ingestion',
  quantity: 1,
  idempotency_key: `k${(keys += 1)}`,
  ...over,
})

test('a path under /usage that nothing is at is unknown, whatever the method', async () => {
  expect((await call('/api/v1/usage/nothing')).status).toBe(404)
  expect((await call('/api/v1/usage/nothing', {})).status).toBe(404)
  expect(await call('/api/v1/usage/consume')).toMatchObject({ status: 405, body: { code: 'method_not_allowed' } })
})

describe('POST /api/v1/usage/consume', () => {
  test('answers the fields of EM-3 and the headers of EM-5', async () => {
    const own = await fixture.newOrganization()
    const answer = await call('/api/v1/usage/consume', consume({ quantity: '95.5' }), `${own} write`)
    expect(answer.status).toBe(200)
    expect(answer.body).toMatchObject({
      allowed: true,
      meter: 'episode_ingestion',
      quantity: 95.5,
      credits_used: 95.5,
      total_credits_used: 95.5,
      quota_remaining: 4.5,
      quota_exceeded: false,
      balance: { balance: 'credits', unit: 'credit', plan: 'free', amount: 100, used: 95.5, remaining: 4.5, overage: 0 },
    })
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      'x-credits-used': '95.5',
      'x-credits-remaining': '4.5',
      'x-credits-total': '100',
      'x-quota-warning': '4.5 of 100 left in this period',
    })
    const refused = await call('/api/v1/usage/consume', consume({ quantity: 5 }), `${own} write`)
    expect(refused.status).toBe(200)
    expect(refused.body).toMatchObject({ allowed: false, code: 'quota_exceeded', quota_exceeded: true, credits_used: 0 })
  })

  test('a repeat has the same body and says so in a header', async () => {
    const body = consume()
    const first = await call('/api/v1/usage/consume', body)
    const again = await call('/api/usage/consume', body)
    expect(again.body).toEqual(first.body)
    expect([first.headers.get('idempotent-replayed'), again.headers.get('idempotent-replayed')]).toEqual([null, 'true'])
    const other = await call('/api/v1/usage/consume', { ...body, quantity: 2 })
    expect(other).toMatchObject({ status: 409, body: { code: 'idempotency_conflict', field: 'quantity' } })
  })

  test.each([
    ['no key', { idempotency_key: undefined }, 400, 'invalid_request'],
    ['an unknown field', { quantitiy: 3 }, 400, 'invalid_request'],
    ['an unknown meter', { meter: 'nothing' }, 422, 'unknown_meter'],
    ['a negative quantity', { quantity: -1 }, 422, 'invalid_quantity'],
    ['more than six decimals', { quantity: '0.0000001' }, 422, 'invalid_quantity'],
    ['a float that is no decimal', { quantity: 0.1 + 0.2 }, 422, 'invalid_quantity'],
    ['a quantity beyond counting', { quantity: 1e21 }, 422, 'invalid_quantity'],
    ['half a character', { properties: { model: '\ud800' } }, 400, 'invalid_request'],
    ['a NUL', { idempotency_key: 'a\u0000b' }, 400, 'invalid_request'],
    ['a time that is none', { occurred_at: 'yesterday' }, 400, 'invalid_request'],
    ['a time too long ago', { occurred_at: '2026-01-01T00:00:00Z' }, 422, 'time_out_of_range'],
    ['another organization', { organization_id: 'other' }, 404, 'not_found'],
  ])('refuses %s with a problem document and counts nothing', async (_name, over, status, code) => {
    const before = await call('/api/v1/usage')
    const answer = await call('/api/v1/usage/consume', consume(over))
    expect(answer.headers.get('content-type')).toBe('application/problem+json')
    expect(answer).toMatchObject({ status, body: { code, status } })
    expect((await call('/api/v1/usage')).body).toEqual(before.body)
  })

  test('asks for a key and the scope, and an operator names the organization', async () => {
    expect((await call('/api/v1/usage/consume', consume(), null)).status).toBe(401)
    expect((await call('/api/v1/usage/consume', consume(), `${organizationId} read`)).status).toBe(403)
    expect((await call('/api/v1/usage/consume', consume(), 'operator')).status).toBe(400)
    const named = await call('/api/v1/usage/consume', consume({ organization_id: organizationId }), 'operator')
    expect(named.body).toMatchObject({ allowed: true })
  })
})

describe('POST /api/v1/usage/batch', () => {
  test('one result per item, in order; a wrong one touches no other', async () => {
    const answer = await call('/api/v1/usage/batch', {
      items: [
        { verb: 'consume', ...consume() },
        { verb: 'consume', ...consume({ quantity: 'many' }) },
        { verb: 'track', ...consume({ meter: 'nothing' }) },
        'not an item',
        { verb: 'check', meter: 'episode_search', quantity: 1 },
        { verb: 'track', ...consume({ meter: 'tokens', quantity: 3 }) },
      ],
    })
    expect(answer.status).toBe(200)
    const results = answer.body['results'] as { allowed: boolean; error?: { code: string } }[]
    expect(results.map((result) => result.error?.code ?? result.allowed)).toEqual([
      true,
      'invalid_quantity',
      'unknown_meter',
      'invalid_request',
      true,
      true,
    ])
  })

  test('takes 1,000 items and refuses 1,001 whole', async () => {
    const own = await fixture.newOrganization()
    const items = Array.from({ length: 1_001 }, () => ({ verb: 'consume', ...consume({ meter: 'episode_search' }) }))
    expect((await call('/api/v1/usage/batch', { items }, `${own} read write`)).status).toBe(400)
    const answer = await call('/api/v1/usage/batch', { items: items.slice(1) }, `${own} read write`)
    expect((answer.body['results'] as { allowed: boolean }[]).filter((result) => result.allowed)).toHaveLength(1_000)
    expect((await call('/api/v1/usage', undefined, `${own} read`)).body).toMatchObject({ credits_used: 100, quota_remaining: 0 })
  })
})

describe('reservations', () => {
  test('hold, settle without a body, release what is settled', async () => {
    const held = await call('/api/v1/usage/reservations', consume({ quantity: 2, expires_in_seconds: 60 }))
    expect(held.body).toMatchObject({ allowed: true, expires_at: '2026-03-10T12:01:00.000Z', balance: { reserved: 2 } })
    const id = String(held.body['id'])
    expect(held.body['reservation_id']).toBe(id)
    const settled = await call(`/api/v1/usage/reservations/${id}/settle`, {})
    expect(settled.body).toMatchObject({ allowed: true, credits_used: 2, balance: { reserved: 0 } })
    expect((await call(`/api/v1/usage/reservations/${id}/release`, {})).body).toMatchObject({
      code: 'reservation_closed',
      status: 409,
    })
    expect((await call('/api/v1/usage/reservations/res_nothing/settle', {})).status).toBe(404)
  })
})

describe('reading', () => {
  test('GET /api/v1/usage answers EM-8', async () => {
    const own = await fixture.newOrganization()
    await call('/api/v1/usage/track', consume({ quantity: 25 }), `${own} write`)
    expect((await call('/api/v1/usage', undefined, `${own} read`)).body).toEqual({
      customer_id: own,
      subscription_tier: 'FREE',
      credits_used: 25,
      monthly_limit: 100,
      quota_remaining: 75,
      usage_percentage: 25,
      quota_exceeded: false,
      status: 'ACTIVE',
      in_trial: false,
      trial_end_date: null,
    })
  })

  test('EM-8 writes tier and status as EM-1 and EM-7 do', async () => {
    const own = await fixture.newOrganization()
    await call('/api/v1/usage/track', consume(), `${own} write`)
    const states = [
      ['free', null, null, 'FREE', 'ACTIVE'],
      ['pro', 'active', null, 'PRO', 'ACTIVE'],
      ['starter', 'trialing', null, 'STARTER', 'TRIALING'],
      ['pro', 'past_due', 1, 'PRO', 'GRACE'],
      ['pro', 'past_due', 4, 'PRO', 'SUSPENDED'],
      ['pro', 'paused', null, 'PRO', 'PAUSED'],
    ] as const
    for (const [plan, stripe, failedDays, tier, status] of states) {
      await fixture.database.db.query(
        `update accounts set plan_key = $2, subscription_status = $3, payment_failed_at = $4::timestamptz - make_interval(days => $5)
         where organization_id = $1`,
        [own, plan, stripe, fixture.clock.now(), failedDays],
      )
      expect((await call('/api/v1/usage', undefined, `${own} read`)).body).toMatchObject({ subscription_tier: tier, status })
    }
  })

  test('EM-8 says when a trial ends, by an operator’s word first, and how much is used in whole hundredths of a percent', async () => {
    const own = await fixture.newOrganization()
    await call('/api/v1/usage/track', consume({ quantity: 33.339 }), `${own} write`)
    const read = async () => (await call('/api/v1/usage', undefined, `${own} read`)).body
    expect(await read()).toMatchObject({ usage_percentage: 33.33, in_trial: false, trial_end_date: null })
    const [end, later] = ['2026-03-20T00:00:00.000Z', '2026-03-25T00:00:00.000Z']
    const set = (text: string, value: string) =>
      fixture.database.db.query(`update accounts set ${text} where organization_id = $1`, [own, value])
    await set(`plan_key = 'starter', subscription_status = 'trialing', trial_ends_at = $2`, end)
    expect(await read()).toMatchObject({ in_trial: true, trial_end_date: end })
    await set(`override_status = 'trialing', override_trial_ends_at = $2`, later)
    expect(await read()).toMatchObject({ in_trial: true, trial_end_date: later })
    await set(`override_ends_at = $2`, fixture.clock.now().toISOString())
    expect(await read()).toMatchObject({ in_trial: true, trial_end_date: end })
  })

  test('GET /api/v1/balances answers the balances of the plan, before anything was used', async () => {
    const own = await fixture.newOrganization()
    const answer = await call(`/api/v1/balances?organization_id=${own}`, undefined, 'operator')
    expect(answer.body).toEqual({
      balances: [
        {
          balance: 'credits',
          unit: 'credit',
          plan: 'free',
          amount: 100,
          used: 0,
          remaining: 100,
          overage: 0,
          reserved: 0,
          period: 'calendar_month',
          period_start: '2026-03-01T00:00:00.000Z',
          period_end: '2026-04-01T00:00:00.000Z',
          spend_limit_minor: null,
          spent_minor: null,
          currency: null,
        },
      ],
    })
    expect((await call('/api/v1/balances?organization_id=nobody', undefined, 'operator')).status).toBe(404)
  })
})
