import { deleteExpiredSessions } from '../auth/session-store.ts'
import { deleteExpiredCustomerTokens } from '../auth/customer-token-store.ts'
import type { Db } from '../db/database.ts'
import type { Job } from '../jobs/scheduler.ts'
import type { Clock } from '../lib/clock.ts'

/** Forgets sessions and customer tokens that ended a day ago; better-auth forgets what it made for one use by itself. */
export function identityJobs({ db, clock }: { readonly db: Db; readonly clock: Clock }): readonly Job[] {
  return [
    {
      name: 'identity.expired',
      cron: '23 * * * *',
      async run() {
        await deleteExpiredSessions(db)
        await deleteExpiredCustomerTokens(db, clock.now())
      },
    },
  ]
}
