import { decimal, formatDecimal, type Decimal } from '../../billing/decimal.ts'
import { listsEmptyUsageWindows } from '../../billing/inferred.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest } from '../../engine/errors.ts'
import { hash32 } from '../../engine/random.ts'
import type { Stored } from '../../model/stored.ts'

type Meter = Stored<'billing.meter'>
type Summary = Stored<'billing.meter_event_summary'>

/** Whose usage, of which meter, in `[from, to)` (unix seconds of the events' timestamps). */
export interface UsageSpan {
  readonly meter: string
  readonly customer: string
  readonly from: number
  readonly to: number
}

/**
 * The usage that a meter measured: the sum, the number, or the last value of a customer's events in a span. Exact, and never
 * below zero: corrections that exceed what they correct are billed as no usage.
 * Source: docs.stripe.com/billing/subscriptions/usage-based/meters/configure (fix incorrect usage data).
 */
export function usageOf(ctx: Ctx, span: UsageSpan): Decimal {
  const meter = ctx.require('billing.meter', span.meter)
  const events = eventsOf(ctx, meter.id, span.customer).filter(
    (event) => event.timestamp >= span.from && event.timestamp < span.to,
  )
  const usage = aggregate(meter.default_aggregation.formula, events)
  return usage < 0n ? decimal('0') : usage
}

type MeterEvent = Stored<'billing.meter_event'>

/** Events that count, in order of arrival. */
function eventsOf(ctx: Ctx, meter: string, customer: string): MeterEvent[] {
  return ctx.store.by('billing.meter_event', 'usage', `${meter} ${customer}`)
}

function aggregate(formula: Meter['default_aggregation']['formula'], events: readonly MeterEvent[]): Decimal {
  switch (formula) {
    case 'count':
      return decimal(String(events.length))
    case 'sum':
      return events.reduce((sum, event) => (sum + decimal(event._.value)) as Decimal, decimal('0'))
    case 'last':
      return decimal(lastOf(events)?._.value ?? '0')
  }
}

/** The event with the latest timestamp; of several the one that arrived last. */
function lastOf(events: readonly MeterEvent[]): MeterEvent | undefined {
  return events.reduce<MeterEvent | undefined>(
    (last, event) => (last === undefined || event.timestamp >= last.timestamp ? event : last),
    undefined,
  )
}

const WINDOW_SECONDS = { hour: 3600, day: 86_400 }

interface SummaryParams {
  readonly customer: string
  readonly start_time: number
  readonly end_time: number
  readonly value_grouping_window?: 'day' | 'hour'
}

/** Event summaries, newest window first; one for the whole span without a grouping window. */
export function summariesOf(ctx: Ctx, meter: Meter, params: SummaryParams): Summary[] {
  if (ctx.get('deleted_customer', params.customer) === undefined) ctx.require('customer', params.customer, 'customer')
  const grouping = params.value_grouping_window
  checkAligned(params, grouping === undefined ? 60 : WINDOW_SECONDS[grouping])
  const events = eventsOf(ctx, meter.id, params.customer).filter(
    (event) => event.timestamp >= params.start_time && event.timestamp < params.end_time,
  )
  if (grouping === undefined) return [summary(meter, params.customer, params.start_time, params.end_time, events)]
  const seconds = WINDOW_SECONDS[grouping]
  const windows = Map.groupBy(events, (event) => event.timestamp - (event.timestamp % seconds))
  if (listsEmptyUsageWindows()) {
    for (let start = params.start_time; start < params.end_time; start += seconds) if (!windows.has(start)) windows.set(start, [])
  }
  return [...windows]
    .sort(([left], [right]) => right - left)
    .map(([start, members]) => summary(meter, params.customer, start, start + seconds, members))
}

function checkAligned(params: SummaryParams, seconds: number): void {
  for (const name of ['start_time', 'end_time'] as const) {
    if (params[name] % seconds !== 0) {
      const boundary = { 60: 'minute', 3600: 'hour', 86_400: 'day (UTC)' }[seconds]
      throw invalidRequest(`\`${name}\` must be aligned with ${boundary} boundaries.`, { param: name })
    }
  }
  if (params.end_time <= params.start_time) throw invalidRequest('`end_time` must be after `start_time`.', { param: 'end_time' })
}

function summary(meter: Meter, customer: string, start: number, end: number, events: readonly MeterEvent[]): Summary {
  const value = formatDecimal(aggregate(meter.default_aggregation.formula, events))
  return {
    // The same window has the same id, so that paging finds its place again.
    id: `mtrusg_test_${hash32(meter.id, customer, start, end).toString(36)}${hash32(end, start, customer, meter.id).toString(36)}`,
    object: 'billing.meter_event_summary',
    aggregated_value: Number(value),
    end_time: end,
    livemode: false,
    meter: meter.id,
    start_time: start,
  }
}
