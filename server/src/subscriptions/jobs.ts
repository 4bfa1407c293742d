import type { Job } from '../jobs/scheduler.ts'
import type { BillingContext } from '../stripe/context.ts'
import { closeMeteredGaps } from './metered-items.ts'

/** It looks at every live subscription: often enough to cost little use, seldom enough to cost little time. */
const EVERY_MINUTES = 5

/** Sees to it that use which a plan prices is billed, also for those who subscribed before it had the price. */
export function subscriptionJobs(context: BillingContext): readonly Job[] {
  return [
    {
      name: 'subscriptions.metered_items',
      cron: '* * * * *',
      async run() {
        if (context.clock.now().getUTCMinutes() % EVERY_MINUTES === 0) await closeMeteredGaps(context)
      },
    },
  ]
}
