import { z } from '@hono/zod-openapi'
import { moment } from '../lib/moments.ts'
import { DomainError } from '../lib/errors.ts'
import type { Period } from '../lib/period.ts'
import { quantityToJson } from '../lib/quantity.ts'
import type { Report, SpanInput } from './reports.ts'
import { GRAINS, REPORT_PERIODS } from './spans.ts'

export const quantityOut = z
  .union([z.number(), z.string()])
  .meta({ description: 'A JSON number where a double holds it exactly, else a decimal string.' })

/** The parameters that say which use is looked at. */
export const spanQuery = {
  organization_id: z.string().optional().meta({ description: 'Only for operators.' }),
  meter: z.string().max(63).optional().meta({ description: 'Default: every meter.' }),
  start: moment.optional().meta({ description: 'Sums are kept by the hour: hours that begin from here on.' }),
  end: moment.optional().meta({ description: 'Up to here, exclusive; default now.' }),
  period: z.enum(REPORT_PERIODS).optional().meta({ description: 'Instead of start and end; default the calendar month.' }),
  at: moment.optional().meta({ description: 'The period that holds this moment; default now.' }),
}

export const pageQuery = {
  limit: z.coerce.number().int().min(1).max(1_000).default(100),
  cursor: z.string().max(2_000).optional().meta({ description: 'The `next_cursor` of the page before.' }),
}

/** The parameters that say how a report is split. */
export const splitQuery = {
  grain: z.enum(GRAINS).default('total').meta({ description: 'What one row spans, in the organization’s time zone.' }),
  group_by: z
    .union([z.string().max(400), z.array(z.string().max(400)).max(50)])
    .optional()
    .meta({
      description: 'Properties that the meter’s `groupBy` names, separated by commas or one a parameter.',
      example: 'model,endpoint',
    }),
  filter: z
    .union([z.string().max(400), z.array(z.string().max(400)).max(50)])
    .optional()
    .meta({ description: '`property:value`; several of one property are alternatives.', example: 'model:large' }),
}

type SpanQuery = {
  readonly [Name in Exclude<keyof typeof spanQuery, 'organization_id'>]?: z.output<(typeof spanQuery)[Name]>
}

/** The span that a query names. */
export function spanInputOf(query: SpanQuery, organizationId: string): SpanInput {
  const { meter, start, end, period, at } = query
  return { organizationId, meter, start: dateOf(start), end: dateOf(end), period, at: dateOf(at) }
}

function dateOf(text: string | undefined): Date | undefined {
  return text === undefined ? undefined : new Date(text)
}

export function groupByOf(given: string | readonly string[] | undefined): readonly string[] {
  const names = [given ?? []].flat().flatMap((text) => text.split(','))
  return [...new Set(names.filter((name) => name !== ''))]
}

/** @throws DomainError `invalid_request` for what is not `property:value` */
export function filterOf(given: string | readonly string[] | undefined): Readonly<Record<string, readonly string[]>> {
  const filter = new Map<string, string[]>()
  for (const one of given === undefined ? [] : [given].flat()) {
    const colon = one.indexOf(':')
    if (colon < 1) throw new DomainError('invalid_request', 'A filter is written property:value.', { field: 'filter' })
    const name = one.slice(0, colon)
    filter.set(name, [...(filter.get(name) ?? []), one.slice(colon + 1)])
  }
  return Object.fromEntries(filter)
}

export const periodBody = { start: z.iso.datetime(), end: z.iso.datetime() }

export function showPeriod({ start, end }: Period) {
  return { start: start.toISOString(), end: end.toISOString() }
}

export const reportRowSchema = z
  .object({
    ...periodBody,
    meter: z.string(),
    group: z.record(z.string(), z.string()).nullable().meta({
      description:
        'The values by which it is split; a property that the uses lacked is left out. null is use that no combination accounts for: beyond a thousand of them in a month, or from before the meter named its properties.',
    }),
    events: z.number().meta({ description: 'Uses; a correction changes what one counts, and is none itself.' }),
    quantity: quantityOut,
    credits_used: quantityOut.meta({ description: 'What they took from the balance, overage included.' }),
    overage: quantityOut,
  })
  .openapi('UsageReportRow')

export const reportSchema = z
  .object({
    organization_id: z.string(),
    time_zone: z.string(),
    ...periodBody,
    grain: z.enum(GRAINS),
    rows: z.array(reportRowSchema),
    next_cursor: z.string().nullable(),
  })
  .openapi('UsageReport')

export type ReportRowBody = z.infer<typeof reportRowSchema>

export function showReportRow(row: Report['rows'][number]): ReportRowBody {
  return { ...showPeriod(row), meter: row.meter, group: row.group, ...showSums(row) }
}

export function showSums({
  events,
  quantity,
  drawn,
  overage,
}: {
  events: bigint
  quantity: bigint
  drawn: bigint
  overage: bigint
}) {
  return {
    events: Number(events),
    quantity: quantityToJson(quantity),
    credits_used: quantityToJson(drawn),
    overage: quantityToJson(overage),
  }
}
