/** A point in time. Treated as immutable: never call a setter on it. */
export type Instant = Date

// Times that many rows share, such as a period's start, are put into words once: each time anew costs 0.4 µs.
const MOST_TEXTS = 1_024
const texts = new Map<number, string>()

/** `toISOString`, for times that are asked for again and again. */
export function isoTextOf(instant: Instant): string {
  const time = instant.getTime()
  let text = texts.get(time)
  if (text === undefined) {
    text = instant.toISOString()
    if (texts.size >= MOST_TEXTS) texts.clear()
    texts.set(time, text)
  }
  return text
}

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
