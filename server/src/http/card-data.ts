import type { MiddlewareHandler } from 'hono'
import { refuseCardData } from '../lib/card-data.ts'
import { DomainError } from '../lib/errors.ts'
import { WEBHOOK_PATHS } from './webhook-paths.ts'
import { isJson, readText, requireUtf8 } from './body-text.ts'
import { refuseUnstorable, refuseUnstorableBody } from './storable-text.ts'

/** Headers that name a caller, and are kept nowhere. */
const CREDENTIALS = new Set(['authorization', 'cookie', 'x-api-key', 'stripe-signature'])

/** Uses are looked at one by one, by their schemas, so that a wrong one refuses no other of its batch. */
const USES = '/api/v1/usage/'

/** A batch's items stand or fall by themselves, and are looked at one by one where they are decided. */
const BATCH = '/api/v1/usage/batch'
/** CloudEvents, too, are looked at where they are read. */
const TRACK = '/api/v1/usage/track'
export const CLOUD_EVENT = /^application\/cloudevents\+json\s*(;|$)/i
export const CLOUD_EVENTS = /^application\/cloudevents-batch\+json\s*(;|$)/i

/** Their bodies are events, which only Stripe can sign. */
const SIGNED: ReadonlySet<string> = new Set(WEBHOOK_PATHS)

/**
 * Refuses requests that hold card data, in address, headers or a JSON body (EM-14), or text that cannot be stored. Stripe's own
 * webhooks pass, as they hold brand and last digits alone; a body of another kind is looked at where it is read. What was
 * packed is unpacked by then (inflate.ts).
 */
export function refuseCards(): MiddlewareHandler {
  return async (c, next) => {
    const { raw } = c.req
    const address = { path: decodedPath(c.req.path), query: c.req.query() }
    refuseCardData({ ...address, headers: headersOf(raw.headers) })
    refuseUnstorable(address)
    const type = raw.headers.get('content-type') ?? ''
    requireUtf8(type)
    if (!isJson(type) || isReadElsewhere(c.req.path, type)) return next()
    const text = await readText(c)
    // Better-auth reads the request itself, whose body has been read by now.
    if (text !== '')
      c.req.raw = new Request(raw.url, { method: raw.method, headers: raw.headers, signal: raw.signal, body: text })
    const body = parse(text)
    refuseCardData(c.req.path === BATCH ? besideItems(body) : body, text)
    if (!c.req.path.startsWith(USES)) refuseUnstorableBody(body, text)
    return next()
  }
}

/** @throws DomainError `invalid_request` for an escape that is none, or not of UTF-8 */
function decodedPath(path: string): string {
  try {
    return decodeURI(path)
  } catch {
    throw new DomainError('invalid_request', 'The path has a % that is no escape of UTF-8.', { field: 'path' })
  }
}

function isReadElsewhere(path: string, type: string): boolean {
  return SIGNED.has(path) || (path === TRACK && (CLOUD_EVENT.test(type) || CLOUD_EVENTS.test(type)))
}

/** What a batch's body holds besides its items. */
export function besideItems(body: unknown): unknown {
  return body !== null && typeof body === 'object' && 'items' in body ? { ...body, items: undefined } : body
}

function headersOf(headers: Headers): Record<string, string> {
  return Object.fromEntries([...headers].filter(([name]) => !CREDENTIALS.has(name)))
}

/** What is no JSON is refused by whoever reads it. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}
