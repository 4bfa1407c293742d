import { describe, expect, it, test } from 'vitest'
import { testReceiver } from '../../test/receiver.ts'
import { createPost, type Resolve } from './post.ts'

const receiver = testReceiver()
const production = { allowLoopback: false }
const development = { allowLoopback: true }
const names =
  (...addresses: string[]): Resolve =>
  (_hostname, done) =>
    done(
      null,
      addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
    )
const message = (url: string) => ({ url: new URL(url), headers: { 'webhook-id': 'ev_1' }, body: '{"é":1}' })

describe('what is sent out', () => {
  it('arrives as it is, and what is answered is kept, its first kilobyte', async () => {
    receiver.answer = (_request, response) => void response.writeHead(201).end(`\0${'x'.repeat(100_000)}`)
    const outcome = await createPost(development)(message(`${receiver.url}/hooks?a=1`))
    expect(outcome).toMatchObject({ status: 201, error: null, response: 'x'.repeat(1_023) })
    expect(receiver.received.at(-1)).toMatchObject({
      path: '/hooks?a=1',
      body: '{"é":1}',
      headers: { 'webhook-id': 'ev_1', 'content-type': 'application/json', 'content-length': '8' },
    })
  })

  it('is not sent on where a redirect points', async () => {
    receiver.received.length = 0
    receiver.answer = (_request, response) => void response.writeHead(302, { location: `${receiver.url}/elsewhere` }).end()
    expect(await createPost(development)(message(receiver.url))).toMatchObject({ status: 302 })
    expect(receiver.received.map(({ path }) => path)).toEqual(['/'])
  })

  it('does not wait for ever, neither for an answer nor for its end', async () => {
    receiver.answer = () => undefined
    const outcome = await createPost({ ...development, timeoutMs: 100 })(message(receiver.url))
    expect(outcome).toMatchObject({ status: null, error: 'No answer within 0.1 seconds.' })
    receiver.answer = (_request, response) => void response.writeHead(200).write('begun')
    expect(await createPost({ ...development, timeoutMs: 100 })(message(receiver.url))).toMatchObject({
      status: 200,
      response: 'begun',
    })
  })

  it('reads no more of an answer than it keeps: one without an end is not waited for', async () => {
    receiver.answer = (_request, response) => void response.writeHead(200).write('x'.repeat(2_000))
    const timeoutMs = 20_000
    const outcome = await createPost({ ...development, timeoutMs })(message(receiver.url))
    expect(outcome).toMatchObject({ status: 200, response: 'x'.repeat(1_024) })
    expect(outcome.durationMs).toBeLessThan(timeoutMs)
  })

  it('says why nothing was answered', async () => {
    receiver.answer = (_request, response) => void response.socket?.destroy()
    expect((await createPost(development)(message(receiver.url))).error).toMatch(/socket hang up|ECONNRESET/)
    const failing: Resolve = (hostname, done) => done(new Error(`getaddrinfo ENOTFOUND ${hostname}`))
    const outcome = await createPost({ ...production, resolve: failing })(message('https://nowhere.example/'))
    expect(outcome).toMatchObject({ status: null, error: 'getaddrinfo ENOTFOUND nowhere.example' })
  })

  it('says so of a name that the system itself cannot look up', async () => {
    // A part of a name has 63 bytes at most, so that nobody is asked (RFC 1035, section 2.3.4).
    const outcome = await createPost(production)(message(`https://${'x'.repeat(64)}.example/`))
    expect(outcome).toMatchObject({ status: null, error: expect.stringContaining('getaddrinfo') as string })
  })

  it('ends when the answer is another protocol', async () => {
    receiver.answer = (_request, response) =>
      void response.socket?.end('HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: other\r\n\r\n')
    expect(await createPost(development)(message(receiver.url))).toMatchObject({ status: 101, error: null })
  })
})

describe('a forbidden address is refused when the connection is made', () => {
  const forbidden = [
    '127.0.0.1',
    '10.1.2.3',
    '169.254.169.254',
    '100.64.0.1',
    '192.168.0.1',
    '::1',
    'fd00::1',
    '::ffff:127.0.0.1',
    '64:ff9b::a00:1',
  ]

  test.each(forbidden)('behind a name: %s', async (address) => {
    const post = createPost({ ...production, resolve: names(address) })
    const { port } = new URL(receiver.url)
    receiver.received.length = 0
    expect(await post(message(`https://rebound.example:${port}/`))).toMatchObject({
      status: null,
      error: `${address} is not on the public network: nothing was sent.`,
    })
    expect(receiver.received).toEqual([])
  })

  test.each(forbidden)('named itself: %s', async (address) => {
    const host = address.includes(':') ? `[${address}]` : address
    const { error } = await createPost(production)(message(`https://${host}/`))
    expect(error).toMatch(/is not on the public network: nothing was sent\.$/)
  })

  it('beside a public one, too', async () => {
    const outcome = await createPost({ ...production, resolve: names('8.8.8.8', '10.0.0.1') })(message('https://mixed.example/'))
    expect(outcome.error).toBe('10.0.0.1 is not on the public network: nothing was sent.')
  })

  it('of a name that led somewhere else a moment ago: each connection goes to the address that was checked for it', async () => {
    const answers = ['127.0.0.1', '10.0.0.1']
    let asked = 0
    const rebinding: Resolve = (hostname, done) => {
      asked += 1
      names(answers[asked - 1]!)(hostname, done)
    }
    const post = createPost({ ...development, resolve: rebinding })
    receiver.answer = (_request, response) => void response.end()
    receiver.received.length = 0
    const url = receiver.url.replace('127.0.0.1', 'localhost')
    expect(await post(message(url))).toMatchObject({ status: 200 })
    expect((await post(message(url))).error).toMatch(/^10\.0\.0\.1 is not on the public network/)
    expect([asked, receiver.received.length]).toEqual([2, 1])
  })

  it('in development, when it is not this machine; by http nothing else is spoken to at all', async () => {
    const post = createPost({ ...development, resolve: names('10.0.0.1') })
    expect((await post(message('http://localhost:1/'))).error).toMatch(/^10\.0\.0\.1 is not/)
    const elsewhere = createPost({ ...development, resolve: names('8.8.8.8') })
    expect((await elsewhere(message('http://localhost:1/'))).error).toMatch(/^8\.8\.8\.8 is not/)
  })
})
