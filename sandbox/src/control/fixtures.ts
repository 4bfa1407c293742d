import type { Engine } from '../engine/engine.ts'
import type { Stored, StoredName, StoredObject } from '../model/stored.ts'

/** A state in a file: what `export` writes and `import` reads. */
export interface Fixture {
  readonly format: 'stripe-sandbox'
  readonly version: 1
  /** Objects by kind, oldest first. */
  readonly objects: Readonly<Record<string, readonly StoredObject[]>>
}

/** Kinds that belong to one run and not to a fixture. */
const LEFT_OUT = new Set<StoredName>(['_delivery', '_idempotent_answer'])

/** The whole state. The sandbox's clock is part of it. */
export function exportFixture(engine: Engine): Fixture {
  const objects: Record<string, StoredObject[]> = {}
  for (const name of engine.store.names()) {
    if (LEFT_OUT.has(name) || engine.store.count(name) === 0) continue
    objects[name] = [...engine.store.all(name)] as unknown as StoredObject[]
  }
  return { format: 'stripe-sandbox', version: 1, objects }
}

/**
 * Adds a fixture's objects, all or none. Throws a `RangeError` with a sentence when the file is none of ours, knows a kind that this
 * version does not, or holds an id that is there already. Answers how many objects were added.
 */
export function importFixture(engine: Engine, fixture: unknown): number {
  const { objects } = checkedFixture(fixture)
  let count = 0
  engine.transact({ request: null, task: null }, (ctx) => {
    for (const [name, members] of Object.entries(objects)) {
      if (!engine.store.has(name as StoredName)) throw new RangeError(`This version knows no objects of the kind '${name}'.`)
      for (const object of members) {
        if (name === '_setting') continue
        if (ctx.get(name as StoredName, object.id) !== undefined)
          throw new RangeError(`There is a ${name} with the id ${object.id} already.`)
        ctx.store.put(name as StoredName, object as unknown as Stored<StoredName>)
        count += 1
      }
    }
  })
  return count
}

function checkedFixture(fixture: unknown): Fixture {
  const candidate = fixture as Partial<Fixture> | null
  if (typeof candidate !== 'object' || candidate?.format !== 'stripe-sandbox' || candidate.version !== 1) {
    throw new RangeError('This is not a fixture of the Stripe sandbox (format "stripe-sandbox", version 1).')
  }
  return candidate as Fixture
}
