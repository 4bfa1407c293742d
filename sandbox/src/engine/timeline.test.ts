import fc from 'fast-check'
import { expect, test } from 'vitest'
import { clockStateOf } from './clock.ts'
import { Engine } from './engine.ts'
import { timeRule, type TimeRule } from './module.ts'
import { createRandom } from './random.ts'
import type { Stored } from '../model/stored.ts'

const START = 1_767_225_600
const NOWHERE = { request: null, task: null }

function engineWith(rules: readonly TimeRule[], failures: unknown[] = []): Engine {
  return new Engine({
    modules: [{ rules }],
    random: createRandom(1),
    clock: clockStateOf({ frozen: START }, 0),
    journal: null,
    report: (error) => failures.push(error),
  })
}

function clock(id: string): Stored<'test_helpers.test_clock'> {
  return {
    id,
    object: 'test_helpers.test_clock',
    created: START,
    deletes_after: START + 1e7,
    frozen_time: START,
    livemode: false,
    name: null,
    status: 'ready',
    status_details: {},
  }
}

/** A delivery stands for any object with a time: its `nextAttemptMs` is the due second. */
function timer(id: string, due: number, period = 0): Stored<'_delivery'> {
  return { id, event: '', endpoint: String(period), attempts: 0, state: 'pending', nextAttemptMs: due, lastResult: null }
}

function sorted(rings: ReadonlyArray<[string, number]>): string[] {
  return rings.map((ring) => ring.join(' at ')).toSorted((left, right) => left.localeCompare(right))
}

/** Rings, notes the time, and rings again after its period; a period of 0 ends it. */
function ringing(rung: Array<[string, number]>): TimeRule {
  return timeRule({
    name: 'ring',
    object: '_delivery',
    due: (object) => (object.state === 'pending' ? object.nextAttemptMs : null),
    run: (object, ctx) => {
      rung.push([object.id, ctx.now()])
      const period = Number(object.endpoint)
      ctx.update('_delivery', object.id, period === 0 ? { state: 'delivered' } : { nextAttemptMs: object.nextAttemptMs + period })
    },
  })
}

test('advancing runs everything due, each at its own time, in order', () => {
  const times = fc.array(fc.record({ due: fc.integer({ min: 0, max: 50 }), period: fc.constantFrom(0, 7, 13) }), { maxLength: 8 })
  fc.assert(
    fc.property(times, fc.array(fc.integer({ min: 0, max: 30 }), { maxLength: 4 }), (timers, moves) => {
      const rung: Array<[string, number]> = []
      const engine = engineWith([ringing(rung)])
      engine.transact(NOWHERE, (ctx) => {
        for (const [index, { due, period }] of timers.entries())
          ctx.store.put('_delivery', timer(String(index), START + due, period))
      })
      let now = START
      for (const move of moves) engine.advanceTo((now += move))
      engine.timeline.catchUp()
      const expected = timers.flatMap(({ due, period }, index) => {
        const rings: Array<[string, number]> = []
        for (let at = START + due; at <= now; at += period === 0 ? Infinity : period) rings.push([String(index), at])
        return rings
      })
      expect(rung.map(([, at]) => at)).toEqual(rung.map(([, at]) => at).toSorted((left, right) => left - right))
      expect(sorted(rung)).toEqual(sorted(expected))
    }),
  )
})

test('rules due in the same second run in the order they declare', () => {
  const ran: string[] = []
  const rule = (name: string, order: number) =>
    timeRule({
      name,
      object: '_delivery',
      order,
      due: (object) => (object.lastResult?.includes(name) === true ? null : object.nextAttemptMs),
      run: (object, ctx) => {
        ran.push(name)
        ctx.update('_delivery', object.id, { lastResult: (object.lastResult ?? '') + name })
      },
    })
  const engine = engineWith([rule('late', 90), rule('early', 10)])
  engine.transact(NOWHERE, (ctx) => ctx.store.put('_delivery', timer('a', START + 5)))
  engine.advanceTo(START + 5)
  expect(ran).toEqual(['early', 'late'])
})

test('a rule that does not move on is reported instead of running for ever', () => {
  const failures: unknown[] = []
  const stuck = timeRule({ name: 'stuck', object: '_delivery', due: (object) => object.nextAttemptMs, run: () => {} })
  const engine = engineWith([stuck], failures)
  engine.transact(NOWHERE, (ctx) => ctx.store.put('_delivery', timer('a', START + 5)))
  engine.advanceTo(START + 10)
  expect(failures).toHaveLength(1)
})

test('a test clock runs its own customers only, and is ready at its target', async () => {
  const seen: Array<[string, number]> = []
  const rename = timeRule({
    name: 'rename',
    object: 'customer',
    due: (customer) => (customer.name === 'due' ? START + 100 : null),
    run: (customer, ctx) => {
      seen.push([customer.id, ctx.now(customer.id)])
      ctx.update('customer', customer.id, { name: 'done' })
    },
  })
  const engine = engineWith([rename])
  engine.transact(NOWHERE, (ctx) => {
    ctx.store.put('test_helpers.test_clock', clock('clock_1'))
    for (const [id, testClock] of [
      ['cus_on', 'clock_1'],
      ['cus_off', null],
    ] as const) {
      ctx.store.put('customer', { id, object: 'customer', name: 'due', test_clock: testClock } as unknown as Stored<'customer'>)
    }
    ctx.update('test_helpers.test_clock', 'clock_1', {
      status: 'advancing',
      status_details: { advancing: { target_frozen_time: START + 200 } },
    })
  })
  expect(seen).toEqual([])
  await engine.timeline.idle()
  expect(seen).toEqual([['cus_on', START + 100]])
  expect(engine.store.get('test_helpers.test_clock', 'clock_1')).toMatchObject({ status: 'ready', frozen_time: START + 200 })
  expect([...engine.store.all('event')].map(({ type, created }) => [type, created])).toEqual([
    ['test_helpers.test_clock.ready', START + 200],
  ])
})

test('a rule that fails stops its test clock with internal_failure, and leaves nothing half done', async () => {
  const failures: unknown[] = []
  const failing = timeRule({
    name: 'fail',
    object: 'customer',
    due: () => START + 1,
    run: (customer, ctx) => {
      ctx.update('customer', customer.id, { name: 'half done' })
      throw new Error('on purpose')
    },
  })
  const engine = engineWith([failing], failures)
  engine.transact(NOWHERE, (ctx) => {
    ctx.store.put('customer', {
      id: 'cus_1',
      object: 'customer',
      name: 'x',
      test_clock: 'clock_1',
    } as unknown as Stored<'customer'>)
    ctx.store.put('test_helpers.test_clock', {
      ...clock('clock_1'),
      status: 'advancing',
      status_details: { advancing: { target_frozen_time: START + 200 } },
    })
  })
  await engine.timeline.idle()
  expect(failures).toHaveLength(1)
  expect(engine.store.get('test_helpers.test_clock', 'clock_1')?.status).toBe('internal_failure')
  expect(engine.store.get('customer', 'cus_1')?.name).toBe('x')
})
