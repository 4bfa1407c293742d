import { checkFeature, checkStanding, type GateRefusal } from './gated-call.ts'
import { beginMeteredCall, tell, UNAUTHENTICATED, type MeteredCall, type MeteredTerms } from './metered-call.ts'
import type { GateInput, QuantityInput, UsageClient } from './usage.ts'
import { afterBody } from './web-answer.ts'

/** What is used of Fastify's reply. */
type FastifyReply = {
  statusCode: number
  headers(values: Record<string, string>): unknown
  code(status: number): { send(body: unknown): unknown }
}

export type MeteredFastifyOptions<Request, Reply> = MeteredTerms & {
  /** The client that acts for this call's organization; null answers 401. */
  readonly client: (request: Request) => UsageClient | null
  readonly quantity?: QuantityInput | ((request: Request) => QuantityInput | Promise<QuantityInput>)
  /** What the call came to, read when the handler has answered; of a stream when it has ended. */
  readonly settleQuantity?: (request: Request, reply: Reply) => QuantityInput | undefined
}

/**
 * The hooks that meter a Fastify route (see `beginMeteredCall`); spread them into the route's options:
 * `app.post('/chat', { ...meterRoute({ … }) }, handler)`.
 */
export function meterRoute<Request extends object, Reply extends FastifyReply>(options: MeteredFastifyOptions<Request, Reply>) {
  const calls = new WeakMap<object, MeteredCall>()
  return {
    async preHandler(request: Request, reply: Reply): Promise<unknown> {
      const client = options.client(request)
      if (client === null) return reply.code(401).send(UNAUTHENTICATED)
      const quantity = typeof options.quantity === 'function' ? await options.quantity(request) : (options.quantity ?? 1)
      const call = await beginMeteredCall(client, { ...options, quantity })
      if (call.refusal) {
        reply.headers({ ...call.headers })
        return reply.code(call.refusal.status).send(call.refusal.body)
      }
      calls.set(request, call)
      return undefined
    },
    async onSend(request: Request, reply: Reply, payload: unknown): Promise<unknown> {
      const call = calls.get(request)
      if (call === undefined) return payload
      calls.delete(request)
      const finish = () => call.finish({ status: reply.statusCode, quantity: () => options.settleQuantity?.(request, reply) })
      const streamed = isStream(payload)
      reply.headers({ ...(streamed ? call.headers : await finish()) })
      return streamed ? finishAfter(payload, finish, options) : payload
    },
  }
}

/** A body that is on its way for a while: of Node, or of the web. */
type Stream = { once(event: 'close', listener: () => void): unknown } | NonNullable<Response['body']>

function isStream(payload: unknown): payload is Stream {
  if (payload instanceof ReadableStream) return true
  return typeof payload === 'object' && payload !== null && 'pipe' in payload && 'once' in payload
}

/** Records the call when its stream has ended, whole or cut off by the caller: Fastify destroys it then. */
function finishAfter(stream: Stream, finish: () => Promise<unknown>, options: Pick<MeteredTerms, 'onError'>): Stream {
  const done = async (): Promise<void> => {
    try {
      await finish()
    } catch (error) {
      tell(options, error)
    }
  }
  if (stream instanceof ReadableStream) return afterBody(stream, done)
  stream.once('close', () => void done())
  return stream
}

export type GatedFastifyOptions<Request> = {
  /** The client that acts for this call's organization; null answers 401. */
  readonly client: (request: Request) => UsageClient | null
  readonly call?: (request: Request) => GateInput
}

/** The hook that lets a Fastify route run only where trial or subscription permit it (see `checkStanding`); spread it as `meterRoute`. */
export function requireStanding<Request, Reply extends FastifyReply>({ client, call }: GatedFastifyOptions<Request>) {
  return runUnless<Request, Reply>((request) => checkStanding(client(request), call?.(request) ?? {}))
}

/** The hook that lets a Fastify route run only for who has a feature of the catalog (see `checkFeature`); spread it as `meterRoute`. */
export function requireFeature<Request, Reply extends FastifyReply>(
  feature: string,
  { client }: Pick<GatedFastifyOptions<Request>, 'client'>,
) {
  return runUnless<Request, Reply>((request) => checkFeature(client(request), feature))
}

function runUnless<Request, Reply extends FastifyReply>(refusalOf: (request: Request) => Promise<GateRefusal | null>) {
  return {
    async preHandler(request: Request, reply: Reply): Promise<unknown> {
      const refusal = await refusalOf(request)
      if (refusal === null) return undefined
      reply.headers({ ...refusal.headers })
      return reply.code(refusal.status).send(refusal.body)
    },
  }
}
