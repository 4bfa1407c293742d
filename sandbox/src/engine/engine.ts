import { recordEvent, recordThinEvent } from '../events/emit.ts'
import { layouts } from '../model/layouts.ts'
import type { Stored, StoredName, StoredObject } from '../model/stored.ts'
import { movedTo, realTimeMs, simulatedMs, type ClockState } from './clock.ts'
import type { EmitOptions, ThinEvent, Ctx, EventType, Origin } from './context.ts'
import { sameJson } from './difference.ts'
import { noSuch, StripeError } from './errors.ts'
import type { Journal } from './journal.ts'
import type { Module, Reaction } from './module.ts'
import { Renderer } from './present.ts'
import type { Random } from './random.ts'
import { loadSpec, type Spec } from './spec.ts'
import { Store, type Write } from './store.ts'
import { clockOf, Timeline } from './timeline.ts'

export interface EngineOptions {
  readonly modules: readonly Module[]
  readonly random: Random
  readonly clock: ClockState
  readonly journal: Journal | null
  /** Called with what went wrong in the background. */
  readonly report: (error: unknown) => void
}

/** The clock setting's id among `_setting`. */
const CLOCK_SETTING = 'clock'

/** One sandbox without its network: objects, clocks, transactions, events. */
export class Engine {
  readonly store = new Store(layouts)
  readonly spec: Spec = loadSpec()
  readonly renderer: Renderer
  readonly timeline: Timeline
  readonly random: Random
  readonly report: (error: unknown) => void
  baseUrl = ''
  clock: ClockState
  /** Called after each commit; the sandbox wakes deliveries and timers with it. */
  onCommit: (writes: readonly Write[]) => void = () => {}

  private readonly journal: Journal | null
  private readonly reactions: Map<string, Reaction[]>

  constructor(options: EngineOptions) {
    this.random = options.random
    this.clock = options.clock
    this.report = options.report
    this.journal = options.journal
    this.renderer = new Renderer(
      options.modules.flatMap((module) => module.presenters ?? []),
      this.spec,
    )
    this.reactions = Map.groupBy(
      options.modules.flatMap((module) => module.reactions ?? []),
      (reaction) => reaction.object,
    )
    const reader = new Transaction(this, { request: null, task: null })
    this.timeline = new Timeline(
      {
        runTask: (task, work) => this.transact({ request: null, task }, work),
        reader,
        sandboxNow: () => this.sandboxNow(),
        report: options.report,
      },
      options.modules.flatMap((module) => module.rules ?? []),
    )
    this.load()
  }

  /** Unix seconds of the sandbox's own clock. */
  sandboxNow(): number {
    return Math.floor(simulatedMs(this.clock, realTimeMs()) / 1000)
  }

  /**
   * Runs `work` as one transaction. When it throws, everything it wrote is undone, except for a `StripeError` that keeps its effects: that
   * is committed and thrown all the same.
   */
  transact<T>(origin: Origin, work: (ctx: Ctx) => T): T {
    const transaction = new Transaction(this, origin)
    const outcome = this.store.transaction(
      () => this.workAndReact(work, transaction),
      keepsEffects,
      (writes) => {
        if (writes.length > 0) this.journal?.append(writes)
      },
    )
    this.committed(outcome.writes, transaction)
    if (outcome.kind === 'failed') throw outcome.error
    return outcome.result
  }

  private workAndReact<T>(work: (ctx: Ctx) => T, transaction: Transaction): T {
    try {
      const result = work(transaction)
      this.react(transaction)
      return result
    } catch (error) {
      if (keepsEffects(error)) this.react(transaction)
      throw error
    }
  }

  /** Lets what follows from the writes follow, including from the writes of reactions. */
  private react(transaction: Transaction): void {
    for (let seen = 0; seen < this.store.pendingWrites.length;) {
      const writes = this.store.pendingWrites.slice(seen)
      seen += writes.length
      for (const { name, before, after } of netWrites(writes)) {
        for (const reaction of this.reactions.get(name) ?? []) reaction.react(transaction, { before, after })
      }
    }
  }

  /** A context to read with, outside any transaction. */
  read(): Ctx {
    return new Transaction(this, { request: null, task: null })
  }

  /** Replaces the sandbox's clock and keeps it across restarts. */
  setClock(clock: ClockState): void {
    this.clock = clock
    this.transact({ request: null, task: null }, (ctx) => {
      ctx.store.put('_setting', { id: CLOCK_SETTING, value: clock })
    })
  }

  /** Moves the sandbox's clock forward to `unixSeconds`; everything due until then happens in order before this returns. */
  advanceTo(unixSeconds: number): void {
    if (unixSeconds < this.sandboxNow()) throw new RangeError('The clock moves forward only.')
    this.setClock(movedTo(this.clock, unixSeconds, realTimeMs()))
    this.timeline.catchUp()
  }

  newId(prefix: string, length: number): string {
    return `${prefix}_${this.random.base62(length)}`
  }

  private load(): void {
    for (const { name, object } of this.journal?.load() ?? []) this.store.load(name, object)
    const stored = this.store.get('_setting', CLOCK_SETTING)
    if (stored !== undefined) this.clock = stored.value as ClockState
    else if (this.journal !== null) this.setClock(this.clock)
    this.timeline.rebuild()
  }

  private committed(writes: readonly Write[], transaction: Transaction): void {
    if (writes.length > 0) {
      this.store.tidy()
      this.timeline.committed(writes)
    }
    for (const work of transaction.afterwards) work()
    if (writes.length > 0) this.onCommit(writes)
  }
}

/** One change an object: from what it was first to what it became. */
function netWrites(writes: readonly Write[]): Write[] {
  const net = new Map<string, Write>()
  for (const write of writes) {
    const key = `${write.name} ${write.id}`
    net.set(key, { ...write, before: (net.get(key) ?? write).before })
  }
  return [...net.values()]
}

function keepsEffects(error: unknown): boolean {
  return error instanceof StripeError && error.keepsEffects
}

/** The context of one transaction. */
class Transaction implements Ctx {
  readonly afterwards: Array<() => void> = []
  readonly origin: Origin
  private readonly engine: Engine

  constructor(engine: Engine, origin: Origin) {
    this.engine = engine
    this.origin = origin
  }

  get store(): Store {
    return this.engine.store
  }

  get baseUrl(): string {
    return this.engine.baseUrl
  }

  now(customer?: string | null): number {
    if (customer === undefined || customer === null) return this.origin.task?.now ?? this.engine.sandboxNow()
    return this.nowOf({ customer })
  }

  nowOf(object: { readonly test_clock?: unknown; readonly customer?: unknown }): number {
    const clock = clockOf(object, this)
    const { task } = this.origin
    if (task !== null && task.clock === clock) return task.now
    if (clock === null) return this.engine.sandboxNow()
    return (
      this.engine.timeline.positionOf(clock) ??
      this.get('test_helpers.test_clock', clock)?.frozen_time ??
      this.engine.sandboxNow()
    )
  }

  newId(prefix: string, length = 14): string {
    return this.engine.newId(prefix, length)
  }

  token(length: number): string {
    return this.engine.random.base62(length)
  }

  get<K extends StoredName>(name: K, id: string): Stored<K> | undefined {
    return this.store.get(name, id)
  }

  require<K extends StoredName>(name: K, id: string, param?: string): Stored<K> {
    const found = this.store.get(name, id)
    if (found === undefined) throw noSuch(name, id, param)
    return found
  }

  create<K extends StoredName>(name: K, object: Stored<K>, event?: EventType): Stored<K> {
    const { id } = object as unknown as StoredObject
    if (this.store.get(name, id) !== undefined) throw new Error(`There is a ${name} with the id ${id} already.`)
    this.store.put(name, object)
    if (event !== undefined) this.emit(event, object)
    return object
  }

  update<K extends StoredName>(name: K, id: string, patch: Partial<Stored<K>>): Stored<K> {
    const next = { ...this.require(name, id), ...patch }
    this.store.put(name, next)
    return next
  }

  change<K extends StoredName>(name: K, id: string, patch: Partial<Stored<K>>, event: EventType): Stored<K> {
    const before = this.present(this.require(name, id))
    const next = this.update(name, id, patch)
    if (!sameJson(before, this.present(next))) this.emit(event, next, { before })
    return next
  }

  delete(name: StoredName, id: string): void {
    this.store.delete(name, id)
  }

  present(object: object): Record<string, unknown> {
    return this.engine.renderer.present(object, this)
  }

  emit(type: EventType, object: object, options: EmitOptions = {}): void {
    recordEvent(this, type, object, { ...options, apiVersion: this.engine.spec.version, realMs: realTimeMs() })
  }

  emitThin(event: ThinEvent): Stored<'v2.core.event'> {
    return recordThinEvent(this, event, realTimeMs())
  }

  rehearse<T>(work: () => T): T {
    const kept = this.afterwards.length
    try {
      return this.store.rehearse(work)
    } finally {
      this.afterwards.splice(kept)
    }
  }

  afterCommit(work: () => void): void {
    this.afterwards.push(work)
  }
}
