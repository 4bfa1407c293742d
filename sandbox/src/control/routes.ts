import type { ClockSetting } from '../engine/clock.ts'
import { StripeError } from '../engine/errors.ts'
import type { ChaosSettings } from '../events/chaos.ts'
import { isOwnRequest, page, type PageRequest, type PageResponse, type PageRoute } from '../http/pages.ts'
import { checkedLimits, type RateLimits } from '../http/rate-limit.ts'
import { createEndpoint, rollSecret } from '../resources/webhook-endpoints.ts'
import type { Fixture } from './fixtures.ts'
import type { LoggedRequest } from './request-log.ts'

/** What the sandbox lets its controls do. */
export interface Controls {
  clock(): { now: number; rate: number }
  setClock(setting: ClockSetting): void
  advanceTo(unixSeconds: number): void
  chaos(): ChaosSettings
  setChaos(settings: ChaosSettings): void
  rateLimits(): RateLimits
  setRateLimits(limits: RateLimits): void
  settled(): Promise<void>
  resend(delivery: string): void
  exportFixture(): Fixture
  importFixture(fixture: unknown): number
  request(id: string): LoggedRequest | undefined
  trigger(event: string): Promise<string[]>
  realSeconds(): number
}

/**
 * The sandbox's own API under `/_sandbox`: JSON in and out, no key. Everything that Stripe does in its dashboard, or does not do at all.
 */
export function controlRoutes(controls: Controls): PageRoute[] {
  return [...clockRoutes(controls), ...webhookRoutes(controls), ...stateRoutes(controls)].map(ownOnly)
}

/** Refuses what a page of another site asks the browser to send. */
function ownOnly(route: PageRoute): PageRoute {
  return {
    on: route.on,
    handle: (request) =>
      isOwnRequest(request) ? route.handle(request) : json({ error: { message: 'This request comes from another site.' } }, 403),
  }
}

function clockRoutes(controls: Controls): PageRoute[] {
  return [
    page('GET /_sandbox/clock', () => json(controls.clock())),
    page('POST /_sandbox/clock', (request) => {
      moveClock(controls, bodyOf(request))
      return json(controls.clock())
    }),
    page('GET /_sandbox/settled', async () => {
      await controls.settled()
      return json({ settled: true })
    }),
    page('GET /_sandbox/chaos', () => json(controls.chaos())),
    page('POST /_sandbox/chaos', (request) => {
      sentenceAsError(() => controls.setChaos(bodyOf(request)))
      return json(controls.chaos())
    }),
    page('GET /_sandbox/rate_limits', () => json(controls.rateLimits())),
    page('POST /_sandbox/rate_limits', (request) => {
      sentenceAsError(() => controls.setRateLimits(checkedLimits(bodyOf(request))))
      return json(controls.rateLimits())
    }),
  ]
}

function webhookRoutes(controls: Controls): PageRoute[] {
  return [
    page('POST /_sandbox/webhook_endpoints', (request) => {
      const body = bodyOf(request) as { url?: string; secret?: string; enabled_events?: string[] }
      const { url, secret } = body
      if (url === undefined) throw refused('`url` is missing.')
      return json(
        request.transact((ctx) => {
          const enabledEvents = body.enabled_events ?? ['*']
          const endpoint = createEndpoint(ctx, { url, enabledEvents, ...(secret === undefined ? {} : { secret }) })
          return { ...ctx.present(endpoint), secret: endpoint._.secret }
        }),
      )
    }),
    page('POST /_sandbox/webhook_endpoints/{id}/roll_secret', (request) => {
      const body = bodyOf(request) as { overlap_seconds?: number; secret?: string }
      const roll = {
        overlapSeconds: body.overlap_seconds ?? 86_400,
        realSeconds: controls.realSeconds(),
        ...(body.secret === undefined ? {} : { secret: body.secret }),
      }
      return json({ secret: request.transact((ctx) => rollSecret(ctx, request.path['id'] ?? '', roll)) })
    }),
    page('GET /_sandbox/deliveries', (request) =>
      json(request.transact((ctx) => ({ data: [...ctx.store.all('_delivery')].slice(-100).toReversed() }))),
    ),
    page('POST /_sandbox/deliveries/{id}/resend', (request) => {
      controls.resend(request.path['id'] ?? '')
      return json({ resent: true })
    }),
  ]
}

function stateRoutes(controls: Controls): PageRoute[] {
  return [
    page('GET /_sandbox/export', () => json(controls.exportFixture())),
    page('POST /_sandbox/import', (request) => {
      return json({ imported: sentenceAsError(() => controls.importFixture(bodyOf(request))) })
    }),
    page('POST /_sandbox/trigger', async (request) => {
      const { event } = bodyOf(request) as { event?: string }
      if (event === undefined) throw refused('`event` is missing.')
      return json({ events: await controls.trigger(event).catch(refuseWithSentence) })
    }),
    page('GET /_sandbox/requests/{id}', (request) => {
      const logged = controls.request(request.path['id'] ?? '')
      return logged === undefined ? json({ error: 'No such request, or it is too long ago.' }, 404) : json(logged)
    }),
  ]
}

interface ClockBody {
  /** Unix seconds to move forward to. */
  advance_to?: number
  /** Seconds to move forward by. */
  advance_by?: number
  /** Stands still at this unix second. */
  freeze_at?: number
  /** Runs so many times as fast as real time, from where it stands. */
  rate?: number
  /** Back to real time. */
  real?: boolean
}

function moveClock(controls: Controls, body: object): void {
  const { advance_to: to, advance_by: by, freeze_at: freezeAt, rate, real } = body as ClockBody
  const { now } = controls.clock()
  const target = to ?? (by === undefined ? undefined : now + by)
  for (const value of [target, freezeAt, rate]) {
    if (value !== undefined && (!Number.isFinite(value) || value < 0))
      throw refused('Times and rates must be numbers, 0 or more.')
  }
  if (real === true) controls.setClock('real')
  if (freezeAt !== undefined) controls.setClock({ frozen: freezeAt })
  if (rate !== undefined) controls.setClock({ at: freezeAt ?? now, rate })
  if (target === undefined) return
  if (target < now) throw refused('The clock moves forward only.')
  controls.advanceTo(target)
}

function bodyOf(request: PageRequest): object {
  if (Object.keys(request.form).length > 0) return request.form
  if (request.body.trim() === '') return {}
  try {
    const body: unknown = JSON.parse(request.body)
    if (typeof body === 'object' && body !== null && !Array.isArray(body)) return body
  } catch {
    throw refused('The body is not valid JSON.')
  }
  throw refused('The body must be a JSON object.')
}

/** A `RangeError` holds a sentence for the caller. */
function sentenceAsError<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    return refuseWithSentence(error)
  }
}

function refuseWithSentence(error: unknown): never {
  if (error instanceof RangeError) throw refused(error.message)
  throw error
}

function refused(message: string): StripeError {
  return new StripeError(400, { type: 'invalid_request_error', message })
}

function json(value: unknown, status = 200): PageResponse {
  return { status, headers: { 'content-type': 'application/json' }, body: `${JSON.stringify(value)}\n` }
}
