import { beforeEach, describe, expect, test } from 'vitest'
import { testMetering } from '../../test/metering.ts'
import type { Answered } from '../../test/routes.ts'
import { testUsageRoutes } from '../../test/usage-routes.ts'
import { listImbalances } from '../metering/balance-store.ts'
import { createMetering } from '../metering/metering.ts'

const fixture = testMetering({
  meters: { tokens: {}, pages: {}, seats: {} },
  plans: {
    free: {
      name: 'Free',
      allowances: {
        tokens: { amount: 100, period: 'calendar_month', rollover: { max: 30 } },
        pages: { amount: 10, period: 'calendar_month', rollover: { periods: 2 } },
        seats: { amount: 5, period: 'calendar_month' },
      },
    },
    team: { name: 'Team', allowances: { tokens: { amount: 500, period: 'calendar_month' } } },
    pro: { name: 'Pro', allowances: { tokens: { amount: 1_000, rollover: {} } } },
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

function use(verb: string, meter: string, quantity: number, over: Record<string, unknown> = {}): Promise<Answered> {
  const body = { meter, quantity, idempotency_key: `k${(keys += 1)}`, ...over }
  return call('POST', `/api/v1/usage/${verb}`, body, organization)
}

/** The grants of a balance by kind and start: amount, used, revoked, expired, remaining. */
async function grants(balance: string): Promise<Record<string, unknown[]>> {
  const { body } = await call('GET', `/api/v1/grants?balance=${balance}`, undefined, organization)
  const rows = body['grants'] as Record<string, unknown>[]
  return Object.fromEntries(
    rows.map((row) => [
      `${String(row['kind'])} ${String(row['starts_at']).slice(0, 10)}`,
      ['amount', 'used', 'revoked', 'expired', 'remaining'].map((field) => row[field]),
    ]),
  )
}

async function balance(key: string): Promise<unknown> {
  const { body } = await call('GET', '/api/v1/balances', undefined, organization)
  return (body['balances'] as Record<string, unknown>[]).find((row) => row['balance'] === key)
}

describe('what is left of an allowance', () => {
  test('moves on into the next period, capped, is drawn before the plan’s own, and ends with it', async () => {
    await use('consume', 'tokens', 60)
    clock.set(new Date('2026-04-01T00:00:00Z'))
    expect((await use('consume', 'tokens', 40)).body['balance']).toMatchObject({ amount: 130, used: 40, remaining: 90 })
    expect(await grants('tokens')).toEqual({
      'plan 2026-03-01': [100, 60, 30, 10, 0],
      'rollover 2026-04-01': [30, 30, 0, 0, 0],
      'plan 2026-04-01': [100, 10, 0, 0, 90],
    })
    clock.set(new Date('2026-05-01T00:00:00Z'))
    expect((await use('consume', 'tokens', 131)).body).toMatchObject({ allowed: false, code: 'quota_exceeded' })
    expect((await use('consume', 'tokens', 130)).body).toMatchObject({ allowed: true })
  })

  test('counts for as many periods as the plan says, and what it leaves itself does not move on again', async () => {
    await use('consume', 'pages', 4)
    clock.set(new Date('2026-04-02T00:00:00Z'))
    await use('consume', 'pages', 1)
    clock.set(new Date('2026-05-02T00:00:00Z'))
    // 6 of March less 1 used in April, 10 of April, 10 of May.
    expect((await use('check', 'pages', 1)).body['balance']).toMatchObject({ remaining: 25 })
    clock.set(new Date('2026-06-02T00:00:00Z'))
    expect((await use('check', 'pages', 1)).body['balance']).toMatchObject({ remaining: 30 })
  })

  test('moves on out of periods in which nothing was asked', async () => {
    await use('consume', 'pages', 10)
    clock.set(new Date('2026-06-15T00:00:00Z'))
    const before = await balance('pages')
    expect(before).toMatchObject({ amount: 30, remaining: 30 })
    await use('track', 'pages', 0)
    expect(await balance('pages')).toEqual(before)
    // What has moved on is not left in the period that it came from as well.
    expect(await grants('pages')).toEqual({
      'plan 2026-03-01': [10, 10, 0, 0, 0],
      'plan 2026-04-01': [10, 0, 10, 0, 0],
      'plan 2026-05-01': [10, 0, 10, 0, 0],
      'plan 2026-06-01': [10, 0, 0, 0, 10],
      'rollover 2026-05-01': [10, 0, 0, 0, 10],
      'rollover 2026-06-01': [10, 0, 0, 0, 10],
    })
  })

  test('moves on from the month of a customer that came and used nothing', async () => {
    clock.set(new Date('2026-04-20T00:00:00Z'))
    expect((await use('consume', 'tokens', 130)).body['allowed']).toBe(true)
    expect((await use('consume', 'tokens', 1)).body['allowed']).toBe(false)
  })

  test('is gone where the plan does not say that it moves on', async () => {
    await use('consume', 'seats', 1)
    clock.set(new Date('2026-04-01T00:00:00Z'))
    expect((await use('check', 'seats', 1)).body['balance']).toMatchObject({ amount: 5, remaining: 5 })
  })

  test('moves on at the renewal of a subscription, and not back into the free plan’s past', async () => {
    const turn = new Date('2026-04-05T12:34:56Z')
    await fixture.subscribe(organization, 'pro', { start: new Date('2026-03-05T12:34:56Z'), end: turn })
    await use('consume', 'tokens', 400)
    clock.set(turn)
    // The use comes before the renewal's webhook.
    expect((await use('consume', 'tokens', 1)).body['balance']).toMatchObject({ amount: 1_600, remaining: 1_599 })
    await fixture.subscribe(organization, 'pro', { start: turn, end: new Date('2026-05-05T12:34:56Z') })
    expect((await use('check', 'tokens', 1)).body['balance']).toMatchObject({ amount: 1_600, remaining: 1_599 })
    expect(Object.keys(await grants('tokens')).filter((name) => name.startsWith('rollover'))).toEqual(['rollover 2026-04-05'])
  })

  test('moves on once, however many servers begin the period at the same moment', async () => {
    await use('consume', 'tokens', 60)
    clock.set(new Date('2026-04-01T00:00:00Z'))
    const other = createMetering({ connections: fixture.connections(), ...fixture.context() })
    const answers = await Promise.all(
      Array.from({ length: 40 }, (_unused, index) =>
        [fixture.metering(), other][index % 2]!.ask({
          verb: 'consume',
          organizationId: organization,
          meter: 'tokens',
          quantity: 4_000_000n,
          idempotencyKey: `race ${index}`,
          occurredAt: null,
          properties: null,
        }),
      ),
    )
    await other.stop()
    expect(answers.filter(({ allowed }) => allowed)).toHaveLength(Math.floor(130 / 4))
    expect(await listImbalances(fixture.database.db, 10)).toEqual([])
  })

  test('is not handed out again when a clock goes back over the turn of the period and on again', async () => {
    await use('consume', 'tokens', 60)
    clock.set(new Date('2026-04-01T00:00:00Z'))
    await use('consume', 'tokens', 5)
    clock.set(new Date('2026-03-31T23:59:00Z'))
    // March again: its 10 beyond the cap, and the 25 that it left over.
    expect((await use('consume', 'tokens', 36)).body['allowed']).toBe(false)
    expect((await use('consume', 'tokens', 15)).body['allowed']).toBe(true)
    clock.set(new Date('2026-04-01T00:01:00Z'))
    expect((await use('consume', 'tokens', 121)).body['allowed']).toBe(false)
    expect((await use('consume', 'tokens', 120)).body['allowed']).toBe(true)
  })
})

describe('after the turn', () => {
  test('late use draws from what its period has left, then from what moved on, and only then is overage', async () => {
    await use('consume', 'tokens', 60)
    clock.set(new Date('2026-04-03T00:00:00Z'))
    await use('consume', 'tokens', 12)
    const late = (quantity: number) => use('track', 'tokens', quantity, { occurred_at: '2026-03-31T23:00:00Z' })
    // 10 were beyond the cap, 18 of the 30 that moved on are not used yet.
    const first = await late(15)
    expect(first.body['late']).toMatchObject({ invoice: 'none' })
    expect(first.body['balance']).toMatchObject({
      used: 75,
      overage: 0,
      remaining: 13,
      period_start: '2026-03-01T00:00:00.000Z',
    })
    expect((await late(20)).body['balance']).toMatchObject({ used: 88, overage: 7, remaining: 0 })
    expect(await grants('tokens')).toEqual({
      'plan 2026-03-01': [100, 70, 30, 0, 0],
      'rollover 2026-04-01': [30, 30, 0, 0, 0],
      'plan 2026-04-01': [100, 0, 0, 0, 100],
    })
    expect(await listImbalances(fixture.database.db, 10)).toEqual([])
  })

  test('what was held stays with its period: settled it is used there, released it is gone', async () => {
    const hold = async (quantity: number): Promise<string> => {
      const { body } = await use('reservations', 'tokens', quantity, { expires_in_seconds: 86_400 })
      return String(body['reservation_id'])
    }
    clock.set(new Date('2026-03-31T20:00:00Z'))
    await use('consume', 'tokens', 80)
    const [settled, released] = [await hold(5), await hold(5)]
    clock.set(new Date('2026-04-01T04:00:00Z'))
    expect((await use('check', 'tokens', 1)).body['balance']).toMatchObject({ remaining: 110 })
    await call('POST', `/api/v1/usage/reservations/${settled}/settle`, {}, organization)
    await call('POST', `/api/v1/usage/reservations/${released}/release`, {}, organization)
    expect(await grants('tokens')).toMatchObject({
      'plan 2026-03-01': [100, 85, 10, 5, 0],
      'rollover 2026-04-01': [10, 0, 0, 0, 10],
    })
  })

  test('a correction of a use before it gives back to the old period, and adds to it from what moved on', async () => {
    const { body: used } = await use('consume', 'tokens', 90, { idempotency_key: `corrected ${organization}` })
    expect(used['allowed']).toBe(true)
    clock.set(new Date('2026-04-01T00:00:00Z'))
    await use('consume', 'tokens', 1)
    const correct = (quantity: number) =>
      call(
        'POST',
        '/api/v1/usage/corrections',
        { corrects: `corrected ${organization}`, quantity, idempotency_key: `k${(keys += 1)}` },
        organization,
      )
    await correct(4)
    expect(await grants('tokens')).toMatchObject({
      'plan 2026-03-01': [100, 90, 10, 0, 0],
      'rollover 2026-04-01': [10, 5, 0, 0, 5],
    })
    await correct(-24)
    expect(await grants('tokens')).toMatchObject({
      'plan 2026-03-01': [100, 70, 10, 20, 0],
      'rollover 2026-04-01': [10, 1, 0, 0, 9],
    })
    expect(await listImbalances(fixture.database.db, 10)).toEqual([])
  })

  test('a downgrade with a hold hands on no more than the smaller plan gives', async () => {
    const march = { start: new Date('2026-03-01T00:00:00Z'), end: new Date('2026-04-01T00:00:00Z') }
    await fixture.subscribe(organization, 'team', march)
    const { body } = await use('reservations', 'tokens', 400, { expires_in_seconds: 3_600 })
    await fixture.subscribe(organization, 'free', march)
    expect(await grants('tokens')).toMatchObject({ 'plan 2026-03-01': [400, 0, 0, 0, 0] })
    await call('POST', `/api/v1/usage/reservations/${String(body['reservation_id'])}/release`, {}, organization)
    expect(await grants('tokens')).toMatchObject({ 'plan 2026-03-01': [100, 0, 0, 0, 100] })
    await use('consume', 'tokens', 80)
    clock.set(new Date('2026-04-01T00:00:00Z'))
    expect((await use('check', 'tokens', 1)).body['balance']).toMatchObject({ remaining: 120 })
  })
})
