import type { Instant } from '../lib/clock.ts'
import type { Standing } from '../standing/rules.ts'
import { reasonInWords } from '../standing/words.ts'

/** Why an organization stands where it stands, on which plan, since when and until when, for people. Pure. */
export function describeStanding(standing: Standing): string {
  const since = standing.since === null ? '' : ` since ${minuteOf(standing.since)}`
  const until = standing.until === null ? '' : ` until ${minuteOf(standing.until)}`
  return `${reasonInWords(standing)} State: ${standing.state}${since}${until}, plan ${standing.planKey}.`
}

function minuteOf(at: Instant): string {
  return `${at.toISOString().slice(0, 16).replace('T', ' ')} UTC`
}
