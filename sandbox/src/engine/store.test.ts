import fc from 'fast-check'
import { expect, test } from 'vitest'
import { layouts } from '../model/layouts.ts'
import type { Stored } from '../model/stored.ts'
import { Store } from './store.ts'

type Setting = Stored<'_delivery'>

function delivery(id: string, endpoint: string, state: Setting['state'] = 'pending'): Setting {
  return { id, event: 'evt', endpoint, attempts: 0, state, nextAttemptMs: 0, lastResult: null }
}

const never = () => false
const nothing = () => {}

type Step = { kind: 'put'; id: string; endpoint: string; state: Setting['state'] } | { kind: 'delete'; id: string }

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    kind: fc.constant('put' as const),
    id: fc.constantFrom('a', 'b', 'c', 'd', 'e'),
    endpoint: fc.constantFrom('x', 'y'),
    state: fc.constantFrom('pending' as const, 'delivered' as const),
  }),
  fc.record({ kind: fc.constant('delete' as const), id: fc.constantFrom('a', 'b', 'c', 'd', 'e') }),
)
const transaction = fc.record({ steps: fc.array(step, { maxLength: 8 }), fails: fc.boolean() })

/** Runs the steps as one transaction, which fails at its end when told to. */
function carryOut(store: Store, steps: readonly Step[], fails: boolean): 'done' | 'undone' {
  try {
    store.transaction(
      () => {
        for (const each of steps) {
          if (each.kind === 'put') store.put('_delivery', delivery(each.id, each.endpoint, each.state))
          else store.delete('_delivery', each.id)
        }
        if (fails) throw new Error('on purpose')
      },
      never,
      nothing,
    )
    return 'done'
  } catch {
    return 'undone'
  }
}

/** What a plain ordered list would hold. */
function applyTo(model: Setting[], steps: readonly Step[]): Setting[] {
  return steps.reduce((list, each) => {
    const at = list.findIndex(({ id }) => id === each.id)
    if (each.kind === 'delete') return list.filter(({ id }) => id !== each.id)
    const object = delivery(each.id, each.endpoint, each.state)
    return at < 0 ? [...list, object] : list.with(at, object)
  }, model)
}

test('any sequence of transactions, failing or not, leaves what a plain list would hold, in order and in every index', () => {
  fc.assert(
    fc.property(fc.array(transaction, { maxLength: 12 }), (transactions) => {
      const store = new Store(layouts)
      let model: Setting[] = []
      for (const { steps, fails } of transactions) {
        const outcome = carryOut(store, steps, fails)
        expect(outcome).toBe(fails ? 'undone' : 'done')
        if (!fails) model = applyTo(model, steps)
        store.tidy()
        expect([...store.all('_delivery')]).toEqual(model)
        for (const state of ['pending', 'delivered'] as const) {
          expect(store.by('_delivery', 'state', state)).toEqual(model.filter((object) => object.state === state))
        }
        expect([...store.walk('_delivery', { forward: false })]).toEqual(model.toReversed())
        for (const [at, { id }] of model.entries()) {
          expect([...store.walk('_delivery', { from: id, forward: false })]).toEqual(model.slice(0, at).toReversed())
          expect([...store.walk('_delivery', { from: id, forward: true })]).toEqual(model.slice(at + 1))
        }
      }
    }),
  )
})

test('a walk along an index goes on after an object that is not in it', () => {
  const store = new Store(layouts)
  const all = ['a', 'b', 'c', 'd'].map((id, at) => delivery(id, 'x', at % 2 === 0 ? 'pending' : 'delivered'))
  store.transaction(() => all.forEach((object) => store.put('_delivery', object)), never, nothing)
  const pending = { index: { name: 'state', value: 'pending' }, from: 'd' }
  expect([...store.walk('_delivery', { ...pending, forward: false })].map(({ id }) => id)).toEqual(['c', 'a'])
  expect([...store.walk('_delivery', { ...pending, from: 'b', forward: true })].map(({ id }) => id)).toEqual(['c'])
})

test('what cannot be made durable is undone', () => {
  const store = new Store(layouts)
  const full = () => {
    throw new Error('disk full')
  }
  expect(() => store.transaction(() => store.put('_delivery', delivery('a', 'x')), never, full)).toThrow('disk full')
  expect([...store.all('_delivery')]).toEqual([])
})

test('holes of deletions are closed, and order and indexes stay', () => {
  const store = new Store(layouts)
  const ids = Array.from({ length: 5000 }, (_, index) => `d${index}`)
  store.transaction(() => ids.forEach((id) => store.put('_delivery', delivery(id, 'x'))), never, nothing)
  store.transaction(() => ids.slice(0, 4000).forEach((id) => store.delete('_delivery', id)), never, nothing)
  store.tidy()
  expect([...store.all('_delivery')].map(({ id }) => id)).toEqual(ids.slice(4000))
  expect(store.by('_delivery', 'state', 'pending')).toHaveLength(1000)
  expect([...store.walk('_delivery', { from: 'd4500', forward: true })]).toHaveLength(499)
})
