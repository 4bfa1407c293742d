import type { Db } from '../db/database.ts'
import { deleteOldEvents } from '../events/store.ts'
import type { Clock } from '../lib/clock.ts'
import { DAY_MS } from '../lib/period.ts'
import { deleteOldMails } from '../mail/store.ts'
import { deleteOldDeliveries, giveUpOnDisabled } from '../webhooks/delivery-store.ts'

/** For as long the log of deliveries is kept, and an event can be replayed. A mail is kept as long as its event. */
export const DELIVERY_RETENTION_DAYS = 30
export const EVENT_RETENTION_DAYS = 400
const AT_ONCE = 5_000

type NotificationJob = { readonly name: string; readonly cron: string; readonly run: () => Promise<void> }

export function notificationJobs(context: { readonly db: Db; readonly clock: Clock }): readonly NotificationJob[] {
  return [{ name: 'notifications.prune', cron: '47 3 * * *', run: () => pruneNotifications(context) }]
}

/** Forgets what is older than it is kept; what waits is never forgotten, but waits for a disabled endpoint no longer than for one that fails. */
export async function pruneNotifications({ db, clock }: { readonly db: Db; readonly clock: Clock }): Promise<void> {
  const before = (days: number): Date => new Date(clock.now().getTime() - days * DAY_MS)
  await giveUpOnDisabled(db, clock.now())
  while ((await deleteOldDeliveries(db, before(DELIVERY_RETENTION_DAYS), AT_ONCE)) === AT_ONCE);
  while ((await deleteOldMails(db, before(EVENT_RETENTION_DAYS), AT_ONCE)) === AT_ONCE);
  while ((await deleteOldEvents(db, before(EVENT_RETENTION_DAYS), AT_ONCE)) === AT_ONCE);
}
