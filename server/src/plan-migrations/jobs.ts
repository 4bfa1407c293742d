import type { Job } from '../jobs/scheduler.ts'
import type { BillingContext } from '../stripe/context.ts'
import { runDueMoves } from './actions.ts'

/** Carries out the moves of migrations; each run ends when nothing is due. */
export function planMigrationJobs(context: BillingContext): readonly Job[] {
  return [
    {
      name: 'plans.migrations',
      cron: '* * * * *',
      async run() {
        while ((await runDueMoves(context)) > 0);
      },
    },
  ]
}
