import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Engine } from '../engine/engine.ts'
import { StripeError } from '../engine/errors.ts'
import type { Api } from './api.ts'
import { decodeForm } from './form.ts'
import type { PageResponse, PageRoute } from './pages.ts'
import { Router } from './router.ts'

const MAX_BODY_BYTES = 10 * 1024 * 1024

/** The sandbox's HTTP server: the API under `/v1` and `/v2`, pages everywhere else. */
export function createHttpServer(engine: Engine, api: Api, pages: readonly PageRoute[]): Server {
  const router = new Router<PageRoute>()
  for (const route of pages) router.add(route.on, route)
  return createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
    answer(request, response, { engine, api, router }).catch((error: unknown) => {
      engine.report(error)
      if (!response.headersSent) response.writeHead(500, { 'content-type': 'text/plain' })
      response.end()
    })
  })
}

/** Starts listening; resolves to the port. */
export function listen(server: Server, host: string, port: number): Promise<number> {
  return new Promise((done, fail) => {
    server.once('error', fail)
    server.listen(port, host, () => done((server.address() as AddressInfo).port))
  })
}

interface Parts {
  readonly engine: Engine
  readonly api: Api
  readonly router: Router<PageRoute>
}

async function answer(request: IncomingMessage, response: ServerResponse, parts: Parts): Promise<void> {
  const target = request.url ?? '/'
  const split = target.indexOf('?')
  const pathname = split < 0 ? target : target.slice(0, split)
  const search = split < 0 ? '' : target.slice(split + 1)
  const body = request.method === 'GET' ? '' : await readBody(request)
  const method = request.method ?? 'GET'
  if (!pathname.startsWith('/v1/') && !pathname.startsWith('/v2/')) {
    await answerPage(request, response, { method, pathname, body }, parts)
    return
  }
  const result = await parts.api.answer({ method, pathname, search, headers: request.headers, body })
  if (result.cut) {
    request.socket.destroy()
    return
  }
  response.writeHead(result.status, { ...result.headers, 'content-length': Buffer.byteLength(result.body) })
  response.end(result.body)
}

async function answerPage(
  request: IncomingMessage,
  response: ServerResponse,
  asked: { method: string; pathname: string; body: string },
  { engine, router }: Parts,
): Promise<void> {
  const match = router.find(asked.method === 'HEAD' ? 'GET' : asked.method, asked.pathname)
  if (match === null) {
    send(response, { status: 404, headers: { 'content-type': 'text/plain; charset=utf-8' }, body: 'There is no such page.\n' })
    return
  }
  engine.timeline.catchUp()
  const isForm = (request.headers['content-type'] ?? '').startsWith('application/x-www-form-urlencoded')
  const page = {
    method: asked.method,
    path: match.path,
    url: new URL(request.url ?? '/', engine.baseUrl),
    headers: request.headers,
    form: isForm ? decodeForm(asked.body) : {},
    body: asked.body,
    transact: <T>(work: Parameters<typeof engine.transact<T>>[1]) => engine.transact({ request: null, task: null }, work),
  }
  try {
    send(response, await match.value.handle(page))
  } catch (error) {
    if (!(error instanceof StripeError)) throw error
    send(response, {
      status: error.status,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ error: error.body }),
    })
  }
}

function send(response: ServerResponse, page: PageResponse): void {
  const body = page.body ?? ''
  response.writeHead(page.status ?? 200, {
    'content-type': 'text/html; charset=utf-8',
    'content-length': Buffer.byteLength(body),
    ...page.headers,
  })
  response.end(body)
}

function readBody(request: IncomingMessage): Promise<string> {
  return new Promise((done, fail) => {
    const chunks: Buffer[] = []
    let size = 0
    request.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size > MAX_BODY_BYTES) request.destroy(new Error('The body is too large.'))
      else chunks.push(chunk)
    })
    request.once('end', () => done(Buffer.concat(chunks).toString()))
    request.once('error', fail)
  })
}
