import type { Stored, StoredName, StoredObject } from '../model/stored.ts'
import type { Ctx } from './context.ts'
import { Heap } from './heap.ts'
import type { TimeRule } from './module.ts'
import type { Write } from './store.ts'

/** What the timeline needs of the engine. */
export interface TimelineHost {
  /** Runs work as a transaction of a task: `ctx.now()` is `now` on the clock. */
  runTask(task: { clock: string | null; now: number }, work: (ctx: Ctx) => void): void
  /** A context to read with. */
  readonly reader: Ctx
  /** Unix seconds of the sandbox's own clock. */
  sandboxNow(): number
  /** A rule failed on the sandbox's own clock. */
  report(error: unknown): void
}

interface Schedule {
  readonly heap: Heap
  /** The entry that counts for each key; others in the heap are stale. */
  readonly current: Map<string, { due: number; rule: TimeRule; id: string }>
}

/** Work longer than this yields to other requests. */
const SLICE_MS = 20

/**
 * Makes time-driven things happen in order. Each clock (a test clock, or the sandbox's own: `null`) has a heap of due times, recomputed
 * from the objects after every write. Moving a test clock runs what is due one by one with the clock standing at that time, in
 * slices, while the clock's status is `advancing`.
 */
export class Timeline {
  private readonly rules = new Map<StoredName, TimeRule[]>()
  private readonly schedules = new Map<string | null, Schedule>()
  private readonly moving = new Map<string, number>()
  /** Test clocks that got a new due time in this commit. */
  private readonly touched = new Set<string>()
  private readonly runs = new Set<Promise<void>>()
  private readonly host: TimelineHost
  private sequence = 0
  private isStopped = false
  private isCatchingUp = false

  constructor(host: TimelineHost, rules: Iterable<TimeRule>) {
    this.host = host
    for (const rule of rules) this.rules.set(rule.object, [...(this.rules.get(rule.object) ?? []), rule])
  }

  /** Unix seconds that a moving test clock stands at; undefined when it does not move. */
  positionOf(clock: string): number | undefined {
    return this.moving.get(clock)
  }

  /** Schedules everything in the store; called once after loading. */
  rebuild(): void {
    for (const name of this.rules.keys()) {
      for (const object of this.host.reader.store.all(name)) this.schedule(name, object as StoredObject)
    }
    for (const clock of this.host.reader.store.all('test_helpers.test_clock')) this.follow(clock)
  }

  /** Takes note of a committed transaction's writes. */
  committed(writes: readonly Write[]): void {
    for (const { name, id, after } of writes) {
      if (name === 'test_helpers.test_clock') this.clockWritten(id, after)
      if (!this.rules.has(name)) continue
      const latest = this.host.reader.store.get(name, id) as StoredObject | undefined
      if (latest === undefined) this.unschedule(name, id)
      else if (latest === after) this.schedule(name, latest)
    }
    this.clearArrears()
  }

  /** Unix seconds of the next due task of the sandbox's own clock, or null. */
  nextDue(clock: string | null = null): number | null {
    const schedule = this.schedules.get(clock)
    if (schedule === undefined) return null
    for (let entry = schedule.heap.peek(); entry !== undefined; entry = schedule.heap.peek()) {
      if (schedule.current.get(entry.key)?.due === entry.due) return entry.due
      schedule.heap.pop()
    }
    return null
  }

  /** Runs what is due on the sandbox's own clock up to its time. Synchronous: a request sees a state without arrears. */
  catchUp(): void {
    if (this.isCatchingUp || this.isStopped) return
    this.isCatchingUp = true
    try {
      const until = this.host.sandboxNow()
      for (;;) {
        const due = this.nextDue()
        if (due === null || due > until) return
        this.runNextSafely()
      }
    } finally {
      this.isCatchingUp = false
    }
  }

  /** Resolves when no test clock is moving. */
  async idle(): Promise<void> {
    while (this.runs.size > 0) await Promise.all(this.runs)
  }

  get isMoving(): boolean {
    return this.runs.size > 0
  }

  stop(): void {
    this.isStopped = true
  }

  /** Test clocks that stand still with something already due (an object made with a time in the past) catch up at once. */
  private clearArrears(): void {
    for (const id of this.touched) {
      const clock = this.host.reader.get('test_helpers.test_clock', id)
      if (clock !== undefined) this.follow(clock)
    }
    this.touched.clear()
  }

  private clockWritten(id: string, after: StoredObject | undefined): void {
    if (after === undefined) this.schedules.delete(id)
    else this.follow(after as unknown as Stored<'test_helpers.test_clock'>)
  }

  /** A clock whose status says `advancing` is moved to its target; one that stands still is only rid of what is due already. */
  private follow(clock: Stored<'test_helpers.test_clock'>): void {
    if (this.moving.has(clock.id) || this.isStopped) return
    const due = this.nextDue(clock.id)
    if (clock.status !== 'advancing' && (due === null || due > clock.frozen_time || clock.status !== 'ready')) return
    this.moving.set(clock.id, clock.frozen_time)
    const run = this.move(clock.id).finally(() => {
      this.runs.delete(run)
    })
    this.runs.add(run)
  }

  private async move(clock: string): Promise<void> {
    await nextTurn()
    try {
      let sliceEnd = performance.now() + SLICE_MS
      while (!this.isStopped) {
        const target = this.targetOf(clock)
        const due = this.nextDue(clock)
        if (target === undefined) break
        if (due === null || due > target) {
          this.finish(clock, target)
          break
        }
        this.runNext(clock, due)
        if (performance.now() > sliceEnd) {
          await nextTurn()
          sliceEnd = performance.now() + SLICE_MS
        }
      }
    } catch (error) {
      this.host.report(error)
      this.fail(clock)
    } finally {
      this.moving.delete(clock)
    }
  }

  private targetOf(clock: string): number | undefined {
    const stored = this.host.reader.get('test_helpers.test_clock', clock)
    return stored?.status_details.advancing?.target_frozen_time ?? stored?.frozen_time
  }

  private finish(clock: string, target: number): void {
    this.moving.set(clock, target)
    this.host.runTask({ clock, now: target }, (ctx) => {
      if (ctx.get('test_helpers.test_clock', clock)?.status !== 'advancing') return
      const ready = ctx.update('test_helpers.test_clock', clock, { frozen_time: target, status: 'ready', status_details: {} })
      ctx.emit('test_helpers.test_clock.ready', ready)
    })
  }

  private fail(clock: string): void {
    this.host.runTask({ clock, now: this.moving.get(clock) ?? 0 }, (ctx) => {
      if (ctx.get('test_helpers.test_clock', clock) === undefined) return
      const failed = ctx.update('test_helpers.test_clock', clock, { status: 'internal_failure', status_details: {} })
      ctx.emit('test_helpers.test_clock.internal_failure', failed)
    })
  }

  private runNextSafely(): void {
    const due = this.nextDue()
    const key = this.schedules.get(null)?.heap.peek()?.key
    if (due === null || key === undefined) return
    try {
      this.runNext(null, due)
    } catch (error) {
      this.schedules.get(null)?.current.delete(key)
      this.host.report(error)
    }
  }

  /** Runs the first task of a clock, with the clock standing at the task's time. */
  private runNext(clock: string | null, due: number): void {
    const schedule = this.schedules.get(clock)
    const entry = schedule?.heap.pop()
    const task = entry === undefined ? undefined : schedule?.current.get(entry.key)
    if (schedule === undefined || entry === undefined || task === undefined) return
    schedule.current.delete(entry.key)
    const now = clock === null ? due : Math.max(due, this.moving.get(clock) ?? due)
    if (clock !== null) this.moving.set(clock, now)
    this.host.runTask({ clock, now }, (ctx) => {
      const object = ctx.get(task.rule.object, task.id)
      if (object !== undefined) task.rule.run(object as StoredObject, ctx)
    })
    const again = schedule.current.get(entry.key)
    const object = this.host.reader.get(task.rule.object, task.id) as StoredObject | undefined
    const stuck = object !== undefined && task.rule.due(object, this.host.reader) === due
    if (stuck || (again !== undefined && again.due < due)) {
      schedule.current.delete(entry.key)
      throw new Error(`The rule '${task.rule.name}' ran for ${task.id} and is due again at the same time (${due}).`)
    }
  }

  private schedule(name: StoredName, object: StoredObject): void {
    for (const rule of this.rules.get(name) ?? []) {
      const key = `${rule.name}:${object.id}`
      const clock = clockOf(object as { test_clock?: unknown; customer?: unknown }, this.host.reader)
      const due = rule.due(object, this.host.reader)
      const schedule = this.scheduleOf(clock)
      if (due === null) {
        schedule.current.delete(key)
        continue
      }
      if (schedule.current.get(key)?.due === due) continue
      schedule.current.set(key, { due, rule, id: object.id })
      this.sequence += 1
      if (clock !== null) this.touched.add(clock)
      schedule.heap.push({ due, order: rule.order, sequence: this.sequence, key })
    }
  }

  private unschedule(name: StoredName, id: string): void {
    for (const rule of this.rules.get(name) ?? []) {
      for (const schedule of this.schedules.values()) schedule.current.delete(`${rule.name}:${id}`)
    }
  }

  private scheduleOf(clock: string | null): Schedule {
    const known = this.schedules.get(clock)
    if (known !== undefined) return known
    const schedule = { heap: new Heap(), current: new Map() }
    this.schedules.set(clock, schedule)
    return schedule
  }
}

/** The test clock that an object lives on: its own, or its customer's; null is the sandbox's clock. */
export function clockOf(object: { readonly test_clock?: unknown; readonly customer?: unknown }, ctx: Ctx): string | null {
  if (typeof object.test_clock === 'string') return object.test_clock
  if (typeof object.customer !== 'string') return null
  return ctx.get('customer', object.customer)?.test_clock ?? null
}

function nextTurn(): Promise<void> {
  return new Promise((done) => setImmediate(done))
}
