import { formatDecimal, decimalOf } from '../../billing/decimal.ts'
import { alertCountsFrom } from '../../billing/inferred.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, missing } from '../../engine/errors.ts'
import { list } from '../../engine/lists.ts'
import { operation, presenter, reaction, type Module } from '../../engine/module.ts'
import type { Stored } from '../../model/stored.ts'
import type { Params } from '../../wire.gen.ts'
import { usageOf } from './meter-usage.ts'

type Alert = Stored<'billing.alert'>

/** Farther ahead than any timestamp that a meter event may carry. */
const NO_END = Number.MAX_SAFE_INTEGER

function create(ctx: Ctx, params: Omit<Params['POST /v1/billing/alerts'], 'expand'>): Alert {
  const threshold = params.usage_threshold
  if (threshold === undefined) throw missing('usage_threshold')
  const meter = ctx.require('billing.meter', threshold.meter, 'usage_threshold[meter]')
  if (threshold.gte < 0) throw invalidRequest('The threshold must not be negative.', { param: 'usage_threshold[gte]' })
  const filters = (threshold.filters ?? []).map((filter, index) => {
    const at = `usage_threshold[filters][${index}][customer]`
    if (filter.customer === undefined) throw missing(at)
    return { customer: ctx.require('customer', filter.customer, at).id, type: 'customer' as const }
  })
  return ctx.create('billing.alert', {
    id: `alrt_test_${ctx.token(24)}`,
    object: 'billing.alert',
    alert_type: params.alert_type,
    livemode: false,
    status: 'active',
    title: params.title,
    usage_threshold: {
      filters: threshold.filters === undefined ? null : filters,
      gte: threshold.gte,
      meter: meter.id,
      recurrence: threshold.recurrence,
    },
    _: { meter: meter.id, created: ctx.now(), triggered: [] },
  })
}

function setStatus(ctx: Ctx, id: string, status: NonNullable<Alert['status']>): Alert {
  const alert = ctx.require('billing.alert', id)
  if (alert.status === 'archived') throw invalidRequest('This alert is archived.')
  return ctx.update('billing.alert', id, { status })
}

/** Fires the alerts of a meter for a customer whose usage has reached them; once a customer. */
function fire(ctx: Ctx, meter: string, customer: string): void {
  for (const alert of ctx.store.by('billing.alert', 'meter', meter)) {
    const threshold = alert.usage_threshold
    if (alert.status !== 'active' || threshold === null || alert._.triggered.includes(customer)) continue
    if (threshold.filters?.some((filter) => filter.customer === customer) === false) continue
    const usage = usageOf(ctx, { meter, customer, from: alertCountsFrom(alert._.created), to: NO_END })
    if (usage < decimalOf(threshold.gte)) continue
    ctx.update('billing.alert', alert.id, { _: { ...alert._, triggered: [...alert._.triggered, customer] } })
    const triggered = {
      object: 'billing.alert_triggered',
      alert: ctx.present(alert),
      created: ctx.now(customer),
      customer,
      livemode: false,
      value: Number(formatDecimal(usage)),
    }
    ctx.emit('billing.alert.triggered', triggered, { customer })
  }
}

const operations = [
  operation({ on: 'POST /v1/billing/alerts', takes: ['alert_type', 'title', 'usage_threshold'], run: create }),
  operation({ on: 'GET /v1/billing/alerts/{id}', takes: [], run: (ctx, _params, { id }) => ctx.require('billing.alert', id) }),
  operation({
    on: 'GET /v1/billing/alerts',
    takes: ['limit', 'starting_after', 'ending_before', 'alert_type', 'meter'],
    run: (ctx, params) => list(ctx, 'billing.alert', params, { url: '/v1/billing/alerts', by: ['meter', params.meter] }),
  }),
  operation({
    on: 'POST /v1/billing/alerts/{id}/activate',
    takes: [],
    run: (ctx, _params, { id }) => setStatus(ctx, id, 'active'),
  }),
  operation({
    on: 'POST /v1/billing/alerts/{id}/deactivate',
    takes: [],
    run: (ctx, _params, { id }) => setStatus(ctx, id, 'inactive'),
  }),
  operation({
    on: 'POST /v1/billing/alerts/{id}/archive',
    takes: [],
    run: (ctx, _params, { id }) => setStatus(ctx, id, 'archived'),
  }),
]

const reactions = [
  reaction('billing.meter_event', (ctx, { before, after }) => {
    if (before === undefined && after !== undefined) fire(ctx, after._.meter, after._.customer)
  }),
]

export const alertsModule: Module = { operations, presenters: [presenter('billing.alert', {})], reactions }
