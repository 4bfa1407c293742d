import { getRequestListener } from '@hono/node-server'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { Server as NetServer, type Socket } from 'node:net'
import { StartError } from '../start-error.ts'
import { assert } from '../lib/errors.ts'
import type { Connection } from './client-address.ts'
import { PlainConnections, type PlainHandler } from './plain-connections.ts'

/** Looks at a request before the app does; true when it answers it itself (hot routes on a leaner path). */
export type PreHandler = (request: IncomingMessage, response: ServerResponse) => boolean

export type ServeOptions = {
  readonly fetch: (request: Request, connection: Connection) => Response | Promise<Response>
  readonly host: string
  /** 0 takes any free port. */
  readonly port: number
  readonly preHandler?: PreHandler | undefined
  /** Asked before all else, for requests in their plainest form; what it leaves is asked as if it were not there. */
  readonly plainHandler?: PlainHandler | undefined
  /** For how long a connection is kept on which nothing is asked; default 65 s, longer than most proxies keep theirs. */
  readonly keepAliveMs?: number | undefined
  /** How long requests may take to be answered once the server stops; default 10 s. */
  readonly drainTimeoutMs?: number
}

export type HttpServer = {
  readonly port: number
  /** From now on every answer is the last one of its connection: callers come again by others, of which a proxy chooses another server's. */
  drain(): void
  /** Answers what it accepted, accepts nothing new, and resolves when the last connection is closed. */
  stop(): Promise<void>
}

const DRAIN_TIMEOUT_MS = 10_000
/** Callers that keep a connection may have a request under way just now: they are answered, and told to come no more. */
const LAME_DUCK_MS = 250
const SWEEP_MS = 25
const KEEP_ALIVE_MS = 65_000

/**
 * Listens, and answers through the pre-handler or the app.
 * @throws StartError when the port is taken
 */
export async function serve(options: ServeOptions): Promise<HttpServer> {
  // A load balancer's check in HTTP/1.0 names no host.
  const answer = getRequestListener(options.fetch, { overrideGlobalObjects: false, hostname: 'localhost' })
  const { preHandler } = options
  let stopping = false
  const server = createServer((request, response) => {
    if (stopping) response.setHeader('connection', 'close')
    if (preHandler?.(request, response)) return
    void answer(request, response)
  })
  const keepAliveMs = options.keepAliveMs ?? KEEP_ALIVE_MS
  server.keepAliveTimeout = keepAliveMs
  const plain = options.plainHandler === undefined ? null : putInFront(server, options.plainHandler, keepAliveMs)
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(explainListening(error, options)))
    server.listen(options.port, options.host, resolve)
  })
  const address = server.address()
  const drain = (): void => {
    stopping = true
    plain?.stop()
  }
  return {
    port: typeof address === 'object' && address ? address.port : options.port,
    drain,
    async stop() {
      drain()
      // The method of net: that of http would at once cut connections whose next request is already on its way.
      const closed = new Promise<void>((resolve) => void NetServer.prototype.close.call(server, () => resolve()))
      const began = performance.now()
      const sweep = setInterval(() => {
        const passed = performance.now() - began
        if (passed > (options.drainTimeoutMs ?? DRAIN_TIMEOUT_MS)) {
          server.closeAllConnections()
          plain?.closeAll()
        } else if (passed > LAME_DUCK_MS) {
          server.closeIdleConnections()
          plain?.closeIdle()
        }
      }, SWEEP_MS)
      await closed
      clearInterval(sweep)
      // Ends the timer with which http watches for slow requests.
      server.close()
    },
  }
}

/**
 * Looks whether the port can be had, and leaves it: what takes long to be ready listens only then, since whoever is let in before is put off.
 * @throws StartError when the port is taken
 */
export async function requirePort(options: Pick<ServeOptions, 'host' | 'port'>): Promise<void> {
  const server = new NetServer()
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(explainListening(error, options)))
    server.listen(options.port, options.host, resolve)
  })
  await new Promise<void>((resolve) => void server.close(() => resolve()))
}

/** Lets plain requests be read where they arrive, and gives `node:http` the connections on which anything else does. */
function putInFront(server: Server, handler: PlainHandler, keepAliveMs: number): PlainConnections {
  const [admit, ...others] = server.listeners('connection') as ((this: Server, socket: Socket) => void)[]
  assert(admit && others.length === 0, '`node:http` alone waits for its connections')
  server.removeListener('connection', admit)
  const plain = new PlainConnections({ handler, handOver: (socket) => admit.call(server, socket), keepAliveMs })
  server.on('connection', (socket) => plain.add(socket))
  return plain
}

function explainListening(error: Error, { host, port }: Pick<ServeOptions, 'host' | 'port'>): Error {
  const code = 'code' in error ? error.code : ''
  if (code === 'EADDRINUSE')
    return new StartError(`Port ${port} on ${host} is taken. Set PORT to another, or stop what listens there.`)
  if (code === 'EACCES') return new StartError(`Port ${port} may not be opened by this user. Set PORT to one above 1023.`)
  return error
}
