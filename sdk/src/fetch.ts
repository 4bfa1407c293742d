import { checkFeature, checkStanding, type GateRefusal } from './gated-call.ts'
import { beginMeteredCall, UNAUTHENTICATED, type MeteredTerms } from './metered-call.ts'
import type { GateInput, QuantityInput, UsageClient } from './usage.ts'
import { finishWith, type WebAnswerOptions } from './web-answer.ts'

export type MeteredHandlerOptions = MeteredTerms &
  WebAnswerOptions & {
    /** The client that acts for this call's organization; null answers 401. */
    readonly client: (request: Request) => UsageClient | null
    readonly quantity?: QuantityInput | ((request: Request) => QuantityInput | Promise<QuantityInput>)
    /** What the call came to, read from the handler's answer; of a stream when it has ended. */
    readonly settleQuantity?: (response: Response) => QuantityInput | undefined
  }

/**
 * Meters a handler of web-standard requests (see `beginMeteredCall`): a route handler of Next, a Worker, Deno, Bun.
 * @example
 * export const POST = meterHandler({ client, meter: 'chat_tokens' }, async (request) => Response.json(await chat(request)))
 */
export function meterHandler<Rest extends unknown[]>(
  options: MeteredHandlerOptions,
  handler: (request: Request, ...rest: Rest) => Response | Promise<Response>,
): (request: Request, ...rest: Rest) => Promise<Response> {
  return async (request, ...rest) => {
    const client = options.client(request)
    if (client === null) return Response.json(UNAUTHENTICATED, { status: 401 })
    const quantity = typeof options.quantity === 'function' ? await options.quantity(request) : (options.quantity ?? 1)
    const call = await beginMeteredCall(client, { ...options, quantity })
    if (call.refusal) return Response.json(call.refusal.body, { status: call.refusal.status, headers: call.headers })
    let response: Response
    try {
      response = await handler(request, ...rest)
    } catch (error) {
      await call.finish({ status: 500 })
      throw error
    }
    const outcome = { status: response.status, quantity: () => options.settleQuantity?.(response) }
    return finishWith(response, { request, call, outcome, options })
  }
}

export type GatedHandlerOptions = {
  /** The client that acts for this call's organization; null answers 401. */
  readonly client: (request: Request) => UsageClient | null
  readonly call?: (request: Request) => GateInput
}

type Handler<Rest extends unknown[]> = (request: Request, ...rest: Rest) => Response | Promise<Response>

/** Lets a handler of web-standard requests run only where trial or subscription permit it (see `checkStanding`): 402 otherwise. */
export function requireStanding<Rest extends unknown[]>({ client, call }: GatedHandlerOptions, handler: Handler<Rest>) {
  return runUnless((request) => checkStanding(client(request), call?.(request) ?? {}), handler)
}

/** Lets a handler of web-standard requests run only for who has a feature of the catalog (see `checkFeature`): 403 otherwise. */
export function requireFeature<Rest extends unknown[]>(
  feature: string,
  { client }: Pick<GatedHandlerOptions, 'client'>,
  handler: Handler<Rest>,
) {
  return runUnless((request) => checkFeature(client(request), feature), handler)
}

function runUnless<Rest extends unknown[]>(refusalOf: (request: Request) => Promise<GateRefusal | null>, handler: Handler<Rest>) {
  return async (request: Request, ...rest: Rest): Promise<Response> => {
    const refusal = await refusalOf(request)
    if (refusal !== null) return Response.json(refusal.body, { status: refusal.status, headers: refusal.headers })
    return handler(request, ...rest)
  }
}
