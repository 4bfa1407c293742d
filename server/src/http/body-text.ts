import { isUtf8 } from 'node:buffer'
import type { Context } from 'hono'
import { DomainError } from '../lib/errors.ts'

const UTF8 = /^"?(?:utf-?8|us-ascii)"?$/i
const CHARSET = /;\s*charset\s*=\s*([^;]*)/i
// As whoever is the most lenient of those that read bodies (better-auth) tells it; of jsonl each line is JSON.
const JSON_TYPE = /^application\/([\w.+-]+\+)?json(?!l\b)/i
const MARK = Buffer.from([0xef, 0xbb, 0xbf])

/**
 * The text of a body, which is UTF-8 (RFC 8259, section 8.1). Read leniently, what is not would become U+FFFD: two keys would be one,
 * and the second use a repeat of the first. A byte order mark before it is passed over.
 * @throws DomainError `invalid_request`
 */
export function textOfBytes(bytes: Buffer): string {
  if (!isUtf8(bytes)) throw new DomainError('invalid_request', 'The body is not UTF-8, which every body has to be.')
  return bytes[0] === MARK[0] && bytes.subarray(0, MARK.length).equals(MARK)
    ? bytes.toString('utf8', MARK.length)
    : bytes.toString('utf8')
}

/** Whether a body of this type is read as JSON by a route: as `application/json`, or another type that is written in JSON. */
export function isJson(contentType: string): boolean {
  return JSON_TYPE.test(contentType)
}

/** The text of a request's body. @throws DomainError as `textOfBytes` */
export async function readText(c: Context): Promise<string> {
  return textOfBytes(Buffer.from(await c.req.arrayBuffer()))
}

/**
 * Refuses a body that is said to be in another charset than UTF-8, of which ASCII is a part.
 * @throws DomainError `unsupported_media_type`
 */
export function requireUtf8(contentType: string): void {
  const charset = CHARSET.exec(contentType)?.[1]?.trim()
  if (charset === undefined || UTF8.test(charset)) return
  throw new DomainError('unsupported_media_type', `A body is read as UTF-8, not as "${charset}".`)
}
