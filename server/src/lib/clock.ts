/** A point in time. Treated as immutable: never call a setter on it. */
export type Instant = Date

/** The only source of time. Rules take `now`; actions ask a clock. */
export interface Clock {
  now(): Instant
}

/** The machine's time. */
export const systemClock: Clock = { now: () => new Date() }

/** A clock that stands still until told otherwise; for tests and simulations. */
export class ManualClock implements Clock {
  #now: Instant

  constructor(start: Instant) {
    this.#now = start
  }

  now(): Instant {
    return this.#now
  }

  set(now: Instant): void {
    this.#now = now
  }

  advance(ms: number): void {
    this.#now = new Date(this.#now.getTime() + ms)
  }
}
