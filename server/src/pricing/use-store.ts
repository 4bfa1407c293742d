import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { Period } from '../lib/period.ts'
import type { Quantity } from '../lib/quantity.ts'

/** What of a meter was counted in a time. */
export type MeterUse = {
  readonly meter: string
  readonly quantity: Quantity
  readonly overage: Quantity
  readonly drawn: Quantity
  /** What of the overage lies in a time in which its balance was billed; null where no line of a statement ever billed it. */
  readonly billed: Quantity | null
}

/** Sums of hours, whatever the number of events. An hour begins with its period, so a period is a sum of whole hours. */
export async function sumUse(
  db: Queryable,
  { organizationId, start, end }: Period & { readonly organizationId: string },
  meters: readonly { readonly key: string; readonly balanceKey: string }[],
): Promise<readonly MeterUse[]> {
  const { rows } = await db.query<MeterUse>(
    `with lines as (
       select balance, starts_at, ends_at from billing_spans where organization_id = $1 and kind = 'usage' and balance = any ($5)
     )
     select u.meter, sum(u.quantity)::bigint as quantity, sum(u.overage)::bigint as overage, sum(u.drawn)::bigint as drawn,
       case when exists (select from lines where lines.balance = any (array_agg(m.balance))) then
         coalesce(sum(u.overage) filter (where exists (
           select from lines where lines.balance = m.balance and lines.starts_at <= u.hour and u.hour < lines.ends_at
         )), 0)::bigint
       end as billed
     from usage_hourly u join unnest($4::text[], $5::text[]) as m (meter, balance) on m.meter = u.meter
     where u.organization_id = $1 and u.hour >= $2 and u.hour < $3 group by u.meter order by u.meter`,
    [organizationId, start, end, meters.map(({ key }) => key), meters.map(({ balanceKey }) => balanceKey)],
  )
  return rows
}

/** The invoice that settles the use of a time (KF-11). */
export type SettledUse = { readonly invoiceId: string; readonly period: Period; readonly paidAt: Instant | null }

/** The invoices that settle use within a time, oldest first. */
export async function listSettledUse(
  db: Queryable,
  organizationId: string,
  { start, end }: Period,
): Promise<readonly SettledUse[]> {
  const { rows } = await db.query<{ invoiceId: string; start: Instant; end: Instant; paidAt: Instant | null }>(
    `select invoice_id as "invoiceId", starts_at as start, ends_at as end, paid_at as "paidAt" from settled_usage
     where organization_id = $1 and starts_at < $3 and ends_at > $2 order by ends_at, invoice_id`,
    [organizationId, start, end],
  )
  return rows.map(({ start: from, end: to, ...row }) => ({ ...row, period: { start: from, end: to } }))
}

/**
 * Whether paid invoices settle all that was used in a time; of a time without any use, whether they cover it. The hours in which
 * something was used each lie, as far as within the time, in what paid invoices settle. An hour in which the meter's own period turns ends with it;
 * of any other, as under a calendar month, the use may lie on either side of a turn of the cycle, and both have to be settled.
 */
export async function isSettled(
  db: Queryable,
  { organizationId, start, end }: Period & { readonly organizationId: string },
  meters: readonly { readonly key: string; readonly balanceKey: string }[],
): Promise<boolean> {
  const { rows } = await db.query<{ used: boolean; settled: boolean; covered: boolean }>(
    `with paid as (
       select tstzrange(starts_at, ends_at) as span from settled_usage
       where organization_id = $1 and paid_at is not null and starts_at < $3 and ends_at > $2
     ), settled as (
       select range_agg(span) as spans from paid
     ), used as (
       select u.hour, least(u.hour + interval '1 hour', turn.at) as ends
       from usage_hourly u left join unnest($4::text[], $5::text[]) as m (meter, balance) on m.meter = u.meter
       cross join lateral (
         select min(g.starts_at) as at from grants g
         where g.organization_id = $1 and g.balance = m.balance and g.kind = 'plan' and g.starts_at > u.hour
       ) turn
       where u.organization_id = $1 and u.hour > $2::timestamptz - interval '1 hour' and u.hour < $3 and u.events > 0
     )
     select count(*) > 0 as used, coalesce(
         bool_and(coalesce(settled.spans @> tstzrange(greatest(used.hour, $2), least(used.ends, $3)), false)), true
       ) as settled, coalesce((select spans @> tstzrange($2, $3) from settled), false) as covered
     from used cross join settled where used.ends > $2`,
    [organizationId, start, end, meters.map(({ key }) => key), meters.map(({ balanceKey }) => balanceKey)],
  )
  const [found] = rows
  return found !== undefined && (found.used ? found.settled : found.covered)
}
