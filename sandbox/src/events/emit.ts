import { isEventDatedByTestClock } from '../billing/inferred.ts'
import type { Ctx, EmitOptions, EventType, ThinEvent } from '../engine/context.ts'
import { previousAttributes } from '../engine/difference.ts'
import type { Stored } from '../model/stored.ts'
import { findTarget, listeners, type Target } from './targets.ts'

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
  const targets = listeners(ctx, type, 'snapshot')
  const event: Stored<'event'> = {
    id: ctx.newId('evt', 24),
    object: 'event',
    api_version: options.apiVersion,
    created: isEventDatedByTestClock() ? ctx.nowOf({ customer, test_clock: testClockOf(subject) }) : ctx.now(),
    data: {
      object: snapshot,
      ...(options.before === undefined ? {} : { previous_attributes: previousAttributes(options.before, snapshot) }),
    },
    livemode: false,
    pending_webhooks: targets.length,
    request: { id: ctx.origin.request?.id ?? null, idempotency_key: ctx.origin.request?.idempotencyKey ?? null },
    type,
    _: { customer },
  }
  ctx.store.put('event', event)
  queueDeliveries(ctx, event.id, targets, options.realMs)
}

/** Stores a thin event and queues its notifications to the event destinations that want it. */
export function recordThinEvent(ctx: Ctx, thin: ThinEvent, realMs: number): Stored<'v2.core.event'> {
  const event: Stored<'v2.core.event'> = {
    id: `evt_test_${ctx.token(24)}`,
    object: 'v2.core.event',
    created: isoTime(ctx.now(thin.customer)),
    livemode: false,
    type: thin.type,
    ...(thin.related === undefined ? {} : { related_object: thin.related }),
    ...(thin.data === undefined ? {} : { data: thin.data }),
  }
  ctx.store.put('v2.core.event', event)
  const only = thin.onlyTo === undefined ? null : findTarget(ctx, thin.onlyTo)
  queueDeliveries(ctx, event.id, only === null ? listeners(ctx, thin.type, 'thin') : [only], realMs)
  return event
}

/** Unix seconds as the second API writes times: `2026-01-15T12:00:00.000Z`. */
export function isoTime(unixSeconds: number): string {
  return new Date(unixSeconds * 1000).toISOString()
}

function queueDeliveries(ctx: Ctx, event: string, targets: readonly Target[], realMs: number): void {
  for (const target of targets) {
    ctx.store.put('_delivery', {
      id: ctx.newId('dlv'),
      event,
      endpoint: target.id,
      attempts: 0,
      state: 'pending',
      nextAttemptMs: realMs,
      lastResult: null,
    })
  }
}

/** Events about a test clock are dated by it, as are those of the objects that live on it. */
function testClockOf(subject: Subject): unknown {
  return subject.object === 'test_helpers.test_clock' ? subject.id : subject.test_clock
}

function customerOf(subject: Subject): string | null {
  if (subject.object === 'customer' && typeof subject.id === 'string') return subject.id
  return typeof subject.customer === 'string' ? subject.customer : null
}
