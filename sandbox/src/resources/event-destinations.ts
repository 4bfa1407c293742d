import { isoTime } from '../events/emit.ts'
import type { Ctx } from '../engine/context.ts'
import { invalidRequest, missing, notSupported } from '../engine/errors.ts'
import { pageLimit } from '../engine/lists.ts'
import { mergeMetadata } from '../engine/metadata.ts'
import { operation, presenter, type Module } from '../engine/module.ts'
import { loadSpec } from '../engine/spec.ts'
import type { Stored } from '../model/stored.ts'
import type { Params } from '../wire.gen.ts'

type Destination = Stored<'v2.core.event_destination'>

/** A destination with what `include` asks to see. */
function shown(ctx: Ctx, destination: Destination, include: readonly string[] = []): object {
  const endpoint = {
    ...(include.includes('webhook_endpoint.url') ? { url: destination.webhook_endpoint.url } : {}),
    ...(include.includes('webhook_endpoint.signing_secret') ? { signing_secret: destination._.secret } : {}),
  }
  return { ...ctx.present(destination), webhook_endpoint: endpoint }
}

function create(ctx: Ctx, params: Params['POST /v2/core/event_destinations']): object {
  if (params.type !== 'webhook_endpoint') throw notSupported(`An event destination of the type ${params.type}`, 'type')
  if (params.webhook_endpoint === undefined) throw missing('webhook_endpoint')
  if (params.enabled_events.length === 0) throw invalidRequest('At least one event is required.', { param: 'enabled_events' })
  const now = isoTime(ctx.now())
  const destination = ctx.create('v2.core.event_destination', {
    id: `ed_test_${ctx.token(24)}`,
    object: 'v2.core.event_destination',
    created: now,
    description: params.description ?? '',
    enabled_events: params.enabled_events,
    event_payload: params.event_payload,
    events_from: params.events_from ?? ['self'],
    livemode: false,
    metadata: mergeMetadata({}, params.metadata),
    name: params.name,
    ...(params.event_payload === 'snapshot' ? { snapshot_api_version: params.snapshot_api_version ?? loadSpec().version } : {}),
    status: 'enabled',
    type: 'webhook_endpoint',
    updated: now,
    webhook_endpoint: { url: params.webhook_endpoint.url },
    _: { secret: `whsec_${ctx.token(32)}`, previousSecret: null },
  })
  return shown(ctx, destination, params.include)
}

function update(ctx: Ctx, id: string, params: Params['POST /v2/core/event_destinations/{id}']): object {
  const old = ctx.require('v2.core.event_destination', id)
  const destination = ctx.update('v2.core.event_destination', id, {
    description: params.description ?? old.description,
    enabled_events: params.enabled_events ?? old.enabled_events,
    metadata: mergeMetadata(old.metadata, params.metadata),
    name: params.name ?? old.name,
    updated: isoTime(ctx.now()),
    webhook_endpoint: { url: params.webhook_endpoint?.url ?? old.webhook_endpoint.url },
  })
  return shown(ctx, destination, params.include)
}

function setStatus(ctx: Ctx, id: string, status: Destination['status']): object {
  ctx.require('v2.core.event_destination', id)
  const details: Destination['status_details'] = status === 'disabled' ? { disabled: { reason: 'user' } } : {}
  const patch = { status, status_details: details, updated: isoTime(ctx.now()) }
  return shown(ctx, ctx.update('v2.core.event_destination', id, patch))
}

/** A page of the second API: no cursors in its contract, only `limit`. */
function v2Page(objects: object[], limit: number | undefined): object {
  return { data: objects.slice(0, pageLimit(limit)), next_page_url: null, previous_page_url: null }
}

const operations = [
  operation({
    on: 'POST /v2/core/event_destinations',
    takes: [
      'enabled_events',
      'event_payload',
      'name',
      'type',
      'description',
      'events_from',
      'include',
      'metadata',
      'snapshot_api_version',
      'webhook_endpoint',
    ],
    run: create,
  }),
  operation({
    on: 'POST /v2/core/event_destinations/{id}',
    takes: ['description', 'enabled_events', 'include', 'metadata', 'name', 'webhook_endpoint'],
    run: (ctx, params, { id }) => update(ctx, id, params),
  }),
  operation({
    on: 'GET /v2/core/event_destinations/{id}',
    takes: ['include'],
    run: (ctx, params, { id }) => shown(ctx, ctx.require('v2.core.event_destination', id), params.include),
  }),
  operation({
    on: 'GET /v2/core/event_destinations',
    takes: ['include', 'limit'],
    run: (ctx, params) => {
      const destinations = [...ctx.store.all('v2.core.event_destination')].toReversed()
      return v2Page(
        destinations.map((destination) => shown(ctx, destination, params.include)),
        params.limit,
      )
    },
  }),
  operation({
    on: 'DELETE /v2/core/event_destinations/{id}',
    takes: [],
    run: (ctx, _params, { id }) => {
      ctx.require('v2.core.event_destination', id)
      ctx.delete('v2.core.event_destination', id)
      return { id, object: 'v2.core.event_destination' }
    },
  }),
  operation({
    on: 'POST /v2/core/event_destinations/{id}/disable',
    takes: [],
    run: (ctx, _params, { id }) => setStatus(ctx, id, 'disabled'),
  }),
  operation({
    on: 'POST /v2/core/event_destinations/{id}/enable',
    takes: [],
    run: (ctx, _params, { id }) => setStatus(ctx, id, 'enabled'),
  }),
  operation({
    on: 'POST /v2/core/event_destinations/{id}/ping',
    takes: [],
    run: (ctx, _params, { id }) => {
      const destination = ctx.require('v2.core.event_destination', id)
      const related = { id, type: 'v2.core.event_destination', url: `/v2/core/event_destinations/${id}` }
      return ctx.emitThin({ type: 'v2.core.event_destination.ping', related, onlyTo: destination.id })
    },
  }),
  operation({
    on: 'GET /v2/core/events',
    takes: ['created', 'limit', 'object_id', 'types'],
    run: (ctx, params) => {
      const found = [...ctx.store.all('v2.core.event')]
        .toReversed()
        .filter(
          (event) =>
            (params.object_id === undefined || event.related_object?.id === params.object_id) &&
            (params.types === undefined || params.types.includes(event.type)),
        )
      return v2Page(found, params.limit)
    },
  }),
  operation({ on: 'GET /v2/core/events/{id}', takes: [], run: (ctx, _params, { id }) => ctx.require('v2.core.event', id) }),
]

export const eventDestinationsModule: Module = { operations, presenters: [presenter('v2.core.event_destination', {})] }
