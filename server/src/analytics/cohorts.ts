import type { Queryable } from '../db/database.ts'
import { roundHalfUp } from '../lib/apportion.ts'
import type { Instant } from '../lib/clock.ts'
import { calendarMonthOf } from '../lib/period.ts'
import { MICRO } from '../lib/quantity.ts'
import { monthsBetween } from './periods.ts'
import { listCohortChanges, listCohortSizes, type CohortChange, type CohortSize } from './reports-store.ts'
import { ratioOf } from './series.ts'

/** Customers who first paid in one month, and what became of them in that month and each one after. */
export type Cohort = {
  readonly month: Instant
  readonly currency: string
  readonly size: number
  readonly months: readonly CohortMonth[]
}

export type CohortMonth = {
  readonly month: number
  /** Who pays at its end. */
  readonly customers: number
  readonly mrrMinor: number
  readonly customerRetention: number | null
  /** Of what the cohort brought at the end of its first month. */
  readonly revenueRetention: number | null
}

/** The cohorts whose first payment lies between the beginnings of months `from` and `to`. */
export async function reportCohorts(db: Queryable, from: Instant, to: Instant): Promise<Cohort[]> {
  return cohortsOf(await listCohortSizes(db, from, to), await listCohortChanges(db, from, to), to)
}

/** Adds up what moved, month by month. Pure. */
export function cohortsOf(sizes: readonly CohortSize[], changes: readonly CohortChange[], to: Instant): Cohort[] {
  const lastMonth = calendarMonthOf(new Date(to.getTime() - 1)).start
  return sizes.map(({ month, currency, customers: size }) => {
    const own = changes.filter((change) => change.month.getTime() === month.getTime() && change.currency === currency)
    const months: CohortMonth[] = []
    let [customers, mrr, firstMrr] = [0, 0n, 0n]
    for (let offset = 0; offset <= monthsBetween(month, lastMonth); offset += 1) {
      for (const change of own.filter((one) => one.offset === offset)) {
        customers += change.customers
        mrr += change.mrr
      }
      if (offset === 0) firstMrr = mrr
      months.push({
        month: offset,
        customers,
        mrrMinor: Number(roundHalfUp(mrr, MICRO)),
        customerRetention: ratioOf(BigInt(customers), BigInt(size)),
        revenueRetention: ratioOf(mrr, firstMrr),
      })
    }
    return { month, currency, size, months }
  })
}
