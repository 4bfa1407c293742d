import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, missing } from '../../engine/errors.ts'
import { operation, presenter, type Module } from '../../engine/module.ts'
import { isoTime } from '../../events/emit.ts'
import { cancelUsage, recordStream, recordUsage } from './meter-events.ts'

/** How long a stream's session may be used. Source: docs.stripe.com/api/v2/billing-meter-stream. */
const SESSION_SECONDS = 15 * 60
const MAX_STREAM_EVENTS = 100

/** `2026-01-15T12:00:00Z` → unix seconds. */
function secondsOf(timestamp: string | undefined): number | undefined {
  if (timestamp === undefined) return undefined
  const ms = Date.parse(timestamp)
  if (Number.isNaN(ms)) throw invalidRequest(`Invalid timestamp: ${timestamp}`, { param: 'timestamp' })
  return Math.floor(ms / 1000)
}

interface StreamedEvent {
  event_name: string
  identifier?: string
  payload: Record<string, string>
  timestamp?: string
}

function reportOf(event: StreamedEvent) {
  return {
    eventName: event.event_name,
    payload: event.payload,
    identifier: event.identifier,
    timestamp: secondsOf(event.timestamp),
  }
}

function openSession(ctx: Ctx): object {
  const now = ctx.now()
  const session = {
    id: `mes_test_${ctx.token(24)}`,
    object: 'v2.billing.meter_event_session' as const,
    authentication_token: `mtr_evt_session_test_${ctx.token(48)}`,
    created: isoTime(now),
    expires_at: isoTime(now + SESSION_SECONDS),
    livemode: false,
  }
  return ctx.create('v2.billing.meter_event_session', session)
}

const operations = [
  operation({
    on: 'POST /v1/billing/meter_events',
    takes: ['event_name', 'payload', 'identifier', 'timestamp'],
    run: (ctx, params) =>
      recordUsage(
        ctx,
        { eventName: params.event_name, payload: params.payload, identifier: params.identifier, timestamp: params.timestamp },
        { mayReportLater: true },
      ),
  }),
  operation({
    on: 'POST /v1/billing/meter_event_adjustments',
    takes: ['event_name', 'type', 'cancel'],
    run: (ctx, params) => {
      const identifier = params.cancel?.identifier
      if (identifier === undefined) throw missing('cancel[identifier]')
      cancelUsage(ctx, params.event_name, identifier)
      return {
        object: 'billing.meter_event_adjustment',
        cancel: { identifier },
        event_name: params.event_name,
        livemode: false,
        status: 'complete',
        type: 'cancel',
      }
    },
  }),
  operation({
    on: 'POST /v2/billing/meter_events',
    takes: ['event_name', 'payload', 'identifier', 'timestamp'],
    run: (ctx, params) => {
      const event = recordUsage(ctx, reportOf(params), { mayReportLater: false })
      return {
        object: 'v2.billing.meter_event',
        created: isoTime(event.created),
        event_name: event.event_name,
        identifier: event.identifier,
        livemode: false,
        payload: event.payload,
        timestamp: isoTime(event.timestamp),
      }
    },
  }),
  operation({
    on: 'POST /v2/billing/meter_event_adjustments',
    takes: ['cancel', 'event_name', 'type'],
    run: (ctx, params) => {
      cancelUsage(ctx, params.event_name, params.cancel.identifier)
      return {
        id: `mtr_adj_test_${ctx.token(24)}`,
        object: 'v2.billing.meter_event_adjustment',
        cancel: { identifier: params.cancel.identifier },
        created: isoTime(ctx.now()),
        event_name: params.event_name,
        livemode: false,
        status: 'complete',
        type: 'cancel',
      }
    },
  }),
  operation({ on: 'POST /v2/billing/meter_event_session', takes: [], run: openSession }),
  operation({
    on: 'POST /v2/billing/meter_event_stream',
    takes: ['events'],
    sessionOnly: true,
    run: (ctx, params) => {
      if (params.events.length > MAX_STREAM_EVENTS) {
        throw invalidRequest(`A request may hold at most ${MAX_STREAM_EVENTS} events.`, { param: 'events' })
      }
      recordStream(ctx, params.events.map(reportOf))
      return {}
    },
  }),
]

/** A meter event is known by its identifier; the id is the sandbox's own. */
const presenters = [presenter('billing.meter_event', { onExpand: { id: () => undefined } })]

export const meterEventsModule: Module = { operations, presenters }
