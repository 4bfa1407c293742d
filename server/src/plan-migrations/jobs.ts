import type { Job } from '../jobs/scheduler.ts'
import type { BillingContext } from '../stripe/context.ts'
import { closeMeteredGaps } from '../subscriptions/metered-items.ts'
import { runDueMoves } from './actions.ts'

/** Carries out the moves of migrations; each run ends when nothing is due. */
export function planMigrationJobs(context: BillingContext): readonly Job[] {
  return [
    {
      name: 'plans.migrations',
      cron: '* * * * *',
      async run() {
        let moved = 0
        for (let done = 1; done > 0; moved += done) done = await runDueMoves(context)
        // Terms that price use which the old ones did not.
        if (moved > 0) await closeMeteredGaps(context)
      },
    },
  ]
}
