import { checkStanding } from './gated-call.ts'
import { beginMeteredCall, UNAUTHENTICATED, type MeteredCall } from './metered-call.ts'
import type { RefusalStatus } from './quota.ts'
import type { GateInput, QuantityInput, UsageClient } from './usage.ts'

/** What is used of Fastify's reply. */
type FastifyReply = {
  statusCode: number
  headers(values: Record<string, string>): unknown
  code(status: number): { send(body: unknown): unknown }
}

export type MeteredFastifyOptions<Request, Reply> = {
  /** The client that acts for this call's organization; null answers 401. */
  readonly client: (request: Request) => UsageClient | null
  readonly meter: string
  readonly quantity?: QuantityInput | ((request: Request) => QuantityInput | Promise<QuantityInput>)
  /** What the call came to, read when the handler has answered. */
  readonly settleQuantity?: (request: Request, reply: Reply) => QuantityInput | undefined
  readonly statuses?: Readonly<Record<string, RefusalStatus>>
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
      reply.headers(call.headers)
      if (call.refusal) return reply.code(call.refusal.status).send(call.refusal.body)
      calls.set(request, call)
      return undefined
    },
    async onSend(request: Request, reply: Reply, payload: unknown): Promise<unknown> {
      const call = calls.get(request)
      if (call) {
        calls.delete(request)
        const ok = reply.statusCode < 400
        await call.finish({ ok, quantity: ok ? options.settleQuantity?.(request, reply) : undefined })
      }
      return payload
    },
  }
}

export type GatedFastifyOptions<Request> = {
  /** The client that acts for this call's organization; null answers 401. */
  readonly client: (request: Request) => UsageClient | null
  readonly call?: (request: Request) => GateInput
}

/** The hook that lets a Fastify route run only where trial or subscription permit it (see `checkStanding`); spread it as `meterRoute`. */
export function requireStanding<Request, Reply extends FastifyReply>({ client, call }: GatedFastifyOptions<Request>) {
  return {
    async preHandler(request: Request, reply: Reply): Promise<unknown> {
      const refusal = await checkStanding(client(request), call?.(request) ?? {})
      if (refusal === null) return undefined
      reply.headers({ ...refusal.headers })
      return reply.code(refusal.status).send(refusal.body)
    },
  }
}
