import type { Db } from '../db/database.ts'
import { lockDueEvents, markHandedOut } from '../events/store.ts'
import type { Clock } from '../lib/clock.ts'
import { enqueueDeliveries } from '../webhooks/actions.ts'
import { enqueueMails, type MailingContext } from './mails.ts'

export type HandOutContext = { readonly db: Db; readonly clock: Clock; readonly mailing: MailingContext }

const AT_ONCE = 200

/**
 * Hands events out: what follows from them, deliveries and mails, is stored in the transaction that marks them, so each is handed out
 * once, by any number of servers. Answers how many there were.
 */
export async function handOutEvents({ db, clock, mailing }: HandOutContext): Promise<number> {
  return db.transaction(async (tx) => {
    const events = await lockDueEvents(tx, AT_ONCE)
    if (events.length === 0) return 0
    const now = clock.now()
    await enqueueDeliveries(tx, events, now)
    await enqueueMails(tx, mailing, events, now)
    await markHandedOut(
      tx,
      events.map(({ id }) => id),
      now,
    )
    return events.length
  })
}
