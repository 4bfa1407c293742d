import { checkFeature, checkStanding, type GateRefusal } from './gated-call.ts'
import { beginMeteredCall, tell, UNAUTHENTICATED, type MeteredCall, type MeteredTerms } from './metered-call.ts'
import type { GateInput, QuantityInput, UsageClient } from './usage.ts'

/** What is used of Express' response; any response of `node:http` with `status` and `json` will do. */
type ExpressResponse = {
  statusCode: number
  setHeader(name: string, value: string): unknown
  status(code: number): { json(body: unknown): unknown }
  readonly headersSent: boolean
  write: (...args: never[]) => boolean
  end: (...args: never[]) => unknown
  once(event: 'close', listener: () => void): unknown
}

export type MeteredExpressOptions<Request, Response> = MeteredTerms & {
  /** The client that acts for this call's organization; null answers 401. */
  readonly client: (request: Request) => UsageClient | null
  readonly quantity?: QuantityInput | ((request: Request) => QuantityInput | Promise<QuantityInput>)
  /** What the call came to, read when the handler has answered; of a stream that the caller cut off, at that moment. */
  readonly settleQuantity?: (request: Request, response: Response) => QuantityInput | undefined
}

/**
 * Meters an Express route (see `beginMeteredCall`). The answer's end waits until the call is recorded. An answer that the caller cuts off is
 * recorded when the connection closes.
 */
export function meterRoute<Request, Response extends ExpressResponse>(options: MeteredExpressOptions<Request, Response>) {
  return async (request: Request, response: Response, next: (error?: unknown) => void): Promise<void> => {
    const client = options.client(request)
    if (client === null) {
      response.status(401).json(UNAUTHENTICATED)
      return
    }
    const quantity = typeof options.quantity === 'function' ? await options.quantity(request) : (options.quantity ?? 1)
    const call = await beginMeteredCall(client, { ...options, quantity })
    // A stream sends its headers before the call has ended: those of the hold. All else gets those of the end.
    setHeaders(response, call.headers)
    if (call.refusal) {
      response.status(call.refusal.status).json(call.refusal.body)
      return
    }
    const finish = () => call.finish({ status: response.statusCode, quantity: () => options.settleQuantity?.(request, response) })
    const report = (error: unknown): void => tell(options, error)
    finishBeforeEnd(response, finish, { fail: next, report })
    finishWhenCutOff(response, () => void finish().catch(report))
    next()
  }
}

function setHeaders(response: ExpressResponse, headers: MeteredCall['headers']): void {
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value)
}

type OnFailure = Readonly<Record<'fail' | 'report', (error: unknown) => void>>

/** Puts the recording between the handler's last word and the caller's first sight of it. */
function finishBeforeEnd(
  response: ExpressResponse,
  finish: () => Promise<MeteredCall['headers']>,
  { fail, report }: OnFailure,
): void {
  const end = response.end.bind(response) as (...args: unknown[]) => unknown
  const recordAndEnd = async (args: readonly unknown[]): Promise<void> => {
    try {
      const headers = await finish()
      if (!response.headersSent) setHeaders(response, headers)
    } catch (error) {
      if (!response.headersSent) return fail(error)
      // What has begun cannot become a failure any more.
      report(error)
    }
    end(...args)
  }
  response.end = (...args: unknown[]) => {
    response.end = end
    void recordAndEnd(args)
    return response
  }
}

/**
 * A stream that is piped into a connection that has closed never ends it. One that had begun is over then; one that has not begun is
 * when it wants to. A handler that is still at work ends the answer itself, and one that never says anything has not succeeded.
 */
function finishWhenCutOff(response: ExpressResponse, finish: () => void): void {
  response.once('close', () => {
    if (response.headersSent) return finish()
    const write = response.write.bind(response) as (...args: unknown[]) => boolean
    response.write = (...args: unknown[]) => {
      finish()
      return write(...args)
    }
  })
}

export type GatedExpressOptions<Request> = {
  /** The client that acts for this call's organization; null answers 401. */
  readonly client: (request: Request) => UsageClient | null
  readonly call?: (request: Request) => GateInput
}

/** Lets an Express route run only where trial or subscription permit it (see `checkStanding`): 402 otherwise. */
export function requireStanding<Request, Response extends ExpressResponse>({ client, call }: GatedExpressOptions<Request>) {
  return runUnless<Request, Response>((request) => checkStanding(client(request), call?.(request) ?? {}))
}

/** Lets an Express route run only for who has a feature of the catalog (see `checkFeature`): 403 otherwise. */
export function requireFeature<Request, Response extends ExpressResponse>(
  feature: string,
  { client }: Pick<GatedExpressOptions<Request>, 'client'>,
) {
  return runUnless<Request, Response>((request) => checkFeature(client(request), feature))
}

function runUnless<Request, Response extends ExpressResponse>(refusalOf: (request: Request) => Promise<GateRefusal | null>) {
  return async (request: Request, response: Response, next: (error?: unknown) => void): Promise<void> => {
    const refusal = await refusalOf(request)
    if (refusal === null) return next()
    for (const [name, value] of Object.entries(refusal.headers)) response.setHeader(name, value)
    response.status(refusal.status).json(refusal.body)
    return undefined
  }
}
