import { setTimeout as delay } from 'node:timers/promises'

/** Lets calls through at a steady rate; interactive ones before those of workers. */
export type RateLimiter = {
  /** Resolves when the call may be made. */
  take(priority: CallPriority): Promise<void>
}

export type CallPriority = 'interactive' | 'background'

/** Stripe's limits: over all calls, and for each endpoint. */
export type StripeLimiter = {
  /** All calls together, on average. */
  readonly callsPerSecond: number
  take(endpoint: string, priority: CallPriority): Promise<void>
}

/**
 * Keeps one process within what Stripe allows: 100 calls a second in live mode, 25 in a sandbox, and 25 of one endpoint
 * (https://docs.stripe.com/rate-limits). By default four fifths of that on average, and never more than all of it within any second.
 * Several servers share one account: each is told its part (`STRIPE_CALLS_PER_SECOND`).
 */
export function createStripeLimiter(mode: 'live' | 'test', callsPerSecond = mode === 'live' ? 80 : 20): StripeLimiter {
  const all = createRateLimiter(bucketOf(callsPerSecond))
  const endpoints = new Map<string, RateLimiter>()
  return {
    callsPerSecond,
    async take(endpoint, priority) {
      const known = endpoints.get(endpoint)
      const own = known ?? createRateLimiter(bucketOf(mode === 'live' ? callsPerSecond / 4 : callsPerSecond))
      if (known === undefined) endpoints.set(endpoint, own)
      await own.take(priority)
      await all.take(priority)
    },
  }
}

/** What may pass at once and what follows within a second are a quarter more than the average. */
function bucketOf(perSecond: number) {
  return { perSecond, burst: Math.max(1, Math.floor(perSecond / 4)) }
}

/** A token bucket: `perSecond` calls on average, `burst` at once. */
export function createRateLimiter({ perSecond, burst }: { perSecond: number; burst: number }): RateLimiter {
  let tokens = burst
  let refilling = false
  const waiting: Record<CallPriority, (() => void)[]> = { interactive: [], background: [] }

  async function refill(): Promise<void> {
    if (refilling) return
    refilling = true
    const stepMs = Math.max(1000 / perSecond, 5)
    while (tokens < burst) {
      await delay(stepMs)
      tokens = Math.min(burst, tokens + (perSecond * stepMs) / 1000)
      while (tokens >= 1) {
        const next = waiting.interactive.shift() ?? waiting.background.shift()
        if (!next) break
        tokens -= 1
        next()
      }
    }
    refilling = false
  }

  return {
    async take(priority) {
      const idle = waiting.interactive.length === 0 && waiting.background.length === 0
      if (idle && tokens >= 1) {
        tokens -= 1
        void refill()
        return
      }
      await new Promise<void>((resolve) => {
        waiting[priority].push(resolve)
        void refill()
      })
    },
  }
}
