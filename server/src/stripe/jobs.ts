import type { Db } from '../db/database.ts'
import type { Job } from '../jobs/scheduler.ts'
import type { Clock } from '../lib/clock.ts'
import { DAY_MS } from '../lib/period.ts'
import { deleteHandledEvents, deletePayloads } from './inbox/inbox-store.ts'
import { deleteFinishedIntents } from './intents/intents.ts'
import { deleteOldDrifts, deleteOldReconciliations } from './reconcile/drift-store.ts'

/** Handled events of Stripe are kept this long unless it is set; Stripe itself lists them for 30 days. */
export const STRIPE_EVENT_DAYS = 35
/** What was asked of Stripe, and what was found to differ, is history for as long as the events that go out. */
export const HISTORY_DAYS = 400
const AT_ONCE = 1_000

type Retention = { readonly db: Db; readonly clock: Clock; readonly eventDays: number }

/** Forgets what is older than it is kept; see the table in docs/operations.md. */
export function stripeJobs(retention: Retention): readonly Job[] {
  return [{ name: 'stripe.prune', cron: '53 * * * *', run: () => pruneStripe(retention) }]
}

/** In small batches, so that no lock is held for long. What is not handled, or was given up, stays until it is. */
export async function pruneStripe({ db, clock, eventDays }: Retention): Promise<void> {
  const before = (days: number): Date => new Date(clock.now().getTime() - days * DAY_MS)
  while ((await deleteHandledEvents(db, before(eventDays), AT_ONCE)) === AT_ONCE);
  while ((await deletePayloads(db, before(eventDays), AT_ONCE)) === AT_ONCE);
  while ((await deleteFinishedIntents(db, before(HISTORY_DAYS), AT_ONCE)) === AT_ONCE);
  while ((await deleteOldReconciliations(db, before(HISTORY_DAYS), AT_ONCE)) === AT_ONCE);
  while ((await deleteOldDrifts(db, before(HISTORY_DAYS), AT_ONCE)) === AT_ONCE);
}
