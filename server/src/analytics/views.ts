import type { z } from '@hono/zod-openapi'
import type { Instant } from '../lib/clock.ts'
import type { Summary } from './actions.ts'
import type { AgingSum, RevenueSum, TrialCounts } from './reports-store.ts'
import type { MovementKind } from './rules.ts'
import type { agingAnswer, summarySchema } from './schemas.ts'
import { ratioOf } from './series.ts'

/** Movements as answers show them: what was lost as positive numbers. */
export function toMovements(amounts: Readonly<Record<MovementKind, number>>) {
  return {
    new_minor: amounts.new,
    expansion_minor: amounts.expansion,
    reactivation_minor: amounts.reactivation,
    // 0 − x, since −0 is written as 0 but is not equal to it.
    contraction_minor: 0 - amounts.contraction,
    churn_minor: 0 - amounts.churn,
  }
}

export function toSummary(summary: Summary): z.infer<typeof summarySchema> {
  return {
    currency: summary.currency,
    mrr_minor: summary.mrrMinor,
    opening_mrr_minor: summary.openingMrrMinor,
    arr_minor: summary.arrMinor,
    customers: summary.customers,
    opening_customers: summary.openingCustomers,
    arpu_minor: summary.arpuMinor,
    lifetime_value_minor: summary.lifetimeValueMinor,
    ...toMovements(summary.amounts),
    movement_counts: summary.counts,
    customer_churn: summary.customerChurn,
    gross_revenue_churn: summary.grossRevenueChurn,
    net_revenue_churn: summary.netRevenueChurn,
  }
}

export function toTrials(counts: TrialCounts | undefined) {
  const { started, running, converted, lost } = counts ?? { started: 0, running: 0, converted: 0, lost: 0 }
  return { started, running, converted, lost, conversion: ratioOf(BigInt(converted), BigInt(converted + lost)) }
}

const AGES = ['current', 'days_1_30', 'days_31_60', 'days_61_90', 'days_over_90'] as const

export function toAging(sums: readonly AgingSum[]): z.infer<typeof agingAnswer>['currencies'] {
  return [...new Set(sums.map(({ currency }) => currency))].map((currency) => {
    const own = sums.filter((sum) => sum.currency === currency)
    const aged = (rows: readonly AgingSum[]) => ({
      invoices: rows.reduce((sum, { count }) => sum + count, 0),
      amount_minor: Number(rows.reduce((sum, { amountMinor }) => sum + amountMinor, 0n)),
    })
    const [current, first, second, third, rest] = AGES.map((_, bucket) => aged(own.filter((sum) => sum.bucket === bucket)))
    return {
      currency,
      current: current!,
      days_1_30: first!,
      days_31_60: second!,
      days_61_90: third!,
      days_over_90: rest!,
      total: aged(own),
    }
  })
}

export function toRevenue(sums: readonly RevenueSum[], boundaries: readonly Instant[]) {
  return [...new Set(sums.map(({ currency }) => currency))].map((currency) => ({
    currency,
    points: boundaries.slice(0, -1).map((start, bucket) => {
      const sum = sums.find((one) => one.bucket === bucket && one.currency === currency)
      return {
        from: start.toISOString(),
        to: boundaries[bucket + 1]!.toISOString(),
        invoices: sum?.invoices ?? 0,
        paid_minor: Number(sum?.paidMinor ?? 0n),
        usage_minor: Number(sum?.usageMinor ?? 0n),
        refunded_minor: Number(sum?.refundedMinor ?? 0n),
        disputed_minor: Number(sum?.disputedMinor ?? 0n),
        net_minor: Number((sum?.paidMinor ?? 0n) - (sum?.refundedMinor ?? 0n) - (sum?.disputedMinor ?? 0n)),
      }
    }),
  }))
}
