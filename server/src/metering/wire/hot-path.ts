import type { Logger } from 'pino'
import type { Recognizer } from '../../auth/api-keys.ts'
import { nobody, type Principal } from '../../auth/principal.ts'
import { invalidRequest, MAX_BODY_BYTES, requestIdOf } from '../../http/app.ts'
import { readBody, replyOfError, sendReply, singleHeader, type Reply } from '../../http/bare.ts'
import { textOfBytes } from '../../http/body-text.ts'
import { besideItems } from '../../http/card-data.ts'
import type { PlainHandler } from '../../http/plain-connections.ts'
import type { PreHandler } from '../../http/serve.ts'
import { refuseCardData, setCardDataApart } from '../../lib/card-data.ts'
import { DomainError } from '../../lib/errors.ts'
import { unitsOf, type UsageContext } from '../api.ts'
import type { UsageAnswer } from '../usage.ts'
import { answerText } from './bodies.ts'
import { decideBatch, headersOf, organizationsOf, requireAsker, requireWriter } from './calls.ts'
import { isBinaryCloudEvent } from './cloud-events.ts'
import { readPlainCheck, readPlainQuery, readPlainRecord } from './fast-bodies.ts'
import {
  batchSchema,
  checkRequestOf,
  checkSchema,
  recordRequestOf,
  recordSchema,
  type CheckBody,
  type OrganizationOf,
} from './requests.ts'

export type HotPathOptions = {
  readonly usage: UsageContext
  readonly authenticate: (request: { readonly headers: { get(name: string): string | null } }) => Promise<Principal | null>
  /** Says without waiting who calls, where it can; 1 µs less than to wait for what is known. */
  readonly recognize?: Recognizer
  readonly log: Logger
  readonly onAnswered?: (answered: { method: string; route: string; status: number; seconds: number }) => void
}

type Verb = 'check' | 'track' | 'consume' | 'batch'

const POSTED: ReadonlyMap<string, Verb> = new Map(
  (['check', 'track', 'consume', 'batch'] as const).flatMap((verb) => [
    [`/api/v1/usage/${verb}`, verb],
    [`/api/usage/${verb}`, verb],
  ]),
)
// A check as a link. What has to be decoded is left to the app.
const ASKED = /^\/api\/(?:v1\/)?usage\/check\?([\w.&=-]*)$/

export type HotPath = {
  /** On `node:http`. */
  readonly preHandler: PreHandler
  /** Before `node:http`, for requests in their plainest form. */
  readonly plainHandler: PlainHandler
}

/** A header by its name in small letters; null where it is missing, or was sent more than once. */
type HeaderOf = (name: string) => string | null
/** What was sent, read as JSON, and the JSON itself; a link has none. */
type Sent = { readonly body: unknown; readonly text: string }
type Asking = { readonly method: string; readonly url: string; readonly headerOf: HeaderOf }
type Send = (requestId: string, reply: Reply) => void

/**
 * Answers the routes that are called all the time without a `Request`, a `Response` and their streams between: the same contract, checks and
 * answers as their routes in `routes.ts` (docs/decisions/0010-hot-path.md, 0160-plain-requests.md).
 */
export function createHotPath(options: HotPathOptions): HotPath {
  const answerers = createAnswerers(options.usage)

  function answerWith(asking: Asking, { verb, read }: { verb: Verb; read: () => Sent }, send: Send): void {
    const began = performance.now()
    const requestId = requestIdOf(asking.headerOf('x-request-id'))
    void answer(options, { ...asking, requestId, read }, answerers[verb]).then((reply) => {
      send(requestId, reply)
      const seconds = (performance.now() - began) / 1_000
      options.onAnswered?.({ method: asking.method, route: `/api/v1/usage/${verb}`, status: reply.status, seconds })
    })
  }

  return {
    preHandler(request, response) {
      const { method = '', url = '', headers } = request
      const asking = { method, url, headerOf: (name: string) => singleHeader(headers[name]) }
      const task = taskOf(asking)
      if (task === null) return false
      const send: Send = (requestId, reply) => sendReply(response, requestId, reply)
      const { verb, asked } = task
      if (asked !== null) answerWith(asking, { verb, read: () => ({ body: asked, text: '' }) }, send)
      else readBody(request, (body) => answerWith(asking, { verb, read: () => readJson(verb, body) }, send))
      return true
    },
    plainHandler({ method, url, headers, body }, send) {
      const asking = { method, url, headerOf: (name: string) => headers.get(name) ?? null }
      const task = taskOf(asking)
      if (task === null) return false
      const { verb, asked } = task
      answerWith(asking, { verb, read: () => (asked ? { body: asked, text: '' } : readJson(verb, body)) }, send)
      return true
    },
  }
}

/** What is to be done; `asked` where the address says it all. */
type Task = { readonly verb: Verb; readonly asked: CheckBody | null }

/** null for what is the app's. */
function taskOf({ method, url, headerOf }: Asking): Task | null {
  // The app says whether the page that asks may read the answer.
  if (headerOf('origin') !== null) return null
  if (method === 'GET') {
    const query = ASKED.exec(url)?.[1]
    const asked = query === undefined ? null : readPlainQuery(query)
    return asked && { verb: 'check', asked }
  }
  const verb = method === 'POST' ? POSTED.get(url) : undefined
  if (verb === undefined || !isPlainJson(headerOf)) return null
  return verb === 'track' && isBinaryCloudEvent(headerOf) ? null : { verb, asked: null }
}

type Answerer = {
  /** Refuses who may not ask, before the body is looked at. */
  readonly admit: (principal: Principal | null) => Principal
  /** @throws DomainError at once, or by what it answers */
  readonly answer: (sent: Sent, caller: { readonly organizationOf: OrganizationOf; readonly requestId: string }) => Promise<Reply>
}

function createAnswerers(usage: UsageContext): Readonly<Record<Verb, Answerer>> {
  const unitOf = unitsOf(usage)
  const replyOf = (answer: UsageAnswer): Reply => ({ status: 200, headers: headersOf(answer), body: answerText(answer, unitOf) })
  // Those who asked the same at once got one answer, which is put into words once.
  const replies = new WeakMap<UsageAnswer, Reply>()
  const sameReplyOf = (answer: UsageAnswer): Reply => {
    let reply = replies.get(answer)
    if (reply === undefined) replies.set(answer, (reply = replyOf(answer)))
    return reply
  }
  const writer = (principal: Principal | null): Principal => requireWriter(usage, principal)
  const record = (verb: 'track' | 'consume'): Answerer => ({
    admit: writer,
    answer: ({ body }, { organizationOf }) =>
      usage.metering.ask(recordRequestOf(verb, readPlainRecord(body) ?? parse(recordSchema, body), organizationOf)).then(replyOf),
  })
  return {
    track: record('track'),
    consume: record('consume'),
    check: {
      admit: requireAsker,
      answer: ({ body }, { organizationOf }) =>
        usage.metering.ask(checkRequestOf(readPlainCheck(body) ?? parse(checkSchema, body), organizationOf)).then(sameReplyOf),
    },
    batch: {
      admit: writer,
      async answer({ body, text }, { organizationOf, requestId }) {
        const items = setCardDataApart(parse(batchSchema, body).items, text)
        const results = await decideBatch(usage, { items, organizationOf, requestId })
        const texts = results.map((result) => ('verb' in result ? answerText(result, unitOf) : JSON.stringify(result)))
        return { status: 200, headers: {}, body: `{"results":[${texts.join(',')}]}` }
      },
    },
  }
}

type Call = Asking & {
  readonly requestId: string
  /** What is asked; looked at once the caller may ask. @throws DomainError */
  readonly read: () => Sent
}

async function answer(
  { authenticate, recognize, log }: HotPathOptions,
  { url, headerOf, requestId, read }: Call,
  answerer: Answerer,
): Promise<Reply> {
  try {
    const sent = { get: headerOf }
    const caller = recognize?.(sent) ?? (await authenticate({ headers: sent }))
    if (caller === null) throw nobody(sent)
    const principal = answerer.admit(caller)
    return await answerer.answer(read(), { organizationOf: organizationsOf(principal), requestId })
  } catch (error) {
    return replyOfError(error, { log, requestId, path: url })
  }
}

function parse<Output>(
  schema: {
    safeParse(
      body: unknown,
    ): { success: true; data: Output } | { success: false; error: { issues: Parameters<typeof invalidRequest>[0] } }
  },
  body: unknown,
): Output {
  const parsed = schema.safeParse(body)
  if (parsed.success) return parsed.data
  throw invalidRequest(parsed.error.issues)
}

function readJson(verb: Verb, body: Buffer | null): Sent {
  if (body === null) throw new DomainError('payload_too_large', `A request has at most ${MAX_BODY_BYTES} bytes.`)
  const text = textOfBytes(body)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    // As of every route: an empty body is an empty object (http/declared.ts).
    if (text.trim() === '') return { body: {}, text }
    throw new DomainError('invalid_request', 'Malformed JSON in request body')
  }
  refuseCardData(verb === 'batch' ? besideItems(value) : value, text)
  return { body: value, text }
}

const PLAIN_JSON = /^application\/json\s*(?:;\s*charset=utf-?8\s*)?$/i

/** JSON that arrives as it is; everything else is left to the app. */
function isPlainJson(headerOf: HeaderOf): boolean {
  const type = headerOf('content-type')
  return type !== null && PLAIN_JSON.test(type) && headerOf('content-encoding') === null
}
