import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll } from 'vitest'

export type ReceivedRequest = { readonly path: string; readonly headers: IncomingHttpHeaders; readonly body: string }

export type TestReceiver = {
  readonly url: string
  /** What arrived, oldest first. */
  readonly received: ReceivedRequest[]
  /** Decides what is answered; default: 200. */
  answer: (request: ReceivedRequest, response: ServerResponse) => void
}

/** A receiver of webhooks of the calling test file's own. Call it once at the top. */
export function testReceiver(): TestReceiver {
  const receiver: { -readonly [Key in keyof TestReceiver]: TestReceiver[Key] } = {
    url: '',
    received: [],
    answer: (_request, response) => void response.end(),
  }
  const server = createServer((request, response) => {
    void readBody(request).then((body) => {
      const received = { path: request.url ?? '', headers: request.headers, body }
      receiver.received.push(received)
      receiver.answer(received, response)
    })
  })
  beforeAll(async () => {
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    receiver.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  afterAll(() => {
    server.closeAllConnections()
    server.close()
  })
  return receiver
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}
