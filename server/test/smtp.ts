import { once } from 'node:events'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { afterAll, beforeAll } from 'vitest'

export type ReceivedMail = { readonly to: string; readonly source: string }

export type TestSmtp = {
  readonly url: string
  /** What was accepted, oldest first. */
  readonly received: ReceivedMail[]
  /** Decides what a recipient is answered; default: 250. */
  answer: (recipient: string) => string
}

/** A mail server of the calling test file's own, as much of RFC 5321 as a client needs. Call it once at the top. */
export function testSmtp(): TestSmtp {
  const received: ReceivedMail[] = []
  const sockets = new Set<Socket>()
  const smtp = { url: '', received, answer: () => '250 ok' } as { -readonly [Key in keyof TestSmtp]: TestSmtp[Key] }
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => socket.destroy())
    talk(socket, smtp)
  })
  beforeAll(async () => {
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    smtp.url = `smtp://127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  afterAll(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return smtp
}

function talk(socket: Socket, smtp: TestSmtp): void {
  let unread = ''
  let data: string[] | null = null
  let to = ''
  const say = (line: string): void => void socket.write(`${line}\r\n`)
  say('220 test')
  socket.setEncoding('utf8')
  socket.on('data', (chunk: string) => {
    const lines = (unread + chunk).split('\r\n')
    unread = lines.pop() ?? ''
    for (const line of lines) {
      if (data !== null && line !== '.') data.push(line)
      else if (data !== null) {
        smtp.received.push({ to, source: data.join('\n') })
        data = null
        say('250 accepted')
      } else if (/^(EHLO|HELO)/.test(line)) say('250 test')
      else if (line.startsWith('RCPT')) {
        to = /<(.*)>/.exec(line)?.[1] ?? ''
        say(smtp.answer(to))
      } else if (line === 'DATA') {
        data = []
        say('354 go on')
      } else if (line === 'QUIT') {
        say('221 bye')
        socket.end()
      } else say('250 ok')
    }
  })
}
