import { analyticsJobs } from './analytics/jobs.ts'
import { exportJobs, startExportWorker, type ExportJobsContext } from './exports/jobs.ts'
import { identityJobs } from './identity/jobs.ts'
import { startLoop } from './jobs/loop.ts'
import { startScheduler } from './jobs/scheduler.ts'
import { meteringJobs } from './metering/jobs.ts'
import type { Metering } from './metering/metering.ts'
import type { UsageConnections } from './metering/write/pipeline.ts'
import { notificationJobs } from './notifications/jobs.ts'
import type { TollgateOptions } from './options.ts'
import { planMigrationJobs } from './plan-migrations/jobs.ts'
import { pricingJobs } from './pricing/jobs.ts'
import { createSinks, startSinks } from './sinks/start.ts'
import type { BillingContext } from './stripe/context.ts'
import { STRIPE_EVENT_DAYS, stripeJobs } from './stripe/jobs.ts'
import { startStripeWorkers, type StripeWorkers } from './stripe/workers.ts'
import { subscriptionJobs } from './subscriptions/jobs.ts'
import { runAutoTopUps } from './top-ups/auto.ts'
import { takeBackReleased } from './top-ups/settle.ts'

/** What works without anybody asking; rows are its jobs, so any number of servers may do it at once. */
export type Background = {
  readonly stripeWorkers: StripeWorkers
  /** Says that an export was asked for. */
  kickExports(): void
  stop(): Promise<void>
}

export type BackgroundParts = {
  readonly billing: BillingContext
  readonly connections: UsageConnections
  readonly metering: Metering
  readonly figures: ExportJobsContext
}

const AUTO_TOP_UP_POLL_MS = 1_000
const TAKE_BACK_POLL_MS = 1_000

export function startBackground(
  options: TollgateOptions,
  { billing, connections, metering, figures }: BackgroundParts,
): Background {
  const { db, clock, catalogs, log, policy } = billing
  const stripeWorkers = startStripeWorkers(billing)
  const autoTopUps = startLoop({
    run: () => runAutoTopUps(billing),
    pollMs: AUTO_TOP_UP_POLL_MS,
    onFailure: (error) => log.warn({ err: error }, 'buying by itself failed; it is tried again'),
  })
  const takingBack = startLoop({
    run: () => takeBackReleased(billing),
    pollMs: TAKE_BACK_POLL_MS,
    onFailure: (error) => log.warn({ err: error }, 'taking back what was refunded failed; it is tried again'),
  })
  const exportWorker = startExportWorker(figures)
  const onLevelLost = (level: object, error: Error): void =>
    log.error({ err: error, level: { ...level } }, 'a level could not be carried into the next period')
  const onImbalance = (imbalances: readonly unknown[]): void => log.error({ imbalances }, 'balances do not add up')
  const scheduler = startScheduler({
    db,
    clock,
    jobs: [
      ...meteringJobs({ catalogs, clock, graceDays: policy.graceDays, db, connections, metering, onImbalance, onLevelLost }),
      ...planMigrationJobs(billing),
      ...subscriptionJobs(billing),
      ...identityJobs({ db, clock }),
      ...analyticsJobs({ db, clock }),
      ...exportJobs(figures),
      ...pricingJobs(billing),
      ...notificationJobs({ db, clock }),
      ...stripeJobs({ db, clock, eventDays: options.policy?.stripeEventDays ?? STRIPE_EVENT_DAYS }),
    ],
    onFailure: ({ name }, error) => log.warn({ err: error, job: name }, 'a job failed; it runs again at its next time'),
  })
  const sinks = startSinks({ db, clock, log }, createSinks(options.sinks ?? {}))
  return {
    stripeWorkers,
    kickExports: () => exportWorker.kick(),
    async stop() {
      for (const part of [sinks, scheduler, exportWorker, autoTopUps, takingBack, stripeWorkers]) await part.stop()
    },
  }
}
