import { createRoute, z } from '@hono/zod-openapi'
import { organizationFor, requireScope } from '../auth/principal.ts'
import type { App } from '../http/app.ts'
import { tellLevels, type LevelsContext } from '../metering/levels.ts'
import { readReport, type ReadingContext } from './reports.ts'
import {
  filterOf,
  groupByOf,
  pageQuery,
  reportSchema,
  showPeriod,
  showReportRow,
  spanInputOf,
  spanQuery,
  splitQuery,
} from './schemas.ts'

const reportRoute = createRoute({
  method: 'get',
  path: '/api/v1/usage/report',
  tags: ['Usage'],
  summary: 'What was used, by meter, property and time',
  description:
    'Made from sums that are kept, so it costs the same however much was used. Late use and corrections count in the hour of what they tell of.',
  request: { query: z.object({ ...spanQuery, ...splitQuery, ...pageQuery }) },
  responses: {
    200: { description: 'The rows, by time, meter and group.', content: { 'application/json': { schema: reportSchema } } },
  },
})

export function registerReportRoutes(app: App, context: ReadingContext & Pick<LevelsContext, 'metering'>): void {
  app.openapi(reportRoute, async (c) => {
    const query = c.req.valid('query')
    const organizationId = organizationFor(requireScope(c.get('principal'), 'read'), query.organization_id)
    await tellLevels(context, organizationId)
    const { grain, limit, cursor } = query
    const split = { grain, groupBy: groupByOf(query.group_by), filter: filterOf(query.filter) }
    const report = await readReport(context, { ...spanInputOf(query, organizationId), ...split, limit, cursor })
    return c.json(
      {
        organization_id: organizationId,
        time_zone: report.calendar.timeZone,
        ...showPeriod(report),
        grain,
        rows: report.rows.map(showReportRow),
        next_cursor: report.nextCursor,
      },
      200,
    )
  })
}
