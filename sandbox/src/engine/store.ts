import type { Layout } from '../model/layouts.ts'
import type { Stored, StoredName, StoredObject } from '../model/stored.ts'

/** A write of the transaction, in order; `after` is undefined for a deletion. */
export interface Write {
  readonly name: StoredName
  readonly id: string
  readonly before: StoredObject | undefined
  readonly after: StoredObject | undefined
  /** Place in the order of insertion, so that an undone deletion puts the object back where it stood. */
  readonly position: number
}

/** A committed transaction: done, or failed with its effects kept. */
export type Outcome<T> =
  | { readonly kind: 'done'; readonly result: T; readonly writes: readonly Write[] }
  | { readonly kind: 'failed'; readonly error: unknown; readonly writes: readonly Write[] }

interface Collection {
  readonly layout: Layout
  /** Objects in order of insertion; a deleted one leaves a hole. */
  rows: Array<StoredObject | undefined>
  readonly positions: Map<string, number>
  readonly indexes: Map<string, Map<string, number[]>>
  holes: number
}

/**
 * All objects of one sandbox, in memory. Objects are immutable: a change puts a new object in the old one's place, so a
 * snapshot costs nothing and a rollback only puts the old objects back. One transaction at a time, synchronous from begin to commit.
 */
export class Store {
  private readonly collections = new Map<StoredName, Collection>()
  private writes: Write[] | null = null

  constructor(layouts: Iterable<Layout>) {
    for (const layout of layouts) {
      const indexes = new Map(Object.keys(layout.indexes).map((name) => [name, new Map<string, number[]>()]))
      this.collections.set(layout.name, { layout, rows: [], positions: new Map(), indexes, holes: 0 })
    }
  }

  /** The object, or undefined. */
  get<K extends StoredName>(name: K, id: string): Stored<K> | undefined {
    const collection = this.collection(name)
    const position = collection.positions.get(id)
    return position === undefined ? undefined : (collection.rows[position] as Stored<K> | undefined)
  }

  /** Adds an object, or puts it in the place of the one with the same id. */
  put<K extends StoredName>(name: K, object: Stored<K>): void {
    this.change(name, (object as StoredObject).id, object as StoredObject)
  }

  /** Removes an object; nothing happens when it is not there. */
  delete(name: StoredName, id: string): void {
    if (this.collection(name).positions.has(id)) this.change(name, id, undefined)
  }

  /** Number of objects of this kind. */
  count(name: StoredName): number {
    return this.collection(name).positions.size
  }

  /** All objects of a kind, oldest first. */
  *all<K extends StoredName>(name: K): Generator<Stored<K>> {
    for (const row of this.collection(name).rows) if (row !== undefined) yield row as Stored<K>
  }

  /** The objects under an index value, oldest first (a copy: safe to write while walking through it). */
  by<K extends StoredName>(name: K, index: string, value: string): Array<Stored<K>> {
    const collection = this.collection(name)
    const bucket = this.bucket(collection, index, value)
    return (bucket ?? []).map((position) => collection.rows[position] as Stored<K>)
  }

  /** The newest object under an index value. */
  lastBy<K extends StoredName>(name: K, index: string, value: string): Stored<K> | undefined {
    const collection = this.collection(name)
    const position = this.bucket(collection, index, value)?.at(-1)
    return position === undefined ? undefined : (collection.rows[position] as Stored<K>)
  }

  /**
   * Walks through a kind (or one index value of it), newest first (`forward: false`) or oldest first, beginning after the object `from`.
   * `from` must exist.
   */
  *walk<K extends StoredName>(
    name: K,
    options: { index?: { name: string; value: string }; from?: string; forward: boolean },
  ): Generator<Stored<K>> {
    const collection = this.collection(name)
    const start = options.from === undefined ? null : (collection.positions.get(options.from) ?? null)
    const positions =
      options.index === undefined ? null : (this.bucket(collection, options.index.name, options.index.value) ?? [])
    for (const position of walkPositions(positions, collection.rows.length, start, options.forward)) {
      const row = collection.rows[position]
      if (row !== undefined) yield row as Stored<K>
    }
  }

  /** Puts an object in without a transaction: only for loading a stored state. */
  load(name: StoredName, object: StoredObject): void {
    const collection = this.collection(name)
    this.place(collection, object.id, collection.positions.get(object.id) ?? collection.rows.length, object)
  }

  /** True when such objects are kept at all. */
  has(name: StoredName): boolean {
    return this.collections.has(name)
  }

  names(): StoredName[] {
    return [...this.collections.keys()]
  }

  /**
   * Runs `work` as one transaction: its writes stay when it returns, and are undone when it throws. An error that `keeps` says yes to
   * keeps its writes. `commit` makes them durable; when it throws, they are undone as well.
   */
  transaction<T>(work: () => T, keeps: (error: unknown) => boolean, commit: (writes: readonly Write[]) => void): Outcome<T> {
    if (this.writes !== null) throw new Error('A transaction is already open.')
    const writes: Write[] = []
    this.writes = writes
    try {
      const outcome = this.attempt(work, keeps, writes)
      commit(writes)
      return outcome
    } catch (error) {
      this.undo(writes)
      throw error
    } finally {
      this.writes = null
    }
  }

  private attempt<T>(work: () => T, keeps: (error: unknown) => boolean, writes: Write[]): Outcome<T> {
    try {
      return { kind: 'done', result: work(), writes }
    } catch (error) {
      if (!keeps(error)) throw error
      return { kind: 'failed', error, writes }
    }
  }

  /** Runs `work` inside the open transaction and undoes what it wrote, whether it returns or throws: for previews. */
  rehearse<T>(work: () => T): T {
    const writes = this.writes
    if (writes === null) throw new Error('A rehearsal needs an open transaction.')
    const kept = writes.length
    try {
      return work()
    } finally {
      this.undo(writes.splice(kept))
    }
  }

  /** The writes of the open transaction so far. */
  get pendingWrites(): readonly Write[] {
    return this.writes ?? []
  }

  /** Closes the gaps that deletions left; only between transactions, since it moves positions. */
  tidy(): void {
    for (const collection of this.collections.values()) {
      if (collection.holes > 1024 && collection.holes * 2 > collection.rows.length) compact(collection)
    }
  }

  private change(name: StoredName, id: string, after: StoredObject | undefined): void {
    if (this.writes === null) throw new Error(`Write to ${name} outside a transaction.`)
    const collection = this.collection(name)
    const position = collection.positions.get(id) ?? collection.rows.length
    const before = this.place(collection, id, position, after)
    this.writes.push({ name, id, before, after, position })
  }

  private undo(writes: Write[]): void {
    for (const { name, id, before, position } of writes.toReversed()) this.place(this.collection(name), id, position, before)
  }

  private collection(name: StoredName): Collection {
    const collection = this.collections.get(name)
    if (collection === undefined) throw new Error(`No collection '${name}'. Declare it in src/model.`)
    return collection
  }

  private bucket(collection: Collection, index: string, value: string): number[] | undefined {
    const buckets = collection.indexes.get(index)
    if (buckets === undefined) throw new Error(`'${collection.layout.name}' has no index '${index}'. Declare it in src/model.`)
    return buckets.get(value)
  }

  private place(collection: Collection, id: string, position: number, after: StoredObject | undefined): StoredObject | undefined {
    const before = collection.rows[position]
    collection.rows[position] = after
    if (after === undefined) {
      collection.positions.delete(id)
      collection.holes += 1
    } else {
      if (before === undefined && position < collection.rows.length - 1) collection.holes -= 1
      collection.positions.set(id, position)
    }
    reindex(collection, position, before, after)
    return before
  }
}

function valuesOf(layout: Layout, index: string, object: StoredObject | undefined): ReadonlyArray<string> {
  if (object === undefined) return []
  const value = layout.indexes[index]?.(object as never)
  if (value === null || value === undefined) return []
  return typeof value === 'string' ? [value] : value
}

function reindex(
  collection: Collection,
  position: number,
  before: StoredObject | undefined,
  after: StoredObject | undefined,
): void {
  for (const [index, buckets] of collection.indexes) {
    const old = valuesOf(collection.layout, index, before)
    const fresh = valuesOf(collection.layout, index, after)
    if (old.length === fresh.length && old.every((value, at) => value === fresh[at])) continue
    for (const value of old) removeSorted(buckets, value, position)
    for (const value of fresh) insertSorted(buckets, value, position)
  }
}

function insertSorted(buckets: Map<string, number[]>, value: string, position: number): void {
  const bucket = buckets.get(value)
  if (bucket === undefined) {
    buckets.set(value, [position])
    return
  }
  const at = lowerBound(bucket, position)
  if (bucket[at] !== position) bucket.splice(at, 0, position)
}

function removeSorted(buckets: Map<string, number[]>, value: string, position: number): void {
  const bucket = buckets.get(value)
  if (bucket === undefined) return
  const at = lowerBound(bucket, position)
  if (bucket[at] === position) bucket.splice(at, 1)
  if (bucket.length === 0) buckets.delete(value)
}

/** First place in the ascending list whose number is not below `position`. */
function lowerBound(list: number[], position: number): number {
  let [low, high] = [0, list.length]
  if ((list[high - 1] ?? -1) < position) return high
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((list[middle] ?? 0) < position) low = middle + 1
    else high = middle
  }
  return low
}

function* walkPositions(positions: number[] | null, rowCount: number, start: number | null, forward: boolean): Generator<number> {
  const length = positions?.length ?? rowCount
  const startAt = start === null || positions === null ? start : lowerBound(positions, start)
  const isMember = positions === null || start === null || positions[startAt ?? 0] === start
  if (forward) {
    const first = startAt === null ? 0 : startAt + (isMember ? 1 : 0)
    for (let at = first; at < length; at++) yield positions === null ? at : (positions[at] ?? 0)
    return
  }
  for (let at = (startAt ?? length) - 1; at >= 0; at--) yield positions === null ? at : (positions[at] ?? 0)
}

/** Drops the holes that deletions left; positions and indexes follow. */
function compact(collection: Collection): void {
  const rows = collection.rows.filter((row) => row !== undefined)
  collection.rows = rows
  collection.holes = 0
  for (const buckets of collection.indexes.values()) buckets.clear()
  for (const [position, row] of rows.entries()) {
    collection.positions.set(row.id, position)
    reindex(collection, position, undefined, row)
  }
}
