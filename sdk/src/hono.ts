import type { Context, MiddlewareHandler } from 'hono'
import { checkFeature, checkStanding, type GateRefusal } from './gated-call.ts'
import { beginMeteredCall, UNAUTHENTICATED, type MeteredTerms } from './metered-call.ts'
import type { GateInput, QuantityInput, UsageClient } from './usage.ts'
import { finishWith, type WebAnswerOptions } from './web-answer.ts'

export type MeteredRouteOptions = MeteredTerms &
  WebAnswerOptions & {
    /** The client that acts for this call's organization; null answers 401. */
    readonly client: (context: Context) => UsageClient | null
    /** How much one call uses, or at most uses; default 1. */
    readonly quantity?: QuantityInput | ((context: Context) => QuantityInput | Promise<QuantityInput>)
    /** What the call came to, read after the handler ran (tokens, for example), of a stream when it has ended; without it, what was held is recorded. */
    readonly settleQuantity?: (context: Context) => QuantityInput | undefined
  }

/** Meters a Hono route (see `beginMeteredCall`): 429 or 403 with the body of EM-4, `X-Credits-*` on every answer. */
export function meterRoute(options: MeteredRouteOptions): MiddlewareHandler {
  return async (context, next) => {
    const client = options.client(context)
    if (client === null) return context.json(UNAUTHENTICATED, 401)
    const quantity = typeof options.quantity === 'function' ? await options.quantity(context) : (options.quantity ?? 1)
    const call = await beginMeteredCall(client, { ...options, quantity })
    if (call.refusal) return context.json(call.refusal.body, call.refusal.status, { ...call.headers })
    await next()
    const { res } = context
    // A handler that threw has failed, whatever the host answers to it.
    const status = context.error ? Math.max(res.status, 500) : res.status
    const outcome = { status, quantity: () => options.settleQuantity?.(context) }
    const answer = await finishWith(res, { request: context.req.raw, call, outcome, options })
    if (answer !== res) context.res = answer
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
  return runUnless((context) => checkStanding(client(context), call?.(context) ?? {}))
}

/** Lets a Hono route run only for who has a feature of the catalog (see `checkFeature`): 403 otherwise. */
export function requireFeature(feature: string, { client }: Pick<GatedRouteOptions, 'client'>): MiddlewareHandler {
  return runUnless((context) => checkFeature(client(context), feature))
}

function runUnless(refusalOf: (context: Context) => Promise<GateRefusal | null>): MiddlewareHandler {
  return async (context, next) => {
    const refusal = await refusalOf(context)
    if (refusal !== null) return context.json(refusal.body, refusal.status, refusal.headers)
    await next()
    return undefined
  }
}
