import { once } from 'node:events'
import { createConnection, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import fc from 'fast-check'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { sendReply, readBody, type Reply } from './bare.ts'
import { PlainConnections, type PlainHandler } from './plain-connections.ts'
import { serve, type HttpServer, type PreHandler } from './serve.ts'

/** What a server makes of a request, in words. */
function replyOf(method: string, url: string, headers: object, body: string): Reply {
  return { status: 200, headers: {}, body: JSON.stringify({ method, url, headers, body }) }
}

const preHandler: PreHandler = (request, response) => {
  const { method = '', url = '', headers } = request
  readBody(request, (body) => sendReply(response, 'id', replyOf(method, url, headers, String(body))))
  return true
}

let plainly = 0
const plainHandler: PlainHandler = ({ method, url, headers, body }, send) => {
  if (url === '/other') return false
  plainly += 1
  send('id', replyOf(method, url, Object.fromEntries(headers), body.toString()))
  return true
}

const options = { fetch: () => new Response('app'), host: '127.0.0.1', port: 0, preHandler }
const servers: HttpServer[] = []

async function start(more: Partial<Parameters<typeof serve>[0]> = {}): Promise<HttpServer> {
  const server = await serve({ ...options, plainHandler, ...more })
  servers.push(server)
  return server
}

afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.stop()))
})

/** Bytes as they are sent, in pieces, and how many answers come before the next are sent. */
type Sent = { readonly pieces: readonly string[]; readonly answers: number }

/** Sends, says that no more comes, and answers all that came back. */
async function talk(port: number, conversation: readonly Sent[]): Promise<string> {
  const socket = createConnection({ port, host: '127.0.0.1', noDelay: true })
  let said = ''
  socket.setEncoding('latin1').on('data', (piece: string) => (said += piece))
  const ended = once(socket, 'close')
  await once(socket, 'connect')
  for (const { pieces, answers } of conversation) {
    const before = answersIn(said)
    for (const piece of pieces) await new Promise((resolve) => socket.write(piece, 'latin1', resolve))
    while (answersIn(said) < before + answers) await once(socket, 'data')
  }
  socket.end()
  await ended
  return said
}

const answersIn = (said: string): number => said.match(/HTTP\/1\.1 \d/g)?.length ?? 0

/** What of an answer is not chance: the names of headers in any case, in any order, without the time. */
function told(answers: string): readonly string[] {
  return answers.split(/(?=HTTP\/1\.1 )/).map((answer) => {
    const [head = '', ...body] = answer.split('\r\n\r\n')
    const [status = '', ...lines] = head.split('\r\n')
    const headers = lines.map((line) => line.replace(/^[^:]*/, (name) => name.toLowerCase()))
    const told = headers.filter((line) => !line.startsWith('date:')).sort()
    return [status, ...told, ...body].join('\n')
  })
}

const post = (body: string, ...headers: readonly string[]): string =>
  [`POST /use HTTP/1.1`, 'host: h', `content-length: ${body.length}`, ...headers, '', body].join('\r\n')

describe('connections that are read before node:http', () => {
  let front: HttpServer
  let bare: HttpServer

  beforeAll(async () => {
    front = await serve({ ...options, plainHandler })
    bare = await serve(options)
  })
  afterAll(() => Promise.all([front.stop(), bare.stop()]))

  const harmless = fc.constantFrom(
    'x-one: 1',
    'X-One: 2',
    'accept: */*',
    'Connection: keep-alive',
    'connection: Keep-Alive, x-one',
    'te: trailers',
    'x-empty:',
    'x-empty: ',
    'x-spaced:   a  ',
    'x-tab:\ta',
    'x-odd: \u00fc',
  )
  const plain = [
    ['POST /use HTTP/1.1', 'content-length: 2', '{}'],
    ['POST /use HTTP/1.1', 'Content-Length: 0', ''],
    ['GET /use?a=1 HTTP/1.1', 'x-none: 1', ''],
  ]
  const framed = fc.constantFrom(
    ...plain,
    ...plain,
    ...plain,
    ['POST /use HTTP/1.1', 'transfer-encoding: chunked', '2\r\n{}\r\n0\r\n\r\n'],
    ['PUT /use HTTP/1.1', 'content-length: 02', '{}'],
    ['GET /other HTTP/1.1', 'x-none: 1', ''],
    ['GET http://h/use HTTP/1.1', 'content-length: 2', '{}'],
  )
  const request = fc
    .tuple(framed, fc.array(harmless, { maxLength: 2 }))
    .map(([[line, size, body], more]) => [line, 'host: h', size, ...more, '', body].join('\r\n'))
  const wrong = fc
    .tuple(
      fc.constantFrom('POST /use HTTP/1.1', 'POST /use HTTP/1.0', 'POST /u se HTTP/1.1', 'post /use HTTP/1.1', 'NO', ''),
      fc.subarray([
        'host: h',
        'content-length: 2',
        'Content-Length: 3',
        'content-length: +2',
        'transfer-encoding: chunked',
        'Transfer-Encoding : chunked',
        'connection: close',
        'connection: upgrade',
        'upgrade: h2c',
        'expect: 100-continue',
        'expect: wonders',
        ' folded',
        'no colon',
        'x-nul: \0',
        'x: a\rb',
        'x: a\nb: c',
      ]),
      fc.constantFrom('{}', '{}{}', '{', '0\r\n\r\n', '2\r\n{}\r\n0\r\n\r\n'),
    )
    .map(([line, headers, body]) => [line, ...headers, '', body].join('\r\n'))
  const cut = (whole: fc.Arbitrary<string>): fc.Arbitrary<readonly string[]> =>
    fc.tuple(whole, fc.array(fc.nat(600), { maxLength: 2 })).map(([all, cuts]) => {
      const at = [0, ...cuts.filter((place) => place < all.length).sort((a, b) => a - b), all.length]
      return at.slice(1).map((end, index) => all.slice(at[index], end))
    })
  const whole = request.map((one): Sent => ({ pieces: [one], answers: 1 }))
  const inPieces = fc
    .array(request, { minLength: 1, maxLength: 2 })
    .chain((requests) => cut(fc.constant(requests.join(''))).map((pieces): Sent => ({ pieces, answers: requests.length })))
  const turn = fc.oneof({ arbitrary: whole, weight: 4 }, { arbitrary: inPieces, weight: 1 })
  const conversation = fc
    .tuple(fc.array(turn, { maxLength: 4 }), fc.option(cut(wrong), { nil: [] }))
    .map(([turns, last]) => [...turns, { pieces: last, answers: 0 }])

  it('are answered as node:http answers them, whatever is sent and wherever it is cut', async () => {
    plainly = 0
    await fc.assert(
      fc.asyncProperty(conversation, async (sent) => {
        const [own, reference] = await Promise.all([front, bare].map(({ port }) => talk(port, sent)))
        expect(told(own!)).toEqual(told(reference!))
      }),
      { numRuns: 500 },
    )
    expect(plainly).toBeGreaterThan(100)
  })

  it('keep on being read plainly, request after request', async () => {
    plainly = 0
    const socket = createConnection({ port: front.port, host: '127.0.0.1' })
    for (let index = 0; index < 5; index += 1) {
      socket.write(post(`"${index}"`))
      const [answer] = (await once(socket, 'data')) as [Buffer]
      expect(answer.toString()).toContain(String.raw`"body":"\"${index}\""`)
    }
    expect(plainly).toBe(5)
    socket.destroy()
  })
})

/** A handler that answers when it is told to. */
function heldHandler() {
  const held: (() => void)[] = []
  const waiters: (() => void)[] = []
  const handler: PlainHandler = ({ body }, send) => {
    held.push(() => send('id', { status: 200, headers: {}, body: body.toString() }))
    waiters.shift()?.()
    return true
  }
  return {
    handler,
    asked: () => new Promise<void>((resolve) => (held.length > 0 ? resolve() : void waiters.push(resolve))),
    answer: () => held.shift()!(),
  }
}

describe('while an answer is under way', () => {
  it('what comes meanwhile is answered after it', async () => {
    const { handler, asked, answer } = heldHandler()
    const server = await start({ plainHandler: handler })
    const socket = createConnection({ port: server.port, host: '127.0.0.1' })
    socket.write(post('"first"'))
    await asked()
    socket.write(post('"second"'))
    socket.end(post('"third"'))
    const answers = text(socket)
    answer()
    expect((await answers).match(/first|second|third/g)).toEqual(['first', 'second', 'third'])
  })

  it('a caller that says that it sends no more still gets it', async () => {
    const { handler, asked, answer } = heldHandler()
    const server = await start({ plainHandler: handler })
    const socket = createConnection({ port: server.port, host: '127.0.0.1', allowHalfOpen: true })
    socket.end(post('"last"'))
    await asked()
    const answers = text(socket)
    answer()
    expect(await answers).toContain('"last"')
  })

  it('a caller that is slow to read gets all of it, and is asked on then', async () => {
    const large = 'x'.repeat(8 * 1_024 * 1_024)
    const server = await start({
      plainHandler: (_request, send) => {
        send('id', { status: 200, headers: {}, body: large })
        return true
      },
    })
    const socket = createConnection({ port: server.port, host: '127.0.0.1' }).pause()
    socket.write(post(''))
    await once(socket, 'readable')
    socket.end(post(''))
    expect((await text(socket)).match(/x+$|x+(?=HTTP)/g)?.map(({ length }) => length)).toEqual([large.length, large.length])
  })

  it('a caller that hangs up harms nobody', async () => {
    const { handler, asked, answer } = heldHandler()
    const server = await start({ plainHandler: handler })
    const socket = createConnection({ port: server.port, host: '127.0.0.1' })
    socket.write(post('"gone"'))
    await asked()
    socket.resetAndDestroy()
    await once(socket, 'close')
    answer()
    const other = createConnection({ port: server.port, host: '127.0.0.1' })
    other.write(post('"here"'))
    await asked()
    answer()
    expect(String(((await once(other, 'data')) as [Buffer])[0])).toContain('"here"')
    other.destroy()
  })

  it('a server that stops answers it, tells the caller to come no more, and ends', async () => {
    const { handler, asked, answer } = heldHandler()
    const server = await start({ plainHandler: handler })
    const [busy, idle] = [1, 2].map(() => createConnection({ port: server.port, host: '127.0.0.1' }))
    await once(idle!, 'connect')
    busy!.write(post('"late"'))
    await asked()
    const stopped = server.stop()
    answer()
    const said = await text(busy!)
    expect(said).toContain('connection: close')
    expect(said).toContain('"late"')
    expect(await text(idle!)).toBe('')
    await stopped
  })

  it('a server that stops carries nothing out that comes after its last answer', async () => {
    const bodies: string[] = []
    let answer = (): void => undefined
    const { promise: asked, resolve: ask } = Promise.withResolvers<void>()
    const server = await start({
      plainHandler: ({ body }, send) => {
        bodies.push(body.toString())
        answer = () => send('id', { status: 200, headers: {}, body: '{}' })
        ask()
        return true
      },
    })
    const socket = createConnection({ port: server.port, host: '127.0.0.1', allowHalfOpen: true })
    socket.write(post('"last"'))
    await asked
    const stopped = server.stop()
    const said = text(socket)
    answer()
    expect(await said).toContain('connection: close')
    // It was on its way when the answer came.
    socket.end(post('"late"'))
    await Promise.all([once(socket, 'close'), stopped])
    expect(bodies).toEqual(['"last"'])
  })

  it('a server that stops waits no longer than it is told to', async () => {
    const { handler, asked } = heldHandler()
    const server = await start({ plainHandler: handler, drainTimeoutMs: 50 })
    const socket = createConnection({ port: server.port, host: '127.0.0.1' })
    socket.write(post('"never"'))
    await asked()
    await server.stop()
    expect(await text(socket)).toBe('')
  })
})

describe('a connection on which nothing happens', () => {
  let server: Server
  afterEach(() => new Promise((resolve) => server.close(resolve)))

  async function connect(handler: PlainHandler): Promise<Socket> {
    const handOver = (socket: Socket): void => void socket.destroy()
    const plain = new PlainConnections({ handler, handOver, keepAliveMs: 30 })
    server = createServer((socket) => plain.add(socket))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return createConnection({ port: (server.address() as AddressInfo).port, host: '127.0.0.1' })
  }

  it('is closed after a time', async () => {
    expect(await text(await connect(plainHandler))).toBe('')
  })

  it('but not while its answer is under way', async () => {
    const { handler, asked, answer } = heldHandler()
    const socket = await connect(handler)
    socket.write(post('"slow"'))
    await asked()
    const answers = text(socket)
    // Longer than it may be idle: a connection beside it is closed meanwhile.
    expect(await text(createConnection({ port: socket.remotePort!, host: '127.0.0.1' }))).toBe('')
    answer()
    expect(await answers).toContain('"slow"')
  })
})
