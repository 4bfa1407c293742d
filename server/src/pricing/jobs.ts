import type { BillingContext } from '../stripe/context.ts'
import { reportDue } from './actions.ts'
import { giveDueCredits } from './credits.ts'
import { noteMeterFaults } from './faults.ts'
import { chargeDueLateUse } from './late-charges.ts'

/** Use is reported each minute where a period ends, each hour elsewhere; what was taken back is credited, and what was told late of a line that has ended is charged each minute; what Stripe found wrong with it is asked for hourly. */
export function pricingJobs(context: BillingContext) {
  return [
    { name: 'pricing.reports', cron: '* * * * *', run: () => reportDue(context) },
    { name: 'pricing.credits', cron: '* * * * *', run: () => giveDueCredits(context) },
    { name: 'pricing.late_use', cron: '* * * * *', run: () => chargeDueLateUse(context) },
    { name: 'pricing.meter_faults', cron: '23 * * * *', run: () => noteMeterFaults(context) },
  ] as const
}
