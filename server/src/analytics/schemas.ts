import { z } from '@hono/zod-openapi'

const minor = (description: string) =>
  z
    .number()
    .int()
    .meta({ description: `${description}, minor units.` })
const ratio = (description: string) =>
  z
    .number()
    .nullable()
    .meta({ description: `${description}; 0.05 is 5 %. null where there was nothing at the beginning.` })
const count = z.number().int()
const moment = z.iso.datetime()
const currency = z.string().meta({ example: 'usd' })

const movements = {
  new_minor: minor('From customers who bring something for the first time'),
  expansion_minor: minor('More than before'),
  reactivation_minor: minor('From customers who had left'),
  contraction_minor: minor('Less than before; a positive number'),
  churn_minor: minor('From customers who left; a positive number'),
}

const counts = z.object({
  new: count,
  expansion: count,
  reactivation: count,
  contraction: count,
  churn: count,
})

export const summarySchema = z.object({
  currency,
  mrr_minor: minor('Monthly recurring revenue at the end'),
  opening_mrr_minor: minor('The same at the beginning'),
  arr_minor: minor('Twelve times that of the end'),
  customers: count.meta({ description: 'Who pays at the end.' }),
  opening_customers: count,
  arpu_minor: z.number().int().nullable().meta({ description: 'Monthly recurring revenue by customer, minor units.' }),
  lifetime_value_minor: z
    .number()
    .int()
    .nullable()
    .meta({ description: 'ARPU / monthly churn of customers; null while none leaves.' }),
  ...movements,
  movement_counts: counts,
  customer_churn: ratio('Share of the customers of the beginning who left'),
  gross_revenue_churn: ratio('Share of the revenue of the beginning that was lost'),
  net_revenue_churn: ratio('The same, less expansion and reactivation'),
})

const period = { from: moment, to: moment }
const left = z.array(z.string()).meta({ description: 'Currencies that the table of rates does not have.' })

const trialCounts = {
  started: count,
  running: count.meta({ description: 'Still in trial.' }),
  converted: count.meta({ description: 'Paid for more than nothing afterwards.' }),
  lost: count,
  conversion: ratio('Converted, of those that are over'),
}

export const summaryAnswer = z
  .object({
    ...period,
    currencies: z.array(summarySchema),
    converted: summarySchema.extend({ left }).nullable().meta({ description: 'All in one, where exchange rates are given.' }),
    trials: z.object(trialCounts),
  })
  .openapi('AnalyticsSummary')

const series = <Point extends z.ZodRawShape>(point: Point) =>
  z.object({ currency, points: z.array(z.object({ from: moment, to: moment, ...point })) })

const seriesAnswer = <Point extends z.ZodRawShape>(name: string, point: Point) =>
  z
    .object({
      ...period,
      interval: z.enum(['day', 'week', 'month']),
      currencies: z.array(series(point)),
      converted: series(point).extend({ left }).nullable(),
    })
    .openapi(name)

export const mrrAnswer = seriesAnswer('AnalyticsMrr', {
  mrr_minor: minor('At the end of the span'),
  arr_minor: minor('Twelve times that'),
  customers: count,
})

export const movementsAnswer = seriesAnswer('AnalyticsMovements', {
  opening_mrr_minor: minor('At the beginning of the span'),
  ...movements,
  closing_mrr_minor: minor('At its end: opening + new + expansion + reactivation − contraction − churn'),
  movement_counts: counts,
})

export const churnAnswer = seriesAnswer('AnalyticsChurn', {
  opening_customers: count,
  churned_customers: count.meta({ description: 'Of the customers of the beginning, each once' }),
  churned_mrr_minor: minor('From customers who left'),
  customer_churn: ratio('Share of the customers of the beginning who left'),
  gross_revenue_churn: ratio('Share of the revenue of the beginning that was lost'),
  net_revenue_churn: ratio('The same, less expansion and reactivation'),
})

export const cohortsAnswer = z
  .object({
    ...period,
    cohorts: z.array(
      z.object({
        month: z.string().meta({ description: 'Of the first payment.', example: '2026-03' }),
        currency,
        customers: count,
        months: z.array(
          z.object({
            month: count.meta({ description: 'Months since; 0 is that of the first payment.' }),
            customers: count,
            mrr_minor: minor('At the end of that month'),
            customer_retention: ratio('Share of the cohort that pays'),
            revenue_retention: ratio('Of what the cohort brought at the end of month 0'),
          }),
        ),
      }),
    ),
  })
  .openapi('AnalyticsCohorts')

export const trialsAnswer = z
  .object({
    ...period,
    interval: z.enum(['day', 'week', 'month']),
    points: z.array(z.object({ from: moment, to: moment, ...trialCounts })),
  })
  .openapi('AnalyticsTrials')

const aged = z.object({ invoices: count, amount_minor: minor('What is still to be paid') })

export const agingAnswer = z
  .object({
    at: moment,
    currencies: z.array(
      z.object({
        currency,
        current: aged,
        days_1_30: aged,
        days_31_60: aged,
        days_61_90: aged,
        days_over_90: aged,
        total: aged,
      }),
    ),
  })
  .openapi('AnalyticsAging')

export const revenueAnswer = z
  .object({
    ...period,
    interval: z.enum(['day', 'week', 'month']),
    currencies: z.array(
      series({
        invoices: count.meta({ description: 'Paid in the span.' }),
        paid_minor: minor('What they brought'),
        usage_minor: minor('Of it, by metered prices'),
        refunded_minor: minor('Given back of what was paid in the span'),
        disputed_minor: minor('Lost to disputes of what was paid in the span'),
        net_minor: minor('What is left: paid, less refunded, less disputed'),
      }),
    ),
  })
  .openapi('AnalyticsRevenue')
