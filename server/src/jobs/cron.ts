import type { Instant } from '../lib/clock.ts'
import { assert } from '../lib/errors.ts'

const EVERY = /^(\*|\d{1,2}) (\*|\d{1,2}) \* \* \*$/

/**
 * Whether a job is due in the minute of `now`, in UTC. Of cron's language, what housekeeping needs: a minute and an hour, each
 * a number or `*`; `17 3 * * *` is every day at 3:17, `7 * * * *` every hour.
 */
export function isDue(cron: string, now: Instant): boolean {
  const match = EVERY.exec(cron)
  assert(match, `"${cron}" is a minute and an hour, then * * *`)
  return holds(match[1]!, now.getUTCMinutes()) && holds(match[2]!, now.getUTCHours())
}

function holds(field: string, value: number): boolean {
  return field === '*' || Number(field) === value
}
