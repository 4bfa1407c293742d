import { z } from '@hono/zod-openapi'
import { DomainError } from '../../lib/errors.ts'
import { parseDecimal } from '../../lib/quantity.ts'
import { isStorable } from '../../lib/storable.ts'
import { CARRIED } from '../decide/rules.ts'
import { requireLargest } from '../decide/session.ts'
import type {
  CheckRequest,
  CorrectRequest,
  RecordRequest,
  ReleaseRequest,
  ReserveRequest,
  SettleRequest,
  UsageRequest,
} from '../usage.ts'

export const MAX_BATCH_ITEMS = 1_000
export const DEFAULT_HOLD_SECONDS = 600
export const LONGEST_HOLD_SECONDS = 86_400
const MAX_PROPERTIES = 50

export const storableText = (longest: number) =>
  z.string().min(1).max(longest).refine(isStorable, 'a NUL or half a character cannot be stored')

const meter = storableText(63).meta({ description: 'The name of a meter in the catalog.', example: 'episode_search' })
export const quantity = z.union([z.number(), z.string().max(32)], 'a number or a decimal text is expected').meta({
  description:
    'A JSON number of at most fifteen digits, or a decimal string; at most six decimal places, not negative, at most 9223372036.854775.',
  example: 1,
})
export const idempotencyKey = storableText(255)
  .refine((key) => !key.startsWith(CARRIED), `keys that begin with "${CARRIED}" are the server’s own`)
  .meta({
    description: 'Makes a repeat safe: kept for at least 35 days, a repeat answers what was answered first.',
    example: 'request-8f14e45f',
  })
const occurredAt = z.iso.datetime({ offset: true }).meta({
  description: 'When it happened, at most 35 days ago; default now.',
})
// Beyond it two ids that differ are one number by the time JSON is read, so that two users would be counted as one.
const LOST_DIGITS = `a number of more than ${Number.MAX_SAFE_INTEGER} loses digits: send it as a text`
const exactNumber = z.number().min(Number.MIN_SAFE_INTEGER, LOST_DIGITS).max(Number.MAX_SAFE_INTEGER, LOST_DIGITS)
const propertyValue = z.union(
  [z.string().max(1_000).refine(isStorable), exactNumber, z.boolean()],
  'a text of at most 1000 characters without a NUL or half a character, a number or a boolean is expected',
)
export const properties = z
  .record(storableText(100), propertyValue)
  .refine((given) => Object.keys(given).length <= MAX_PROPERTIES, `at most ${MAX_PROPERTIES} properties are kept`)
  .meta({ description: 'Facts about the use, for reports.', example: { model: 'large' } })
export const organizationId = storableText(100).meta({ description: 'Only for operators, who act for any organization.' })

const measured = { organization_id: organizationId.optional(), meter, quantity: quantity.default(1) }
const recorded = {
  ...measured,
  idempotency_key: idempotencyKey,
  occurred_at: occurredAt.nullish(),
  properties: properties.nullish(),
}
const holdSeconds = z
  .int()
  .min(1)
  .max(LONGEST_HOLD_SECONDS)
  .default(DEFAULT_HOLD_SECONDS)
  .meta({ description: 'How long the hold lasts when nobody settles it.' })

/** A check takes what a consume takes, so that one body serves both; what it does not need it leaves alone. */
export const checkSchema = z
  .strictObject({
    ...measured,
    idempotency_key: idempotencyKey.optional(),
    occurred_at: occurredAt.nullish(),
    properties: properties.nullish(),
  })
  .openapi('UsageCheck')
/** A check as a link. Meters that look at properties need the body. */
export const checkQuerySchema = z.strictObject({
  organization_id: organizationId.optional(),
  meter,
  quantity: z.string().max(32).default('1').meta({ description: 'A decimal with at most six places.', example: '1' }),
})
export const recordSchema = z.strictObject(recorded).openapi('UsageRecord')
export const reserveSchema = z
  .strictObject({
    ...measured,
    idempotency_key: idempotencyKey,
    properties: properties.nullish(),
    expires_in_seconds: holdSeconds,
  })
  .openapi('UsageReserve')
export const settleSchema = z
  .strictObject({
    organization_id: organizationId.optional(),
    quantity: quantity
      .nullish()
      .meta({ description: 'What it came to; without it, what was reserved. More than that is recorded too.' }),
  })
  .openapi('UsageSettle')
export const releaseSchema = z.strictObject({ organization_id: organizationId.optional() }).openapi('UsageRelease')

export const correctSchema = z
  .strictObject({
    organization_id: organizationId.optional(),
    corrects: storableText(255).meta({
      description: 'The key of the use to be corrected; of a settlement, the reservation’s id.',
    }),
    quantity: quantity.optional().meta({
      description:
        'Of a meter that counts or adds: what is added to what that use counts; below zero it is taken away, at most down to nothing.',
      example: -1,
    }),
    retract: z.literal(true).optional().meta({
      description:
        'Instead of a quantity, for every meter: takes the use back whole. What a `max`, `latest` or `unique` meter has come to is then as though it had never been told.',
    }),
    idempotency_key: idempotencyKey,
    reason: storableText(500).optional().meta({ description: 'Kept with the correction, for whoever reads it later.' }),
  })
  .openapi('UsageCorrection')

/** One item of a batch: the body of its verb's own route, with the verb. */
export const batchItemSchema = z
  .discriminatedUnion('verb', [
    z.strictObject({ verb: z.literal('check'), ...checkSchema.shape }),
    z.strictObject({ verb: z.literal('track'), ...recorded }),
    z.strictObject({ verb: z.literal('consume'), ...recorded }),
    z.strictObject({ verb: z.literal('reserve'), ...reserveSchema.shape }),
    z.strictObject({ verb: z.literal('settle'), reservation_id: storableText(100), ...settleSchema.shape }),
    z.strictObject({ verb: z.literal('release'), reservation_id: storableText(100), ...releaseSchema.shape }),
    z.strictObject({ verb: z.literal('correct'), ...correctSchema.shape }),
  ])
  .openapi('UsageBatchItem')

/** A batch. Its items are checked one by one, so that a wrong one does not refuse its neighbours. */
export const batchSchema = z.strictObject({
  items: z
    .array(z.unknown())
    .max(MAX_BATCH_ITEMS, `a batch holds at most ${MAX_BATCH_ITEMS} items`)
    .openapi({ items: { $ref: '#/components/schemas/UsageBatchItem' } }),
})

export type CheckBody = z.output<typeof checkSchema>
export type RecordBody = z.output<typeof recordSchema>
export type ReserveBody = z.output<typeof reserveSchema>
export type CorrectBody = z.output<typeof correctSchema>
export type SettleBody = z.output<typeof settleSchema>
export type BatchItem = z.output<typeof batchItemSchema>

/** The organization a body acts on: decided by who is calling, not by the body alone. */
export type OrganizationOf = (named: string | undefined) => string

export function checkRequestOf(body: CheckBody, organizationOf: OrganizationOf): CheckRequest {
  return { verb: 'check', ...measuredOf(body, organizationOf), properties: body.properties ?? null }
}

export function recordRequestOf(verb: 'track' | 'consume', body: RecordBody, organizationOf: OrganizationOf): RecordRequest {
  return {
    verb,
    ...measuredOf(body, organizationOf),
    idempotencyKey: body.idempotency_key,
    occurredAt: body.occurred_at ? new Date(body.occurred_at) : null,
    properties: body.properties ?? null,
  }
}

export function reserveRequestOf(body: ReserveBody, organizationOf: OrganizationOf): ReserveRequest {
  return {
    verb: 'reserve',
    ...measuredOf(body, organizationOf),
    idempotencyKey: body.idempotency_key,
    properties: body.properties ?? null,
    ttlMs: body.expires_in_seconds * 1_000,
  }
}

export function settleRequestOf(reservationId: string, body: SettleBody, organizationOf: OrganizationOf): SettleRequest {
  const settled = body.quantity ?? null
  return {
    verb: 'settle',
    organizationId: organizationOf(body.organization_id),
    reservationId,
    quantity: settled === null ? null : quantityOf(settled),
  }
}

export function releaseRequestOf(
  reservationId: string,
  named: string | undefined,
  organizationOf: OrganizationOf,
): ReleaseRequest {
  return { verb: 'release', organizationId: organizationOf(named), reservationId }
}

export function correctRequestOf(body: CorrectBody, organizationOf: OrganizationOf): CorrectRequest {
  return {
    verb: 'correct',
    organizationId: organizationOf(body.organization_id),
    corrects: body.corrects,
    quantity: correctionOf(body),
    idempotencyKey: body.idempotency_key,
    properties: body.reason === undefined ? null : { reason: body.reason },
  }
}

function correctionOf({ quantity: given, retract }: Pick<CorrectBody, 'quantity' | 'retract'>): bigint | null {
  if ((given === undefined) !== (retract === true)) {
    throw new DomainError('invalid_request', 'A correction has either a quantity or retract.', { field: 'quantity' })
  }
  return given === undefined ? null : changeOf(given)
}

/** The request of a batch's item. */
export function requestOfItem(item: BatchItem, organizationOf: OrganizationOf): UsageRequest {
  switch (item.verb) {
    case 'check':
      return checkRequestOf(item, organizationOf)
    case 'track':
    case 'consume':
      return recordRequestOf(item.verb, item, organizationOf)
    case 'reserve':
      return reserveRequestOf(item, organizationOf)
    case 'settle':
      return settleRequestOf(item.reservation_id, item, organizationOf)
    case 'release':
      return releaseRequestOf(item.reservation_id, item.organization_id, organizationOf)
    case 'correct':
      return correctRequestOf(item, organizationOf)
  }
}

function measuredOf(
  body: { organization_id?: string | undefined; meter: string; quantity: number | string },
  organizationOf: OrganizationOf,
) {
  return { organizationId: organizationOf(body.organization_id), meter: body.meter, quantity: quantityOf(body.quantity) }
}

/** What is added to a use, or below zero taken away: at most what the use counts, however much that is. */
function changeOf(given: number | string): bigint {
  const parsed = parseDecimal(given, 'quantity')
  requireLargest(parsed)
  return parsed
}

/** @throws DomainError `invalid_quantity` below zero: use that was recorded wrongly is corrected */
export function quantityOf(given: number | string): bigint {
  const parsed = changeOf(given)
  if (parsed < 0n) {
    throw new DomainError('invalid_quantity', 'quantity must not be negative; use that was recorded wrongly is corrected.', {
      field: 'quantity',
    })
  }
  return parsed
}
