import type { Ctx } from '../../engine/context.ts'
import { invalidRequest } from '../../engine/errors.ts'
import { list, pageOf } from '../../engine/lists.ts'
import { operation, type Module } from '../../engine/module.ts'
import type { Stored } from '../../model/stored.ts'
import type { Params } from '../../wire.gen.ts'
import { summariesOf } from './meter-usage.ts'

type Meter = Stored<'billing.meter'>

function create(ctx: Ctx, params: Omit<Params['POST /v1/billing/meters'], 'expand'>): Meter {
  const active = ctx.store.by('billing.meter', 'event_name', params.event_name).find((meter) => meter.status === 'active')
  if (active !== undefined) {
    throw invalidRequest(`There is already an active meter with the event name ${params.event_name}: ${active.id}`, {
      param: 'event_name',
      code: 'resource_already_exists',
    })
  }
  if (params.event_name.length > 100)
    throw invalidRequest('The event name must be at most 100 characters.', { param: 'event_name' })
  const now = ctx.now()
  return ctx.create(
    'billing.meter',
    {
      id: `mtr_test_${ctx.token(24)}`,
      object: 'billing.meter',
      created: now,
      customer_mapping: params.customer_mapping ?? { event_payload_key: 'stripe_customer_id', type: 'by_id' },
      default_aggregation: params.default_aggregation,
      display_name: params.display_name,
      event_name: params.event_name,
      event_time_window: params.event_time_window ?? null,
      livemode: false,
      status: 'active',
      status_transitions: { deactivated_at: null },
      updated: now,
      value_settings: params.value_settings ?? { event_payload_key: 'value' },
    },
    'billing.meter.created',
  )
}

function setStatus(ctx: Ctx, id: string, status: Meter['status']): Meter {
  const meter = ctx.require('billing.meter', id)
  if (meter.status === status) {
    throw invalidRequest(status === 'active' ? 'This meter is already active.' : 'This meter is already inactive.')
  }
  const now = ctx.now()
  const deactivated = status === 'inactive' ? now : null
  return ctx.change(
    'billing.meter',
    id,
    { status, status_transitions: { deactivated_at: deactivated }, updated: now },
    status === 'active' ? 'billing.meter.reactivated' : 'billing.meter.deactivated',
  )
}

const operations = [
  operation({
    on: 'POST /v1/billing/meters',
    takes: ['default_aggregation', 'display_name', 'event_name', 'customer_mapping', 'event_time_window', 'value_settings'],
    run: create,
  }),
  operation({
    on: 'POST /v1/billing/meters/{id}',
    takes: ['display_name'],
    run: (ctx, params, { id }) => {
      const meter = ctx.require('billing.meter', id)
      const patch = { display_name: params.display_name ?? meter.display_name, updated: ctx.now() }
      return ctx.change('billing.meter', id, patch, 'billing.meter.updated')
    },
  }),
  operation({ on: 'GET /v1/billing/meters/{id}', takes: [], run: (ctx, _params, { id }) => ctx.require('billing.meter', id) }),
  operation({
    on: 'GET /v1/billing/meters',
    takes: ['limit', 'starting_after', 'ending_before', 'status'],
    run: (ctx, params) =>
      list(ctx, 'billing.meter', params, {
        url: '/v1/billing/meters',
        where: (meter) => params.status === undefined || meter.status === params.status,
      }),
  }),
  operation({
    on: 'POST /v1/billing/meters/{id}/deactivate',
    takes: [],
    run: (ctx, _params, { id }) => setStatus(ctx, id, 'inactive'),
  }),
  operation({
    on: 'POST /v1/billing/meters/{id}/reactivate',
    takes: [],
    run: (ctx, _params, { id }) => setStatus(ctx, id, 'active'),
  }),
  operation({
    on: 'GET /v1/billing/meters/{id}/event_summaries',
    takes: ['limit', 'starting_after', 'ending_before', 'customer', 'start_time', 'end_time', 'value_grouping_window'],
    run: (ctx, params, { id }) => {
      const summaries = summariesOf(ctx, ctx.require('billing.meter', id), params)
      return pageOf(summaries, params, `/v1/billing/meters/${id}/event_summaries`)
    },
  }),
]

export const metersModule: Module = { operations }
