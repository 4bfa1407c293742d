import { describe, expect, test } from 'vitest'
import { answers, apply, errorOf, now, reserve, run, stateOf, termsOf, use } from '../../../test/decisions.ts'
import { MICRO, parseQuantity } from '../../lib/quantity.ts'
import type { CorrectRequest, UsageRequest } from '../usage.ts'
import { eventKey } from './decision.ts'

// What can be corrected, by how much, and what a correction answers.

const correct = (corrects: string, quantity: number | string | null, key = 'less'): CorrectRequest => ({
  verb: 'correct',
  organizationId: 'org',
  corrects,
  quantity: quantity === null ? null : parseQuantity(quantity),
  idempotencyKey: key,
  properties: null,
})
const decide = (...requests: UsageRequest[]) => run(stateOf(termsOf('free')), requests)

describe('a correction', () => {
  const ten = use('track', 'episode_ingestion', 10, 'a')

  test('takes away down to nothing, step by step, and no more; it may add too', () => {
    const decision = decide(
      ten,
      correct('a', -4, 'one'),
      correct('a', -6, 'two'),
      correct('a', '-0.000001', 'three'),
      correct('a', 3, 'four'),
    )
    expect([0, 1, 2, 4].map((index) => Number(answersOf(decision, index).balance.used / MICRO))).toEqual([10, 6, 0, 3])
    expect(errorOf(decision, 3)).toMatchObject({ code: 'invalid_quantity', details: { field: 'quantity' } })
    expect(decision.events.map(({ verb, counted }) => [verb, counted / MICRO])).toEqual([
      ['track', 10n],
      ['correct', -4n],
      ['correct', -6n],
      ['correct', 3n],
    ])
  })

  test('of the whole takes back what is left of it, after which there is nothing more to correct', () => {
    const decision = decide(
      ten,
      correct('a', -4, 'one'),
      correct('a', null, 'two'),
      correct('a', -1, 'three'),
      correct('a', null, 'four'),
    )
    expect(answersOf(decision, 2)).toMatchObject({
      verb: 'correct',
      quantity: -6n * MICRO,
      drawn: -6n * MICRO,
      balance: { used: 0n },
    })
    expect(decision.events[2]).toMatchObject({ verb: 'retract', counted: -6n * MICRO })
    for (const index of [3, 4])
      expect(errorOf(decision, index)).toMatchObject({ code: 'invalid_request', details: { field: 'corrects' } })
  })

  test('of uses that are counted is by whole ones', () => {
    const calls = use('track', 'calls', 7, 'a')
    expect(errorOf(decide(calls, correct('a', '-0.5')), 1)).toMatchObject({
      code: 'invalid_quantity',
      details: { field: 'quantity' },
    })
    expect(answersOf(decide(calls, correct('a', -1)), 1).balance.used).toBe(0n)
    expect(answersOf(decide(calls, correct('a', null)), 1).balance.used).toBe(0n)
  })

  test('is of a use that was counted: of none that is unknown, was refused, is a correction itself or is only held', () => {
    const full = use('consume', 'episode_ingestion', 200, 'refused')
    const asked = [ten, full, reserve(5, 'held'), correct('a', -1, 'corrected')]
    for (const key of ['unknown', 'refused', 'held', 'corrected']) {
      const error = errorOf(decide(...asked, correct(key, -1)), 4)
      expect(error).toMatchObject({ code: 'not_found', details: { field: 'corrects' } })
    }
  })
})

/** The answer of one of several requests, of which others may have failed. */
function answersOf(decision: ReturnType<typeof run>, index: number) {
  return answers({ ...decision, outcomes: [decision.outcomes[index]!] })[0]!
}

test('what takes nothing says that it took nothing: a question, a hold, a use that was taken back since', () => {
  const state = stateOf(termsOf('free'))
  const check: UsageRequest = {
    verb: 'check',
    organizationId: 'org',
    meter: 'episode_ingestion',
    quantity: 5n * MICRO,
    properties: null,
  }
  const first = run(state, [check, reserve(5, 'held'), use('consume', 'episode_ingestion', 10, 'a'), correct('a', null)])
  expect(answers(first).map(({ allowed, drawn }) => [allowed, drawn])).toEqual([
    [true, 0n],
    [true, 0n],
    [true, 10n * MICRO],
    [true, -10n * MICRO],
  ])
  const known = new Map(first.events.map((event) => [eventKey('org', event.idempotencyKey), event]))
  const again = run({ ...apply(state, first), now }, [use('consume', 'episode_ingestion', 10, 'a')], {
    known,
    takenBack: new Set([eventKey('org', 'a')]),
  })
  expect(answers(again)).toMatchObject([{ allowed: false, code: 'taken_back', drawn: 0n, replayed: true }])
})
