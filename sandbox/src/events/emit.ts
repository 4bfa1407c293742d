import type { Ctx, EventType } from '../engine/context.ts'
import { previousAttributes } from '../engine/difference.ts'
import type { Stored } from '../model/index.ts'

/** What an event may carry besides its object. */
export interface EmitOptions {
  /** The object as it was presented before the change. */
  before?: Record<string, unknown>
  /** The customer whose clock dates the event, where the object itself does not name one. */
  customer?: string | null
}

interface Subject {
  readonly id?: unknown
  readonly object?: unknown
  readonly customer?: unknown
  readonly test_clock?: unknown
}

/**
 * Stores an event with its snapshot and queues a delivery for each endpoint that listens. Part of the transaction: an event exists
 * exactly when the change it tells of does.
 */
export function recordEvent(
  ctx: Ctx,
  type: EventType,
  object: object,
  options: EmitOptions & { apiVersion: string; realMs: number },
): void {
  const snapshot = ctx.present(object)
  const subject = object as Subject
  const customer = options.customer ?? customerOf(subject)
  const endpoints = listeners(ctx, type)
  const event: Stored<'event'> = {
    id: ctx.newId('evt', 24),
    object: 'event',
    api_version: options.apiVersion,
    created: ctx.nowOf({ customer, test_clock: subject.test_clock }),
    data: {
      object: snapshot,
      ...(options.before === undefined ? {} : { previous_attributes: previousAttributes(options.before, snapshot) }),
    },
    livemode: false,
    pending_webhooks: endpoints.length,
    request: { id: ctx.origin.request?.id ?? null, idempotency_key: ctx.origin.request?.idempotencyKey ?? null },
    type,
    _: { customer },
  }
  ctx.store.put('event', event)
  for (const endpoint of endpoints) {
    ctx.store.put('_delivery', {
      id: ctx.newId('dlv'),
      event: event.id,
      endpoint: endpoint.id,
      attempts: 0,
      state: 'pending',
      nextAttemptMs: options.realMs,
      lastResult: null,
    })
  }
}

function customerOf(subject: Subject): string | null {
  if (subject.object === 'customer' && typeof subject.id === 'string') return subject.id
  return typeof subject.customer === 'string' ? subject.customer : null
}

function listeners(ctx: Ctx, type: EventType): Array<Stored<'webhook_endpoint'>> {
  const found: Array<Stored<'webhook_endpoint'>> = []
  for (const endpoint of ctx.store.all('webhook_endpoint')) {
    if (endpoint.status === 'enabled' && listensTo(endpoint.enabled_events, type)) found.push(endpoint)
  }
  return found
}

/** `*` means every event except those that must be asked for by name. */
function listensTo(enabled: readonly string[], type: string): boolean {
  return enabled.includes(type) || enabled.includes('*')
}
