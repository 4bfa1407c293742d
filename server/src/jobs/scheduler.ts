import { runAlone } from '../db/alone.ts'
import type { Db } from '../db/database.ts'
import type { Clock } from '../lib/clock.ts'
import { MINUTE_MS } from '../lib/period.ts'
import { isDue } from './cron.ts'

export type Job = {
  readonly name: string
  /** See `isDue`. */
  readonly cron: string
  readonly run: () => Promise<void>
}

export type Scheduler = {
  /** Starts nothing more, and waits for what runs. */
  stop(): Promise<void>
}

export type SchedulerOptions = {
  readonly db: Db
  readonly clock: Clock
  readonly jobs: readonly Job[]
  readonly onFailure: (job: Job, error: unknown) => void
}

/** Runs every job once now, one after the other, and then whenever its minute comes. @throws Error for a cron that cannot be read */
export function startScheduler(options: SchedulerOptions): Scheduler {
  // Here, where whoever starts the server sees it, and not in a timer, where it would end the process.
  for (const { cron } of options.jobs) isDue(cron, options.clock.now())
  let stopped = false
  let running = runAll(options, options.jobs, () => stopped)
  let timer = setTimeout(tick, untilNextMinute(options.clock))

  function tick(): void {
    const now = options.clock.now()
    const due = options.jobs.filter(({ cron }) => isDue(cron, now))
    running = running.then(() => runAll(options, due, () => stopped))
    timer = setTimeout(tick, untilNextMinute(options.clock))
  }

  return {
    async stop() {
      stopped = true
      clearTimeout(timer)
      await running
    },
  }
}

function untilNextMinute(clock: Clock): number {
  return MINUTE_MS - (clock.now().getTime() % MINUTE_MS)
}

async function runAll(options: SchedulerOptions, jobs: readonly Job[], isStopped: () => boolean): Promise<void> {
  for (const job of jobs) {
    if (isStopped()) return
    try {
      await options.db.session((session) => runAlone(session, job.name, job.run))
    } catch (error) {
      options.onFailure(job, error)
    }
  }
}
