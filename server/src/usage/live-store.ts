import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'

/** Since when an organization's use is looked at. */
export type LiveSpan = { readonly organizationId: string; readonly day: Instant; readonly month: Instant }

export type LiveSums = {
  readonly organizationId: string
  readonly meter: string
  readonly todayEvents: bigint
  readonly todayQuantity: bigint
  readonly monthEvents: bigint
  readonly monthQuantity: bigint
}

/** What organizations have used of meters today and this month, by their own calendars. */
export async function sumPresentUse(
  db: Queryable,
  spans: readonly LiveSpan[],
  meters: readonly string[],
): Promise<readonly LiveSums[]> {
  const found = await db.query<LiveSums>(
    `select asked.id as "organizationId", u.meter,
       coalesce(sum(u.events) filter (where u.hour >= asked.day), 0)::bigint as "todayEvents",
       coalesce(sum(u.quantity) filter (where u.hour >= asked.day), 0)::bigint as "todayQuantity",
       sum(u.events)::bigint as "monthEvents", sum(u.quantity)::bigint as "monthQuantity"
     from unnest($1::text[], $2::timestamptz[], $3::timestamptz[]) as asked (id, day, month)
     cross join unnest($4::text[]) as meters (meter)
     join usage_hourly u on u.organization_id = asked.id and u.meter = meters.meter and u.hour >= asked.month
     group by 1, 2 order by 1, 2`,
    [spans.map((span) => span.organizationId), spans.map((span) => span.day), spans.map((span) => span.month), meters],
  )
  return found.rows
}
