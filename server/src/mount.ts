import { getRequestListener } from '@hono/node-server'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Connection } from './http/client-address.ts'
import type { RouteGroup } from './http/served-paths.ts'

/** What is mounted: a Tollgate, of which no more is asked. */
export type Mounted = {
  fetch(this: void, request: Request, connection?: Connection): Promise<Response>
  groupOf(this: void, url: string): RouteGroup | null
}

/** A Hono application. */
export type HonoHost = {
  readonly fetch: unknown
  use(
    path: string,
    handler: (
      context: { readonly req: { readonly raw: Request }; readonly env: unknown },
      next: () => Promise<void>,
    ) => Promise<Response | void>,
  ): unknown
}

type NodeHandler = (request: IncomingMessage, response: ServerResponse, next: (error?: unknown) => void) => void

/** An Express application, and any other that takes handlers of `node:http`. */
export type ExpressHost = { use(handler: NodeHandler): unknown }

/** A Fastify application. */
export type FastifyHost = {
  addHook(
    name: 'onRequest',
    hook: (
      request: { readonly raw: IncomingMessage },
      reply: { readonly raw: ServerResponse; hijack(): unknown },
      done: (error?: Error) => void,
    ) => void,
  ): unknown
}

export type Host = HonoHost | ExpressHost | FastifyHost

/**
 * Serves the routes of people and organizations on a host's own server: signing up and in, members, keys (CB-1, CB-10).
 * Mount it before what reads bodies.
 * @example
 * const app = express()
 * mountAuth(app, tollgate)
 * mountBilling(app, tollgate)
 */
export function mountAuth(host: Host, tollgate: Mounted): void {
  mount(host, tollgate, 'auth')
}

/** Serves all other routes on a host's own server: billing, use, webhooks, operators' views (CB-1). Mount it before what reads bodies. */
export function mountBilling(host: Host, tollgate: Mounted): void {
  mount(host, tollgate, 'billing')
}

function mount(host: Host, tollgate: Mounted, group: RouteGroup): void {
  if ('addHook' in host) {
    const listener = listenerOf(tollgate)
    host.addHook('onRequest', (request, reply, done) => {
      if (tollgate.groupOf(request.raw.url ?? '/') !== group) {
        done()
        return
      }
      reply.hijack()
      listener(request.raw, reply.raw, done as NodeNext)
    })
  } else if ('fetch' in host) {
    host.use('*', async ({ req, env }, next) =>
      tollgate.groupOf(req.raw.url) === group ? tollgate.fetch(req.raw, connectionOf(env)) : next(),
    )
  } else {
    const listener = listenerOf(tollgate)
    host.use((request, response, next) => {
      if (tollgate.groupOf(request.url ?? '/') === group) listener(request, response, next)
      else next()
    })
  }
}

/** What @hono/node-server hands on; nothing under another runtime. */
function connectionOf(env: unknown): Connection {
  return env ?? {}
}

type NodeNext = (error?: unknown) => void

function listenerOf(tollgate: Mounted): NodeHandler {
  const answer = getRequestListener(tollgate.fetch, { overrideGlobalObjects: false })
  return (request, response, next) => {
    // A signature is over the body as it came: what was parsed cannot be had back.
    if (request.readableEnded && Number(request.headers['content-length'] ?? 0) > 0 && !('rawBody' in request)) {
      next(
        new Error('The body was read already: call mountAuth and mountBilling before what reads bodies, such as express.json().'),
      )
      return
    }
    void answer(request, response)
  }
}
