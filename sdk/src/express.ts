import { checkStanding } from './gated-call.ts'
import { beginMeteredCall, UNAUTHENTICATED, type MeteredCall } from './metered-call.ts'
import type { RefusalStatus } from './quota.ts'
import type { GateInput, QuantityInput, UsageClient } from './usage.ts'

/** What is used of Express' response; any response of `node:http` with `status` and `json` will do. */
type ExpressResponse = {
  statusCode: number
  setHeader(name: string, value: string): unknown
  status(code: number): { json(body: unknown): unknown }
  end: (...args: never[]) => unknown
}

export type MeteredExpressOptions<Request, Response> = {
  /** The client that acts for this call's organization; null answers 401. */
  readonly client: (request: Request) => UsageClient | null
  readonly meter: string
  readonly quantity?: QuantityInput | ((request: Request) => QuantityInput | Promise<QuantityInput>)
  /** What the call came to, read when the handler has answered. */
  readonly settleQuantity?: (request: Request, response: Response) => QuantityInput | undefined
  readonly statuses?: Readonly<Record<string, RefusalStatus>>
}

/** Meters an Express route (see `beginMeteredCall`). The answer's end waits until the call is recorded. */
export function meterRoute<Request, Response extends ExpressResponse>(options: MeteredExpressOptions<Request, Response>) {
  return async (request: Request, response: Response, next: (error?: unknown) => void): Promise<void> => {
    const client = options.client(request)
    if (client === null) {
      response.status(401).json(UNAUTHENTICATED)
      return
    }
    const quantity = typeof options.quantity === 'function' ? await options.quantity(request) : (options.quantity ?? 1)
    const call = await beginMeteredCall(client, { ...options, quantity })
    for (const [name, value] of Object.entries(call.headers)) response.setHeader(name, value)
    if (call.refusal) {
      response.status(call.refusal.status).json(call.refusal.body)
      return
    }
    finishBeforeEnd(response, call, () => options.settleQuantity?.(request, response), next)
    next()
  }
}

/** Puts the recording between the handler's last word and the caller's first sight of it. */
function finishBeforeEnd(
  response: ExpressResponse,
  call: MeteredCall,
  settleQuantity: () => QuantityInput | undefined,
  fail: (error: unknown) => void,
): void {
  const end = response.end.bind(response) as (...args: unknown[]) => unknown
  const replaced = (...args: unknown[]): ExpressResponse => {
    response.end = end
    const ok = response.statusCode < 400
    call.finish({ ok, quantity: ok ? settleQuantity() : undefined }).then(() => end(...args), fail)
    return response
  }
  response.end = replaced
}

export type GatedExpressOptions<Request> = {
  /** The client that acts for this call's organization; null answers 401. */
  readonly client: (request: Request) => UsageClient | null
  readonly call?: (request: Request) => GateInput
}

/** Lets an Express route run only where trial or subscription permit it (see `checkStanding`): 402 otherwise. */
export function requireStanding<Request, Response extends ExpressResponse>({ client, call }: GatedExpressOptions<Request>) {
  return async (request: Request, response: Response, next: (error?: unknown) => void): Promise<void> => {
    const refusal = await checkStanding(client(request), call?.(request) ?? {})
    if (refusal === null) return next()
    for (const [name, value] of Object.entries(refusal.headers)) response.setHeader(name, value)
    response.status(refusal.status).json(refusal.body)
    return undefined
  }
}
