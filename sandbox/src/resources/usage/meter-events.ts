import { parseDecimal } from '../../billing/decimal.ts'
import { duplicateMeterEventCode, isMeterFaultReportedLater, type MeterFaultCode } from '../../billing/inferred.ts'
import type { Ctx } from '../../engine/context.ts'
import { StripeError } from '../../engine/errors.ts'
import { isoTime } from '../../events/emit.ts'
import type { Stored } from '../../model/stored.ts'

type MeterEvent = Stored<'billing.meter_event'>

const MAX_AGE_SECONDS = 35 * 86_400
const MAX_AHEAD_SECONDS = 300
/** Identifiers are unique for a rolling day at least. */
const IDENTIFIER_SECONDS = 86_400
const MAX_VALUE_DIGITS = 15

/** A meter event as it was sent; `timestamp` in unix seconds. */
export interface UsageReport {
  readonly eventName: string
  readonly payload: Readonly<Record<string, string>>
  readonly identifier?: string | undefined
  readonly timestamp?: number | undefined
}

/** What is wrong with a usage report. */
export interface MeterFault {
  readonly code: MeterFaultCode
  readonly message: string
  /** The meter concerned, when there is one. */
  readonly meter: string | null
  readonly identifier: string
}

type Checked = { readonly kind: 'usage'; readonly event: MeterEvent } | { readonly kind: 'fault'; readonly fault: MeterFault }

/**
 * Records usage at once. A fault that Stripe finds at once is thrown; with `mayReportLater` (the first API, streams) one that Stripe
 * finds only afterwards is answered as accepted and told in a thin event.
 */
export function recordUsage(ctx: Ctx, report: UsageReport, options: { mayReportLater: boolean }): MeterEvent {
  const identifier = report.identifier ?? ctx.token(32)
  refuseDuplicate(ctx, identifier)
  const checked = check(ctx, { ...report, identifier })
  if (checked.kind === 'usage') return ctx.create('billing.meter_event', checked.event)
  const { fault } = checked
  if (!options.mayReportLater || !isMeterFaultReportedLater(fault.code)) throw meterError(400, fault.code, fault.message)
  reportFaults(ctx, [fault])
  return eventOf(ctx, { ...report, identifier }, { meter: '', customer: '', value: '0' })
}

/** Records a stream's usage; everything that is wrong is told afterwards. */
export function recordStream(ctx: Ctx, reports: readonly UsageReport[]): void {
  const faults: MeterFault[] = []
  for (const report of reports) {
    const identifier = report.identifier ?? ctx.token(32)
    // A repeated identifier within a stream is ignored, as the identifier is there for that.
    if (isDuplicate(ctx, identifier)) continue
    const checked = check(ctx, { ...report, identifier })
    if (checked.kind === 'usage') ctx.create('billing.meter_event', checked.event)
    else faults.push(checked.fault)
  }
  reportFaults(ctx, faults)
}

/** Takes an event out of its meter again. Stripe allows it within 24 hours of the event's arrival. */
export function cancelUsage(ctx: Ctx, eventName: string, identifier: string): void {
  const event = ctx.store.lastBy('billing.meter_event', 'identifier', identifier)
  if (event === undefined || event.event_name !== eventName) {
    throw meterError(
      400,
      'resource_missing',
      `No meter event found with the identifier ${identifier} for the event name ${eventName}.`,
    )
  }
  if (event._.canceled)
    throw meterError(400, 'state_unsupported', `The meter event with the identifier ${identifier} is already canceled.`)
  if (ctx.now(event._.customer) - event.created > IDENTIFIER_SECONDS) {
    throw meterError(400, 'state_unsupported', 'Meter events can be canceled within 24 hours of being received.')
  }
  ctx.update('billing.meter_event', event.id, { _: { ...event._, canceled: true } })
}

function meterError(status: number, code: string, message: string): StripeError {
  return new StripeError(status, { type: 'invalid_request_error', code, message })
}

function isDuplicate(ctx: Ctx, identifier: string): boolean {
  const known = ctx.store.lastBy('billing.meter_event', 'identifier', identifier)
  return known !== undefined && ctx.now(known._.customer) - known.created < IDENTIFIER_SECONDS
}

function refuseDuplicate(ctx: Ctx, identifier: string): void {
  if (isDuplicate(ctx, identifier)) {
    throw meterError(400, duplicateMeterEventCode(), `An event already exists with identifier ${identifier}.`)
  }
}

type IdentifiedReport = UsageReport & { readonly identifier: string }

function check(ctx: Ctx, report: IdentifiedReport): Checked {
  const meters = ctx.store.by('billing.meter', 'event_name', report.eventName)
  const meter = meters.find((candidate) => candidate.status === 'active')
  const fault = (code: MeterFaultCode, message: string): Checked => ({
    kind: 'fault',
    fault: { code, message, meter: (meter ?? meters.at(-1))?.id ?? null, identifier: report.identifier },
  })
  if (meter === undefined) {
    if (meters.length > 0) return fault('archived_meter', `The meter with the event name ${report.eventName} is inactive.`)
    return fault('no_meter', `No meter exists with the event name ${report.eventName}.`)
  }
  const customerKey = meter.customer_mapping.event_payload_key
  const customer = report.payload[customerKey]
  if (customer === undefined || customer === '') {
    return fault('meter_event_no_customer_defined', `The payload does not define the customer under '${customerKey}'.`)
  }
  if (ctx.get('customer', customer) === undefined)
    return fault('meter_event_customer_not_found', `No such customer: '${customer}'.`)
  const now = ctx.now(customer)
  const timestamp = report.timestamp ?? now
  if (timestamp > now + MAX_AHEAD_SECONDS)
    return fault('timestamp_in_future', 'The timestamp is more than 5 minutes in the future.')
  if (timestamp < now - MAX_AGE_SECONDS)
    return fault('timestamp_too_far_in_past', 'The timestamp is more than 35 days in the past.')
  const value =
    meter.default_aggregation.formula === 'count' ? '1' : (report.payload[meter.value_settings.event_payload_key] ?? '')
  if (parseDecimal(value) === null) {
    return fault(
      'meter_event_invalid_value',
      `The payload's '${meter.value_settings.event_payload_key}' is not a number: '${value}'.`,
    )
  }
  if (value.replaceAll(/\D/g, '').length > MAX_VALUE_DIGITS) {
    return fault('meter_event_value_too_many_digits', `The value has more than ${MAX_VALUE_DIGITS} digits.`)
  }
  return { kind: 'usage', event: eventOf(ctx, report, { meter: meter.id, customer, value }) }
}

function eventOf(ctx: Ctx, report: IdentifiedReport, usage: { meter: string; customer: string; value: string }): MeterEvent {
  const now = ctx.now(usage.customer === '' ? null : usage.customer)
  return {
    id: ctx.newId('mev', 24),
    object: 'billing.meter_event',
    created: now,
    event_name: report.eventName,
    identifier: report.identifier,
    livemode: false,
    payload: { ...report.payload },
    timestamp: report.timestamp ?? now,
    _: { ...usage, canceled: false },
  }
}

/** One thin event for each meter with faults, and one for reports that name no meter. */
function reportFaults(ctx: Ctx, faults: readonly MeterFault[]): void {
  for (const [meter, found] of Map.groupBy(faults, (fault) => fault.meter)) {
    const now = ctx.now()
    const data = {
      developer_message_summary: `There ${found.length === 1 ? 'is 1 invalid event' : `are ${found.length} invalid events`}`,
      reason: { error_count: found.length, error_types: errorTypes(found) },
      validation_start: isoTime(now),
      validation_end: isoTime(now),
    }
    if (meter === null) ctx.emitThin({ type: 'v1.billing.meter.no_meter_found', data })
    else {
      const related = { id: meter, type: 'billing.meter', url: `/v1/billing/meters/${meter}` }
      ctx.emitThin({ type: 'v1.billing.meter.error_report_triggered', related, data })
    }
  }
}

function errorTypes(faults: readonly MeterFault[]): object[] {
  return [...Map.groupBy(faults, (fault) => fault.code)].map(([code, found]) => ({
    code,
    error_count: found.length,
    sample_errors: found
      .slice(0, 10)
      .map((fault) => ({ error_message: fault.message, request: { identifier: fault.identifier } })),
  }))
}
