import type { Tally } from '../analytics/store.ts'
import { roundHalfUp, roundToSum } from '../lib/apportion.ts'
import { toMajorNumber } from '../lib/money.ts'
import { MICRO } from '../lib/quantity.ts'

/** Organizations by plan, currency and the best status of their subscriptions in it, with what they bring in a month. */
export type PlanTally = Pick<Tally, 'planKey' | 'status' | 'currency' | 'count' | 'amount'>

export type Counted = {
  readonly plans: readonly PlanTally[]
  /** Each for itself: an organization may have several. */
  readonly subscriptions: readonly Pick<Tally, 'status' | 'count'>[]
  readonly customers: number
}

const ACTIVE = ['active', 'past_due']
const TRIAL = ['trialing']
const LIVE = new Set([...TRIAL, ...ACTIVE])

/** OC-5: adds up what plans bring. Pure. Currencies are never added to each other. */
export function toStats({ plans, subscriptions, customers }: Counted, currency: string) {
  const live = plans.filter(({ status }) => LIVE.has(status))
  const own = live.filter((row) => row.currency === currency)
  const tiers = [...new Set(live.map((row) => row.planKey))].sort()
  const others = [...new Set(live.map((row) => row.currency))].filter((other) => other !== currency)
  const revenue = roundHalfUp(sumOf(own), MICRO)
  // In whole cents that add up to the total.
  const revenues = roundToSum(
    tiers.map((key) => sumOf(own.filter((row) => row.planKey === key))),
    MICRO,
    revenue,
  )
  return {
    total_customers: customers,
    active_subscriptions: countOf(subscriptions.filter(({ status }) => ACTIVE.includes(status))),
    trial_subscriptions: countOf(subscriptions.filter(({ status }) => TRIAL.includes(status))),
    monthly_revenue: toMajorNumber({ amountMinor: Number(revenue), currency }),
    currency,
    tier_breakdown: Object.fromEntries(
      tiers.map((key, index) => [
        key,
        {
          count: countOf(live.filter((row) => row.planKey === key)),
          revenue: toMajorNumber({ amountMinor: Number(revenues[index]), currency }),
        },
      ]),
    ),
    other_currencies: Object.fromEntries(
      others.map((other) => [
        other,
        toMajorNumber({
          amountMinor: Number(roundHalfUp(sumOf(live.filter((row) => row.currency === other)), MICRO)),
          currency: other,
        }),
      ]),
    ),
  }
}

function countOf(rows: readonly Pick<Tally, 'count'>[]): number {
  return rows.reduce((sum, row) => sum + row.count, 0)
}

function sumOf(rows: readonly PlanTally[]): bigint {
  return rows.reduce((sum, row) => sum + row.amount, 0n)
}
