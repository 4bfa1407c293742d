import { z } from '@hono/zod-openapi'

/** The years of the times that are taken, in UTC: there was no billing before Unix time, and after 9999 a year has more than four digits. */
const YEARS = { first: 1970, last: 9999 }

/** What is no time at all is refused as that, and not for its year too. */
function isInYears(text: string): boolean {
  const year = new Date(text).getUTCFullYear()
  return !(year < YEARS.first || year > YEARS.last)
}

const OUT_OF_YEARS = `a time of the years ${YEARS.first} to ${YEARS.last} (UTC) is expected`
const time = z.iso.datetime({ offset: true })

/** A time with its offset from UTC, as a route takes it. */
export const moment = time.refine(isInYears, OUT_OF_YEARS)

/** A time as above, or a date, which is its beginning in UTC. */
export const momentOrDate = z
  .union([time, z.iso.date()], 'a time such as 2026-11-21T09:30:00Z, or a date, is expected')
  .refine(isInYears, OUT_OF_YEARS)
