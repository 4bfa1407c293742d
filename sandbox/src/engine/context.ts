import type { Stored, StoredName } from '../model/stored.ts'
import type { Event } from '../wire.gen.ts'
import type { Store } from './store.ts'

/** `customer.created`, … */
export type EventType = Event['type']

/** What an event may carry besides its object. */
export interface EmitOptions {
  /** The object as it was presented before the change. */
  before?: Record<string, unknown>
  /** The customer whose clock dates the event, where the object itself does not name one. */
  customer?: string | null
}

/** What a thin event tells. */
export interface ThinEvent {
  readonly type: Stored<'v2.core.event'>['type']
  readonly related?: { readonly id: string; readonly type: string; readonly url: string }
  /** What the event holds when it is fetched; the notification that is sent does not carry it. */
  readonly data?: Record<string, unknown>
  /** The customer whose clock dates the event. */
  readonly customer?: string | null
  /** Sends it to this target alone, whatever it listens to: for pings. */
  readonly onlyTo?: string
}

/** Where the work comes from: an API request, a page, or a rule of the timeline. */
export interface Origin {
  /** `req_…` and the idempotency key of the API request; null for what time or a page does. */
  readonly request: { readonly id: string; readonly idempotencyKey: string | null } | null
  /** The time-driven task that runs: `clock` is the test clock's id or null for the sandbox's own clock; `now` in unix seconds. */
  readonly task: { readonly clock: string | null; readonly now: number } | null
}

/**
 * What an operation or a rule works with. One context is one transaction: what it wrote is undone when it throws (except an error
 * that keeps its effects), and stored, journaled and announced when it returns. Everything is synchronous.
 */
export interface Ctx {
  readonly store: Store
  readonly origin: Origin
  /** `http://127.0.0.1:12111`: where pages live; for `url` fields. */
  readonly baseUrl: string

  /** Unix seconds on the clock that applies to this customer: its test clock, else the sandbox's. Inside a task: the task's time. */
  now(customer?: string | null): number
  /** Unix seconds on the clock that applies to an object (its own `test_clock`, or its customer's). */
  nowOf(object: { readonly test_clock?: unknown; readonly customer?: unknown }): number
  /** A new id: `newId('cus')` → `cus_` and 14 characters (24 where `length` says so). */
  newId(prefix: string, length?: number): string
  /** `length` random base-62 characters, for secrets and tokens. */
  token(length: number): string

  get<K extends StoredName>(name: K, id: string): Stored<K> | undefined
  /** The object, or Stripe's `resource_missing`: 404 when `param` is `id` (the path), 400 when it names a parameter. */
  require<K extends StoredName>(name: K, id: string, param?: string): Stored<K>
  /** Stores a new object and announces it when `event` is given. */
  create<K extends StoredName>(name: K, object: Stored<K>, event?: EventType): Stored<K>
  /** Replaces fields of a stored object; says nothing to anyone. Returns the new object. */
  update<K extends StoredName>(name: K, id: string, patch: Partial<Stored<K>>): Stored<K>
  /** `update`, and the event with `previous_attributes` when a rendered field really changed. */
  change<K extends StoredName>(name: K, id: string, patch: Partial<Stored<K>>, event: EventType): Stored<K>
  delete(name: StoredName, id: string): void

  /** The object as the API answers it now, nothing expanded. */
  present(object: object): Record<string, unknown>
  /**
   * Records an event about an object (stored or already presented) and queues its deliveries. With `before` (a presented object taken
   * before the change) `data.previous_attributes` is what differs.
   */
  emit(type: EventType, object: object, options?: EmitOptions): void
  /** Records a thin event of the second API and queues its notifications. */
  emitThin(event: ThinEvent): Stored<'v2.core.event'>
  /** Does `work` and undoes everything that it wrote and announced: a preview computes with the very code that would carry it out. */
  rehearse<T>(work: () => T): T
  /** Runs after the transaction is committed; not at all when it is undone. */
  afterCommit(work: () => void): void
}
