import type { Queryable } from '../db/database.ts'
import { together } from '../db/together.ts'
import type { Instant } from '../lib/clock.ts'
import type { Period } from '../lib/period.ts'
import type { Quantity } from '../lib/quantity.ts'

/** What of a meter was counted in a time. */
export type MeterUse = {
  readonly meter: string
  readonly quantity: Quantity
  readonly overage: Quantity
  readonly drawn: Quantity
}

/** Sums of hours, whatever the number of events. An hour begins with its period, so a period is a sum of whole hours. */
export async function sumUse(
  db: Queryable,
  { organizationId, start, end }: Period & { readonly organizationId: string },
  meters: readonly { readonly key: string }[],
): Promise<readonly MeterUse[]> {
  const { rows } = await db.query<MeterUse>(
    `select meter, sum(quantity)::bigint as quantity, sum(overage)::bigint as overage, sum(drawn)::bigint as drawn
     from usage_hourly where organization_id = $1 and hour >= $2 and hour < $3 and meter = any ($4) group by meter order by meter`,
    [organizationId, start, end, meters.map(({ key }) => key)],
  )
  return rows
}

/** The balances of which a line of a statement ever billed anything, or may yet. */
export async function listBilledBalances(db: Queryable, organizationId: string): Promise<ReadonlySet<string>> {
  const { rows } = await db.query<{ balance: string }>(
    "select distinct balance from billing_spans where organization_id = $1 and kind = 'usage'",
    [organizationId],
  )
  return new Set(rows.map(({ balance }) => balance))
}

/** What lines of late use bill of what was counted in the time of lines that changes have ended. */
export async function sumToldLate(
  db: Queryable,
  organizationId: string,
  lineIds: readonly string[],
): Promise<ReadonlyMap<string, Quantity>> {
  const { rows } = await db.query<{ id: string; counted: Quantity }>(
    `select span_id as id, sum(counted)::bigint as counted from late_use
     where organization_id = $1 and span_id = any($2) group by span_id`,
    [organizationId, lineIds],
  )
  return new Map(rows.map(({ id, counted }) => [id, counted]))
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

/** Writes down which time each finalized invoice settles, and when it was paid (KF-11). One that was voided since settles nothing, and is not owed. */
export async function recordSettledUsage(tx: Queryable, organizationId: string, now: Instant): Promise<void> {
  await recordSettled(tx, { organizationId, now })
}

const recordSettled = together(async (tx, asked: readonly { readonly organizationId: string; readonly now: Instant }[]) => {
  await tx.query(
    `with voided as (
       delete from settled_usage known using stripe_invoices invoice
       where known.organization_id = any ($1) and invoice.organization_id = known.organization_id and invoice.id = known.invoice_id
         and invoice.status = 'void'
     )
     insert into settled_usage (organization_id, invoice_id, starts_at, ends_at, recorded_until, paid_at)
     select invoice.organization_id, invoice.id, period_start, period_end, asked.now, invoice.paid_at
     from unnest($1::text[], $2::timestamptz[]) as asked (id, now) join stripe_invoices invoice on invoice.organization_id = asked.id
     where subscription_id is not null and period_start < period_end and status not in ('draft', 'void')
       and (billing_reason = 'subscription_cycle' or billing_reason = 'subscription_update')
       and not exists (
         select from settled_usage known where known.organization_id = invoice.organization_id and known.invoice_id = invoice.id
           and known.paid_at is not distinct from invoice.paid_at
       )
     on conflict (organization_id, invoice_id) do update set paid_at = excluded.paid_at`,
    [asked.map(({ organizationId }) => organizationId), asked.map(({ now }) => now)],
  )
  return asked.map(() => undefined)
})
