import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Logger } from 'pino'
import { asDomainError, MAX_BODY_BYTES } from './app.ts'
import { internalProblem, problemOf } from './problems.ts'

/** What is answered on bare `node:http`, on the leaner path of routes that are called all the time. */
export type Reply = { readonly status: number; readonly headers: Readonly<Record<string, string>>; readonly body: string }

/** The problem document that the app would answer, and the same words in the log. */
export function replyOfError(
  error: unknown,
  { log, requestId, path }: { readonly log: Logger; readonly requestId: string; readonly path: string | undefined },
): Reply {
  const known = asDomainError(error)
  if (known) {
    const problem = problemOf(known, requestId)
    if (problem.status >= 500) log.warn({ err: error, requestId, path }, 'request refused')
    return { status: problem.status, headers: problem.headers, body: JSON.stringify(problem.body) }
  }
  log.error({ err: error, requestId, path }, 'request failed')
  const headers = { 'content-type': 'application/problem+json' }
  return { status: 500, headers, body: JSON.stringify(internalProblem(requestId)) }
}

/** Collects a body; null when it is larger than a body may be. What follows is read and dropped, so that the answer arrives. */
export function readBody(request: IncomingMessage, done: (body: Buffer | null) => void): void {
  const chunks: Buffer[] = []
  let size = 0
  request.on('data', (chunk: Buffer) => {
    size += chunk.length
    if (size <= MAX_BODY_BYTES) chunks.push(chunk)
    else chunks.length = 0
  })
  request.on('end', () => {
    const [first] = chunks
    if (size > MAX_BODY_BYTES) done(null)
    else done(chunks.length === 1 && first ? first : Buffer.concat(chunks))
  })
  // A caller that hangs up before its body is whole gets no answer, and nothing is counted.
  request.on('error', () => {})
}

/** A header's value; null where it is missing, or was sent more than once. */
export function singleHeader(value: string | readonly string[] | undefined): string | null {
  return typeof value === 'string' ? value : null
}

export function sendReply(response: ServerResponse, requestId: string, { status, headers, body }: Reply): void {
  const length = Buffer.byteLength(body)
  // A flat list is written as it stands; an object would be taken apart and checked first.
  const lines = ['x-request-id', requestId, 'content-length', String(length)]
  if (!('content-type' in headers)) lines.push('content-type', 'application/json')
  for (const name in headers) lines.push(name, headers[name]!)
  response.writeHead(status, lines)
  // As many bytes as characters: ASCII, which need not be encoded.
  response.end(body, length === body.length ? 'latin1' : 'utf8')
}
