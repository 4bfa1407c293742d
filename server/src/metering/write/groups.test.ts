import { describe, expect, it } from 'vitest'
import { testMetering } from '../../../test/metering.ts'
import { MICRO } from '../../lib/quantity.ts'
import type { RecordRequest, UsageProperties } from '../usage.ts'
import { MOST_GROUPS } from './rollups-store.ts'

const fixture = testMetering({
  meters: {
    tokens: { groupBy: ['model', 'endpoint'] },
    successes: { aggregation: 'count', groupBy: ['model'], filter: { status: ['ok', 'partial'], billed: ['true'] } },
  },
  plans: { free: { name: 'Free', allowances: { tokens: { amount: 1_000_000 }, successes: { amount: 10 } } } },
  defaultPlan: 'free',
})

let keys = 0

function use(organizationId: string, meter: string, quantity: number, properties: UsageProperties | null): RecordRequest {
  return {
    verb: 'consume',
    organizationId,
    meter,
    quantity: BigInt(quantity) * MICRO,
    idempotencyKey: `k${(keys += 1)}`,
    occurredAt: null,
    properties,
  }
}

type Group = { labels: Record<string, string>; span: string; events: number; quantity: number; drawn: number }

async function groupsOf(organizationId: string, span = 'hour'): Promise<Group[]> {
  const { rows } = await fixture.database.db.query<Group>(
    `select labels, span, sum(u.events)::int as events, (sum(u.quantity) / 1000000)::float as quantity,
       (sum(u.drawn) / 1000000)::float as drawn
     from usage_grouped u join usage_groups g on g.organization_id = u.organization_id and g.meter = u.meter and g.month = u.month
       and g.number = u.group_number
     where u.organization_id = $1 and span = $2 group by 1, 2 order by labels::text collate "C"`,
    [organizationId, span],
  )
  return rows
}

describe('a meter that is split by properties', () => {
  it('has the sums of each combination, by the hour and by the day, corrections with what they correct', async () => {
    const id = await fixture.newOrganization()
    const first = use(id, 'tokens', 5, { model: 'large', endpoint: '/ask', user: 'x' })
    await fixture
      .metering()
      .submit([
        first,
        use(id, 'tokens', 7, { model: 'large', endpoint: '/ask' }),
        use(id, 'tokens', 1, { endpoint: '/ask', model: 'small' }),
        use(id, 'tokens', 2, { model: 3 }),
        use(id, 'tokens', 4, null),
      ])
    const correction = { verb: 'correct', corrects: first.idempotencyKey, idempotencyKey: 'fix', quantity: -3n * MICRO } as const
    await fixture.metering().ask({ ...correction, organizationId: id, properties: { reason: 'counted twice' } })
    const expected = [
      { labels: { model: '3' }, events: 1, quantity: 2, drawn: 2 },
      { labels: { endpoint: '/ask', model: 'large' }, events: 2, quantity: 9, drawn: 9 },
      { labels: { endpoint: '/ask', model: 'small' }, events: 1, quantity: 1, drawn: 1 },
      { labels: {}, events: 1, quantity: 4, drawn: 4 },
    ]
    expect(await groupsOf(id)).toMatchObject(expected)
    expect(await groupsOf(id, 'day')).toMatchObject(expected)
  })

  it('keeps a value that is too long for any index, cut, and what cannot be cut in half', async () => {
    const id = await fixture.newOrganization()
    const long = 'a'.repeat(254)
    await fixture
      .metering()
      .submit([
        use(id, 'tokens', 1, { model: `${long}😀b`, endpoint: 'é'.repeat(1_000) }),
        use(id, 'tokens', 1, { model: `${long}😀c`, endpoint: 'é'.repeat(999) }),
      ])
    expect(await groupsOf(id)).toMatchObject([{ labels: { model: long, endpoint: 'é'.repeat(255) }, events: 2 }])
  })

  it('tells at most a thousand combinations of a month apart, and loses nothing of its sum', async () => {
    const id = await fixture.newOrganization()
    const submit = (from: number, to: number) =>
      fixture
        .metering()
        .submit(
          Array.from({ length: to - from }, (_, index) => use(id, 'tokens', 1, { model: `m${from + index}`, endpoint: '/' })),
        )
    await submit(0, MOST_GROUPS - 10)
    await submit(MOST_GROUPS - 20, MOST_GROUPS + 40)
    await submit(0, 5)
    const groups = await groupsOf(id)
    expect(groups.length).toBe(MOST_GROUPS)
    expect(groups.reduce((sum, { quantity }) => sum + quantity, 0)).toBe(MOST_GROUPS + 10 + 5)
    const { rows } = await fixture.database.db.query<{ quantity: number }>(
      'select (sum(quantity) / 1000000)::float as quantity from usage_hourly where organization_id = $1',
      [id],
    )
    expect(rows[0]!.quantity).toBe(MOST_GROUPS + 40 + 10 + 5)
    // A new month begins again.
    fixture.clock.set(new Date('2026-04-02T00:00:00Z'))
    await submit(9_000, 9_003)
    expect((await groupsOf(id)).length).toBe(MOST_GROUPS + 3)
    fixture.clock.set(new Date('2026-03-10T12:00:00Z'))
  })
})

describe('a meter with a filter', () => {
  it('counts only what has the values that it asks for, and answers the rest as used for nothing', async () => {
    const id = await fixture.newOrganization()
    const counts = { status: 'ok', billed: true, model: 'large' }
    const left = [{ ...counts, status: 'failed' }, { status: 'ok', model: 'large' }, null]
    const outcomes = await fixture
      .metering()
      .submit([use(id, 'successes', 1, counts), ...left.map((properties) => use(id, 'successes', 1, properties))])
    const drawn = outcomes.map((outcome) => (outcome.kind === 'answer' ? outcome.answer.drawn / MICRO : null))
    expect(drawn).toEqual([1n, 0n, 0n, 0n])
    expect(await groupsOf(id)).toMatchObject([{ labels: { model: 'large' }, events: 1, quantity: 1, drawn: 1 }])
    const { rows } = await fixture.database.db.query(
      `select (select sum(events)::int from usage_hourly where organization_id = $1) as events,
        (select count(*)::int from usage_events where organization_id = $1) as stored`,
      [id],
    )
    expect(rows).toEqual([{ events: 1, stored: 4 }])
  })

  it('holds and settles nothing of what it leaves out, and has nothing there to correct', async () => {
    const id = await fixture.newOrganization()
    const hold = { verb: 'reserve', organizationId: id, meter: 'successes', quantity: MICRO, ttlMs: 60_000 } as const
    const held = await fixture.metering().ask({ ...hold, idempotencyKey: 'hold', properties: { status: 'failed' } })
    expect(held.balance.reserved).toBe(0n)
    const settled = await fixture
      .metering()
      .ask({ verb: 'settle', organizationId: id, reservationId: held.reservation!.id, quantity: null })
    expect(settled.drawn).toBe(0n)
    const correction = { verb: 'correct', organizationId: id, idempotencyKey: 'fix', properties: null } as const
    await expect(
      fixture.metering().ask({ ...correction, corrects: held.reservation!.id, quantity: MICRO }),
    ).rejects.toMatchObject({ code: 'not_found' })
  })
})
