import type { Instant } from '../lib/clock.ts'
import { assert } from '../lib/errors.ts'

const EVERY = /^(\*|\*\/[1-9]\d?|\d{1,2}) (\*|\*\/[1-9]\d?|\d{1,2}) \* \* \*$/

/**
 * Whether a job is due in the minute of `now`, in UTC. Of cron's language, what housekeeping needs: a minute and an hour, each
 * a number, `*` or a step; `17 3 * * *` is every day at 3:17, `7 * * * *` every hour, a step of 5 every five minutes.
 */
export function isDue(cron: string, now: Instant): boolean {
  const match = EVERY.exec(cron)
  assert(match, `"${cron}" is a minute and an hour, then * * *`)
  return holds(match[1]!, now.getUTCMinutes()) && holds(match[2]!, now.getUTCHours())
}

function holds(field: string, value: number): boolean {
  if (field === '*') return true
  return field.startsWith('*/') ? value % Number(field.slice(2)) === 0 : Number(field) === value
}
