import { createHash } from 'node:crypto'
import { z } from '@hono/zod-openapi'
import { quantity, properties, storableText } from './requests.ts'

const LONGEST_KEY = 255

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
    data: z
      .object({ quantity: quantity.optional(), properties: properties.nullish() })
      .nullish()
      .meta({ description: 'Without a quantity it is 1.' }),
  })
  .openapi('UsageCloudEvent')

export type UsageCloudEvent = z.output<typeof cloudEventSchema>

/** The item of a batch that a CloudEvent stands for: a use that has happened. */
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
