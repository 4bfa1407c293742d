import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { testMetering } from '../../../test/metering.ts'
import type { Draw } from '../../grants/rules.ts'
import { MICRO } from '../../lib/quantity.ts'
import type { Outcome } from '../decide/decision.ts'
import type { UsageEvent, UsageRequest } from '../usage.ts'
import { blocksOf, insertEvents } from './event-blocks.ts'
import { EVENT_COLUMNS, eventOf, type EventRow } from './store.ts'

const fixture = testMetering()

const START = new Date('2026-03-01T00:00:00Z')
const NOW = new Date('2026-03-10T12:00:00Z')
const PLAN_GRANT = `plan:credits:calendar_month:${START.toISOString()}`

let made = 0

/** An event whose id and key are new, and that ascends. */
function eventWith(
  changed: Partial<UsageEvent> & { readonly organizationId: string },
  after: Partial<UsageEvent['after']>,
): UsageEvent {
  made += 1
  return {
    id: `00000000-0000-7000-8000-${String(made).padStart(12, '0')}`,
    recordedAt: NOW,
    verb: 'consume',
    idempotencyKey: `key ${made}`,
    meter: 'calls',
    quantity: MICRO,
    occurredAt: NOW,
    dated: false,
    late: null,
    properties: null,
    counted: MICRO,
    drawn: 0n,
    overage: 0n,
    draws: [],
    refusal: null,
    spending: null,
    reservationId: null,
    heldUntil: null,
    corrects: null,
    ...changed,
    after: {
      balanceKey: 'credits',
      planGrantId: PLAN_GRANT,
      planKey: 'pro',
      amount: null,
      used: 0n,
      overage: 0n,
      reserved: 0n,
      remaining: null,
      period: 'calendar_month',
      periodStart: START,
      periodEnd: null,
      ...after,
    },
  }
}

const quantity = fc.bigInt({ min: 0n, max: 5n }).map((units) => units * MICRO)
const draws: fc.Arbitrary<readonly Draw[]> = fc.oneof(
  fc.constant([]),
  fc.constant([{ grantId: PLAN_GRANT, amount: MICRO, overage: 0n }]),
  fc.tuple(quantity, quantity).map(([amount, overage]) => [
    { grantId: 'top up', amount, overage: 0n },
    { grantId: PLAN_GRANT, amount: MICRO, overage },
  ]),
)
const moment = fc.date({ min: new Date('2026-01-01'), max: new Date('2027-01-01'), noInvalidDate: true })
const properties = fc.constantFrom(null, null, { model: 'large' }, { model: 'small', note: 'a "b" \\ {c}, null' }, {})
const anEvent = fc
  .record({
    organizationId: fc.constantFrom('org_a', 'org_b'),
    verb: fc.constantFrom('consume' as const, 'consume' as const, 'track' as const),
    meter: fc.constantFrom('calls', 'calls', 'tokens'),
    quantity,
    occurredAt: fc.oneof(fc.constant(NOW), moment),
    dated: fc.boolean(),
    late: fc.constantFrom(null, null, 'open' as const, 'free' as const),
    properties,
    counted: quantity,
    draws,
    refusal: fc.constantFrom(null, null, null, 'quota_exceeded' as const),
    heldUntil: fc.constantFrom(null, null, NOW),
    reservationId: fc.constantFrom(null, null, 'res_1'),
    corrects: fc.constantFrom(null, null, 'other'),
    used: quantity,
    overage: quantity,
    reserved: fc.constantFrom(0n, 0n, MICRO),
    amount: fc.constantFrom(null, null, 100n * MICRO),
    planGrantId: fc.constantFrom(PLAN_GRANT, PLAN_GRANT, 'plan:credits:calendar_month:2026-03-01'),
  })
  .map(({ used, overage, reserved, amount, planGrantId, ...event }) => {
    const own = event.draws.map((draw) => (draw.grantId === PLAN_GRANT ? { ...draw, grantId: planGrantId } : draw))
    const drawn = own.reduce((sum, draw) => sum + draw.amount + draw.overage, 0n)
    const over = own.reduce((sum, draw) => sum + draw.overage, 0n)
    const remaining = amount === null ? null : amount - used - reserved
    return eventWith({ ...event, draws: own, drawn, overage: over }, { used, overage, reserved, amount, remaining, planGrantId })
  })

async function storedEvents(): Promise<readonly UsageEvent[]> {
  const { rows } = await fixture.database.db.query<EventRow>(
    `select ${EVENT_COLUMNS} from usage_events e order by recorded_at, id`,
  )
  return rows.map(eventOf)
}

async function store(events: readonly UsageEvent[]): Promise<void> {
  await fixture.connections().transaction((tx) => Promise.resolve({ send: () => [insertEvents(tx, events)], result: null }))
}

describe('blocks of events', () => {
  test('tell every event as it was, in its order', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anEvent, { minLength: 1, maxLength: 30 }), async (events) => {
        await fixture.database.db.query('delete from usage_event_blocks')
        await store(events)
        const ordered = events.toSorted((a, b) => (a.id < b.id ? -1 : 1))
        expect(await storedEvents()).toEqual(ordered)
      }),
      { numRuns: 200 },
    )
  })

  test('hold what is used alike in one row, and never two organizations', async () => {
    const of = (organizationId: string, count: number, meter: string) =>
      Array.from({ length: count }, (_, index) => eventWith({ organizationId, meter }, { used: BigInt(index) * MICRO }))
    const mixed = [of('org_a', 3, 'calls'), of('org_b', 2, 'calls'), of('org_a', 2, 'tokens'), of('org_a', 4, 'calls')].flat()
    expect(blocksOf(mixed).map((block) => [block[0]!.organizationId, block[0]!.meter, block.length])).toEqual([
      ['org_a', 'calls', 7],
      ['org_b', 'calls', 2],
      ['org_a', 'tokens', 2],
    ])
    expect(blocksOf(mixed).flat().length).toBe(mixed.length)
  })

  test('a repeat finds its own event within a block, and no settlement that has the same name', async () => {
    const organizationId = await fixture.newOrganization()
    const consume = (key: string, units: number): UsageRequest => ({
      verb: 'consume',
      organizationId,
      meter: 'episode_ingestion',
      quantity: BigInt(units) * MICRO,
      idempotencyKey: key,
      occurredAt: null,
      properties: null,
    })
    const uses = [3, 1, 2].map((units) => consume(`use ${units}`, units))
    const first = await fixture.metering().submit(uses)
    const { rows } = await fixture.database.db.query('select ids from usage_event_blocks where organization_id = $1', [
      organizationId,
    ])
    expect(rows.map(({ ids }: { ids: unknown[] }) => ids.length)).toEqual([3])
    const again = await fixture.metering().submit(uses.toReversed())
    const answers = (outcomes: readonly Outcome[]) =>
      outcomes.map((outcome) => {
        if (outcome.kind === 'error') throw outcome.error
        return outcome.answer
      })
    expect(answers(again)).toEqual(
      answers(first)
        .toReversed()
        .map((answer) => ({ ...answer, replayed: true })),
    )

    const common = { organizationId, meter: 'episode_ingestion', quantity: MICRO, properties: null }
    const held = await fixture.metering().ask({ verb: 'reserve', ...common, idempotencyKey: 'hold', ttlMs: 60_000 })
    const { id: reservationId } = held.reservation!
    const use = consume(reservationId, 5)
    const settle: UsageRequest = { verb: 'settle', organizationId, reservationId, quantity: null }
    for (const request of [use, settle]) {
      const [answer] = answers(await fixture.metering().submit([request]))
      expect(answer).toMatchObject({ verb: request.verb, allowed: true, replayed: false })
      expect(answers(await fixture.metering().submit([request]))).toEqual([{ ...answer, replayed: true }])
    }
    // Both have the same time and the same key by now.
    const [named, settled] = [answers(await fixture.metering().submit([use])), answers(await fixture.metering().submit([settle]))]
    expect([named, settled].map(([answer]) => answer?.verb)).toEqual(['consume', 'settle'])
  })

  test('a page of events reads no further than it answers', async () => {
    await fixture.database.db.query('delete from usage_event_blocks')
    for (let group = 0; group < 50; group += 1) {
      const recordedAt = new Date(NOW.getTime() + group)
      await store(Array.from({ length: 20 }, () => eventWith({ organizationId: 'org_a', recordedAt }, {})))
    }
    await fixture.database.db.query('analyze usage_event_blocks')
    const { rows } = await fixture.database.db.query<{ 'QUERY PLAN': string }>(
      `explain (analyze, costs off, timing off, summary off) select * from usage_events e
       where e.organization_id = 'org_a' and e.recorded_at >= '2026-03-10' and (e.recorded_at, e.id) > ('2026-03-10', '${'0'.repeat(8)}-0000-0000-0000-000000000000')
       order by e.recorded_at, e.id limit 10`,
    )
    const plan = rows.map((row) => row['QUERY PLAN']).join('\n')
    expect(plan).toContain('Presorted Key: b.recorded_at')
    const blocksRead = /Index Scan using \S+ on usage_events\S* b\S* \(actual rows=([\d.]+)/.exec(plan)
    expect(Number(blocksRead?.[1]), plan).toBeLessThan(10)
  })
})
