import type { BillingContext } from '../stripe/context.ts'
import { reportDue } from './actions.ts'
import { giveDueCredits } from './credits.ts'
import { noteMeterFaults } from './faults.ts'

/** Use is reported each minute where a period ends, each hour elsewhere; what was taken back is credited each minute; what Stripe found wrong with it is asked for hourly. */
export function pricingJobs(context: BillingContext) {
  return [
    { name: 'pricing.reports', cron: '* * * * *', run: () => reportDue(context) },
    { name: 'pricing.credits', cron: '* * * * *', run: () => giveDueCredits(context) },
    { name: 'pricing.meter_faults', cron: '23 * * * *', run: () => noteMeterFaults(context) },
  ] as const
}
