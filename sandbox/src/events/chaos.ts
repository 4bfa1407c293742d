import { StripeError } from '../engine/errors.ts'
import { chance } from '../engine/random.ts'

/** Probabilities are numbers from 0 to 1; times are milliseconds of real time. */
export interface DeliveryChaos {
  /** The same delivery is sent twice. */
  readonly duplicate?: number
  /** The delivery waits up to `delayMs` (default 1000). */
  readonly delay?: number
  readonly delayMs?: number
  /** The delivery waits until others have overtaken it (up to 50 ms). */
  readonly reorder?: number
  /** The delivery is lost and never tried again. */
  readonly drop?: number
  /** A delivery that succeeded is sent once more after `lateMs` (default 5000). */
  readonly late?: number
  readonly lateMs?: number
}

/** Trouble for API requests of one route; the first entry that matches counts. */
export interface RouteChaos {
  /** `POST /v1/customers`, `POST /v1/customers/{id}`, `POST *`, or `*` (default) for every route. */
  readonly route?: string
  /** Probability of waiting up to `latencyMs` (default 200) before the work begins. */
  readonly latency?: number
  readonly latencyMs?: number
  /** Answers 429 and does nothing. */
  readonly tooManyRequests?: number
  /** Answers 500 and does nothing. */
  readonly serverError?: number
  /** Does the work and cuts the connection instead of answering. */
  readonly lostResponse?: number
}

export interface ChaosSettings {
  readonly seed?: number | string
  readonly deliveries?: DeliveryChaos
  readonly api?: readonly RouteChaos[]
}

const DELIVERY_DIAL = ['duplicate', 'delay', 'reorder', 'drop', 'late', 'delayMs', 'lateMs']
const ROUTE_DIAL = ['route', 'latency', 'tooManyRequests', 'serverError', 'lostResponse', 'latencyMs']

/** Reads settings from outside; throws a `RangeError` with a sentence for a name or a number that makes no sense. */
export function checkedChaos(settings: unknown): ChaosSettings {
  const { seed, deliveries, api } = membersOf(settings, ['seed', 'deliveries', 'api'], 'chaos')
  if (seed !== undefined && typeof seed !== 'number' && typeof seed !== 'string')
    throw new RangeError('chaos: `seed` must be a number or text.')
  if (deliveries !== undefined) checkDial(membersOf(deliveries, DELIVERY_DIAL, 'deliveries'), 'deliveries')
  if (api !== undefined && !Array.isArray(api)) throw new RangeError('chaos: `api` must be a list of routes.')
  for (const route of (api as unknown[] | undefined) ?? []) checkDial(membersOf(route, ROUTE_DIAL, 'api'), 'api')
  return settings as ChaosSettings
}

function membersOf(value: unknown, names: readonly string[], where: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new RangeError(`${where} must be an object.`)
  const unknown = Object.keys(value).find((name) => !names.includes(name))
  if (unknown !== undefined) throw new RangeError(`${where}: there is no '${unknown}'. There is: ${names.join(', ')}.`)
  return value as Record<string, unknown>
}

function checkDial(dial: Record<string, unknown>, where: string): void {
  for (const [name, value] of Object.entries(dial)) {
    if (name === 'route') {
      if (typeof value !== 'string') throw new RangeError(`${where}: \`route\` must be text.`)
      continue
    }
    const highest = name.endsWith('Ms') ? Infinity : 1
    if (typeof value !== 'number' || !(value >= 0 && value <= highest)) {
      throw new RangeError(`${where}: \`${name}\` must be a number from 0 to ${highest}.`)
    }
  }
}

/** What happens to one API request. */
export interface RequestTrouble {
  readonly latencyMs: number
  readonly refuse: StripeError | null
  readonly loseResponse: boolean
}

/** What happens to one try of a delivery. */
export interface DeliveryTrouble {
  readonly dropped: boolean
  readonly waitMs: number
  readonly copies: number
  /** Milliseconds until one more copy is sent; null for none. */
  readonly lateMs: number | null
}

const CALM: RequestTrouble = { latencyMs: 0, refuse: null, loseResponse: false }
const SMOOTH: DeliveryTrouble = { dropped: false, waitMs: 0, copies: 1, lateMs: null }
const REORDER_MS = 50

/**
 * The chaos dial. Every decision is a function of the seed and of what is decided on (the n-th request of a route, the n-th try of an
 * event), so the same seed gives the same run whatever the timing.
 */
export class Chaos {
  private settings: ChaosSettings
  private readonly counts = new Map<string, number>()
  private readonly defaultSeed: number | string

  constructor(settings: ChaosSettings, defaultSeed: number | string) {
    this.settings = checkedChaos(settings)
    this.defaultSeed = defaultSeed
  }

  get current(): ChaosSettings {
    return this.settings
  }

  /** Replaces the settings and counts requests from the beginning. */
  set(settings: ChaosSettings): void {
    this.settings = checkedChaos(settings)
    this.counts.clear()
  }

  /** Decides about the next request of a route (`POST /v1/customers`). */
  forRequest(route: string): RequestTrouble {
    const rule = this.settings.api?.find((candidate) => matches(candidate.route ?? '*', route))
    if (rule === undefined) return CALM
    const count = (this.counts.get(route) ?? 0) + 1
    this.counts.set(route, count)
    const draw = (kind: string) => chance(this.seed, route, count, kind)
    const latencyMs = draw('latency') < (rule.latency ?? 0) ? Math.ceil(draw('wait') * (rule.latencyMs ?? 200)) : 0
    if (draw('429') < (rule.tooManyRequests ?? 0))
      return { latencyMs, refuse: tooManyRequests('global-rate'), loseResponse: false }
    if (draw('500') < (rule.serverError ?? 0)) return { latencyMs, refuse: serverError(), loseResponse: false }
    return { latencyMs, refuse: null, loseResponse: draw('lost') < (rule.lostResponse ?? 0) }
  }

  /** Decides about a try of a delivery. */
  forDelivery(event: string, endpointUrl: string, attempt: number): DeliveryTrouble {
    const dial = this.settings.deliveries
    if (dial === undefined) return SMOOTH
    const draw = (kind: string) => chance(this.seed, event, endpointUrl, attempt, kind)
    const delayMs = draw('delay') < (dial.delay ?? 0) ? Math.ceil(draw('wait') * (dial.delayMs ?? 1000)) : 0
    const reorderMs = draw('reorder') < (dial.reorder ?? 0) ? Math.ceil(draw('overtake') * REORDER_MS) : 0
    return {
      dropped: draw('drop') < (dial.drop ?? 0),
      waitMs: delayMs + reorderMs,
      copies: draw('duplicate') < (dial.duplicate ?? 0) ? 2 : 1,
      lateMs: draw('late') < (dial.late ?? 0) ? (dial.lateMs ?? 5000) : null,
    }
  }

  private get seed(): number | string {
    return this.settings.seed ?? this.defaultSeed
  }
}

function matches(pattern: string, route: string): boolean {
  if (pattern === '*') return true
  return pattern.endsWith('*') ? route.startsWith(pattern.slice(0, -1)) : pattern === route
}

/** Stripe's 429; `reason` is sent as `Stripe-Rate-Limited-Reason`. */
export function tooManyRequests(reason: string): StripeError {
  const body = {
    type: 'invalid_request_error' as const,
    code: 'rate_limit',
    message: 'Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.',
  }
  return new StripeError(429, body, { beforeExecution: true, headers: { 'stripe-rate-limited-reason': reason } })
}

function serverError(): StripeError {
  return new StripeError(
    500,
    { type: 'api_error', message: 'An unknown error occurred (made by the chaos dial of the sandbox).' },
    { beforeExecution: true },
  )
}
