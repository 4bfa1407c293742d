import type { Tally } from '../analytics/store.ts'
import { roundHalfUp } from '../lib/apportion.ts'
import { toMajorNumber } from '../lib/money.ts'
import { MICRO } from '../lib/quantity.ts'

/** Live subscriptions by plan, status and currency, with what they bring in a month. */
export type PlanTally = Pick<Tally, 'planKey' | 'status' | 'currency' | 'count' | 'amount'>

const LIVE = new Set(['trialing', 'active', 'past_due'])

/** OC-5: adds up what plans bring. Pure. Currencies are never added to each other. */
export function toStats(tallies: readonly PlanTally[], totalCustomers: number, currency: string) {
  const live = tallies.filter(({ status }) => LIVE.has(status))
  const own = live.filter((row) => row.currency === currency)
  const tiers = [...new Set(live.map((row) => row.planKey))].sort()
  const others = [...new Set(live.map((row) => row.currency))].filter((other) => other !== currency)
  return {
    total_customers: totalCustomers,
    active_subscriptions: countOf(live.filter(({ status }) => status !== 'trialing')),
    trial_subscriptions: countOf(live.filter(({ status }) => status === 'trialing')),
    monthly_revenue: monthlyOf(own, currency),
    currency,
    tier_breakdown: Object.fromEntries(
      tiers.map((key) => [
        key,
        {
          count: countOf(live.filter((row) => row.planKey === key)),
          revenue: monthlyOf(
            own.filter((row) => row.planKey === key),
            currency,
          ),
        },
      ]),
    ),
    other_currencies: Object.fromEntries(
      others.map((other) => [
        other,
        monthlyOf(
          live.filter((row) => row.currency === other),
          other,
        ),
      ]),
    ),
  }
}

function countOf(rows: readonly PlanTally[]): number {
  return rows.reduce((sum, row) => sum + row.count, 0)
}

function monthlyOf(rows: readonly PlanTally[], currency: string): number {
  const mrr = rows.reduce((sum, row) => sum + row.amount, 0n)
  return toMajorNumber({ amountMinor: Number(roundHalfUp(mrr, MICRO)), currency })
}
