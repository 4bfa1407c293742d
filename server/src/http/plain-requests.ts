import { systemClock } from '../lib/clock.ts'
import { STATUS_CODES } from 'node:http'
import type { Reply } from './bare.ts'

/** A request that came in one piece, and says nothing about how it is sent but how long its body is. */
export type PlainRequest = {
  readonly method: 'GET' | 'POST'
  /** As it was sent, from the first slash on. */
  readonly url: string
  /** By their names in small letters; none is there twice. */
  readonly headers: ReadonlyMap<string, string>
  readonly body: Buffer
}

/** What is before the body. A caller's requests have mostly the same, which is then read once. */
export type PlainHead = Omit<PlainRequest, 'body'> & { readonly text: string; readonly bodyBytes: number }

const END_OF_HEAD = Buffer.from('\r\n\r\n')
// Half of what node:http takes.
const MOST_HEAD_BYTES = 8_192
const REQUEST_LINE = /^(GET|POST) (\/[\x21-\x7e]*) HTTP\/1\.1$/
// One space, and none at the end: what is between is printable ASCII.
const HEADER = /^([\w-]+): ((?:[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)?)$/
const LENGTH = /^(?:0|[1-9]\d{0,6})$/
/** Headers that say how a message is sent or what is to become of the connection: https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1 */
const ABOUT_SENDING: ReadonlySet<string> = new Set([
  'content-encoding',
  'expect',
  'http2-settings',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

/**
 * Reads bytes that are exactly one request in its plainest form; null for all else, which is for `node:http` to read: half a request, two of
 * them, another version, a body in chunks, a header that is there twice, anything that is not printable ASCII.
 * @param last the head that was read before on the same connection
 */
export function readPlainRequest(bytes: Buffer, last: PlainHead | null): (PlainRequest & { readonly head: PlainHead }) | null {
  const end = bytes.indexOf(END_OF_HEAD)
  if (end < 0 || end > MOST_HEAD_BYTES) return null
  const text = bytes.toString('latin1', 0, end)
  const head = last !== null && last.text === text ? last : readHead(text)
  const bodyAt = end + END_OF_HEAD.length
  if (head === null || bytes.length - bodyAt !== head.bodyBytes) return null
  const { method, url, headers } = head
  return { method, url, headers, body: bytes.subarray(bodyAt), head }
}

function readHead(text: string): PlainHead | null {
  const [first = '', ...lines] = text.split('\r\n')
  const [, method, url] = REQUEST_LINE.exec(first) ?? []
  if (method === undefined || url === undefined) return null
  const headers = new Map<string, string>()
  for (const line of lines) {
    const [, written, value] = HEADER.exec(line) ?? []
    if (written === undefined || value === undefined) return null
    const name = written.toLowerCase()
    if (headers.has(name) || ABOUT_SENDING.has(name)) return null
    headers.set(name, value)
  }
  const bodyBytes = bodyBytesOf(method, headers.get('content-length'))
  const isKept = (headers.get('connection') ?? 'keep-alive').toLowerCase() === 'keep-alive'
  if (bodyBytes === null || !isKept || !headers.has('host')) return null
  return { method: method as PlainHead['method'], url, headers, bodyBytes, text }
}

/** A GET has no body and a POST says how long its body is. */
function bodyBytesOf(method: string, length: string | undefined): number | null {
  if (method === 'GET') return length === undefined ? 0 : null
  return length !== undefined && LENGTH.test(length) ? Number(length) : null
}

export type PlainReply = {
  readonly requestId: string
  readonly reply: Reply
  /** For how long the connection is kept; null ends it. */
  readonly keepAliveSeconds: number | null
}

/** An answer as `node:http` would write it. */
export function plainReplyText({ requestId, reply: { status, headers, body }, keepAliveSeconds }: PlainReply): {
  readonly text: string
  readonly encoding: 'latin1' | 'utf8'
} {
  const length = Buffer.byteLength(body)
  let text = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\nx-request-id: ${requestId}\r\ncontent-length: ${length}\r\n`
  if (!('content-type' in headers)) text += 'content-type: application/json\r\n'
  for (const name in headers) text += `${name}: ${headers[name]!}\r\n`
  text +=
    keepAliveSeconds === null ? 'connection: close\r\n' : `connection: keep-alive\r\nkeep-alive: timeout=${keepAliveSeconds}\r\n`
  return { text: `${text}date: ${dateText()}\r\n\r\n${body}`, encoding: length === body.length ? 'latin1' : 'utf8' }
}

let dateSecond = Number.NaN
let date = ''

/** A date is told by the second. */
function dateText(): string {
  const now = systemClock.now()
  const second = Math.floor(now.getTime() / 1_000)
  if (second !== dateSecond) {
    date = now.toUTCString()
    dateSecond = second
  }
  return date
}
