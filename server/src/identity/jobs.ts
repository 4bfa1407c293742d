import { deleteExpiredSessions, deleteExpiredVerifications, deleteRestingRateLimits } from '../auth/session-store.ts'
import { deleteExpiredCustomerTokens } from '../auth/customer-token-store.ts'
import type { Db } from '../db/database.ts'
import type { Job } from '../jobs/scheduler.ts'
import type { Clock } from '../lib/clock.ts'

/** Forgets sessions, customer tokens and what was made for one use that ended a day ago, and counters of attempts that rest. */
export function identityJobs({ db, clock }: { readonly db: Db; readonly clock: Clock }): readonly Job[] {
  return [
    {
      name: 'identity.expired',
      cron: '23 * * * *',
      async run() {
        await deleteExpiredSessions(db)
        await deleteExpiredVerifications(db)
        await deleteRestingRateLimits(db)
        await deleteExpiredCustomerTokens(db, clock.now())
      },
    },
  ]
}
