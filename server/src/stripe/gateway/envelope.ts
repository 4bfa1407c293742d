import { DomainError } from '../../lib/errors.ts'
import { isStorable } from '../../lib/storable.ts'
import type { WebhookEnvelope } from './gateway.ts'
import { fromUnix } from './wire.ts'

type WireEvent = {
  readonly id: string
  readonly type: string
  readonly livemode: boolean
  readonly created: number
  readonly data: { readonly object: object; readonly previous_attributes?: object }
}

/**
 * What an event says about whom it concerns: the object's type and id and the customer behind it. Nothing else of a payload
 * is ever read; the state comes from a refetch.
 */
export function readEnvelope(event: WireEvent): WebhookEnvelope {
  const object = event.data.object as Readonly<Record<string, unknown>>
  const objectType = text(object['object']) ?? 'unknown'
  const previous = (event.data.previous_attributes ?? {}) as Readonly<Record<string, unknown>>
  return {
    id: event.id,
    type: event.type,
    livemode: event.livemode,
    createdAt: fromUnix(event.created),
    objectType,
    objectId: changedBy(objectType, object),
    // A detached payment method names its customer only as what it had before.
    customerId:
      objectType === 'customer' ? text(object['id']) : (reference(object['customer']) ?? reference(previous['customer'])),
  }
}

/** What is common to the thin events of Stripe's newer API: they name their object and leave its data to be fetched. */
type WireThinEvent = {
  readonly id: string
  readonly object: 'v2.core.event'
  readonly type: string
  readonly livemode: boolean
  readonly created: string
  readonly related_object?: { readonly id: string; readonly type: string } | null
}

function readThinEnvelope({ id, type, livemode, created, related_object: related }: WireThinEvent): WebhookEnvelope {
  return {
    id,
    type,
    livemode,
    createdAt: new Date(created),
    objectType: related?.type ?? 'unknown',
    objectId: related?.id ?? null,
    customerId: null,
  }
}

function isWireThinEvent(value: unknown): value is WireThinEvent {
  if (!isObject(value)) return false
  const { id, object, type, livemode, created, related_object: related } = value as Readonly<Record<string, unknown>>
  if (object !== 'v2.core.event' || text(id) === null || text(type) === null || typeof livemode !== 'boolean') return false
  if (Number.isNaN(Date.parse(text(created) ?? ''))) return false
  if (related === undefined || related === null) return true
  const { id: relatedId, type: relatedType } = related as Readonly<Record<string, unknown>>
  return text(relatedId) !== null && text(relatedType) !== null
}

/**
 * The same of a body that Stripe has signed: a snapshot event, or a thin one.
 * @throws DomainError `invalid_request` where it is not an event, or lacks what every event has
 */
export function readSignedEnvelope(rawBody: string | Buffer): WebhookEnvelope {
  const event = parse(rawBody.toString())
  if (isWireThinEvent(event)) return readThinEnvelope(event)
  if (!isWireEvent(event)) {
    throw new DomainError('invalid_request', 'The body is not an event of Stripe that this server reads.')
  }
  return readEnvelope(event)
}

function parse(body: string): unknown {
  try {
    return JSON.parse(body)
  } catch {
    return null
  }
}

function isWireEvent(value: unknown): value is WireEvent {
  if (typeof value !== 'object' || value === null) return false
  const { id, type, livemode, created, data } = value as Readonly<Record<string, unknown>>
  if (text(id) === null || text(type) === null || typeof livemode !== 'boolean' || !isUnix(created)) return false
  return isObject(data) && isObject((data as { object?: unknown }).object)
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null
}

/**
 * What a dispute or a refund changes is the charge that it is of; many name no customer, and whose they are follows from that too. What a
 * credit note changes is its invoice.
 */
function changedBy(objectType: string, object: Readonly<Record<string, unknown>>): string | null {
  const own = text(object['id'])
  if (objectType === 'credit_note') return reference(object['invoice']) ?? own
  if (objectType !== 'dispute' && objectType !== 'refund') return own
  return reference(object['charge']) ?? reference(object['payment_intent']) ?? own
}

function reference(value: unknown): string | null {
  if (typeof value === 'object' && value !== null && 'id' in value) return text(value.id)
  return text(value)
}

/** The last second of the year 9999. */
const LAST_SECOND = 253_402_300_799

function isUnix(value: unknown): boolean {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 && value <= LAST_SECOND
}

/** An id or a type, as an index can hold it: Stripe's have 255 characters at most. */
function text(value: unknown): string | null {
  return typeof value === 'string' && value !== '' && value.length <= 255 && isStorable(value) ? value : null
}
