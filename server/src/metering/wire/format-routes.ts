import type { Context } from 'hono'
import type { z } from '@hono/zod-openapi'
import type { Principal } from '../../auth/principal.ts'
import type { AppEnv } from '../../http/app-env.ts'
import { invalidRequest, type App } from '../../http/app.ts'
import { readText, textOfBytes } from '../../http/body-text.ts'
import { CLOUD_EVENT, CLOUD_EVENTS } from '../../http/card-data.ts'
import { refuseCardData, setCardDataApart } from '../../lib/card-data.ts'
import { DomainError, orDomainError } from '../../lib/errors.ts'
import { tooManyItems, unitsOf, type UsageContext } from '../api.ts'
import { answerBody, type AnswerBody, type problemItemSchema } from './bodies.ts'
import { decideBatch, headersOf, organizationsOf, requireWriter } from './calls.ts'
import {
  binaryCloudEvent,
  cloudEventSchema,
  dataSchema,
  isBinaryCloudEvent,
  itemOfCloudEvent,
  type UsageCloudEvent,
} from './cloud-events.ts'
import { batchItemSchema, MAX_BATCH_ITEMS, requestOfItem, type OrganizationOf } from './requests.ts'

const NDJSON = /^application\/(x-ndjson|ndjson|jsonl)\s*(;|$)/i
const JSON_DATA = /^application\/([\w.-]+\+)?json\s*(;|$)/i

/** A form of batch: how each that is given is made an item, or the error that says what is wrong with it, and how one names its organization. */
type Form<Given> = {
  readonly read: (one: Given) => unknown
  readonly organizationsOf: (principal: Principal) => OrganizationOf
}
type Result = AnswerBody | z.infer<typeof problemItemSchema>

/**
 * The other forms in which use may be sent, each turned into the one contract before its route looks at it: batches of
 * one JSON item a line, CloudEvents. They are registered before the routes, and leave alone what they do not read.
 */
export function registerBodyFormats(app: App, usage: UsageContext): void {
  const unitOf = unitsOf(usage)
  /** Who may not write, or gives too many, is refused before any is looked at. */
  async function decideItems<Given>(c: Context<AppEnv>, all: readonly Given[], form: Form<Given>): Promise<Result[]> {
    const organizationOf = form.organizationsOf(requireWriter(usage, c.get('principal')))
    if (all.length > MAX_BATCH_ITEMS) throw tooManyItems()
    const items = all.map(form.read)
    const results = await decideBatch(usage, { items, organizationOf, requestId: c.get('requestId') })
    return results.map((result) => ('verb' in result ? answerBody(result, unitOf) : result))
  }

  app.post('/api/v1/usage/batch', async (c, next) => {
    if (!NDJSON.test(c.req.header('content-type') ?? '')) return next()
    return answerResults(c, await decideItems(c, linesOf(await readText(c)), { read: readLine, organizationsOf }))
  })

  app.post('/api/v1/usage/track', async (c, next) => {
    const type = c.req.header('content-type') ?? ''
    if (CLOUD_EVENTS.test(type)) {
      const text = await readText(c)
      const events = parseJson(text)
      if (!Array.isArray(events)) throw new DomainError('invalid_request', 'A batch of CloudEvents is a JSON array.')
      const given = setCardDataApart(events, text)
      return answerResults(c, await decideItems(c, given, { read: readCloudEvent, organizationsOf: subjectsOf }))
    }
    const event = await singleEvent(c, type)
    if (event === null) return next()
    const item = readCloudEvent(event)
    if (item instanceof DomainError) throw item
    const parsed = batchItemSchema.safeParse(item)
    if (!parsed.success) throw invalidRequest(parsed.error.issues)
    const answer = await usage.metering.ask(requestOfItem(parsed.data, subjectsOf(requireWriter(usage, c.get('principal')))))
    return c.json(answerBody(answer, unitOf), 200, headersOf(answer))
  })
}

/** A CloudEvent by itself, in structured or in binary mode (the type tells first, section 3 of the binding); null for something else. */
async function singleEvent(c: Context<AppEnv>, type: string): Promise<unknown> {
  if (CLOUD_EVENT.test(type)) return readJson(await readText(c))
  const header = (name: string) => c.req.raw.headers.get(name)
  if (!isBinaryCloudEvent(header)) return null
  const text = await readText(c)
  if (text !== '' && !JSON_DATA.test(type)) {
    throw new DomainError('unsupported_media_type', 'The data of a CloudEvent is read as JSON, with that content-type.')
  }
  const event = binaryCloudEvent(header, text === '' ? undefined : readJson(text))
  // Encoded, a header could not be looked through before.
  refuseCardData(event)
  return event
}

/** The results as one JSON object, or one a line for who accepts that. */
function answerResults(c: Context<AppEnv>, results: readonly Result[]): Response {
  if (!/\bapplication\/(x-ndjson|ndjson|jsonl)\b/i.test(c.req.header('accept') ?? '')) return c.json({ results }, 200)
  return c.body(results.map((result) => `${JSON.stringify(result)}\n`).join(''), 200, { 'content-type': 'application/x-ndjson' })
}

type Line = { readonly line: string; readonly number: number }

function linesOf(text: string): Line[] {
  return text.split('\n').flatMap((line, index) => (line.trim() === '' ? [] : [{ line, number: index + 1 }]))
}

function readLine({ line, number }: Line): unknown {
  let item: unknown
  try {
    item = JSON.parse(line)
  } catch {
    return new DomainError('invalid_request', `Line ${number} is not JSON.`, { line: number })
  }
  return setCardDataApart([item], line)[0]
}

function readCloudEvent(event: unknown): unknown {
  if (event instanceof DomainError) return event
  const parsed = cloudEventSchema.safeParse(event)
  if (!parsed.success) return invalidRequest(parsed.error.issues)
  return orDomainError(() => itemOfCloudEvent(unpacked(parsed.data)))
}

/** An event with its data, which `data_base64` may hold: JSON, as of a binary event's body. @throws DomainError for what is none */
function unpacked(event: UsageCloudEvent): UsageCloudEvent {
  if (!event.data_base64) return event
  const field = 'data_base64'
  let data: unknown
  let text: string
  try {
    text = textOfBytes(Buffer.from(event.data_base64, 'base64'))
    data = JSON.parse(text)
  } catch (error) {
    throw new DomainError('invalid_request', `${field}: it holds no JSON.`, { field }, { cause: error })
  }
  refuseCardData(data, text)
  const parsed = dataSchema.safeParse(data)
  if (parsed.success) return { ...event, data: parsed.data }
  throw invalidRequest(parsed.error.issues.map((issue) => ({ ...issue, path: [field, ...issue.path] })))
}

/** An event names its organization by its subject, and hears of it under that name. */
function subjectsOf(principal: Principal): OrganizationOf {
  const organizationOf = organizationsOf(principal)
  return (subject) => {
    try {
      return organizationOf(subject)
    } catch (error) {
      if (!(error instanceof DomainError) || error.code === 'forbidden') throw error
      const detail =
        subject === undefined
          ? 'An operator names the organization: subject is missing.'
          : `subject: it names the organization, and there is none called "${subject}"; a key’s event needs no subject.`
      throw new DomainError(error.code, detail, { field: 'subject' })
    }
  }
}

function readJson(text: string): unknown {
  const value = parseJson(text)
  refuseCardData(value, text)
  return value
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new DomainError('invalid_request', 'Malformed JSON in request body')
  }
}
