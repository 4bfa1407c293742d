import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { apply, answers, errorOf, grantOf, now, reserve, run, stateOf, sumDraws, termsOf, use } from '../../../test/decisions.ts'
import { openedGrant, regrant, type Grant } from '../../grants/rules.ts'
import { DAY_MS } from '../../lib/period.ts'
import { MICRO } from '../../lib/quantity.ts'
import type { RecordRequest, UsageRequest } from '../usage.ts'
import { planGrantsNeeded } from './decide.ts'
import { eventKey, type Decision } from './decision.ts'
import { LARGEST_USE } from './session.ts'

describe('consume', () => {
  test('ten searches at 0.1 cost exactly 1 (EM-2)', () => {
    const searches = Array.from({ length: 10 }, (_, index) => use('consume', 'episode_search', 1, `s${index}`))
    expect(answers(run(stateOf(termsOf('free')), searches)).at(-1)!.balance.used).toBe(MICRO)
  })

  test('allows exactly what is left and refuses the rest with the sentence of EM-4', () => {
    const decision = run(
      stateOf(termsOf('free'), { used: { credits: '50' } }),
      Array.from({ length: 200 }, (_, index) => use('consume', 'episode_ingestion', 1, `k${index}`)),
    )
    const all = answers(decision)
    expect(all.filter((answer) => answer.allowed)).toHaveLength(50)
    expect(all.at(-1)).toMatchObject({
      code: 'quota_exceeded',
      reason: 'Monthly quota exceeded. Used 100/100 credits.',
      drawn: 0n,
    })
    expect(decision.events).toHaveLength(200)
    expect(decision.hourlyChanges).toMatchObject([{ events: 50, quantity: 50n * MICRO }])
  })

  test('is refused whole when it does not fit, and a smaller one after it still fits', () => {
    const state = stateOf(termsOf('free'), { used: { credits: '95' } })
    const [large, small] = answers(
      run(state, [use('consume', 'episode_ingestion', 6, 'a'), use('consume', 'episode_ingestion', 5, 'b')]),
    )
    expect([large!.allowed, small!.allowed, small!.balance.remaining]).toEqual([false, true, 0n])
  })

  test('goes on as overage under a soft limit', () => {
    const [answer] = answers(
      run(stateOf(termsOf('soft'), { used: { credits: '500' } }), [use('consume', 'episode_ingestion', 85, 'a')]),
    )
    expect(answer).toMatchObject({ allowed: true, balance: { remaining: 0n, overage: 85n * MICRO, used: 500n * MICRO } })
  })

  test('a balance that the plan does not name is not included, unless something else was granted', () => {
    const bare = stateOf(termsOf('free'))
    expect(answers(run(bare, [use('consume', 'tokens', 1, 'a')]))[0]).toMatchObject({ allowed: false, code: 'not_included' })
    const topped = stateOf(termsOf('free'), { others: [grantOf('gift', '1', { balanceKey: 'tokens' })] })
    const [first, second] = answers(run(topped, [use('consume', 'tokens', 1, 'a'), use('consume', 'tokens', 1, 'b')]))
    expect([first!.allowed, second!.code]).toEqual([true, 'quota_exceeded'])
  })

  test('a use is at most the largest, also where it takes less than that from its balance', () => {
    const search = (quantity: bigint) => ({ ...use('consume', 'episode_search', 1, 'a'), quantity }) as UsageRequest
    const state = stateOf(termsOf('pro'))
    expect(answers(run(state, [search(LARGEST_USE - (LARGEST_USE % 10n))]))[0]).toMatchObject({ allowed: true })
    expect(errorOf(run(state, [search(LARGEST_USE - (LARGEST_USE % 10n) + 10n)])).code).toBe('invalid_quantity')
  })

  test('unlimited never runs out', () => {
    const [answer] = answers(run(stateOf(termsOf('pro')), [use('consume', 'episode_ingestion', 1_000_000, 'a')]))
    expect(answer).toMatchObject({ allowed: true, balance: { amount: null, remaining: null, used: 1_000_000n * MICRO } })
  })

  test.each([
    [{ state: 'suspended', mayUse: false }, 'suspended'],
    [{ state: 'paused', mayUse: false }, 'paused'],
  ] as const)('an account that is %j refuses every use, and still records what has happened', (over, code) => {
    const state = stateOf(termsOf('pro', over))
    const [consumed, checked, reserved, tracked] = answers(
      run(state, [
        use('consume', 'episode_ingestion', 1, 'a'),
        { verb: 'check', organizationId: 'org', meter: 'episode_ingestion', quantity: MICRO, properties: null },
        reserve(1, 'r'),
        use('track', 'episode_ingestion', 1, 'b'),
      ]),
    )
    expect([consumed!.code, checked!.code, reserved!.code, tracked!.code]).toEqual([code, code, code, null])
    expect(tracked!.balance.used).toBe(MICRO)
  })

  test('a counting meter counts uses, whatever their quantity', () => {
    const items = [1, 7, 0.5, 2].map((quantity, index) => use('consume', 'calls', quantity, `k${index}`))
    expect(answers(run(stateOf(termsOf('free')), items)).map((answer) => answer.allowed)).toEqual([true, true, true, false])
  })
})

describe('the order of drawing', () => {
  test('is priority, then earliest expiry, then earliest created; expired and future grants give nothing', () => {
    const soon = new Date(now.getTime() + DAY_MS)
    const others = [
      grantOf('late', '1', { priority: 10, expiresAt: null }),
      grantOf('younger', '1', { priority: 10, expiresAt: soon, createdAt: new Date(now.getTime() - 1) }),
      grantOf('older', '1', { priority: 10, expiresAt: soon, createdAt: new Date(now.getTime() - 2) }),
      grantOf('first', '1', { priority: 1 }),
      grantOf('over', '9', { priority: 0, expiresAt: now }),
      grantOf('future', '9', { priority: 0, startsAt: soon }),
    ]
    const decision = run(stateOf(termsOf('free'), { others }), [use('consume', 'episode_ingestion', '4.5', 'a')])
    expect(decision.events[0]!.draws.map(({ grantId, amount }) => [grantId.replace(/^plan:.*/, 'plan'), amount])).toEqual([
      ['first', MICRO],
      ['older', MICRO],
      ['younger', MICRO],
      ['late', MICRO],
      ['plan', MICRO / 2n],
    ])
  })

  test('is turned round when something is given back: the last that was drawn comes first', () => {
    const state = stateOf(termsOf('free'), { others: [grantOf('gift', '3', { priority: 1 })] })
    const taken = { verb: 'correct', organizationId: 'org', corrects: 'a', idempotencyKey: 'b', properties: null } as const
    const decision = run(state, [use('track', 'episode_ingestion', 5, 'a'), { ...taken, quantity: -3n * MICRO }])
    const used = apply(state, decision).grants.map((grant) => [grant.kind, grant.used])
    expect(used).toEqual(expect.arrayContaining([['manual', 2n * MICRO]]))
    expect(decision.events[1]!.draws.map(({ amount }) => amount)).toEqual([-2n * MICRO, -MICRO])
  })

  test('a grant for some meters pays for no other', () => {
    const others = [grantOf('search only', '1', { priority: 1, meters: ['episode_search'] })]
    const state = stateOf(termsOf('free'), { used: { credits: '100' }, others })
    const [ingestion, search] = answers(
      run(state, [use('consume', 'episode_ingestion', 1, 'a'), use('consume', 'episode_search', 10, 'b')]),
    )
    expect([ingestion!.allowed, search!.allowed]).toEqual([false, true])
  })
})

describe('track', () => {
  test('is never refused for quota: what does not fit is overage', () => {
    const [answer] = answers(
      run(stateOf(termsOf('free'), { used: { credits: '98' } }), [use('track', 'episode_ingestion', 5, 'a')]),
    )
    expect(answer).toMatchObject({
      allowed: true,
      drawn: 5n * MICRO,
      balance: { used: 100n * MICRO, overage: 3n * MICRO, remaining: 0n },
    })
  })

  test('use that is told late counts in the period in which it happened', () => {
    const february = planGrantsNeeded(termsOf('free'), new Date('2026-02-20T00:00:00Z'), ['episode_search'])[0]!
    const past = openedGrant('org', february, now)
    const state = { ...stateOf(termsOf('free'), { others: [past] }), past: { history: [], billed: [], late: [] } }
    const decision = run(state, [
      use('track', 'episode_ingestion', 2, 'a', new Date('2026-02-20T00:00:00Z')),
      use('consume', 'episode_ingestion', 1, 'b'),
    ])
    expect(decision.events.map((event) => event.draws[0]!.grantId)).toEqual([past.id, state.grants[0]!.id])
    expect(decision.events[0]!.after.periodStart).toEqual(new Date('2026-02-01T00:00:00Z'))
    expect(decision.hourlyChanges.map((change) => change.hour.toISOString())).toEqual([
      '2026-02-20T00:00:00.000Z',
      '2026-03-10T12:00:00.000Z',
    ])
  })

  test('only what has happened is told late: what is consumed counts now, whatever time it names', () => {
    const february = planGrantsNeeded(termsOf('free'), new Date('2026-02-20T00:00:00Z'), ['episode_search'])[0]!
    const past = openedGrant('org', february, now)
    const state = { ...stateOf(termsOf('free'), { others: [past] }), past: { history: [], billed: [], late: [] } }
    const decision = run(state, [use('consume', 'episode_ingestion', 2, 'a', new Date('2026-02-20T00:00:00Z'))])
    expect(decision.events[0]).toMatchObject({ draws: [{ grantId: state.grants[0]!.id }], late: null })
  })

  test.each(['closed', 'ended'] as const)('use of a time that is %s and taken back is a credit', (time) => {
    const february = planGrantsNeeded(termsOf('free'), new Date('2026-02-20T00:00:00Z'), ['episode_search'])[0]!
    const past = openedGrant('org', february, now)
    const span = (start: string, end: string, state: 'open' | 'closed') => ({
      balanceKey: 'credits',
      startsAt: new Date(start),
      endsAt: new Date(end),
      state,
      id: start,
      isChanged: false,
    })
    const next = time === 'closed' ? [span('2026-03-01T00:00:00Z', '2026-04-01T00:00:00Z', 'open')] : []
    const billed = [span('2026-02-01T00:00:00Z', '2026-03-01T00:00:00Z', 'closed'), ...next]
    const state = { ...stateOf(termsOf('free'), { others: [past] }), past: { history: [], billed, late: [] } }
    const correction = { verb: 'correct', organizationId: 'org', corrects: 'a', idempotencyKey: 'b', properties: null } as const
    const decision = run(state, [
      use('track', 'episode_ingestion', 5, 'a', new Date('2026-02-20T00:00:00Z')),
      { ...correction, quantity: -2n * MICRO },
    ])
    expect(decision.events.map(({ late }) => late)).toEqual([time, 'credited'])
    expect(decision.grantChanges).toMatchObject([{ id: past.id, used: 3n * MICRO, freeUsed: 0n, freeOverage: 0n }])
  })

  test('a period that nobody knows any more counts now', () => {
    const decision = run(stateOf(termsOf('free')), [use('track', 'episode_ingestion', 2, 'a', new Date('2026-02-20T00:00:00Z'))])
    expect(decision.events[0]!.after.periodStart).toEqual(new Date('2026-03-01T00:00:00Z'))
  })

  test.each([35 * DAY_MS, -5 * 60_000])('takes a time of exactly %d ms ago', (agoMs) => {
    const told = use('track', 'episode_ingestion', 2, 'a', new Date(now.getTime() - agoMs))
    expect(answers(run(stateOf(termsOf('free')), [told]))[0]!.allowed).toBe(true)
  })

  test.each([
    ['more than 35 days ago', new Date(now.getTime() - 35 * DAY_MS - 1)],
    ['more than 5 minutes ahead', new Date(now.getTime() + 5 * 60_000 + 1)],
  ])('refuses a time %s and changes nothing', (_name, at) => {
    const decision = run(stateOf(termsOf('free')), [use('track', 'episode_ingestion', 2, 'a', at)])
    expect(errorOf(decision).code).toBe('time_out_of_range')
    expect([decision.events, decision.grantChanges]).toEqual([[], []])
  })
})

describe('a mark of what is left', () => {
  test('is told as soon as less than it is left, and not while as much is', () => {
    const state = { ...stateOf(termsOf('free')), lowMarks: { credits: String(50n * MICRO) } }
    const at = (quantity: number) => run(state, [use('consume', 'episode_ingestion', quantity, 'a')]).lowBalances
    expect(at(50)).toEqual([])
    expect(at(51)).toEqual([{ organizationId: 'org', balanceKey: 'credits', at: now }])
  })
})

describe('repeats', () => {
  test('the same key answers what it answered first, a refusal too, and takes nothing more', () => {
    const state = stateOf(termsOf('free'), { used: { credits: '99' } })
    const items = [use('consume', 'episode_ingestion', 1, 'a'), use('consume', 'episode_ingestion', 2, 'b')]
    const first = run(state, items)
    const known = new Map(first.events.map((event) => [eventKey('org', event.idempotencyKey), event]))
    const later = stateOf(termsOf('pro'))
    const again = run(later, items, { known })
    expect(answers(again)).toEqual(answers(first).map((answer) => ({ ...answer, replayed: true })))
    expect([again.events, again.grantChanges]).toEqual([[], []])
  })

  test('a key used twice within one batch is answered once and repeated', () => {
    const decision = run(stateOf(termsOf('free')), [
      use('consume', 'episode_ingestion', 1, 'a'),
      use('consume', 'episode_ingestion', 1, 'a'),
    ])
    expect(answers(decision).map((answer) => answer.replayed)).toEqual([false, true])
    expect(decision.events).toHaveLength(1)
  })

  test.each([
    ['quantity', { quantity: 2n * MICRO }],
    ['meter', { meter: 'episode_search' }],
    ['verb', { verb: 'track' as const }],
    ['occurred_at', { occurredAt: now }],
    ['properties', { properties: { model: 'large' } }],
    ['properties', { properties: { model: 'small', region: 'eu' } }],
    ['properties', { properties: {} }],
    ['properties', { properties: null }],
  ])('the same key with another %s is refused and names the field', (field, change) => {
    const first = { ...use('consume', 'episode_ingestion', 1, 'a'), properties: { model: 'small' } } as UsageRequest
    const decision = run(stateOf(termsOf('free')), [first, { ...first, ...change } as UsageRequest])
    expect(errorOf(decision, 1)).toMatchObject({ code: 'idempotency_conflict', details: { field, idempotency_key: 'a' } })
    expect(decision.events).toHaveLength(1)
  })

  test('a use that was told of permits a consume of its key, as it has happened; of another time, quantity or meter it is another use', () => {
    const told = { ...use('track', 'episode_ingestion', 1, 'a'), occurredAt: now } as RecordRequest
    const asked = use('consume', 'episode_ingestion', 1, 'a') as RecordRequest
    const decision = run(stateOf(termsOf('free')), [told, asked, { ...asked, occurredAt: now }])
    const first = { ...answers(decision)[0]!, replayed: true }
    expect(answers(decision).slice(1)).toEqual([first, first])
    expect(first).toMatchObject({ allowed: true, drawn: MICRO })
    expect(decision.events).toHaveLength(1)
    const others = [
      { ...asked, occurredAt: new Date(now.getTime() - 1) },
      { ...asked, quantity: 2n * MICRO },
      { ...asked, meter: 'episode_search' },
    ]
    const refused = run(stateOf(termsOf('free')), [told, ...others])
    expect([1, 2, 3].map((index) => errorOf(refused, index).details['field'])).toEqual(['occurred_at', 'quantity', 'meter'])
  })

  test('what a caller got wrong touches no neighbour', () => {
    const decision = run(stateOf(termsOf('free')), [
      use('consume', 'episode_ingestion', 1, 'a'),
      use('consume', 'no_such_meter', 1, 'b'),
      { ...use('consume', 'episode_ingestion', 1, 'c'), organizationId: 'nobody' },
      use('consume', 'episode_search', '0.000001', 'd'),
      use('consume', 'episode_ingestion', 1, 'e'),
    ])
    expect(
      decision.outcomes.map((outcome, index) => (outcome.kind === 'error' ? errorOf(decision, index).code : 'answer')),
    ).toEqual(['answer', 'unknown_meter', 'not_found', 'invalid_quantity', 'answer'])
    expect(decision.events).toHaveLength(2)
  })
})

describe('for any sequence of uses', () => {
  const quantity = fc.integer({ min: 0, max: 40_000_000 }).map(BigInt)
  const request = fc
    .record({
      verb: fc.constantFrom('consume', 'track', 'reserve' as const),
      meter: fc.constantFrom('episode_ingestion', 'tokens', 'calls', 'extra'),
      quantity,
      key: fc.integer({ min: 0, max: 30 }).map((n) => `k${n}`),
    })
    .map(({ verb, meter, quantity: amount, key }): UsageRequest => {
      const asked = { organizationId: 'org', meter, quantity: amount, idempotencyKey: key, properties: null }
      return verb === 'reserve' ? { ...asked, verb, ttlMs: 60_000 } : { ...asked, verb, occurredAt: null }
    })
  const grants = fc.array(
    fc.record({
      amount: fc.option(quantity, { freq: 8, nil: null }),
      priority: fc.integer({ min: 0, max: 99 }),
      balanceKey: fc.constantFrom('credits', 'tokens'),
    }),
    { maxLength: 4 },
  )
  const scenario = fc.record({
    plan: fc.constantFrom('free', 'soft', 'pro'),
    grants,
    requests: fc.array(request, { maxLength: 40 }),
  })

  test('no grant is overdrawn, and events, grants and hours tell the same sum', () => {
    fc.assert(
      fc.property(scenario, ({ plan, grants: others, requests }) => {
        const state = stateOf(termsOf(plan), { others: others.map((grant, index) => grantOf(`g${index}`, null, grant)) })
        const decision = run(state, requests)
        const after = apply(state, decision)
        const drawnFrom = sumDraws(decision.events)
        for (const grant of after.grants) {
          expect(grant.amount === null || grant.used + grant.reserved + grant.revoked <= grant.amount).toBe(true)
          expect(grant.used + grant.overage + grant.reserved).toBe(drawnFrom.get(grant.id) ?? 0n)
          const mayGoOver = grant.limit === 'soft' || requests.some((asked) => asked.verb === 'track')
          expect(mayGoOver || grant.overage === 0n).toBe(true)
        }
        const hours = decision.hourlyChanges.reduce((sum, change) => sum + change.drawn, 0n)
        const recorded = decision.events.filter((event) => event.verb !== 'reserve')
        expect(hours).toBe(recorded.reduce((sum, event) => sum + event.drawn, 0n))
      }),
    )
  })

  test('deciding in two batches is deciding in one', () => {
    fc.assert(
      fc.property(scenario, fc.nat(40), ({ plan, grants: others, requests }, cut) => {
        const state = stateOf(termsOf(plan), { others: others.map((grant, index) => grantOf(`g${index}`, null, grant)) })
        const whole = run(state, requests)
        const first = run(state, requests.slice(0, cut))
        const known = new Map(first.events.map((event) => [eventKey('org', event.idempotencyKey), event]))
        const second = run(apply(state, first), requests.slice(cut), { known })
        const shown = (decision: Decision) =>
          decision.outcomes.map((outcome) =>
            outcome.kind === 'answer'
              ? { ...outcome.answer, eventId: null, reservation: null, replayed: null }
              : outcome.error.message,
          )
        expect([...shown(first), ...shown(second)]).toEqual(shown(whole))
        expect(apply(apply(state, first), second).grants).toEqual(apply(state, whole).grants)
      }),
    )
  })
})

describe('a plan changed within its period', () => {
  test('never hands the quota out twice: used so far counts against the new amount, up and down and back', () => {
    const amount = fc.option(fc.bigInt({ min: 0n, max: 1_000n }), { nil: null })
    fc.assert(
      fc.property(amount, fc.bigInt({ min: 0n, max: 1_500n }), fc.array(amount, { minLength: 1 }), (before, demand, changes) => {
        const plan = planGrantsNeeded(termsOf('free'), now, ['episode_search'])[0]!
        const used = before === null || demand < before ? demand : before
        let grant: Grant = { ...openedGrant('org', { ...plan, amount: before }, now), used, overage: demand - used }
        for (const next of changes) {
          const owed = grant.overage
          grant = regrant(grant, { ...plan, amount: next, planKey: 'another' }, termsOf('free').catalog)
          expect(grant.used + grant.overage).toBe(demand)
          expect(grant.overage <= owed).toBe(true)
          expect(grant.amount === null || grant.used <= grant.amount).toBe(true)
          const counted = demand - grant.overage
          const left = next === null ? null : next > counted ? next - counted : 0n
          expect(grant.amount === null ? null : grant.amount - grant.used).toBe(left)
        }
      }),
    )
  })
})
