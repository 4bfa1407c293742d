import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { UsageAnswer } from '../usage.ts'
import { answerBody, answerText } from './bodies.ts'

test('the text of an answer, written directly, is the JSON of its body', () => {
  const text = fc.oneof(fc.string({ unit: 'binary' }), fc.string())
  const quantity = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
  const maybe = <Value>(value: fc.Arbitrary<Value>) => fc.option(value, { nil: null })
  const instant = fc.date({ min: new Date('1970-01-01'), max: new Date('2200-01-01'), noInvalidDate: true })
  const balance = fc.record({
    balanceKey: text,
    planGrantId: fc.constant('plan:credits:day:2026-01-01T00:00:00.000Z'),
    planKey: text,
    amount: maybe(quantity),
    used: quantity,
    overage: quantity,
    reserved: quantity,
    remaining: maybe(quantity),
    period: fc.constantFrom('billing_cycle', 'day', 'lifetime' as const),
    periodStart: instant,
    periodEnd: maybe(instant),
  })
  const answer: fc.Arbitrary<UsageAnswer> = fc.record({
    verb: fc.constant('consume' as const),
    allowed: fc.boolean(),
    code: maybe(fc.constantFrom('quota_exceeded', 'suspended' as const)),
    reason: maybe(text),
    eventId: maybe(text),
    organizationId: text,
    meter: text,
    quantity,
    drawn: quantity,
    balance,
    reservation: maybe(fc.record({ id: text, expiresAt: maybe(instant) })),
    late: fc.constantFrom(null, 'open', 'closed', 'credited', 'ended', 'free'),
    spending: fc.constantFrom(null, { currency: 'usd', limitMinor: 1_000, spentMinor: 980 }),
    retryAfterMs: maybe(fc.integer({ min: 1, max: 86_400_000 })),
    replayed: fc.boolean(),
  })
  const unitOf = (balanceKey: string): string => `unit of ${balanceKey}`
  fc.assert(
    fc.property(answer, (given) => {
      expect(answerText(given, unitOf)).toBe(JSON.stringify(answerBody(given, unitOf)))
    }),
    { numRuns: 1_000 },
  )
})
