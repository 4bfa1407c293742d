import type { MiddlewareHandler } from 'hono'
import { DomainError } from '../lib/errors.ts'

/**
 * Refuses bodies of more than `maxBytes`, whether they say their length or arrive in chunks. One that does not say it is read here.
 * Hono's own `bodyLimit` then copies the request with `new Request(raw, …)`, which fails for the requests of @hono/node-server
 * while the global `Request` is left alone: every DELETE, and every POST without a body, would be a 500.
 */
export function limitBody(maxBytes: number): MiddlewareHandler {
  const tooLarge = () => new DomainError('payload_too_large', `A request has at most ${maxBytes} bytes.`)
  return async (context, next) => {
    const { raw } = context.req
    const length = raw.headers.get('content-length')
    if (length !== null && !raw.headers.has('transfer-encoding')) {
      if (Number(length) > maxBytes) throw tooLarge()
    } else if (raw.body) {
      const body = await readBody(raw.body, maxBytes, tooLarge)
      context.req.raw = new Request(raw.url, { method: raw.method, headers: raw.headers, signal: raw.signal, body })
    }
    await next()
  }
}

/** The whole body; null when it is empty. */
async function readBody(stream: ReadableStream<Uint8Array>, maxBytes: number, tooLarge: () => Error): Promise<Blob | null> {
  const chunks: Uint8Array<ArrayBuffer>[] = []
  let size = 0
  for await (const chunk of stream) {
    size += chunk.length
    if (size > maxBytes) throw tooLarge()
    chunks.push(new Uint8Array(chunk))
  }
  return size === 0 ? null : new Blob(chunks)
}
