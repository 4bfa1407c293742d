import type { Job } from '../jobs/scheduler.ts'
import { DAY_MS } from '../lib/period.ts'
import type { BillingContext } from '../stripe/context.ts'
import { deleteOldRequests } from './answer-once.ts'
import { closeMeteredGaps } from './metered-items.ts'
import { endReplaced } from './replaced.ts'

/**
 * Sees to it that use which a plan prices is billed, also for those who subscribed before it had the price (it looks at every live
 * subscription: often enough to cost little use, seldom enough to cost little time), and that a purchase on a page ends what it replaces.
 */
export function subscriptionJobs(context: BillingContext): readonly Job[] {
  // Where the last run stopped; another server, or this one started anew, begins from the front.
  let after = ''
  return [
    {
      name: 'subscriptions.metered_items',
      cron: '*/5 * * * *',
      async run() {
        after = (await closeMeteredGaps(context, after)).next
      },
    },
    {
      name: 'subscriptions.replaced',
      cron: '*/5 * * * *',
      async run() {
        await endReplaced(context)
      },
    },
    { name: 'subscriptions.prune', cron: '43 * * * *', run: () => pruneRequests(context) },
  ]
}

/** An answer can be had again for as long as that of a use. */
const REQUEST_DAYS = 35
const AT_ONCE = 1_000

/** Forgets requests whose keys are older than they are kept; see the table in docs/operations.md. */
export async function pruneRequests({ db, clock }: Pick<BillingContext, 'db' | 'clock'>): Promise<void> {
  const before = new Date(clock.now().getTime() - REQUEST_DAYS * DAY_MS)
  while ((await deleteOldRequests(db, before, AT_ONCE)) === AT_ONCE);
}
