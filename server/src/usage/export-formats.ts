import type { Instant } from '../lib/clock.ts'
import { csvLine } from '../lib/csv.ts'
import { calendarPeriodOf, type Period } from '../lib/period.ts'
import type { EventBody } from './events.ts'
import type { ReportRowBody } from './schemas.ts'
import type { Calendar } from './spans.ts'

export const FORMATS = { csv: 'text/csv; charset=utf-8; header=present', ndjson: 'application/x-ndjson' } as const
export type Format = keyof typeof FORMATS

/** How bodies of one kind are written: what comes first, and each of them. */
export type Writer<Body> = { readonly head: string; readonly lineOf: (body: Body) => string }

type Columns<Body> = { readonly [name: string]: (body: Body) => string | number | null }

function csvWriter<Body>(columns: Columns<Body>): Writer<Body> {
  const readers = Object.values(columns)
  return { head: csvLine(Object.keys(columns)), lineOf: (body) => csvLine(readers.map((read) => read(body))) }
}

const jsonOf = (value: unknown): string | null => (value === null ? null : JSON.stringify(value))

const EVENTS = csvWriter<EventBody>({
  id: (event) => event.id,
  recorded_at: (event) => event.recorded_at,
  occurred_at: (event) => event.occurred_at,
  verb: (event) => event.verb,
  idempotency_key: (event) => event.idempotency_key,
  meter: (event) => event.meter,
  quantity: (event) => event.quantity,
  counted: (event) => event.counted,
  credits_used: (event) => event.credits_used,
  overage: (event) => event.overage,
  refusal: (event) => event.refusal,
  balance: (event) => event.balance,
  plan: (event) => event.plan,
  period_start: (event) => event.period_start,
  period_end: (event) => event.period_end,
  corrects: (event) => event.corrects,
  reservation_id: (event) => event.reservation_id,
  draws: (event) => jsonOf(event.draws),
  properties: (event) => jsonOf(event.properties),
})

const SPAN: Columns<ReportRowBody> = { start: (row) => row.start, end: (row) => row.end, meter: (row) => row.meter }
const GROUPED: Columns<ReportRowBody> = { grouped: (row) => String(row.group !== null) }
const SUMS: Columns<ReportRowBody> = {
  events: (row) => row.events,
  quantity: (row) => row.quantity,
  credits_used: (row) => row.credits_used,
  overage: (row) => row.overage,
}
const OWN_COLUMNS = new Set(Object.keys({ ...SPAN, ...GROUPED, ...SUMS }))

/** A report's columns: one for each property by which it is split. */
function reportColumns(groupBy: readonly string[]): Columns<ReportRowBody> {
  if (groupBy.length === 0) return { ...SPAN, ...SUMS }
  const read = (name: string) => (row: ReportRowBody) =>
    row.group !== null && Object.hasOwn(row.group, name) ? row.group[name]! : null
  const properties = Object.fromEntries(groupBy.map((name) => [columnOf(name, groupBy), read(name)]))
  return { ...SPAN, ...properties, ...GROUPED, ...SUMS }
}

/** What a property's column is called: its name, with `property_` in front for as long as another column has that name. */
function columnOf(property: string, groupBy: readonly string[]): string {
  let name = property
  while (OWN_COLUMNS.has(name) || (name !== property && groupBy.includes(name))) name = `property_${name}`
  return name
}

function ndjsonWriter<Body>(): Writer<Body> {
  return { head: '', lineOf: (body) => `${JSON.stringify(body)}\n` }
}

export function eventWriter(format: Format): Writer<EventBody> {
  return format === 'csv' ? EVENTS : ndjsonWriter()
}

export function reportWriter(format: Format, groupBy: readonly string[]): Writer<ReportRowBody> {
  return format === 'csv' ? csvWriter(reportColumns(groupBy)) : ndjsonWriter()
}

type NamedSpan = Period & { readonly calendar: Pick<Calendar, 'timeZone'> }

/** What the file is called: its dates are those of the span in the organization's time zone, as the days of a report are. */
export function fileNameOf(what: string, { start, end, calendar }: NamedSpan, format: Format): string {
  const dateOf = (at: Instant): string => calendarPeriodOf('day', calendar.timeZone, at).date.toISOString().slice(0, 10)
  return `usage-${what}-${dateOf(start)}-${dateOf(end)}.${format}`
}
