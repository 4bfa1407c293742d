import { describe, expect, it } from 'vitest'
import { plainReplyText, readPlainRequest } from './plain-requests.ts'

const HEAD = 'POST /use HTTP/1.1\r\nHost: h\r\nX-API-Key: k 1\r\nContent-Length: 2'

const read = (text: string) => readPlainRequest(Buffer.from(text, 'latin1'), null)

describe('a request in its plainest form', () => {
  it('is read: the address, headers by their names in small letters, the body', () => {
    const request = read(`${HEAD}\r\n\r\n{}`)!
    expect(request).toMatchObject({ method: 'POST', url: '/use' })
    expect([...request.headers]).toEqual([
      ['host', 'h'],
      ['x-api-key', 'k 1'],
      ['content-length', '2'],
    ])
    expect(request.body.toString()).toBe('{}')
    expect(read('GET /check?a=1 HTTP/1.1\r\nhost: h\r\nConnection: Keep-Alive\r\n\r\n')).toMatchObject({
      method: 'GET',
      url: '/check?a=1',
    })
  })

  it('has a head that is read once when it comes again', () => {
    const first = read(`${HEAD}\r\n\r\n{}`)!
    const again = readPlainRequest(Buffer.from(`${HEAD}\r\n\r\n[]`), first.head)!
    expect(again.head).toBe(first.head)
    expect(again.body.toString()).toBe('[]')
    const other = readPlainRequest(Buffer.from(`${HEAD.replace('k 1', 'k 2')}\r\n\r\n[]`), first.head)!
    expect(other.headers.get('x-api-key')).toBe('k 2')
  })

  it.each([
    ['half a head', HEAD],
    ['half a body', `${HEAD}\r\n\r\n{`],
    ['a second request behind it', `${HEAD}\r\n\r\n{}${HEAD}\r\n\r\n{}`],
    ['another version', `${HEAD.replace('1.1', '1.0')}\r\n\r\n{}`],
    ['another method', `${HEAD.replace('POST', 'PUT')}\r\n\r\n{}`],
    ['an absolute address', `${HEAD.replace('/use', 'http://h/use')}\r\n\r\n{}`],
    ['a space in its address', `${HEAD.replace('/use', '/u se')}\r\n\r\n{}`],
    ['a header that is there twice', `${HEAD}\r\nx-api-key: other\r\n\r\n{}`],
    ['two lengths', `${HEAD}\r\ncontent-length: 2\r\n\r\n{}`],
    ['a length with a sign', `${HEAD.replace(': 2', ': +2')}\r\n\r\n{}`],
    ['a length with a leading zero', `${HEAD.replace(': 2', ': 02')}\r\n\r\n{}`],
    ['a list of lengths', `${HEAD.replace(': 2', ': 2, 2')}\r\n\r\n{}`],
    ['no length', `${HEAD.replace('Content-Length: 2', 'Accept: a')}\r\n\r\n{}`],
    ['a body in chunks', `${HEAD}\r\nTransfer-Encoding: chunked\r\n\r\n{}`],
    ['a space before the colon', `${HEAD}\r\nTransfer-Encoding : chunked\r\n\r\n{}`],
    ['a folded line', `${HEAD}\r\n folded: yes\r\n\r\n{}`],
    ['a bare line feed', `${HEAD}\nTransfer-Encoding: chunked\r\n\r\n{}`],
    ['a bare carriage return', `${HEAD}\r\nx: a\rb\r\n\r\n{}`],
    ['a NUL', `${HEAD}\r\nx: a\0b\r\n\r\n{}`],
    ['a letter beyond ASCII', `${HEAD}\r\nx: ü\r\n\r\n{}`],
    ['a line without a colon', `${HEAD}\r\nnothing\r\n\r\n{}`],
    ['a connection that ends', `${HEAD}\r\nConnection: close\r\n\r\n{}`],
    ['a connection that changes', `${HEAD}\r\nConnection: keep-alive, Upgrade\r\n\r\n{}`],
    ['another protocol', `${HEAD}\r\nUpgrade: h2c\r\n\r\n{}`],
    ['a body that waits to be asked for', `${HEAD}\r\nExpect: 100-continue\r\n\r\n{}`],
    ['a packed body', `${HEAD}\r\nContent-Encoding: gzip\r\n\r\n{}`],
    ['no host', `${HEAD.replace('Host', 'Hose')}\r\n\r\n{}`],
    ['a GET with a body', 'GET / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n{}'],
    ['a GET with something behind it', 'GET / HTTP/1.1\r\nhost: h\r\n\r\n{}'],
    ['a head without end', `${HEAD}\r\nx: ${'x'.repeat(9_000)}\r\n\r\n{}`],
    ['an empty line before it', `\r\n${HEAD}\r\n\r\n{}`],
  ])('is not one with %s', (_what, text) => {
    expect(read(text)).toBeNull()
  })
})

describe('an answer', () => {
  it('says how long it is in bytes, and when the connection ends', () => {
    const reply = { status: 200, headers: { 'X-One': '1' }, body: '"ü"' }
    const { text, encoding } = plainReplyText({ requestId: 'req_1', reply, keepAliveSeconds: 65 })
    expect(text).toMatch(
      /^HTTP\/1\.1 200 OK\r\nx-request-id: req_1\r\ncontent-length: 4\r\ncontent-type: application\/json\r\nX-One: 1\r\nconnection: keep-alive\r\nkeep-alive: timeout=65\r\ndate: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n\r\n"ü"$/,
    )
    expect(encoding).toBe('utf8')
    const last = plainReplyText({ requestId: 'req_1', reply: { ...reply, status: 503, body: '{}' }, keepAliveSeconds: null })
    expect(last.text).toContain('HTTP/1.1 503 Service Unavailable\r\n')
    expect(last.text).toContain('connection: close\r\n')
    expect(last.encoding).toBe('latin1')
  })

  it('has the type that its headers name', () => {
    const headers = { 'content-type': 'application/problem+json' }
    const { text } = plainReplyText({ requestId: 'r', reply: { status: 400, headers, body: '{}' }, keepAliveSeconds: 1 })
    expect(text.match(/content-type: .*/g)).toEqual(['content-type: application/problem+json'])
  })
})
