import { setTimeout as delay } from 'node:timers/promises'

/** Lets calls through at a steady rate; interactive ones before those of workers. */
export type RateLimiter = {
  /** Resolves when the call may be made. */
  take(priority: CallPriority): Promise<void>
}

export type CallPriority = 'interactive' | 'background'

/**
 * A token bucket: `perSecond` calls on average, `burst` at once. Stripe allows 25 calls a second in a sandbox account and
 * 100 in live mode (https://docs.stripe.com/rate-limits); several servers share one account, so each takes its part.
 */
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
