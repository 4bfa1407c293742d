import { eachApart } from '../jobs/apart.ts'
import type { Job } from '../jobs/scheduler.ts'
import { DAY_MS } from '../lib/period.ts'
import type { BillingContext } from '../stripe/context.ts'
import { runExclusively } from './actions.ts'
import { deleteOldRequests } from '../organizations/requests-store.ts'
import { closeMeteredGaps } from './metered-items.ts'
import { endReplaced } from './replaced.ts'
import { listVoiders } from './pending-items.ts'
import { listReleased } from './released.ts'
import { listSuperseded } from './superseded.ts'

/**
 * Sees to it that use which a plan prices is billed, also for those who subscribed before it had the price (it looks at every live
 * subscription: often enough to cost little use, seldom enough to cost little time), that a purchase on a page ends what it replaces, and
 * that a change which was left to a page is finished.
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
    { name: 'subscriptions.finish', cron: '* * * * *', run: () => finishChanges(context) },
    { name: 'subscriptions.prune', cron: '43 * * * *', run: () => pruneRequests(context) },
  ]
}

const ORGANIZATIONS_AT_ONCE = 50

/**
 * Finishes changes that were paid on a page, or by nobody, or whose request did not live to: what they took the place of goes, what a voided
 * invoice of theirs took along waits again, and what was released for a pause that did not come is brought back. That is what whoever comes
 * next does first.
 */
export async function finishChanges(context: BillingContext): Promise<void> {
  if (context.gateway === null) return
  const superseded = await listSuperseded(context.db, ORGANIZATIONS_AT_ONCE)
  const voiders = await listVoiders(context.db, ORGANIZATIONS_AT_ONCE)
  const released = await listReleased(context.db, context.clock.now(), ORGANIZATIONS_AT_ONCE)
  await eachApart(
    [...new Set([...superseded, ...voiders, ...released])],
    (organizationId) => runExclusively(context, organizationId, async () => undefined),
    (organizationId, error) =>
      context.log.error(
        { event: 'billing.change_not_finished', organization_id: organizationId, err: error },
        'what a change took the place of, or took along or released in vain, could not be seen to',
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
