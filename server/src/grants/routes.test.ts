import { describe, expect, test } from 'vitest'
import { testMetering } from '../../test/metering.ts'
import { testRoutes } from '../../test/routes.ts'
import { giveGrant, restoreGrantIn } from './giving.ts'
import { registerGrantRoutes } from './routes.ts'

const fixture = testMetering()
const { clock } = fixture
const ask = testRoutes((app) => registerGrantRoutes(app, { ...fixture.context(), db: fixture.database.db }))

type Shown = Record<string, unknown> & { grants: Record<string, unknown>[] }

async function call(path: string, body?: unknown, as = 'operator'): Promise<{ status: number; body: Shown }> {
  const { status, body: shown } = await ask(body === undefined ? 'GET' : 'POST', path, body, as)
  return { status, body: shown as Shown }
}

const consume = (organizationId: string, credits: number) => fixture.consumeCredits(organizationId, credits)

describe('giving', () => {
  test('a promotion is drawn before the plan’s own, and a top-up after it', async () => {
    const organization_id = await fixture.newOrganization()
    const gift = { organization_id, balance: 'credits' }
    await call('/api/v1/grants', { ...gift, kind: 'top_up', amount: 5 })
    const given = await call('/api/v1/grants', { ...gift, kind: 'promotion', amount: '2.5', reason: 'welcome' })
    expect(given).toMatchObject({
      status: 201,
      body: { amount: 2.5, remaining: 2.5, priority: 30, reason: 'welcome', expires_at: null },
    })
    expect((await consume(organization_id, 103)).balance).toMatchObject({ amount: 107_500_000n, remaining: 4_500_000n })
    const { body } = await call(`/api/v1/grants?organization_id=${organization_id}&balance=credits`)
    expect(Object.fromEntries(body.grants.map((grant) => [grant['kind'], grant['used']]))).toEqual({
      promotion: 2.5,
      plan: 100,
      top_up: 0.5,
    })
  })

  test('is drawn by priority, then by what ends first, then by what came first, whatever was given when', async () => {
    const organization_id = await fixture.newOrganization()
    const day = (days: number): string => new Date(clock.now().getTime() + days * 86_400_000).toISOString()
    const give = (reason: string, over: Record<string, unknown>) =>
      call('/api/v1/grants', { organization_id, balance: 'credits', amount: 10, reason, ...over })
    await give('last: bought', { kind: 'top_up', expires_at: day(1) })
    await give('fifth: never ends', { kind: 'manual' })
    await give('second: ends later', { kind: 'promotion', expires_at: day(20) })
    await give('third: never ends', { kind: 'promotion' })
    await give('first: ends sooner', { kind: 'promotion', expires_at: day(10) })
    await give('before all', { kind: 'top_up', priority: 5 })
    const drawn = async (): Promise<string[]> => {
      const { body } = await call(`/api/v1/grants?organization_id=${organization_id}`)
      return body.grants
        .filter((grant) => grant['used'] !== 0)
        .map(({ reason }) => (typeof reason === 'string' ? reason : 'fourth: the plan'))
    }
    const order: string[] = []
    for (const credits of [10, 10, 10, 10, 100, 10, 10]) {
      await consume(organization_id, credits)
      order.push(...(await drawn()).filter((reason) => !order.includes(reason)))
    }
    expect(order).toEqual([
      'before all',
      'first: ends sooner',
      'second: ends later',
      'third: never ends',
      'fourth: the plan',
      'fifth: never ends',
      'last: bought',
    ])
    expect((await consume(organization_id, 1)).code).toBe('quota_exceeded')
  })

  test('is done once under a key: a repeat answers the grant, another amount is refused', async () => {
    const organization_id = await fixture.newOrganization()
    const gift = { organization_id, balance: 'credits', amount: 5, idempotency_key: 'payment-1' }
    const first = await call('/api/v1/grants', gift)
    const again = await call('/api/v1/grants', gift)
    expect([first.status, again.status]).toEqual([201, 200])
    expect(again.body).toEqual(first.body)
    expect((await call('/api/v1/grants', { ...gift, amount: 6 })).body).toMatchObject({
      code: 'idempotency_conflict',
      field: 'amount',
    })
    await call('/api/v1/grants', { organization_id, balance: 'tokens', amount: 5, idempotency_key: 'payment-2' })
    expect((await call('/api/v1/grants', { ...gift, idempotency_key: 'payment-2' })).body).toMatchObject({ field: 'balance' })
    const { body } = await call(`/api/v1/grants?organization_id=${organization_id}`)
    expect(body.grants).toHaveLength(2)
  })

  test('under an id that names a grant of another kind is refused', async () => {
    const organizationId = await fixture.newOrganization()
    const gift = { organizationId, id: 'gift', balanceKey: 'credits', amount: 5_000_000n }
    const context = { ...fixture.context(), db: fixture.database.db }
    const giver = { actor: 'operator:test', requestId: null }
    await giveGrant(context, { ...gift, kind: 'manual' }, giver)
    const again = giveGrant(context, { ...gift, kind: 'top_up', priority: 50 }, giver)
    await expect(again).rejects.toMatchObject({ code: 'idempotency_conflict', details: { field: 'kind' } })
  })

  test.each([
    ['expires_at', { expires_at: '2026-04-02T00:00:00Z' }],
    ['expires_at', { expires_at: null }],
    ['priority', { priority: 7 }],
    ['meters', { meters: ['episode_search'] }],
    ['meters', { meters: null }],
    ['reason', { reason: 'another' }],
  ])('with another %s under the same key is refused, and changes nothing: %j', async (field, over) => {
    const organization_id = await fixture.newOrganization()
    const meters = ['episode_search', 'episode_ingestion']
    const terms = { expires_at: '2026-04-01T00:00:00Z', priority: 5, meters, reason: 'a gift' }
    const gift = { organization_id, balance: 'credits', amount: 5, idempotency_key: 'gift', ...terms }
    const first = await call('/api/v1/grants', gift)
    expect(await call('/api/v1/grants', { ...gift, ...over })).toMatchObject({
      status: 409,
      body: { code: 'idempotency_conflict', field },
    })
    const again = await call('/api/v1/grants', { ...gift, expires_at: '2026-04-01T02:00:00+02:00', meters: meters.toReversed() })
    expect(again).toEqual({ ...first, status: 200 })
  })

  test('a true repeat is answered whenever it comes: after the end of the grant, and after it was revoked', async () => {
    const organization_id = await fixture.newOrganization()
    const before = clock.now()
    const expires_at = new Date(before.getTime() + 60_000).toISOString()
    const ending = { organization_id, balance: 'credits', amount: 5, expires_at, idempotency_key: 'ending' }
    const unlimited = { organization_id, balance: 'credits', amount: null, idempotency_key: 'unlimited' }
    const bounded = { ...unlimited, expires_at, idempotency_key: 'bounded' }
    for (const gift of [ending, unlimited, bounded]) await call('/api/v1/grants', gift)
    const later = await call('/api/v1/grants', { ...bounded, expires_at: new Date(before.getTime() + 61_000).toISOString() })
    expect(later.body).toMatchObject({ code: 'idempotency_conflict', field: 'expires_at' })
    clock.advance(30_000)
    for (const id of ['unlimited', 'bounded']) await call(`/api/v1/grants/manual:${id}/revoke`, { organization_id })
    clock.advance(30_000)
    const answers: number[] = []
    for (const gift of [ending, unlimited, bounded]) answers.push((await call('/api/v1/grants', gift)).status)
    // To revoke it brought its end forward, to no later than what was asked.
    const earlier = await call('/api/v1/grants', { ...unlimited, expires_at: before.toISOString() })
    clock.set(before)
    expect(answers).toEqual([200, 200, 200])
    expect(earlier.body).toMatchObject({ code: 'idempotency_conflict', field: 'expires_at' })
  })

  test('and its end follow the organization’s own clock', async () => {
    const organization_id = await fixture.newOrganization()
    const now = new Date('2020-01-01T00:00:00Z')
    await fixture.database.db.query('update organizations set test_clock_now = $2 where id = $1', [organization_id, now])
    const give = (expires_at: string) => call('/api/v1/grants', { organization_id, balance: 'credits', amount: 5, expires_at })
    expect(await give('2020-01-02T00:00:00Z')).toMatchObject({
      status: 201,
      body: { starts_at: now.toISOString(), remaining: 5 },
    })
    expect((await give(now.toISOString())).body).toMatchObject({ code: 'invalid_request', field: 'expires_at' })
  })

  test('what has expired gives nothing, and what was left is told', async () => {
    const organization_id = await fixture.newOrganization()
    const expires_at = new Date(clock.now().getTime() + 60_000).toISOString()
    await call('/api/v1/grants', { organization_id, balance: 'credits', kind: 'promotion', amount: 10, expires_at })
    await consume(organization_id, 4)
    const before = clock.now()
    clock.advance(60_000)
    expect((await consume(organization_id, 101)).allowed).toBe(false)
    const { body } = await call(`/api/v1/grants?organization_id=${organization_id}`)
    clock.set(before)
    expect(body.grants.find((grant) => grant['kind'] === 'promotion')).toMatchObject({
      amount: 10,
      used: 4,
      expired: 6,
      remaining: 0,
    })
  })

  test.each([
    ['an unknown balance', { balance: 'nothing' }, 'invalid_request'],
    ['a meter of another balance', { meters: ['tokens'] }, 'invalid_request'],
    ['an expiry in the past', { expires_at: '2020-01-01T00:00:00Z' }, 'invalid_request'],
    ['an amount of nothing', { amount: 0 }, 'invalid_quantity'],
    ['an unknown organization', { organization_id: 'nobody' }, 'not_found'],
  ])('refuses %s and gives nothing', async (_name, over, code) => {
    const organization_id = await fixture.newOrganization()
    expect((await call('/api/v1/grants', { organization_id, balance: 'credits', amount: 5, ...over })).body).toMatchObject({
      code,
    })
    expect((await call(`/api/v1/grants?organization_id=${organization_id}`)).body.grants).toEqual([])
  })

  test('is for operators; a customer reads its own', async () => {
    const [mine, other] = [await fixture.newOrganization(), await fixture.newOrganization()]
    expect((await call('/api/v1/grants', { organization_id: mine, balance: 'credits', amount: 5 }, mine)).status).toBe(403)
    expect((await call('/api/v1/grants', undefined, mine)).body.grants).toEqual([])
    expect((await call(`/api/v1/grants?organization_id=${other}`, undefined, mine)).status).toBe(404)
  })
})

describe('revoking', () => {
  test('takes back what is left, leaves what is used, and again changes nothing', async () => {
    const organization_id = await fixture.newOrganization()
    const { body: gift } = await call('/api/v1/grants', { organization_id, balance: 'credits', kind: 'promotion', amount: 10 })
    await consume(organization_id, 4)
    const revoke = (amount?: number) => call(`/api/v1/grants/${String(gift['id'])}/revoke`, { organization_id, amount })
    expect((await revoke(1)).body).toMatchObject({ used: 4, revoked: 1, remaining: 5 })
    // Less than nothing would give.
    for (const amount of [0, -1]) expect((await revoke(amount)).body).toMatchObject({ code: 'invalid_quantity' })
    expect((await revoke(100)).body).toMatchObject({ used: 4, revoked: 6, remaining: 0 })
    expect((await revoke()).body).toMatchObject({ revoked: 6 })
    expect((await consume(organization_id, 101)).allowed).toBe(false)
    const { rows: audited } = await fixture.database.db.query(
      `select action, before ->> 'revoked' as before, after ->> 'revoked' as after from audit_log where organization_id = $1 order by id`,
      [organization_id],
    )
    const action = 'grant.revoked'
    expect(audited).toEqual([
      { action: 'grant.given', before: null, after: '0' },
      { action, before: '0', after: '1' },
      { action, before: '1', after: '6' },
      { action, before: '6', after: '6' },
    ])
    // Each part that was taken is told; where nothing was left nothing is.
    const { rows: told } = await fixture.database.db.query(
      `select data ->> 'revoked' as revoked from events where organization_id = $1 and type = 'grant.revoked' order by 1`,
      [organization_id],
    )
    expect(told.map(({ revoked }) => revoked)).toEqual(['1', '6'])
  })

  test('may be of as little as a millionth, as a gift may; of a grant that is not there, or is another’s, nothing is taken', async () => {
    const organization_id = await fixture.newOrganization()
    const least = { organization_id, balance: 'credits', amount: '0.000001' }
    const { status, body: gift } = await call('/api/v1/grants', least)
    expect([status, gift['remaining']]).toEqual([201, 0.000001])
    const revoke = (id: unknown, of = organization_id) =>
      call(`/api/v1/grants/${String(id)}/revoke`, { organization_id: of, amount: '0.000001' })
    const other = await fixture.newOrganization()
    for (const answer of [await revoke('manual:none'), await revoke(gift['id'], other)])
      expect(answer).toMatchObject({ status: 404, body: { code: 'not_found' } })
    expect(await revoke(gift['id'])).toMatchObject({ status: 200, body: { revoked: 0.000001, remaining: 0 } })
    expect(await call('/api/v1/grants?organization_id=nobody')).toMatchObject({ status: 404, body: { code: 'not_found' } })
  })

  test('a part is taken back once under a key, however often it is asked for and at once', async () => {
    const organization_id = await fixture.newOrganization()
    const { body: gift } = await call('/api/v1/grants', { organization_id, balance: 'credits', kind: 'promotion', amount: 10 })
    const revoke = (amount: number | string, id = String(gift['id'])) =>
      call(`/api/v1/grants/${id}/revoke`, { organization_id, amount, idempotency_key: 'refund' })
    const answers = await Promise.all([revoke(3), revoke(3)])
    for (const answer of [...answers, await revoke(3), await revoke('3.0')])
      expect(answer).toMatchObject({ status: 200, body: { revoked: 3 } })
    expect(await revoke(4)).toMatchObject({ status: 409, body: { code: 'idempotency_conflict', field: 'amount' } })
    const { body: other } = await call('/api/v1/grants', { organization_id, balance: 'credits', amount: 10 })
    expect(await revoke(3, String(other['id']))).toMatchObject({ status: 409, body: { field: 'path' } })
    const { rows } = await fixture.database.db.query(
      `select 1 from audit_log where organization_id = $1 and action = 'grant.revoked'`,
      [organization_id],
    )
    expect(rows).toHaveLength(1)
  })

  test('all of it is taken back once under a key, whether its amount is null or left out', async () => {
    const organization_id = await fixture.newOrganization()
    const { body: gift } = await call('/api/v1/grants', { organization_id, balance: 'credits', kind: 'promotion', amount: 10 })
    const revoke = (body: object) =>
      call(`/api/v1/grants/${String(gift['id'])}/revoke`, { organization_id, idempotency_key: 'all', ...body })
    for (const body of [{}, { amount: null }]) expect(await revoke(body)).toMatchObject({ status: 200, body: { revoked: 10 } })
  })

  test('what is given back again is what is asked for, at most what was revoked, and is audited', async () => {
    const organizationId = await fixture.newOrganization()
    const { body: gift } = await call('/api/v1/grants', { organization_id: organizationId, balance: 'credits', amount: 10 })
    const id = String(gift['id'])
    await call(`/api/v1/grants/${id}/revoke`, { organization_id: organizationId, amount: 6 })
    const revoked: unknown[] = []
    for (const most of [2_000_000n, 100_000_000n]) {
      const giver = { actor: 'system:test', requestId: null }
      await fixture.database.db.transaction((tx) => restoreGrantIn(tx, fixture.context(), { organizationId, id, most }, giver))
      const { body } = await call(`/api/v1/grants?organization_id=${organizationId}`)
      revoked.push(body.grants.find((grant) => grant['id'] === id)!['revoked'])
    }
    expect(revoked).toEqual([4, 0])
    const { rows } = await fixture.database.db.query(
      `select before ->> 'revoked' as before, after ->> 'revoked' as after from audit_log
       where organization_id = $1 and action = 'grant.restored' order by id`,
      [organizationId],
    )
    expect(rows).toEqual([
      { before: '6', after: '4' },
      { before: '4', after: '0' },
    ])
  })

  test('an unlimited grant ends', async () => {
    const organization_id = await fixture.newOrganization()
    const { body: gift } = await call('/api/v1/grants', { organization_id, balance: 'credits', kind: 'promotion', amount: null })
    expect((await consume(organization_id, 1_000)).allowed).toBe(true)
    const revoke = (amount?: number) => call(`/api/v1/grants/${String(gift['id'])}/revoke`, { organization_id, amount })
    expect(await revoke(5)).toMatchObject({ status: 409, body: { code: 'conflict', field: 'amount' } })
    expect((await consume(organization_id, 1_000)).allowed).toBe(true)
    await revoke()
    expect((await consume(organization_id, 101)).allowed).toBe(false)
  })

  test('a plan’s allowance follows the plan', async () => {
    const organization_id = await fixture.newOrganization()
    await consume(organization_id, 1)
    const { body } = await call(`/api/v1/grants?organization_id=${organization_id}`)
    const answer = await call(`/api/v1/grants/${String(body.grants[0]!['id'])}/revoke`, { organization_id })
    expect(answer).toMatchObject({ status: 409, body: { code: 'conflict' } })
  })
})

test('what a plan includes leaves with it at once, also where the next plan names nothing of the kind', async () => {
  const organization_id = await fixture.newOrganization()
  const period = { start: new Date('2026-03-05T00:00:00Z'), end: new Date('2026-04-05T00:00:00Z') }
  const shown = async () => (await call(`/api/v1/grants?organization_id=${organization_id}&balance=tokens`)).body.grants
  await fixture.subscribe(organization_id, 'pro', period)
  expect(await shown()).toMatchObject([{ amount: 10, remaining: 10 }])
  await fixture.subscribe(organization_id, 'starter', period)
  expect(await shown()).toMatchObject([{ amount: 0, remaining: 0 }])
})
