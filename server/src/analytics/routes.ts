import { createRoute, z } from '@hono/zod-openapi'
import { requireOperator } from '../auth/principal.ts'
import type { App } from '../http/app.ts'
import { momentOrDate } from '../lib/moments.ts'
import type { Instant } from '../lib/clock.ts'
import { calendarDayOf, DAY_MS } from '../lib/period.ts'
import { churnOf, reportRevenue, summarize, type AnalyticsContext, type Reported, type ReportQuery } from './actions.ts'
import { DomainError } from '../lib/errors.ts'
import { reportCohorts } from './cohorts.ts'
import { splitPeriod, yearBefore } from './periods.ts'
import { countTrials, sumOpenInvoices, sumRevenue } from './reports-store.ts'
import * as schemas from './schemas.ts'
import { roundSpan, type Span } from './series.ts'
import { toAging, toMovements, toRevenue, toSummary, toTrials } from './views.ts'

const edge = momentOrDate.optional().meta({ description: 'A date (its beginning in UTC) or a moment.', example: '2026-01-01' })
const period = { from: edge, to: edge }
const interval = z.enum(['day', 'week', 'month']).default('month')

const route = <Query extends z.ZodRawShape, Answer extends z.ZodType>(
  path: string,
  summary: string,
  query: Query,
  answer: Answer,
) =>
  createRoute({
    method: 'get',
    path: `/api/v1/admin/analytics/${path}`,
    tags: ['Analytics'],
    summary,
    description: 'For operators. Definitions: docs/analytics.md.',
    request: { query: z.object(query) },
    responses: { 200: { description: 'The figures.', content: { 'application/json': { schema: answer } } } },
  })

const spans = { ...period, interval }
const summaryRoute = route('summary', 'Where revenue stands, and what a period brought', period, schemas.summaryAnswer)
const mrrRoute = route('mrr', 'Monthly recurring revenue over time', spans, schemas.mrrAnswer)
const movementsRoute = route(
  'movements',
  'What moved it: new, expansion, contraction, churn, reactivation',
  spans,
  schemas.movementsAnswer,
)
const churnRoute = route('churn', 'Churn of customers and of revenue', spans, schemas.churnAnswer)
const cohortsRoute = route('cohorts', 'Retention by month of first payment', period, schemas.cohortsAnswer)
const trialsRoute = route('trials', 'Trials, and how many were paid for', spans, schemas.trialsAnswer)
const agingRoute = route('aging', 'Open invoices by how long they are due', {}, schemas.agingAnswer)
const revenueRoute = route('revenue', 'What was paid, and what of it for use', spans, schemas.revenueAnswer)

/** Figures over all organizations, for operators (OC-12). */
export function registerAnalyticsRoutes(app: App, context: AnalyticsContext): void {
  registerRevenueRoutes(app, context)
  const { db, clock } = context
  app.openapi(cohortsRoute, async (http) => {
    requireOperator(http.get('principal'))
    const { from, to } = periodOf(http.req.valid('query'), clock.now(), yearBefore)
    const cohorts = await reportCohorts(db, from, to)
    const views = cohorts.map(({ month, currency, size, months }) => ({
      month: month.toISOString().slice(0, 7),
      currency,
      customers: size,
      months: months.map((one) => ({
        month: one.month,
        customers: one.customers,
        mrr_minor: one.mrrMinor,
        customer_retention: one.customerRetention,
        revenue_retention: one.revenueRetention,
      })),
    }))
    return http.json({ ...show({ from, to }), cohorts: views }, 200)
  })
  app.openapi(trialsRoute, async (http) => {
    requireOperator(http.get('principal'))
    const query = queryOf(http.req.valid('query'), clock.now())
    const boundaries = splitPeriod(query.from, query.to, query.interval)
    const counts = await countTrials(db, boundaries)
    const points = boundaries.slice(0, -1).map((start, bucket) => ({
      ...show({ from: start, to: boundaries[bucket + 1]! }),
      ...toTrials(counts.find((one) => one.bucket === bucket)),
    }))
    return http.json({ ...show(query), interval: query.interval, points }, 200)
  })
  app.openapi(agingRoute, async (http) => {
    requireOperator(http.get('principal'))
    const now = clock.now()
    return http.json({ at: now.toISOString(), currencies: toAging(await sumOpenInvoices(db, now)) }, 200)
  })
  app.openapi(revenueRoute, async (http) => {
    requireOperator(http.get('principal'))
    const query = queryOf(http.req.valid('query'), clock.now())
    const boundaries = splitPeriod(query.from, query.to, query.interval)
    const currencies = toRevenue(await sumRevenue(db, boundaries), boundaries)
    return http.json({ ...show(query), interval: query.interval, currencies }, 200)
  })
}

function registerRevenueRoutes(app: App, context: AnalyticsContext): void {
  const { clock } = context
  app.openapi(summaryRoute, async (http) => {
    requireOperator(http.get('principal'))
    const { from, to } = periodOf(http.req.valid('query'), clock.now(), (to) => new Date(to.getTime() - 30 * DAY_MS))
    const { currencies, converted, trials } = await summarize(context, { from, to })
    const all = converted === null ? null : { ...toSummary(converted), left: [...converted.left] }
    return http.json(
      { ...show({ from, to }), currencies: currencies.map(toSummary), converted: all, trials: toTrials(trials) },
      200,
    )
  })
  app.openapi(mrrRoute, async (http) => {
    requireOperator(http.get('principal'))
    const query = queryOf(http.req.valid('query'), clock.now())
    const answer = showSeries(await reportRevenue(context, query), (span, unit) => {
      const { closingMinor } = roundSpan(span, unit)
      const { closingMinor: arr } = roundSpan({ ...span, closing: span.closing * 12n }, unit)
      return { mrr_minor: closingMinor, arr_minor: arr, customers: span.customersClosing }
    })
    return http.json({ ...show(query), interval: query.interval, ...answer }, 200)
  })
  app.openapi(movementsRoute, async (http) => {
    requireOperator(http.get('principal'))
    const query = queryOf(http.req.valid('query'), clock.now())
    const answer = showSeries(await reportRevenue(context, query), (span, unit) => {
      const { openingMinor, closingMinor, amounts } = roundSpan(span, unit)
      return {
        opening_mrr_minor: openingMinor,
        ...toMovements(amounts),
        closing_mrr_minor: closingMinor,
        movement_counts: span.counts,
      }
    })
    return http.json({ ...show(query), interval: query.interval, ...answer }, 200)
  })
  app.openapi(churnRoute, async (http) => {
    requireOperator(http.get('principal'))
    const query = queryOf(http.req.valid('query'), clock.now())
    const answer = showSeries(await reportRevenue(context, query), (span, unit) => {
      const { customerChurn, grossRevenueChurn, netRevenueChurn } = churnOf(span)
      return {
        opening_customers: span.customersOpening,
        churned_customers: span.leavers,
        churned_mrr_minor: toMovements(roundSpan(span, unit).amounts).churn_minor,
        customer_churn: customerChurn,
        gross_revenue_churn: grossRevenueChurn,
        net_revenue_churn: netRevenueChurn,
      }
    })
    return http.json({ ...show(query), interval: query.interval, ...answer }, 200)
  })
}

function showSeries<Point>({ series, converted }: Reported, point: (span: Span, unit: bigint) => Point) {
  const view = (one: Reported['series'][number]) => ({
    currency: one.currency,
    points: one.spans.map((span) => ({ ...show({ from: span.start, to: span.end }), ...point(span, one.unit) })),
  })
  return {
    currencies: series.map(view),
    converted: converted === null ? null : { ...view(converted.series), left: [...converted.left] },
  }
}

type Given = { readonly from?: string | undefined; readonly to?: string | undefined }

/**
 * Up to the end of today unless it is told, and from where the report says.
 * @throws DomainError `invalid_request` when the beginning is not before the end
 */
function periodOf({ from, to }: Given, now: Instant, beginning: (to: Instant) => Instant) {
  const end = to === undefined ? calendarDayOf(now).end : new Date(to)
  const start = from === undefined ? beginning(end) : new Date(from)
  if (start >= end) throw new DomainError('invalid_request', 'from must lie before to.', { field: 'from' })
  return { from: start, to: end }
}

function queryOf(query: Given & Pick<ReportQuery, 'interval'>, now: Instant): ReportQuery {
  return { ...periodOf(query, now, yearBefore), interval: query.interval }
}

function show({ from, to }: { readonly from: Instant; readonly to: Instant }) {
  return { from: from.toISOString(), to: to.toISOString() }
}
