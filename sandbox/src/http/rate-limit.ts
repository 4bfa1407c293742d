import { tooManyRequests } from '../events/chaos.ts'

/** Requests a second; absent means no limit. */
export interface RateLimits {
  /** Over all requests. Stripe: 100 live, 25 in a sandbox. */
  readonly perSecond?: number
  /** For each operation. Stripe: 25 unless an operation says otherwise. */
  readonly perEndpoint?: number
}

/** What Stripe allows its sandboxes. Source: docs.stripe.com/rate-limits. */
export const stripeSandboxLimits: RateLimits = { perSecond: 25, perEndpoint: 25 }

/** Reads limits from outside; throws a `RangeError` with a sentence for what makes no sense. */
export function checkedLimits(value: unknown): RateLimits {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new RangeError('Rate limits must be an object.')
  for (const [name, limit] of Object.entries(value)) {
    if (name !== 'perSecond' && name !== 'perEndpoint')
      throw new RangeError(`There is no limit '${name}'. There is: perSecond, perEndpoint.`)
    if (!Number.isInteger(limit) || limit < 1) throw new RangeError(`\`${name}\` must be a whole number, 1 or more.`)
  }
  return value
}

/** Counts requests in windows of one second of real time. Off unless limits are set. */
export class RateLimiter {
  limits: RateLimits
  private second = 0
  private total = 0
  private readonly endpoints = new Map<string, number>()

  constructor(limits: RateLimits) {
    this.limits = limits
  }

  /** Counts a request; throws Stripe's 429 when there are too many. */
  admit(endpoint: string, realMs: number): void {
    const { perSecond, perEndpoint } = this.limits
    if (perSecond === undefined && perEndpoint === undefined) return
    const second = Math.floor(realMs / 1000)
    if (second !== this.second) {
      this.second = second
      this.total = 0
      this.endpoints.clear()
    }
    this.total += 1
    const count = (this.endpoints.get(endpoint) ?? 0) + 1
    this.endpoints.set(endpoint, count)
    if (perSecond !== undefined && this.total > perSecond) throw tooManyRequests('global-rate')
    if (perEndpoint !== undefined && count > perEndpoint) throw tooManyRequests('endpoint-rate')
  }
}
