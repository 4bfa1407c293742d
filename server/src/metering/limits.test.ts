import { beforeEach, describe, expect, test } from 'vitest'
import { testMetering } from '../../test/metering.ts'
import type { Answered } from '../../test/routes.ts'
import { testUsageRoutes } from '../../test/usage-routes.ts'
import { MICRO } from '../lib/quantity.ts'
import { listImbalances } from './balance-store.ts'
import { createMetering } from './metering.ts'

const fixture = testMetering({
  meters: { calls: { aggregation: 'count' }, tokens: { name: 'Tokens of text' }, pages: {}, words: {}, lookups: {} },
  credits: { units: { costs: { lookups: 2 } } },
  plans: {
    free: {
      name: 'Free',
      allowances: {
        calls: { amount: 'unlimited' },
        tokens: {
          amount: 100,
          period: 'calendar_month',
          limit: 'soft',
          // 2.5 cents each, and at most 1 dollar a month.
          overage: { model: 'per_unit', unitAmountMinor: '2.5' },
          spendLimitMinor: 100,
          thresholds: [50, 80, 100, 120],
        },
        pages: { amount: 20, period: 'calendar_month' },
        words: { amount: 20, period: 'calendar_month' },
        units: { amount: 100, period: 'calendar_month' },
      },
      rateLimits: { calls: { limit: 5, per: 'minute' }, pages: { limit: 10, per: 'hour' }, lookups: { limit: 1, per: 'minute' } },
    },
    team: {
      name: 'Team',
      allowances: { calls: { amount: 'unlimited' }, tokens: { amount: 1_000, period: 'calendar_month' } },
    },
  },
  defaultPlan: 'free',
})
const { clock } = fixture
const call = testUsageRoutes(fixture)

let organization: string
let keys = 0
beforeEach(async () => {
  clock.set(new Date('2026-03-10T12:00:00Z'))
  organization = await fixture.newOrganization()
})

function use(verb: string, meter: string, quantity = 1, over: Record<string, unknown> = {}): Promise<Answered> {
  return call('POST', `/api/v1/usage/${verb}`, { meter, quantity, idempotency_key: `k${(keys += 1)}`, ...over }, organization)
}

async function repeat(times: number, verb: string, meter: string): Promise<unknown[]> {
  const answers: unknown[] = []
  for (let time = 0; time < times; time += 1) answers.push((await use(verb, meter)).body['allowed'])
  return answers
}

describe('a limit of pace', () => {
  test('is told by the name of its meter, whatever that draws from', async () => {
    await use('consume', 'lookups')
    const reason = 'The plan free allows no faster use of lookups. Try again shortly.'
    expect((await use('consume', 'lookups')).body).toMatchObject({ code: 'rate_limited', reason, balance: { balance: 'units' } })
  })

  test('refuses what comes too fast, says when to come again, and counts nothing of it', async () => {
    expect(await repeat(5, 'consume', 'calls')).toEqual(Array(5).fill(true))
    const refused = await use('consume', 'calls', 1, { idempotency_key: `again ${organization}` })
    expect(refused.body).toMatchObject({ allowed: false, code: 'rate_limited', id: null, credits_used: 0 })
    expect(refused.body['balance']).toMatchObject({ used: 5 })
    const seconds = Number(refused.headers.get('retry-after'))
    expect([seconds, refused.body['retry_after']]).toEqual([62, 62])
    expect((await use('check', 'calls')).headers.get('retry-after')).toBe('62')
    clock.advance((seconds - 2) * 1_000)
    expect((await use('consume', 'calls')).body['code']).toBe('rate_limited')
    clock.advance(2_000)
    // The key of a use that came too fast is free: the same request is allowed now.
    const allowed = await use('consume', 'calls', 1, { idempotency_key: `again ${organization}` })
    expect(allowed.body).toMatchObject({ allowed: true })
    expect(allowed.headers.get('retry-after')).toBeNull()
    expect(allowed.headers.get('idempotent-replayed')).toBeNull()
  })

  test('is not passed by saying that it happened long ago: consuming is about now', async () => {
    const occurred_at = '2026-03-10T10:00:00Z'
    for (let time = 0; time < 5; time += 1) expect((await use('consume', 'calls', 1, { occurred_at })).body['allowed']).toBe(true)
    expect((await use('consume', 'calls', 1, { occurred_at })).body['code']).toBe('rate_limited')
  })

  test('holds within a batch, whose items that fit are accepted', async () => {
    const items = Array.from({ length: 8 }, (_unused, index) => ({
      verb: 'consume',
      meter: 'calls',
      idempotency_key: `${organization} ${index}`,
    }))
    const { body } = await call('POST', '/api/v1/usage/batch', { items }, organization)
    const codes = (body['results'] as Record<string, unknown>[]).map((result) => result['code'] ?? 'ok')
    expect(codes).toEqual([...Array(5).fill('ok'), ...Array(3).fill('rate_limited')])
  })

  test('is exact across servers', async () => {
    const other = createMetering({ connections: fixture.connections(), ...fixture.context() })
    const answers = await Promise.all(
      Array.from({ length: 30 }, (_unused, index) =>
        [fixture.metering(), other][index % 2]!.ask({
          verb: 'consume',
          organizationId: organization,
          meter: 'calls',
          quantity: MICRO,
          idempotencyKey: `race ${index}`,
          occurredAt: null,
          properties: null,
        }),
      ),
    )
    await other.stop()
    expect(answers.filter(({ allowed }) => allowed)).toHaveLength(5)
  })

  test('counts what is tracked and what is held, refuses neither track nor settle, and forgets use of long ago', async () => {
    await use('track', 'calls', 1, { occurred_at: '2026-03-10T11:58:00Z' })
    expect(await repeat(3, 'track', 'calls')).toEqual([true, true, true])
    const held = await use('reservations', 'calls')
    expect(held.body['allowed']).toBe(true)
    expect((await use('reservations', 'calls')).body['allowed']).toBe(true)
    expect((await use('reservations', 'calls')).body).toMatchObject({ allowed: false, code: 'rate_limited' })
    expect((await use('track', 'calls')).body['allowed']).toBe(true)
    const id = String(held.body['reservation_id'])
    expect((await call('POST', `/api/v1/usage/reservations/${id}/settle`, {}, organization)).body['allowed']).toBe(true)
    clock.advance(62_000)
    expect((await use('consume', 'calls')).body['allowed']).toBe(true)
  })

  test('is looked at after the quota: what is used up is used up, however slowly it is asked', async () => {
    await use('consume', 'pages', 10)
    clock.advance(3_700_000)
    await use('consume', 'pages', 10)
    expect((await use('consume', 'pages', 1)).body['code']).toBe('quota_exceeded')
    expect(await listImbalances(fixture.database.db, 10)).toEqual([])
  })
})

describe('a limit of spending', () => {
  /** By balance, the limit and what of it is spent, as the balances show them. */
  async function spending(): Promise<Record<string, unknown>> {
    const { body } = await call('GET', '/api/v1/balances', undefined, organization)
    const balances = body['balances'] as { balance: string; spend_limit_minor: unknown; spent_minor: unknown }[]
    return Object.fromEntries(balances.map((each) => [each.balance, [each.spend_limit_minor, each.spent_minor]]))
  }

  test('lets overage go on to the cent, and refuses what would cost more', async () => {
    expect((await use('consume', 'tokens', 130)).body).toMatchObject({ allowed: true, balance: { used: 100, overage: 30 } })
    // 40 cost 100 cents; 40.2 cost 100.5, which is billed as 101.
    expect((await use('consume', 'tokens', 10.2)).body).toMatchObject({ allowed: false, code: 'spend_limit_reached' })
    expect((await use('consume', 'tokens', 10)).body).toMatchObject({ allowed: true, balance: { overage: 40 } })
    expect((await use('check', 'tokens', 1)).body['code']).toBe('spend_limit_reached')
    expect((await use('track', 'tokens', 5)).body).toMatchObject({ allowed: true, balance: { overage: 45 } })
    // 45 cost 112.5 cents: what is tracked is never refused.
    expect(await spending()).toEqual({
      tokens: [100, 113],
      calls: [null, null],
      pages: [null, null],
      words: [null, null],
      units: [null, null],
    })
    clock.set(new Date('2026-04-01T00:00:00Z'))
    expect((await use('consume', 'tokens', 140)).body['allowed']).toBe(true)
  })

  test('says in words and numbers what it is and what of it is spent, again for the same key, also when more is spent by then', async () => {
    await use('consume', 'tokens', 130)
    const refused = await use('consume', 'tokens', 11, { idempotency_key: 'dear' })
    const said = {
      code: 'spend_limit_reached',
      reason:
        'Use beyond the included 100 tokens would cost more than the limit of spending, 1.00 USD. Of it 0.75 USD is spent or held.',
      spend_limit_minor: 100,
      spent_minor: 75,
      currency: 'usd',
    }
    expect(refused.body).toMatchObject(said)
    expect((await use('check', 'tokens', 11)).body).toMatchObject(said)
    expect((await use('reservations', 'tokens', 11)).body).toMatchObject(said)
    await use('track', 'tokens', 5)
    expect((await use('consume', 'tokens', 11, { idempotency_key: 'dear' })).body).toEqual(refused.body)
    expect((await use('consume', 'tokens', 1)).body).not.toHaveProperty('spent_minor')
  })

  test('counts what reservations will cost, and what they give back', async () => {
    const first = await use('reservations', 'tokens', 120)
    expect(first.body['allowed']).toBe(true)
    expect((await use('reservations', 'tokens', 21)).body['code']).toBe('spend_limit_reached')
    expect((await use('consume', 'tokens', 21)).body['code']).toBe('spend_limit_reached')
    expect((await use('reservations', 'tokens', 20)).body['allowed']).toBe(true)
    expect((await spending())['tokens']).toEqual([100, 100])
    const path = `/api/v1/usage/reservations/${String(first.body['reservation_id'])}`
    await call('POST', `${path}/settle`, { quantity: 90 }, organization)
    // 90 are used, 20 held beyond the amount; 10 of the amount and 20 of overage are left.
    expect((await use('consume', 'tokens', 31)).body['code']).toBe('spend_limit_reached')
    expect((await use('consume', 'tokens', 30)).body['allowed']).toBe(true)
    clock.advance(3_600_000)
    expect((await use('consume', 'tokens', 21)).body['code']).toBe('spend_limit_reached')
    expect((await use('consume', 'tokens', 20)).body['allowed']).toBe(true)
    expect(await listImbalances(fixture.database.db, 10)).toEqual([])
  })
})

describe('shares of an allowance', () => {
  async function told(): Promise<unknown[]> {
    const { rows } = await fixture.database.db.query(
      `select data from events where organization_id = $1 and type = 'usage.threshold_reached' order by data->>'amount', (data->>'percent')::int`,
      [organization],
    )
    return rows.map(({ data }) => [data['percent'], data['amount']])
  }

  test('name the balance by its key and as the catalog calls it', async () => {
    await use('consume', 'tokens', 50)
    const { rows } = await fixture.database.db.query(`select data from events where organization_id = $1`, [organization])
    expect(rows).toMatchObject([{ data: { balance: 'tokens', balance_name: 'Tokens of text' } }])
  })

  test('are told once each per period, all of them when one use reaches several', async () => {
    await use('consume', 'tokens', 49)
    expect(await told()).toEqual([])
    await use('consume', 'tokens', 1)
    expect(await told()).toEqual([[50, 100]])
    await use('consume', 'tokens', 60)
    expect(await told()).toEqual([
      [50, 100],
      [80, 100],
      [100, 100],
    ])
    await use('track', 'tokens', 15)
    expect(await told()).toHaveLength(4)
    clock.set(new Date('2026-04-01T00:00:00Z'))
    await use('consume', 'tokens', 55)
    expect(await told()).toHaveLength(5)
  })

  test('are told once, whatever is repeated, refused or corrected, and however many servers count', async () => {
    const key = `corrected ${organization}`
    await use('consume', 'tokens', 85, { idempotency_key: key })
    await use('consume', 'tokens', 85, { idempotency_key: key })
    await use('consume', 'tokens', 1_000)
    const correct = (quantity: number) =>
      call('POST', '/api/v1/usage/corrections', { corrects: key, quantity, idempotency_key: `k${(keys += 1)}` }, organization)
    await correct(-60)
    await correct(60)
    const other = createMetering({ connections: fixture.connections(), ...fixture.context() })
    await Promise.all(
      Array.from({ length: 20 }, (_unused, index) =>
        [fixture.metering(), other][index % 2]!.ask({
          verb: 'consume',
          organizationId: organization,
          meter: 'tokens',
          quantity: MICRO,
          idempotencyKey: `race ${index}`,
          occurredAt: null,
          properties: null,
        }),
      ),
    )
    await other.stop()
    expect(await told()).toEqual([
      [50, 100],
      [80, 100],
      [100, 100],
    ])
  })

  test('of a plan changed within the period are those of its amount, with what was used so far', async () => {
    const march = { start: new Date('2026-03-01T00:00:00Z'), end: new Date('2026-04-01T00:00:00Z') }
    await fixture.subscribe(organization, 'team', march)
    await use('consume', 'tokens', 600)
    expect(await told()).toEqual([[50, 1_000]])
    await fixture.subscribe(organization, 'free', march)
    expect(await told()).toEqual([...[50, 80, 100, 120].map((percent) => [percent, 100]), [50, 1_000]])
    await fixture.subscribe(organization, 'team', march)
    await use('consume', 'tokens', 200)
    expect(await told()).toEqual([...[50, 80, 100, 120].map((percent) => [percent, 100]), [50, 1_000], [80, 1_000]])
  })
})

describe('what is larger than can be counted', () => {
  const LARGEST = '9223372036.854775'

  test('is refused in words, by a check as by a use, and the words name the most', async () => {
    for (const quantity of ['9223372036.854776', '9223372036854.775808', 12_345_678_901_234]) {
      for (const verb of ['check', 'consume', 'track', 'reservations']) {
        const { status, body } = await use(verb, 'tokens', 0, { quantity })
        expect([verb, status, body['code'], body['detail']]).toEqual([
          verb,
          422,
          'invalid_quantity',
          `One use is at most ${LARGEST}.`,
        ])
      }
    }
    expect((await use('track', 'tokens', 0, { quantity: LARGEST })).status).toBe(200)
  })

  test('of a correction is told as of a use, and what takes away more than is counted is told that', async () => {
    const key = `first ${organization}`
    await use('track', 'pages', 1, { idempotency_key: key })
    for (const [quantity, detail] of [
      ['9223372036854.775808', `One use is at most ${LARGEST}.`],
      ['-9223372036854.775808', 'A correction cannot take away more than is counted.'],
    ]) {
      const { status, body } = await use('corrections', 'pages', 0, { meter: undefined, corrects: key, quantity })
      expect([status, body['code'], body['detail']]).toEqual([422, 'invalid_quantity', detail])
    }
  })

  test('is refused where the sum of the period would be, and changes nothing', async () => {
    const items = Array.from({ length: 1_000 }, (_unused, index) => ({
      verb: 'track',
      meter: 'tokens',
      quantity: LARGEST,
      idempotency_key: `${organization} ${index}`,
    }))
    const batch = await call('POST', '/api/v1/usage/batch', { items }, organization)
    expect((batch.body['results'] as { allowed: boolean }[]).every(({ allowed }) => allowed)).toBe(true)
    for (const verb of ['check', 'consume', 'track', 'reservations']) {
      const { status, body } = await use(verb, 'tokens', 0, { quantity: LARGEST })
      expect([verb, status, body['code']]).toEqual([verb, 422, 'invalid_quantity'])
    }
    expect((await use('track', 'tokens', 0, { quantity: '0.000001' })).status).toBe(200)
    expect(await listImbalances(fixture.database.db, 10)).toEqual([])
  })

  test('is refused where another sum of the database has no room for it', async () => {
    await use('track', 'tokens', 1)
    await fixture.database.db.query('update usage_hourly set quantity = 9223372036854775800 where organization_id = $1', [
      organization,
    ])
    expect((await use('track', 'tokens', 1)).body).toMatchObject({ status: 422, code: 'invalid_quantity' })
  })
})

test('a use larger than its limit of pace is told that it never fits, and no time to come again', async () => {
  const { body, headers } = await use('consume', 'pages', 11)
  expect(body).toMatchObject({
    allowed: false,
    code: 'rate_limited',
    reason: '11 at once never fits: the plan free allows 10 of pages in 3600 seconds.',
  })
  expect([headers.get('retry-after'), body['retry_after']]).toEqual([null, undefined])
})

test('a refusal for what is held says how much is', async () => {
  const item = { meter: 'words', quantity: 10 }
  await call('POST', '/api/v1/usage/reservations', { ...item, idempotency_key: 'hold' }, organization)
  expect((await use('consume', 'words', 11)).body['reason']).toBe(
    'Monthly quota exceeded. Used 0/20 words. 10 more are held until they are settled or released.',
  )
})
