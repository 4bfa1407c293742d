import { CARRIED } from '../decide/rules.ts'
import type { BatchItem, CheckBody, RecordBody } from './requests.ts'

/**
 * Reads the plainest form of a body without zod (0.3 µs instead of 4 µs): a meter, a quantity, a key and nothing else.
 * Whatever is not exactly that is null, and goes through the schema, which alone says what is right and what is wrong.
 */
export function readPlainRecord(body: unknown): RecordBody | null {
  const plain = readPlain(body, 3)
  return plain && plain.idempotency_key !== undefined ? { ...plain, idempotency_key: plain.idempotency_key } : null
}

/** The same of a check, with or without a key. */
export function readPlainCheck(body: unknown): CheckBody | null {
  return readPlain(body, 3)
}

/** The same of a check's query: a meter and a quantity, with nothing to be decoded. */
export function readPlainQuery(query: string): CheckBody | null {
  const given: Record<string, string> = {}
  for (const part of query.split('&')) {
    const at = part.indexOf('=')
    const name = part.slice(0, at)
    if (at < 0 || given[name] !== undefined || (name !== 'meter' && name !== 'quantity')) return null
    given[name] = part.slice(at + 1)
  }
  return readPlain(given, 3)
}

/** The same of a batch's item that tracks or consumes. */
export function readPlainItem(item: unknown): BatchItem | null {
  const plain = readPlain(item, 4)
  if (!plain || plain.idempotency_key === undefined) return null
  const { verb } = item as { verb?: unknown }
  return verb === 'consume' || verb === 'track' ? { verb, ...plain, idempotency_key: plain.idempotency_key } : null
}

type Plain = { meter: string; quantity: number | string; idempotency_key?: string }

function readPlain(body: unknown, mostFields: 3 | 4): Plain | null {
  if (body === null || typeof body !== 'object') return null
  const { meter, quantity, idempotency_key: key, verb } = body as Readonly<Record<string, unknown>>
  if (!isPlainText(meter, 63)) return null
  if (quantity !== undefined && typeof quantity !== 'number' && !(typeof quantity === 'string' && quantity.length <= 32))
    return null
  if (key !== undefined && (!isPlainText(key, 255) || key.startsWith(CARRIED))) return null
  let fields = 1
  if (quantity !== undefined) fields += 1
  if (key !== undefined) fields += 1
  if (mostFields === 4 && verb !== undefined) fields += 1
  // A field more than those is one that the schema has to look at.
  if (Object.keys(body).length !== fields) return null
  const plain: Plain = { meter, quantity: quantity ?? 1 }
  if (key !== undefined) plain.idempotency_key = key
  return plain
}

// Printable ASCII: certainly storable and of the same length however it is counted.
const PLAIN_TEXT = /^[\x20-\x7e]+$/

function isPlainText(value: unknown, longest: number): value is string {
  return typeof value === 'string' && value.length <= longest && PLAIN_TEXT.test(value)
}
