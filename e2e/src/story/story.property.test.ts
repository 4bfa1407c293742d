import fc from 'fast-check'
import { test } from 'vitest'
import { beginLife, type Life } from './life.ts'
import { storyPlace } from './place.ts'

const place = storyPlace()

const METERS = ['calls', 'tokens', 'agents', 'searches'] as const
/** Amounts around the edges of what the plans include. */
const MOST = { calls: 260, tokens: 3_500, agents: 8, searches: 60 }

const meter = fc.constantFrom(...METERS)
const share = fc.integer({ min: 0, max: 100 })
const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('use' as const),
      verb: fc.constantFrom('track', 'consume' as const),
      meter,
      share,
      daysAgo: fc.option(fc.integer({ min: 1, max: 33 }), { freq: 3 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('correct' as const), pick: fc.nat(), share: fc.option(share) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('hold' as const), meter: fc.constantFrom('calls', 'searches'), share }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('settle' as const), share: fc.option(share) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('wait' as const), hours: fc.integer({ min: 1, max: 24 * 24 }) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('subscribe' as const),
      tier: fc.constantFrom('team', 'business'),
      trial: fc.boolean(),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('change' as const),
      new_tier: fc.constantFrom('team', 'business'),
      quantity: fc.integer({ min: 1, max: 3 }),
      at: fc.constantFrom('now', 'period_end'),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('card' as const),
      name: fc.constantFrom('pm_card_visa', 'pm_card_chargeCustomerFail'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('pay' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('topUp' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('promote' as const),
      meter: fc.constantFrom('calls', 'searches'),
      share,
      days: fc.integer({ min: 1, max: 40 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('cancel' as const), immediate: fc.boolean() }) },
)
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never

type Made = { readonly keys: string[]; readonly holds: string[]; uses: number }

async function take(life: Life, each: Step, made: Made): Promise<unknown> {
  switch (each.kind) {
    case 'use': {
      const { verb, daysAgo } = each
      const key = `use ${(made.uses += 1)}`
      made.keys.push(key)
      const quantity = Math.ceil((MOST[each.meter] * each.share) / 100)
      return life.use(verb, each.meter, quantity, {
        key,
        ...(daysAgo === null || verb === 'consume' ? {} : { occurred_at: life.ago(daysAgo) }),
      })
    }
    case 'correct': {
      const key = made.keys[each.pick % (made.keys.length || 1)] ?? 'none'
      return life.correct(key, each.share === null ? { retract: true } : { quantity: -Math.ceil(each.share / 10) })
    }
    case 'hold': {
      const held = await life.hold(each.meter, Math.ceil((MOST[each.meter as 'calls'] * each.share) / 100))
      return held === null ? null : made.holds.push(held)
    }
    case 'settle': {
      const held = made.holds.shift()
      if (held === undefined) return null
      return each.share === null ? life.release(held) : life.settle(held, each.share)
    }
    case 'wait':
      return life.wait(`${each.hours}h`)
    case 'subscribe':
      return life.subscribe(each.tier, each.trial ? {} : { payment_method_id: 'pm_card_visa' })
    case 'change':
      return life.change({ new_tier: each.new_tier, quantity: each.quantity, at: each.at })
    case 'card':
      return life.card(each.name)
    case 'pay':
      return life.payOpenInvoices()
    case 'topUp':
      return life.topUp('searches')
    case 'promote':
      return life.promote(each.meter, Math.ceil((MOST[each.meter as 'calls'] * each.share) / 100) + 1, each.days)
    case 'cancel':
      return life.cancel(each.immediate)
  }
}

test('whatever a customer does in whatever order, the books agree after each step', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 12 }), async (steps) => {
      const life = await beginLife(await place.newCustomer())
      // Nothing is sold before something is bought; what a step is refused changes nothing.
      const made: Made = { keys: [], holds: [], uses: 0 }
      await life.subscribe('team')
      for (const each of steps) {
        await take(life, each, made)
        await life.settleBooks()
      }
    }),
    { numRuns: Number(process.env['STORY_RUNS'] ?? 12), endOnFailure: true },
  )
}, 300_000)
