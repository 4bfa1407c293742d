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
    objectId: text(object['id']),
    // A detached payment method names its customer only as what it had before.
    customerId:
      objectType === 'customer' ? text(object['id']) : (reference(object['customer']) ?? reference(previous['customer'])),
  }
}

function reference(value: unknown): string | null {
  if (typeof value === 'object' && value !== null && 'id' in value) return text(value.id)
  return text(value)
}

function text(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null
}
