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

/** Each holds a connection while it runs, which others need as well. */
const AT_ONCE = 3

/**
 * Runs every job once now, and then whenever its minute comes: a few at once, so that one that takes hours holds up no other, and none beside
 * itself or more often than it can.
 * @throws Error for a cron that cannot be read
 */
export function startScheduler(options: SchedulerOptions): Scheduler {
  // Here, where whoever starts the server sees it, and not in a timer, where it would end the process.
  for (const { cron } of options.jobs) isDue(cron, options.clock.now())
  const waiting: Job[] = []
  const running = new Map<Job, Promise<void>>()
  let stopped = false
  let timer = setTimeout(tick, untilNextMinute(options.clock))
  add(options.jobs)

  function tick(): void {
    const now = options.clock.now()
    add(options.jobs.filter(({ cron }) => isDue(cron, now)))
    timer = setTimeout(tick, untilNextMinute(options.clock))
  }

  function add(due: readonly Job[]): void {
    waiting.push(...due.filter((job) => !waiting.includes(job) && !running.has(job)))
    runWaiting()
  }

  function runWaiting(): void {
    if (stopped) return
    for (const job of waiting.splice(0, AT_ONCE - running.size)) {
      running.set(
        job,
        runJob(options, job).then(() => ended(job)),
      )
    }
  }

  function ended(job: Job): void {
    running.delete(job)
    runWaiting()
  }

  return {
    async stop() {
      stopped = true
      clearTimeout(timer)
      await Promise.all(running.values())
    },
  }
}

function untilNextMinute(clock: Clock): number {
  return MINUTE_MS - (clock.now().getTime() % MINUTE_MS)
}

async function runJob({ db, onFailure }: SchedulerOptions, job: Job): Promise<void> {
  try {
    await db.session((session) => runAlone(session, job.name, job.run))
  } catch (error) {
    onFailure(job, error)
  }
}
