import type { Job } from '../jobs/scheduler.ts'
import type { BillingContext } from '../stripe/context.ts'
import { closeMeteredGaps } from './metered-items.ts'

/**
 * Sees to it that use which a plan prices is billed, also for those who subscribed before it had the price. It looks at every live
 * subscription: often enough to cost little use, seldom enough to cost little time.
 */
export function subscriptionJobs(context: BillingContext): readonly Job[] {
  return [
    {
      name: 'subscriptions.metered_items',
      cron: '*/5 * * * *',
      async run() {
        await closeMeteredGaps(context)
      },
    },
  ]
}
