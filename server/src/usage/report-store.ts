import type { Queryable } from '../db/database.ts'
import type { Statement } from '../db/row-stream.ts'
import { IDS_BY_CYCLE } from '../grants/rules.ts'
import type { Instant } from '../lib/clock.ts'
import type { UsageSums } from '../metering/decide/rollups.ts'
import type { Grain } from './spans.ts'

/** Where a page begins: after this row. */
export type RowPlace = { readonly start: Instant; readonly meter: string; readonly labels: string }

export type ReportQuery = {
  readonly organizationId: string
  /** null is every meter. */
  readonly meter: string | null
  readonly start: Instant
  readonly end: Instant
  readonly grain: Grain
  readonly timeZone: string
  /** The beginnings of the billing cycles that the span touches. */
  readonly cycles: readonly Instant[]
  readonly after: RowPlace | null
  /** null is all. */
  readonly limit: number | null
}

/** The same, split by properties. */
export type GroupedQuery = ReportQuery & {
  readonly meter: string
  readonly groupBy: readonly string[]
  /** By property, the values that are asked for; empty asks for all. */
  readonly filter: Readonly<Record<string, readonly string[]>>
  /** Of which sums the report is made. */
  readonly span: 'hour' | 'day'
}

export type ReportRow = Omit<UsageSums, 'events'> & {
  readonly start: Instant
  readonly meter: string
  readonly events: bigint
  /** null where it is not split, or not told apart. */
  readonly group: Readonly<Record<string, string>> | null
  /** The place of the row in its order. */
  readonly labels: string
}

// The beginning of the row that a sum belongs to. $1 organization, $2 meter, $3 start, $4 end, $5 zone, $6 cycles.
const ROW_START = (at: string): Readonly<Record<Grain, string>> => ({
  total: '$3::timestamptz',
  hour: `date_trunc('day', ${at}, $5) + floor(extract(epoch from ${at} - date_trunc('day', ${at}, $5)) / 3600) * interval '1 hour'`,
  day: `date_trunc('day', ${at}, $5)`,
  month: `date_trunc('month', ${at}, $5)`,
  billing_cycle: `($6::timestamptz[])[width_bucket(${at}, $6::timestamptz[])]`,
})

// The meters that were used, found one by one through the key: without their names all hours of all time would be looked through.
const METERS = `meters (meter) as (
    select coalesce($2::text, min(meter)) from usage_hourly where organization_id = $1
    union all
    select (select min(u.meter) from usage_hourly u where u.organization_id = $1 and u.meter > meters.meter)
    from meters where meters.meter is not null and $2::text is null
  )`
const SUMS = `sum(events)::bigint as events, sum(quantity)::bigint as quantity, sum(drawn)::bigint as drawn, sum(overage)::bigint as overage`
/** In the order of bytes: as cheap to compare as to write into a cursor. Labels are JSON and begin with `{`, the rest comes after. */
const REST = '~'
const PAGE = `where $7::timestamptz is null or (start, meter collate "C", labels collate "C") > ($7, $8, $9)
  order by start, meter collate "C", labels collate "C" limit $10`

function placeOf({ after, limit }: ReportQuery): unknown[] {
  return [after?.start ?? null, after?.meter ?? null, after?.labels ?? null, limit]
}

/** Use by meter and time. The rows are `ReportRow`s. */
export function hoursStatement(query: ReportQuery): Statement {
  const { organizationId, meter, start, end, timeZone, cycles, grain } = query
  return {
    text: `with recursive ${METERS}
     select start, meter, null::jsonb as "group", labels, events, quantity, drawn, overage from (
       select ${ROW_START('hour')[grain]} as start, u.meter, '' as labels, ${SUMS} from meters
       join usage_hourly u on u.organization_id = $1 and u.meter = meters.meter and u.hour >= $3 and u.hour < $4
         and $5::text is not null and $6::timestamptz[] is not null
       group by 1, 2
     ) as rows ${PAGE}`,
    values: [organizationId, meter, start, end, timeZone, cycles, ...placeOf(query)],
  }
}

/**
 * Use of one meter by properties and time. What no combination of values accounts for, because they were too many in their month
 * or the meter was not yet split, is a row of its own without a group: the rows without a filter always add up to all of it.
 */
export function groupsStatement(query: GroupedQuery): Statement {
  const { organizationId, meter, start, end, timeZone, cycles, groupBy, filter, span, grain } = query
  return {
    text: `with groups as materialized (
       select month, number,
         (select coalesce(jsonb_object_agg(p, g.labels -> p) filter (where g.labels ? p), '{}') from unnest($11::text[]) as p) as labels,
         not exists (select from jsonb_each($12) as f where not coalesce(f.value ? (g.labels ->> f.key), false)) as asked
       from usage_groups g
       where organization_id = $1 and meter = $2 and month >= date_trunc('month', $3, 'UTC')::date and month <= $4::timestamptz::date
     ), cells as (
       select ${ROW_START('u.starts_at')[grain]} as start, labels, asked, ${SUMS} from usage_grouped u
       join groups g on g.month = u.month and g.number = u.group_number
       where u.organization_id = $1 and u.meter = $2 and u.span = $13 and u.starts_at >= $3 and u.starts_at < $4
       group by 1, 2, 3
     ), whole as (
       select ${ROW_START('hour')[grain]} as start, ${SUMS} from usage_hourly
       where organization_id = $1 and meter = $2 and hour >= $3 and hour < $4 and $5::text is not null and $6::timestamptz[] is not null
       group by 1
     ), rest as (
       select start, ${SUMS} from (
         select start, events, quantity, drawn, overage from whole
         union all select start, -events, -quantity, -drawn, -overage from cells
       ) as parts group by 1
     )
     select start, meter, "group", labels, events, quantity, drawn, overage from (
       select start, $2::text as meter, labels as "group", labels::text as labels, ${SUMS} from cells where asked group by 1, 3
       union all
       select start, $2, null, '${REST}', events, quantity, drawn, overage from rest
       where events <> 0 or quantity <> 0 or drawn <> 0 or overage <> 0
     ) as rows ${PAGE}`,
    values: [organizationId, meter, start, end, timeZone, cycles, ...placeOf(query), groupBy, JSON.stringify(filter), span],
  }
}

/** The rows of either statement. */
export async function listReportRows(db: Queryable, { text, values }: Statement): Promise<readonly ReportRow[]> {
  return (await db.query<ReportRow>(text, [...values])).rows
}

/** When billing cycles of an organization began, as far as it has had allowances by them. */
export async function listCycleStarts(db: Queryable, organizationId: string): Promise<readonly Instant[]> {
  const found = await db.query<{ start: Instant }>(
    `select distinct starts_at as start from grants
     where organization_id = $1 and kind = 'plan' and id like '${IDS_BY_CYCLE}' order by 1`,
    [organizationId],
  )
  return found.rows.map((row) => row.start)
}
