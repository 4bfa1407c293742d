import type { BillingContext } from '../stripe/context.ts'
import { reportDue } from './actions.ts'
import { noteMeterFaults } from './faults.ts'

/** Use is reported each minute where a period ends, each hour elsewhere; what Stripe found wrong with it is asked for hourly. */
export function pricingJobs(context: BillingContext) {
  return [
    { name: 'pricing.reports', cron: '* * * * *', run: () => reportDue(context) },
    { name: 'pricing.meter_faults', cron: '23 * * * *', run: () => noteMeterFaults(context) },
  ] as const
}
