import { describe, expect, test } from 'vitest'
import { answers, errorOf, reserve, run, stateOf, termsOf, use } from '../../../test/decisions.ts'
import { MICRO } from '../../lib/quantity.ts'
import type { CorrectRequest, ReserveRequest, UsageRequest } from '../usage.ts'

// What of a key's second request has to be as in the first, of corrections and holds; of uses, `decide.test.ts` says it.

const used = [use('track', 'episode_ingestion', 10, 'a'), use('track', 'episode_ingestion', 10, 'other')]
const less: CorrectRequest = {
  verb: 'correct',
  organizationId: 'org',
  corrects: 'a',
  quantity: -3n * MICRO,
  idempotencyKey: 'less',
  properties: { reason: 'twice' },
}
const whole: CorrectRequest = { ...less, quantity: null }

/** What comes of a request whose key another used before. */
function again(first: UsageRequest, second: UsageRequest) {
  const decision = run(stateOf(termsOf('soft')), [...used, first, second])
  return { decision, field: () => errorOf(decision, 3).details['field'] }
}

describe('a correction that is sent again', () => {
  test.each([
    ['a part', less],
    ['the whole', whole],
    ['a part without a reason', { ...less, properties: null }],
  ])('of %s is answered as it was, and takes nothing more', (_name, correction) => {
    const { decision } = again(correction, structuredClone(correction))
    const [first, second] = answers(decision).slice(2)
    expect(second).toEqual({ ...first, replayed: true })
    expect(decision.events).toHaveLength(3)
  })

  test.each([
    ['corrects', less, { corrects: 'other' }],
    ['quantity', less, { quantity: -4n * MICRO }],
    ['retract', less, { quantity: null }],
    ['retract', whole, { quantity: -10n * MICRO }],
    ['reason', less, { properties: { reason: 'another' } }],
    ['reason', less, { properties: null }],
    ['reason', { ...less, properties: { reason: 'twice', by: 'me' } }, { properties: { reason: 'twice', by: 'you' } }],
  ])('with another %s is refused and names it', (field, first, over) => {
    expect(again(first, { ...first, ...over }).field()).toBe(field)
  })

  test('under the key of a use, or a use under the key of a correction, is another request', () => {
    expect(again(use('track', 'episode_ingestion', 1, 'less'), less).field()).toBe('verb')
    expect(again(less, use('consume', 'episode_ingestion', 1, 'less')).field()).toBe('verb')
  })
})

describe('a hold that is asked for again', () => {
  const hold = reserve(4, 'hold') as ReserveRequest

  test('is answered as it was, with the same reservation; for another time it is another', () => {
    const [first, second] = answers(again(hold, hold).decision).slice(2)
    expect(second).toEqual({ ...first, replayed: true })
    expect(again(hold, { ...hold, ttlMs: hold.ttlMs + 1 }).field()).toBe('expires_in_seconds')
    expect(again(hold, { ...hold, quantity: 5n * MICRO }).field()).toBe('quantity')
    expect(again(hold, use('consume', 'episode_ingestion', 4, 'hold')).field()).toBe('verb')
    expect(again(use('track', 'episode_ingestion', 4, 'hold'), hold).field()).toBe('verb')
  })

  test('and was refused is refused again, for whatever time', () => {
    const large = reserve(1_000, 'hold') as ReserveRequest
    const decision = run(stateOf(termsOf('free')), [large, { ...large, ttlMs: 1 }])
    expect(answers(decision).map(({ code, replayed }) => [code, replayed])).toEqual([
      ['quota_exceeded', false],
      ['quota_exceeded', true],
    ])
  })
})
