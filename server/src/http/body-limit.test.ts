import { once } from 'node:events'
import { request } from 'node:http'
import { Hono } from 'hono'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { DomainError } from '../lib/errors.ts'
import { limitBody } from './body-limit.ts'
import { serve, type HttpServer } from './serve.ts'

const app = new Hono()
app.use(limitBody(16))
app.all('*', async (context) => context.text(`${context.req.method} ${await context.req.text()}`))
app.onError((error, context) => context.text(error instanceof DomainError ? error.code : String(error), 500))

let server: HttpServer

beforeAll(async () => {
  server = await serve({ host: '127.0.0.1', port: 0, fetch: app.fetch })
})

afterAll(() => server.stop())

/** Sends the chunks; without a content-length unless the headers give one. */
async function send(method: string, chunks: readonly string[], headers: Record<string, string> = {}): Promise<string> {
  const sent = request({ host: '127.0.0.1', port: server.port, method, path: '/', headers, agent: false })
  for (const chunk of chunks) sent.write(chunk)
  sent.end()
  const [response] = (await once(sent, 'response')) as [NodeJS.ReadableStream]
  let body = ''
  for await (const chunk of response) body += String(chunk)
  return body
}

describe('the limit of a body, over a socket', () => {
  it('lets requests without a body through', async () => {
    expect(await send('DELETE', [])).toBe('DELETE ')
    expect(await send('POST', [], { 'content-length': '0' })).toBe('POST ')
    expect(await send('POST', [], { 'transfer-encoding': 'chunked' })).toBe('POST ')
  })

  it('lets a body through that does not say its length', async () => {
    expect(await send('POST', ['{"a":', '1}'])).toBe('POST {"a":1}')
  })

  it('refuses a body that is too large, said or not', async () => {
    expect(await send('POST', ['0123456789', '0123456'])).toBe('payload_too_large')
    expect(await send('POST', ['01234567890123456'], { 'content-length': '17' })).toBe('payload_too_large')
    expect(await send('POST', ['0123456789012345'], { 'content-length': '16' })).toBe('POST 0123456789012345')
  })
})
