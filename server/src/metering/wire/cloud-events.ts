import { createHash } from 'node:crypto'
import { z } from '@hono/zod-openapi'
import { DomainError } from '../../lib/errors.ts'
import { quantity, properties, storableText } from './requests.ts'

const LONGEST_KEY = 255

/** Strict, as every body: a quantity under a mistyped name would be counted as 1. */
export const dataSchema = z.strictObject({ quantity: quantity.optional(), properties: properties.nullish() })

/**
 * A CloudEvent that tells a use (CloudEvents 1.0.2, JSON format: https://github.com/cloudevents/spec/tree/v1.0.2). Extension
 * attributes are allowed and left alone.
 */
export const cloudEventSchema = z
  .looseObject({
    specversion: z.literal('1.0'),
    id: storableText(1_000),
    source: storableText(1_000).regex(/^\S+$/, 'a URI-reference is expected'),
    type: storableText(63).meta({ description: 'The meter.', example: 'episode_search' }),
    subject: storableText(100)
      .optional()
      .meta({ description: 'The organization; of a key only its own, which it is without a subject too.' }),
    time: z.iso.datetime({ offset: true }).optional().meta({ description: 'When it happened; default now.' }),
    datacontenttype: z
      .string()
      .regex(/^application\/([\w.-]+\+)?json\s*(;|$)/i, 'data is read as JSON')
      .optional(),
    data: dataSchema.nullish().meta({ description: 'Without a quantity it is 1.' }),
    data_base64: z
      .base64('base64 is expected')
      .nullish()
      .meta({ description: 'In the place of `data`: its JSON in base64 (JSON format, section 3.1.1).' }),
  })
  .refine(({ data, data_base64: packed }) => data === undefined || (packed ?? null) === null, {
    path: ['data_base64'],
    message: 'an event has data or data_base64, not both',
  })
  .openapi('UsageCloudEvent')

export type UsageCloudEvent = z.output<typeof cloudEventSchema>

const BINARY_PREFIX = 'ce-'
/** What every CloudEvent has, and nothing else has: any of them says that a request is one in binary mode. */
const BINARY_MARKS = ['ce-specversion', 'ce-id', 'ce-source', 'ce-type'] as const
const READ_ATTRIBUTES = ['specversion', 'id', 'source', 'type', 'subject', 'time'] as const

/** Whether headers are those of a CloudEvent in binary content mode. */
export function isBinaryCloudEvent(header: (name: string) => string | null | undefined): boolean {
  return BINARY_MARKS.some((name) => (header(name) ?? null) !== null)
}

/**
 * A CloudEvent in binary content mode: its attributes are headers, its data the body (HTTP Protocol Binding 1.0.2, section 3.1).
 * @throws DomainError `invalid_request` for a required header that is missing, or one that is not percent-encoded UTF-8
 */
export function binaryCloudEvent(header: (name: string) => string | null | undefined, data: unknown): Record<string, unknown> {
  const missing = BINARY_MARKS.filter((name) => (header(name) ?? null) === null)
  if (missing.length > 0) {
    const errors = missing.map((field) => ({ field, message: 'the header is missing' }))
    throw new DomainError('invalid_request', `A CloudEvent in binary mode has the header ${missing[0]!} too.`, { errors })
  }
  const event: Record<string, unknown> = {}
  for (const attribute of READ_ATTRIBUTES) {
    const value = header(`${BINARY_PREFIX}${attribute}`) ?? null
    if (value !== null) event[attribute] = decodeAttribute(attribute, value)
  }
  return data === undefined ? event : { ...event, data }
}

/** Section 3.1.3.2: a quoted string is unquoted, then what is percent-encoded is decoded, once. */
function decodeAttribute(attribute: string, value: string): string {
  const quoted = /^"((?:[^"\\]|\\.)*)"$/.exec(value)?.[1]
  try {
    return decodeURIComponent(quoted === undefined ? value : quoted.replaceAll(/\\(.)/g, '$1'))
  } catch {
    const field = `${BINARY_PREFIX}${attribute}`
    throw new DomainError('invalid_request', `${field}: what follows a % is no encoded UTF-8; a % itself is sent as %25.`, {
      field,
    })
  }
}

/** The item of a batch that a CloudEvent stands for: a use that has happened. What is packed is unpacked by then. */
export function itemOfCloudEvent(event: UsageCloudEvent): Record<string, unknown> {
  const { data, subject, time } = event
  return {
    verb: 'track',
    meter: event.type,
    idempotency_key: keyOfCloudEvent(event),
    ...(data?.quantity === undefined ? {} : { quantity: data.quantity }),
    ...(data?.properties ? { properties: data.properties } : {}),
    ...(time === undefined ? {} : { occurred_at: time }),
    ...(subject === undefined ? {} : { organization_id: subject }),
  }
}

/**
 * Source and id together name an event (CloudEvents 1.0.2, `id`). A source has no space, so that the two cannot be read
 * otherwise; what is too long for a key is named by its digest.
 */
export function keyOfCloudEvent({ source, id }: Pick<UsageCloudEvent, 'source' | 'id'>): string {
  const key = `${source} ${id}`
  return key.length <= LONGEST_KEY ? key : `sha256:${createHash('sha256').update(key).digest('hex')}`
}
