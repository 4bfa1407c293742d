import type { BillingContext } from '../stripe/context.ts'
import { reportDue } from './actions.ts'

/** Use is reported each minute where a period ends, each hour elsewhere. */
export function pricingJobs(context: BillingContext) {
  return [{ name: 'pricing.reports', cron: '* * * * *', run: () => reportDue(context) }] as const
}
