import type { Context, MiddlewareHandler } from 'hono'
import { creditHeaders, describeRefusal, type RefusalStatus } from './quota.ts'
import type { QuantityInput, UsageClient } from './usage.ts'

export type MeteredRouteOptions = {
  /** The client that acts for this call's organization; null answers 401. */
  readonly client: (context: Context) => UsageClient | null
  readonly meter: string
  /** How much one call uses; default 1. */
  readonly quantity?: QuantityInput | ((context: Context) => QuantityInput | Promise<QuantityInput>)
  /** Other statuses for refusals by their code, e.g. `{ quota_exceeded: 403 }` (CB-5). */
  readonly statuses?: Readonly<Record<string, RefusalStatus>>
}

/**
 * Meters a route: holds its cost before the handler runs, records it when the handler succeeds, gives it back when the
 * handler fails (EM-3). Because the cost is held, calls that run at the same moment cannot overshoot the quota together.
 * Answers carry the headers of EM-5; a refusal is 429 or 403 with the body of EM-4.
 */
export function meterRoute(options: MeteredRouteOptions): MiddlewareHandler {
  return async (context, next) => {
    const client = options.client(context)
    if (client === null) return context.json({ error: 'unauthenticated', message: 'An API key is needed.' }, 401)
    const quantity = typeof options.quantity === 'function' ? await options.quantity(context) : (options.quantity ?? 1)
    const held = await client.reserve({ meter: options.meter, quantity })
    if (held.balance) setHeaders(context, creditHeaders(held.balance))
    if (!held.allowed || held.reservation_id === undefined) {
      const refusal = await describeRefusal(client, held, options.statuses)
      return context.json(refusal.body, refusal.status)
    }
    await next()
    if (context.res.ok && !context.error) {
      await client.settle(held.reservation_id)
    } else {
      await client.release(held.reservation_id)
    }
    return undefined
  }
}

/** Set before the handler runs: headers that Hono gets afterwards cost a copy of the whole answer. */
function setHeaders(context: Context, headers: Record<string, string>): void {
  for (const [name, value] of Object.entries(headers)) context.header(name, value)
}
