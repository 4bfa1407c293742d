import { eachApart } from '../jobs/apart.ts'
import type { Job } from '../jobs/scheduler.ts'
import { DAY_MS } from '../lib/period.ts'
import type { BillingContext } from '../stripe/context.ts'
import { runExclusively } from './actions.ts'
import { deleteOldRequests } from './answer-once.ts'
import { closeMeteredGaps } from './metered-items.ts'
import { endReplaced } from './replaced.ts'
import { listVoiders } from './pending-items.ts'
import { listSuperseded } from './superseded.ts'

/**
 * Sees to it that use which a plan prices is billed, also for those who subscribed before it had the price (it looks at every live
 * subscription: often enough to cost little use, seldom enough to cost little time), that a purchase on a page ends what it replaces, and
 * that a change which is paid on a page takes the place of what was scheduled.
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
    { name: 'subscriptions.superseded', cron: '* * * * *', run: () => releaseAllSuperseded(context) },
    { name: 'subscriptions.pending_items', cron: '* * * * *', run: () => restoreAllPending(context) },
    { name: 'subscriptions.prune', cron: '43 * * * *', run: () => pruneRequests(context) },
  ]
}

const ORGANIZATIONS_AT_ONCE = 50

/** Releases the schedules that changes have taken the place of which were paid on a page, or whose request did not live to. */
export async function releaseAllSuperseded(context: BillingContext): Promise<void> {
  if (context.gateway === null) return
  await eachApart(
    await listSuperseded(context.db, ORGANIZATIONS_AT_ONCE),
    // Whoever comes next releases them.
    (organizationId) => runExclusively(context, organizationId, async () => undefined),
    (organizationId, error) =>
      context.log.error(
        { event: 'billing.superseded_not_released', organization_id: organizationId, err: error },
        'a schedule that a change has taken the place of could not be released',
      ),
  )
}

/** Lets what voided invoices took along wait again, of pages that nobody paid or whose request did not live to. */
export async function restoreAllPending(context: BillingContext): Promise<void> {
  if (context.gateway === null) return
  await eachApart(
    await listVoiders(context.db, ORGANIZATIONS_AT_ONCE),
    // Whoever comes next does it.
    (organizationId) => runExclusively(context, organizationId, async () => undefined),
    (organizationId, error) =>
      context.log.error(
        { event: 'billing.items_not_restored', organization_id: organizationId, err: error },
        'what a voided invoice had taken along could not be made to wait again',
      ),
  )
}

/** An answer can be had again for as long as that of a use. */
const REQUEST_DAYS = 35
const AT_ONCE = 1_000

/** Forgets requests whose keys are older than they are kept; see the table in docs/operations.md. */
export async function pruneRequests({ db, clock }: Pick<BillingContext, 'db' | 'clock'>): Promise<void> {
  const before = new Date(clock.now().getTime() - REQUEST_DAYS * DAY_MS)
  while ((await deleteOldRequests(db, before, AT_ONCE)) === AT_ONCE);
}
