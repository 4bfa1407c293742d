import { beforeEach, describe, expect, test } from 'vitest'
import { testMetering } from '../../test/metering.ts'
import type { Answered } from '../../test/routes.ts'
import { testUsageRoutes } from '../../test/usage-routes.ts'
import { storeCatalogVersion } from '../catalog/registry.ts'
import type { CatalogDefinition } from '../catalog/schema.ts'
import { giveGrant } from '../grants/giving.ts'
import { DAY_MS } from '../lib/period.ts'
import { MICRO } from '../lib/quantity.ts'
import { billingTimeOf, isBilledAt, takenBackFrom } from './decide/late.ts'

const definition = {
  meters: { calls: {} },
  plans: {
    free: { name: 'Free', allowances: { calls: { amount: 100, period: 'calendar_month' } } },
    soft: {
      name: 'Soft',
      allowances: { calls: { amount: 100, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: 2 } } },
    },
  },
  defaultPlan: 'free',
} satisfies CatalogDefinition
const fixture = testMetering(definition)
const { clock } = fixture
const call = testUsageRoutes(fixture)
const MARCH = '2026-03-01T00:00:00.000Z'
const APRIL = '2026-04-01T00:00:00.000Z'

let organization: string
let keys = 0
beforeEach(async () => {
  clock.set(new Date('2026-03-20T12:00:00Z'))
  organization = await fixture.newOrganization()
})
const post = (path: string, body: object): Promise<Answered> => call('POST', `/api/v1/usage/${path}`, body, organization)
const track = (quantity: number, occurred_at?: string, key = `k${(keys += 1)}`): Promise<Answered> =>
  post('track', { meter: 'calls', quantity, idempotency_key: key, ...(occurred_at === undefined ? {} : { occurred_at }) })

describe('use that is told after its period', () => {
  test('says that it is late, counts in its own period, and leaves the present one as it is', async () => {
    await track(10)
    clock.set(new Date('2026-04-02T00:00:00Z'))
    const late = await track(5, '2026-03-31T23:59:59Z', 'late')
    expect(late.body).toMatchObject({
      late: { period_start: MARCH, period_end: APRIL, invoice: 'none', billed_on: null },
      balance: { used: 15 },
    })
    const now = await track(1)
    expect(now.body).not.toHaveProperty('late')
    expect(now.body['balance']).toMatchObject({ period_start: APRIL, used: 1 })
    expect((await track(5, '2026-03-31T23:59:59Z', 'late')).body).toEqual(late.body)
  })

  test('that was told in time is not late, however late in its period', async () => {
    await track(10)
    clock.set(new Date('2026-03-31T23:59:59Z'))
    expect((await track(1, '2026-03-20T12:00:00Z')).body).not.toHaveProperty('late')
  })

  test('draws from what an add-on of that time added, though neither the terms nor the present catalog have it', async () => {
    const { db } = fixture.database
    const more = { name: 'More', prices: { monthly: { amountMinor: 100 } }, allowances: { calls: 50 } }
    await storeCatalogVersion(db, { ...definition, addOns: { more } }, clock.now())
    await db.query(
      `insert into account_terms (organization_id, since, plan_key, catalog_version, add_ons)
       values ($1, '1970-01-01', 'free', 1, '{"more": 1}'), ($1, $2, 'free', 1, '{}')`,
      [organization, APRIL],
    )
    clock.set(new Date('2026-04-02T00:00:00Z'))
    expect((await track(5, '2026-03-15T00:00:00Z')).body).toMatchObject({ balance: { used: 5, remaining: 145 } })
    expect((await track(1)).body).toMatchObject({ balance: { used: 1, remaining: 99 } })
  })

  test('is refused after 35 days, with what the time is', async () => {
    clock.set(new Date('2026-05-01T00:00:00Z'))
    const at = (daysAgo: number, ms = 0) => new Date(clock.now().getTime() - daysAgo * DAY_MS + ms).toISOString()
    expect((await track(1, at(35))).status).toBe(200)
    expect(await track(1, at(35, -1))).toMatchObject({ status: 422, body: { code: 'time_out_of_range', field: 'occurred_at' } })
  })

  test('opens no allowance of a time for which it is refused', async () => {
    await track(1)
    for (const told of ['2026-02-01T00:00:00Z', '0500-01-05T00:00:00Z', '0000-01-01T00:00:00Z', '9999-12-31T23:59:59-14:00']) {
      expect(await track(1, told)).toMatchObject({ status: 422, body: { code: 'time_out_of_range' } })
    }
    const { rows } = await fixture.database.db.query<{ starts_at: Date }>(
      'select starts_at from grants where organization_id = $1',
      [organization],
    )
    expect(rows).toEqual([{ starts_at: new Date(MARCH) }])
  })

  test('may be overage of a cycle whose invoice is closed: it counts there, and the present cycle owes nothing of it', async () => {
    const turn = new Date('2026-04-05T00:00:00Z')
    await fixture.subscribe(organization, 'soft', { start: new Date('2026-03-05T00:00:00Z'), end: turn })
    await track(95)
    clock.set(turn)
    await fixture.subscribe(organization, 'soft', { start: turn, end: new Date('2026-05-05T00:00:00Z') })
    expect((await track(10, '2026-04-04T00:00:00Z')).body).toMatchObject({
      late: { invoice: 'none' },
      balance: { used: 100, overage: 5 },
    })
    expect((await track(0)).body['balance']).toMatchObject({ used: 0, overage: 0 })
  })

  test('costs the same whatever else of its period is told with it', async () => {
    const uses = [
      [1, '2026-03-06T00:00:00Z'],
      [150, '2026-03-20T00:00:00Z'],
    ] as const
    const told: Record<string, unknown>[] = []
    for (const isTogether of [true, false]) {
      clock.set(new Date('2026-03-15T00:00:00Z'))
      organization = await fixture.newOrganization()
      await fixture.subscribe(organization, 'soft', {
        start: new Date('2026-03-05T00:00:00Z'),
        end: new Date('2026-04-05T00:00:00Z'),
      })
      await track(0)
      const gift = {
        organizationId: organization,
        id: 'gift',
        balanceKey: 'calls',
        kind: 'promotion',
        amount: 80n * MICRO,
      } as const
      const context = { ...fixture.context(), db: fixture.database.db }
      await giveGrant(
        context,
        { ...gift, expiresAt: new Date('2026-03-25T00:00:00Z') },
        { actor: 'operator:test', requestId: null },
      )
      clock.set(new Date('2026-04-06T00:00:00Z'))
      await fixture.subscribe(organization, 'soft', {
        start: new Date('2026-04-05T00:00:00Z'),
        end: new Date('2026-05-05T00:00:00Z'),
      })
      const tell = ([quantity, at]: (typeof uses)[number]) => track(quantity, at)
      const answers = isTogether ? await Promise.all(uses.map(tell)) : [await tell(uses[0]), await tell(uses[1])]
      told.push(answers[1]!.body['balance'] as Record<string, unknown>)
    }
    expect(told).toMatchObject([
      { used: 151, overage: 0 },
      { used: 151, overage: 0 },
    ])
  })

  test('a correction of it is late as well', async () => {
    await track(10, undefined, 'first')
    const correct = (key: string) =>
      post('corrections', { corrects: 'first', quantity: -1, idempotency_key: `${organization} ${key}` })
    expect((await correct('in time')).body).not.toHaveProperty('late')
    clock.set(new Date('2026-04-02T00:00:00Z'))
    expect((await correct('late')).body).toMatchObject({
      late: { period_start: MARCH },
      balance: { period_start: MARCH, used: 8 },
    })
  })
})

describe('a clock that goes back', () => {
  test('over the turn of a period counts in the earlier one again, and hands out neither twice', async () => {
    const consume = async (quantity: number): Promise<unknown> =>
      (await post('consume', { meter: 'calls', quantity, idempotency_key: `k${(keys += 1)}` })).body['allowed']
    clock.set(new Date('2026-03-31T23:59:59Z'))
    expect(await consume(100)).toBe(true)
    clock.set(new Date('2026-04-01T00:00:01Z'))
    expect(await consume(60)).toBe(true)
    clock.set(new Date('2026-03-31T23:59:58Z'))
    expect(await consume(1)).toBe(false)
    clock.set(new Date('2026-04-01T00:00:02Z'))
    expect(await consume(41)).toBe(false)
    expect(await consume(40)).toBe(true)
  })
})

describe('the lines of a balance', () => {
  const [march, april, may] = ['2026-03', '2026-04', '2026-05'].map((text) => new Date(`${text}-01T00:00:00Z`)) as [
    Date,
    Date,
    Date,
  ]
  const line = (id: string, [startsAt, endsAt]: readonly [Date, Date], state: 'open' | 'closed') => ({
    id,
    balanceKey: 'calls',
    startsAt,
    endsAt,
    state,
  })
  const first = line('first', [march, april], 'open')
  const second = line('second', [april, may], 'open')

  test('bill from their start to their end, and not at it', () => {
    const atOf = (time: Date) => isBilledAt([first], time)
    expect([new Date(march.getTime() - 1), march, new Date(april.getTime() - 1), april].map(atOf)).toEqual([
      false,
      true,
      true,
      false,
    ])
  })

  test('bill the grants of their time; one that ended as a line began is late on it', () => {
    const billing = (startsAt: Date, expiresAt: Date | null) => {
      const found = billingTimeOf([second], { startsAt, expiresAt })
      return found && [found.time.id, found.isLate]
    }
    expect(billing(april, may)).toEqual(['second', false])
    expect(billing(march, april)).toEqual(['second', true])
    expect(billing(march, new Date(april.getTime() + 1))).toEqual(['second', false])
    expect(billing(may, null)).toBeNull()
    expect(billing(new Date(may.getTime() - 1), null)).toEqual(['second', false])
  })

  test('give back what they billed last, what came late first, and what an open invoice still takes before all', () => {
    const part = (lineId: string, quantity: bigint, late = false) => ({ lineId, late, quantity })
    const takenOf = (states: readonly ['open' | 'closed', 'open' | 'closed'], quantity: bigint) => {
      const lines = [
        { ...first, state: states[0] },
        { ...second, state: states[1] },
      ]
      const parts = [part('first', 5n), part('second', 3n), part('second', 2n, true), part('second', 0n), part('unknown', 9n)]
      return takenBackFrom(lines, parts, quantity).map((taken) => [taken.lineId, taken.late, taken.quantity, taken.isClosed])
    }
    const secondFirst = [
      ['second', true, 2n, false],
      ['second', false, 3n, false],
      ['first', false, 1n, false],
    ]
    expect(takenOf(['open', 'open'], 6n)).toEqual(secondFirst)
    expect(takenOf(['open', 'closed'], 6n)).toEqual([
      ['first', false, 5n, false],
      ['second', true, 1n, true],
    ])
    expect(takenOf(['closed', 'closed'], 4n)).toEqual([
      ['second', true, 2n, true],
      ['second', false, 2n, true],
    ])
  })
})
