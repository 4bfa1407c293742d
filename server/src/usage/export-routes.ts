import { createRoute, z } from '@hono/zod-openapi'
import { organizationFor, requireScope } from '../auth/principal.ts'
import type { App } from '../http/app.ts'
import { tellLevels, type LevelsContext } from '../metering/levels.ts'
import { eventOf, type EventRow } from '../metering/write/store.ts'
import { eventBody, eventSchema, planEvents, readEvents } from './events.ts'
import { eventWriter, fileNameOf, FORMATS, reportWriter, type Format } from './export-formats.ts'
import type { Exports } from './exports.ts'
import type { ReportRow } from './report-store.ts'
import { planReport, type ReadingContext } from './reports.ts'
import {
  filterOf,
  groupByOf,
  pageQuery,
  periodBody,
  reportRowSchema,
  showPeriod,
  showReportRow,
  spanInputOf,
  spanQuery,
  splitQuery,
} from './schemas.ts'
import { findSettlements, settlementSchema } from './settlements.ts'
import { spanOfRow } from './spans.ts'

export type ExportContext = ReadingContext & Pick<LevelsContext, 'metering'> & { readonly exports: Exports }

const billedEventSchema = eventSchema.extend(settlementSchema).openapi('BilledUsageEvent')

const eventsRoute = createRoute({
  method: 'get',
  path: '/api/v1/usage/events',
  tags: ['Usage'],
  summary: 'The events that count in a span, refusals and holds too',
  description:
    'The scope `read`. Each says whether a paid invoice has settled it, and which. `next_cursor` is null on the last page; a cursor goes on where the page ended, also while more is recorded.',
  request: { query: z.object({ ...spanQuery, ...pageQuery }) },
  responses: {
    200: {
      description: 'In the order in which they were recorded.',
      content: {
        'application/json': {
          schema: z.object({ ...periodBody, events: z.array(billedEventSchema), next_cursor: z.string().nullable() }),
        },
      },
    },
  },
})

const files = (schema: z.ZodType) => ({
  200: {
    description: 'A file, streamed: one snapshot, however large. It is whole when it ends as HTTP says.',
    content: {
      'text/csv': { schema: z.string().meta({ description: 'With a header line; safe to open in a spreadsheet.' }) },
      'application/x-ndjson': { schema: schema.meta({ description: 'One a line.' }) },
    },
  },
})
const format = z.enum(['csv', 'ndjson']).default('csv')

const exportEventsRoute = createRoute({
  method: 'get',
  path: '/api/v1/usage/events/export',
  tags: ['Usage'],
  summary: 'All events of a span as a file',
  description: 'The scope `read`. One snapshot in one answer, without pages, as CSV or NDJSON.',
  request: { query: z.object({ ...spanQuery, format }) },
  responses: files(eventSchema),
})

const exportReportRoute = createRoute({
  method: 'get',
  path: '/api/v1/usage/report/export',
  tags: ['Usage'],
  summary: 'A whole report as a file',
  description: 'The scope `read`. The rows of `GET /api/v1/usage/report` without pages, as CSV or NDJSON.',
  request: { query: z.object({ ...spanQuery, ...splitQuery, format }) },
  responses: files(reportRowSchema),
})

export function registerExportRoutes(app: App, context: ExportContext): void {
  app.openapi(eventsRoute, async (c) => {
    const query = c.req.valid('query')
    const organizationId = organizationFor(requireScope(c.get('principal'), 'read'), query.organization_id)
    await tellLevels(context, organizationId)
    const { limit, cursor } = query
    const page = await readEvents(context, { ...spanInputOf(query, organizationId), limit, cursor })
    const settlementOf = await findSettlements(context.db, page.events)
    const events = page.events.map((event) => ({ ...eventBody(event), ...settlementOf(event) }))
    return c.json({ ...showPeriod(page), events, next_cursor: page.nextCursor }, 200)
  })

  app.openapi(exportEventsRoute, async (c) => {
    const query = c.req.valid('query')
    const organizationId = organizationFor(requireScope(c.get('principal'), 'read'), query.organization_id)
    await tellLevels(context, organizationId)
    const plan = await planEvents(context, spanInputOf(query, organizationId))
    const { head, lineOf } = eventWriter(query.format)
    const stream = await context.exports.open<EventRow>(organizationId, {
      statement: plan.statement,
      head,
      textOf: (row) => lineOf(eventBody(eventOf(row))),
    })
    return c.body(stream, 200, fileHeaders(fileNameOf('events', plan, query.format), query.format))
  })

  app.openapi(exportReportRoute, async (c) => {
    const query = c.req.valid('query')
    const organizationId = organizationFor(requireScope(c.get('principal'), 'read'), query.organization_id)
    await tellLevels(context, organizationId)
    const { grain } = query
    const groupBy = groupByOf(query.group_by)
    const plan = await planReport(context, {
      ...spanInputOf(query, organizationId),
      grain,
      groupBy,
      filter: filterOf(query.filter),
    })
    const { head, lineOf } = reportWriter(query.format, groupBy)
    const stream = await context.exports.open<ReportRow>(organizationId, {
      statement: plan.statement,
      head,
      textOf: (row) => lineOf(showReportRow({ ...row, ...spanOfRow(grain, plan.calendar, row.start, plan) })),
    })
    return c.body(stream, 200, fileHeaders(fileNameOf('report', plan, query.format), query.format))
  })
}

function fileHeaders(name: string, kind: Format): Record<string, string> {
  return {
    'content-type': FORMATS[kind],
    'content-disposition': `attachment; filename="${name}"`,
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  }
}
