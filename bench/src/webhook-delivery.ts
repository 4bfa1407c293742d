import { createConnection } from 'node:net'

const CONNECTIONS = 32

/** An event byte for byte as the sandbox sent it. */
export type Signed = { readonly id: string; readonly body: string; readonly signature: string }

/**
 * Sends events in the order in which Stripe did, over a few connections at once, until each is answered 200. Speaks HTTP/1.1 over bare
 * sockets, so that little of the machine goes to it.
 */
export async function deliver(to: { readonly port: number; readonly path: string }, events: readonly Signed[]): Promise<void> {
  const requests = events.map((event) => requestOf(to.path, event))
  let next = 0
  const take = (): Buffer | undefined => requests[next++]
  await Promise.all(Array.from({ length: CONNECTIONS }, () => drive(to.port, take)))
}

function requestOf(path: string, { body, signature }: Signed): Buffer {
  const head = [
    `POST ${path} HTTP/1.1`,
    'host: 127.0.0.1',
    'content-type: application/json; charset=utf-8',
    `stripe-signature: ${signature}`,
    `content-length: ${Buffer.byteLength(body)}`,
  ]
  return Buffer.from(`${head.join('\r\n')}\r\n\r\n${body}`)
}

function drive(port: number, take: () => Buffer | undefined): Promise<void> {
  const socket = createConnection({ port, host: '127.0.0.1', noDelay: true })
  let received = ''
  return new Promise((resolve, reject) => {
    const send = (): void => {
      const request = take()
      if (request !== undefined) return void socket.write(request)
      socket.end()
      resolve()
    }
    socket.setEncoding('latin1')
    socket.on('connect', send)
    socket.on('error', reject)
    socket.on('close', () => reject(new Error('The server closed a connection in the middle of the events.')))
    socket.on('data', (chunk: string) => {
      received += chunk
      if (!isWhole(received)) return
      if (!received.startsWith('HTTP/1.1 200')) reject(new Error(`A webhook was answered ${received}`))
      received = ''
      send()
    })
  })
}

/** Whether an answer has arrived up to its end: by its length, or by the last of its chunks. */
function isWhole(received: string): boolean {
  const end = received.indexOf('\r\n\r\n')
  if (end < 0) return false
  const length = /\r\ncontent-length: (\d+)/i.exec(received.slice(0, end))?.[1]
  return length === undefined ? received.endsWith('0\r\n\r\n') : received.length - end - 4 >= Number(length)
}
