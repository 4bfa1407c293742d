import { describe, expect, test } from 'vitest'
import { answers, grantOf, run, stateOf, termsOf, use } from '../../../test/decisions.ts'
import { MICRO } from '../../lib/quantity.ts'
import type { UsageRequest } from '../usage.ts'

describe('what is given back', () => {
  const less = (quantity: number): UsageRequest => ({
    verb: 'correct',
    organizationId: 'org',
    corrects: 'a',
    quantity: BigInt(quantity) * MICRO,
    idempotencyKey: 'less',
    properties: null,
  })

  test('is the overage first, which would have been billed, then the amount', () => {
    const decision = run(stateOf(termsOf('soft')), [use('track', 'episode_ingestion', 510, 'a'), less(-15)])
    expect(decision.events[1]!.draws).toMatchObject([{ amount: -5n * MICRO, overage: -10n * MICRO }])
    expect(answers(decision)[1]!.balance).toMatchObject({ used: 495n * MICRO, overage: 0n, remaining: 5n * MICRO })
    const whole = run(stateOf(termsOf('soft')), [use('track', 'episode_ingestion', 510, 'a'), less(-510)])
    expect(answers(whole)[1]!.balance).toMatchObject({ used: 0n, overage: 0n, remaining: 500n * MICRO })
  })

  test('comes back last drawn first, and what another grant paid counts in the period no more', () => {
    const state = stateOf(termsOf('free'), { others: [grantOf('gift', '4', { priority: 1 })] })
    const decision = run(state, [use('track', 'episode_ingestion', 10, 'a'), less(-7)])
    const changes = Object.fromEntries(decision.grantChanges.map(({ id, used, usedElsewhere }) => [id, [used, usedElsewhere]]))
    const [plan] = Object.keys(changes).filter((id) => id !== 'gift')
    expect(changes).toEqual({ gift: [3n * MICRO, 0n], [plan!]: [0n, 3n * MICRO] })
  })

  test('of a use of nothing is nothing', () => {
    const decision = run(stateOf(termsOf('free')), [use('consume', 'episode_ingestion', 0, 'a'), less(0)])
    expect(answers(decision).map(({ allowed, drawn }) => [allowed, drawn])).toEqual([
      [true, 0n],
      [true, 0n],
    ])
  })
})
