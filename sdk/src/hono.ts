import type { Context, MiddlewareHandler } from 'hono'
import { checkStanding } from './gated-call.ts'
import { beginMeteredCall, UNAUTHENTICATED } from './metered-call.ts'
import type { RefusalStatus } from './quota.ts'
import type { GateInput, QuantityInput, UsageClient } from './usage.ts'

export type MeteredRouteOptions = {
  /** The client that acts for this call's organization; null answers 401. */
  readonly client: (context: Context) => UsageClient | null
  readonly meter: string
  /** How much one call uses, or at most uses; default 1. */
  readonly quantity?: QuantityInput | ((context: Context) => QuantityInput | Promise<QuantityInput>)
  /** What the call came to, read after the handler ran (tokens, for example); without it, what was held is recorded. */
  readonly settleQuantity?: (context: Context) => QuantityInput | undefined
  /** Other statuses for refusals by their code, e.g. `{ quota_exceeded: 403 }` (CB-5). */
  readonly statuses?: Readonly<Record<string, RefusalStatus>>
}

/** Meters a Hono route (see `beginMeteredCall`): 429 or 403 with the body of EM-4, `X-Credits-*` on every answer. */
export function meterRoute(options: MeteredRouteOptions): MiddlewareHandler {
  return async (context, next) => {
    const client = options.client(context)
    if (client === null) return context.json(UNAUTHENTICATED, 401)
    const quantity = typeof options.quantity === 'function' ? await options.quantity(context) : (options.quantity ?? 1)
    const call = await beginMeteredCall(client, { ...options, quantity })
    // Before the handler runs: headers that Hono gets afterwards cost a copy of the whole answer.
    for (const [name, value] of Object.entries(call.headers)) context.header(name, value)
    if (call.refusal) return context.json(call.refusal.body, call.refusal.status)
    await next()
    const ok = context.res.ok && !context.error
    await call.finish({ ok, quantity: ok ? options.settleQuantity?.(context) : undefined })
    return undefined
  }
}

export type GatedRouteOptions = {
  /** The client that acts for this call's organization; null answers 401. */
  readonly client: (context: Context) => UsageClient | null
  /** What the sentence and the server's log say of this call. */
  readonly call?: (context: Context) => GateInput
}

/** Lets a Hono route run only where trial or subscription permit it (see `checkStanding`): 402 otherwise. */
export function requireStanding({ client, call }: GatedRouteOptions): MiddlewareHandler {
  return async (context, next) => {
    const refusal = await checkStanding(client(context), call?.(context) ?? {})
    if (refusal !== null) return context.json(refusal.body, refusal.status, refusal.headers)
    await next()
    return undefined
  }
}
