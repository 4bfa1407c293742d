import { describe, expect, test } from 'vitest'
import { answers, apply, errorOf, now, run, stateOf, termsOf } from '../../../test/decisions.ts'
import { normalizeCatalog } from '../../catalog/normalize.ts'
import { MINUTE_MS } from '../../lib/period.ts'
import { MICRO, parseQuantity } from '../../lib/quantity.ts'
import type { CorrectedEvent, CorrectRequest, RecordRequest, UsageEvent, UsageProperties } from '../usage.ts'
import { eventKey, nameOf, type Decision } from './decision.ts'

// What meters come to that do not simply add up, decided in groups one after another, each of which knows what the one before left.

const amount = (of: number) => ({ amount: of, period: 'calendar_month' as const })
const catalog = normalizeCatalog({
  meters: {
    storage: { aggregation: 'max' },
    seats: { aggregation: 'latest' },
    users: { aggregation: 'unique', uniqueBy: 'user' },
    large: { filter: { model: ['large', '5', 'true'] } },
    agents: { aggregation: 'latest' },
    robots: { aggregation: 'latest' },
  },
  credits: { credits: { costs: { agents: 1, robots: 1 } } },
  plans: {
    free: {
      name: 'Free',
      allowances: { storage: amount(10), seats: amount(10), users: amount(2), large: amount(10), credits: amount(50) },
      rateLimits: { large: { limit: 3, per: 'minute' } },
    },
  },
  defaultPlan: 'free',
})

let keys = 0
type Told = {
  readonly verb?: 'track' | 'consume'
  readonly at?: Date | null
  readonly properties?: UsageProperties
  readonly key?: string
}
const tell = (
  meter: string,
  quantity: number | string,
  { verb = 'track', at = null, properties, key }: Told = {},
): RecordRequest => ({
  verb,
  organizationId: 'org',
  meter,
  quantity: parseQuantity(quantity),
  idempotencyKey: key ?? `k${(keys += 1)}`,
  occurredAt: at,
  properties: properties ?? null,
})
const user = (name: string | number, verb: 'track' | 'consume' = 'track', key?: string) =>
  tell('users', 1, { verb, properties: { user: name }, ...(key === undefined ? {} : { key }) })
const takeBack = (corrects: string): CorrectRequest => ({
  verb: 'correct',
  organizationId: 'org',
  corrects,
  quantity: null,
  idempotencyKey: `k${(keys += 1)}`,
  properties: null,
})
const ago = (minutes: number) => new Date(now.getTime() - minutes * MINUTE_MS)

/** An organization whose groups are decided one after another. */
function organization() {
  let state = stateOf({ ...termsOf('free'), catalog, newerMeters: catalog.meters })
  const readings = new Map<string, Decision['readings'][number]>()
  const values = new Map<string, Decision['newValues'][number]>()
  const known = new Map<string, UsageEvent>()
  const corrected = new Map<string, CorrectedEvent>()
  let [groups, ids] = [0, 0]
  const asCorrected = (event: UsageEvent): CorrectedEvent =>
    corrected.get(eventKey('org', nameOf(event))) ?? { event, counted: event.counted, draws: event.draws, retracted: false }
  return {
    readings,
    group(...requests: (RecordRequest | CorrectRequest)[]): Decision {
      groups += 1
      const decision = run(state, requests, {
        recordedAt: new Date(now.getTime() + groups),
        newEventId: () => `event ${String((ids += 1)).padStart(4, '0')}`,
        readings: [...readings.values()],
        values: [...values.values()],
        known,
        corrected,
        // In whatever order they are read.
        rivals: [...known.values()].toReversed().map(asCorrected),
      })
      state = apply(state, decision)
      for (const reading of decision.readings) readings.set(reading.meter, reading)
      for (const value of decision.newValues) values.set(value.value, value)
      for (const value of decision.goneValues) values.delete(value.value)
      for (const event of decision.events) known.set(eventKey('org', nameOf(event)), event)
      for (const each of decision.corrections) corrected.set(eventKey('org', nameOf(each.event)), each)
      return decision
    },
  }
}
const used = (decision: Decision): number[] =>
  answers(decision).map(({ balance }) => Number(balance.used + balance.overage) / 1e6)
const counted = (decision: Decision): number[] => decision.events.map((event) => Number(event.counted) / 1e6)

describe('a largest level', () => {
  test('counts what it exceeds the largest of the period by, in one group and over several', () => {
    const own = organization()
    expect(used(own.group(tell('storage', 4), tell('storage', 3), tell('storage', 4), tell('storage', 6)))).toEqual([4, 4, 4, 6])
    expect(used(own.group(tell('storage', 5), tell('storage', '6.5')))).toEqual([6, 6.5])
    expect(own.readings.get('storage')).toMatchObject({ quantity: 6_500_000n, draws: [{ amount: 6_500_000n, overage: 0n }] })
  })

  test('that is refused counts nothing, also of the next', () => {
    const own = organization()
    expect(answers(own.group(tell('storage', 4), tell('storage', 11, { verb: 'consume' }))).map(({ code }) => code)).toEqual([
      null,
      'quota_exceeded',
    ])
    expect(counted(own.group(tell('storage', 5)))).toEqual([1])
  })

  test('stands as it was told last, whatever was the largest', () => {
    const own = organization()
    own.group(tell('storage', 6, { at: ago(30) }), tell('storage', 3, { at: ago(20) }), tell('storage', 5, { at: ago(40) }))
    expect(own.readings.get('storage')).toMatchObject({ quantity: 6n * MICRO, level: 3n * MICRO, levelAt: ago(20) })
    // Of two of one moment, the one that was told later.
    own.group(tell('storage', 2, { at: ago(20), properties: { host: 'b' } }))
    expect(own.readings.get('storage')).toMatchObject({ level: 2n * MICRO, levelAt: ago(20), levelProperties: { host: 'b' } })
  })

  test('taken back leaves the largest of the others, and the level that is told last of them', () => {
    const own = organization()
    own.group(
      tell('storage', 6, { at: ago(30), key: 'six' }),
      tell('storage', 4, { at: ago(20) }),
      tell('seats', 9, { at: ago(10) }),
    )
    const decision = own.group(takeBack('six'))
    expect([used(decision), counted(decision)]).toEqual([[4], [-2]])
    expect(decision.corrections).toMatchObject([{ counted: 0n, draws: [], retracted: true }])
    expect(own.readings.get('storage')).toMatchObject({
      quantity: 4n * MICRO,
      level: 4n * MICRO,
      draws: [{ amount: 4n * MICRO }],
    })
    expect(counted(own.group(tell('storage', 5)))).toEqual([1])
  })

  test('of which nothing is left counts nothing, and draws nothing', () => {
    const own = organization()
    own.group(tell('storage', 12, { key: 'only' }))
    expect(used(own.group(takeBack('only')))).toEqual([0])
    expect(own.readings.get('storage')).toMatchObject({ quantity: 0n, draws: [] })
    expect(counted(own.group(tell('storage', 1)))).toEqual([1])
  })

  test('is not taken back in the group that tells it, and not by what was refused', () => {
    const own = organization()
    const same = own.group(tell('storage', 6, { key: 'six' }), takeBack('six'))
    expect(errorOf(same, 1)).toMatchObject({ code: 'conflict', details: { field: 'corrects' } })
    own.group(tell('storage', 20, { verb: 'consume', key: 'refused' }), tell('storage', 8, { key: 'eight' }))
    expect(used(own.group(takeBack('eight')))).toEqual([6])
  })
})

describe('a latest level', () => {
  test('counts its difference to the one before, gives back what it falls by, and nothing where it is told late', () => {
    const own = organization()
    const first = own.group(
      tell('seats', 4, { at: ago(30) }),
      tell('seats', 7, { at: ago(20) }),
      tell('seats', 2, { at: ago(25) }),
    )
    expect([used(first), counted(first)]).toEqual([
      [4, 7, 7],
      [4, 3, 0],
    ])
    const second = own.group(tell('seats', 12, { at: ago(10) }), tell('seats', 3, { at: ago(10) }))
    expect([used(second), counted(second)]).toEqual([
      [12, 3],
      [5, -9],
    ])
    expect(own.readings.get('seats')).toMatchObject({ quantity: 3n * MICRO, draws: [{ amount: 3n * MICRO, overage: 0n }] })
    expect(used(own.group(tell('seats', 0)))).toEqual([0])
    expect(own.readings.get('seats')).toMatchObject({ quantity: 0n, draws: [] })
  })

  test('taken back leaves the last of the others, of one moment the one that was told later', () => {
    const own = organization()
    own.group(
      tell('seats', 4, { at: ago(30) }),
      tell('seats', 5, { at: ago(30) }),
      tell('seats', 8, { at: ago(20), key: 'last' }),
    )
    own.group(tell('seats', 6, { at: ago(40) }))
    const decision = own.group(takeBack('last'))
    expect([used(decision), counted(decision)]).toEqual([[5], [-3]])
    expect(own.readings.get('seats')).toMatchObject({ level: 5n * MICRO, levelAt: ago(30) })
    // Also where they were told one after another.
    own.group(tell('seats', 3, { at: ago(30) }))
    own.group(tell('seats', 9, { at: ago(10), key: 'later' }))
    expect(used(own.group(takeBack('later')))).toEqual([3])
  })

  test('taken back leaves those of other meters that draw from the same balance', () => {
    const own = organization()
    own.group(
      tell('agents', 4, { at: ago(30) }),
      tell('agents', 6, { at: ago(20), key: 'agents' }),
      tell('robots', 20, { at: ago(10) }),
    )
    expect(used(own.group(takeBack('agents')))).toEqual([24])
  })
})

describe('different values', () => {
  test('count once, a number like the text that it is written as', () => {
    const own = organization()
    expect(counted(own.group(user('a'), user('a'), user(5)))).toEqual([1, 0, 1])
    expect(counted(own.group(user('5'), user('a'), user('b')))).toEqual([0, 0, 1])
  })

  test('that are refused count when they are asked for again', () => {
    const own = organization()
    own.group(user('a'), user('b'))
    const refused = own.group(user('c', 'consume'), user('c', 'consume'), user('b', 'consume'))
    expect(answers(refused).map(({ code }) => code)).toEqual(['quota_exceeded', 'quota_exceeded', null])
    expect(counted(refused)).toEqual([0, 0, 0])
    expect(counted(own.group(user('c')))).toEqual([1])
  })

  test('need a value, of 255 characters at most', () => {
    const own = organization()
    expect(counted(own.group(user('x'.repeat(255))))).toEqual([1])
    for (const wrong of [user('x'.repeat(256)), tell('users', 1), tell('users', 1, { properties: { other: 'a' } })])
      expect(errorOf(own.group(wrong))).toMatchObject({ code: 'invalid_request', details: { field: 'properties.user' } })
  })

  test('taken back count as long as another use has them, and anew when they are told anew', () => {
    const own = organization()
    own.group(user('a', 'track', 'first'), user('a', 'track', 'second'), user('b', 'track', 'other'))
    const first = own.group(takeBack('first'))
    expect([used(first), counted(first)]).toEqual([[2], [0]])
    const second = own.group(takeBack('second'))
    expect([used(second), counted(second)]).toEqual([[1], [-1]])
    expect(counted(own.group(user('a', 'track', 'third'), user('b'), user('a', 'track', 'fourth')))).toEqual([1, 0, 0])
    // What it had drawn before it was told anew is given back already.
    expect(used(own.group(takeBack('third'), takeBack('fourth')))).toEqual([2, 1])
    expect(used(own.group(user('a', 'track', 'fifth')))).toEqual([2])
    // What is told anew in the group that takes it back is there still.
    const both = own.group(takeBack('fifth'), user('a', 'track', 'sixth'))
    expect([used(both), both.goneValues, both.newValues]).toEqual([[1, 2], [], []])
  })
})

describe('a filter', () => {
  const large = (properties?: UsageProperties, verb: 'track' | 'consume' = 'consume') =>
    tell('large', 2, { verb, ...(properties === undefined ? {} : { properties }) })

  test('leaves out what lacks its values: it counts nothing, and takes nothing of the pace', () => {
    const own = organization()
    const decision = own.group(large(), large({ model: 'small' }), large({ other: 'large' }), large({ model: 'large' }))
    expect(counted(decision)).toEqual([0, 0, 0, 2])
    expect(decision.hourlyChanges).toMatchObject([{ events: 1, quantity: 2n * MICRO }])
    // Nor is there anything of it to be corrected.
    own.group(tell('large', 2, { key: 'left out' }))
    expect(errorOf(own.group(takeBack('left out')))).toMatchObject({ code: 'not_found', details: { field: 'corrects' } })
    expect(answers(own.group(large({ model: 5 }, 'track'), large({ model: true }, 'track'))).map(({ drawn }) => drawn)).toEqual([
      2n * MICRO,
      2n * MICRO,
    ])
  })

  test('lets nothing through too fast: the refusal is no event, and its key may be used again', () => {
    const own = organization()
    const decision = own.group(large({ model: 'large' }), large({ model: 'large' }))
    expect(answers(decision).map(({ code, eventId }) => [code, eventId === null])).toEqual([
      [null, false],
      ['rate_limited', true],
    ])
    const tooLarge = answers(own.group(tell('large', 4, { verb: 'consume', properties: { model: 'large' } })))[0]!
    expect([tooLarge.code, tooLarge.retryAfterMs]).toEqual(['rate_limited', null])
    expect(tooLarge.reason).toContain('3')
  })
})
