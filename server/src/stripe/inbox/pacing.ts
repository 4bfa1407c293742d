import type { Quiet } from './inbox-store.ts'

/** Says how long events wait for others of their customer: longer while very many come in. */
export type Pacing = {
  /** An event came in. */
  came(nowMs: number): void
  /** How long the rush will last yet if nothing more comes; 0 when there is none. */
  rushMs(nowMs: number): number
  /** When an event last came. */
  readonly lastMs: number
}

/** Stripe tells of one purchase or renewal in about ten events: they are handled together, by one refetch. */
export const CALM: Quiet = { quietMs: 50, mostMs: 250 }
/**
 * While they come by the hundred, storing them goes first, and each customer is refetched once for all that came meanwhile. Stripe sends again
 * what is not answered in time; what is handled two seconds later would have waited in the backlog anyway.
 */
export const BUSY: Quiet = { quietMs: 2_000, mostMs: 2_000 }
/** So many within so long are a rush: 320 a second. A purchase may be one, and is over as soon as it is told. */
export const RUSH = 8
export const RUSH_WINDOW_MS = 25
/** When a rush is over, nearly everybody has been quiet for longer than it took to see that. */
export const AFTER_RUSH: Quiet = { quietMs: RUSH_WINDOW_MS, mostMs: CALM.mostMs }

/** Times are a process's own, in milliseconds, and never go back. */
export function createPacing(): Pacing {
  // The times of the last ones; the oldest is at `next`.
  const times = new Float64Array(RUSH).fill(-Infinity)
  let next = 0
  let lastMs = -Infinity
  return {
    came(nowMs) {
      times[next] = nowMs
      next = (next + 1) % RUSH
      lastMs = nowMs
    },
    rushMs: (nowMs) => Math.max(0, times[next]! + RUSH_WINDOW_MS - nowMs),
    get lastMs() {
      return lastMs
    },
  }
}
