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
}

/** Sums of hours, whatever the number of events. An hour begins with its period, so a period is a sum of whole hours. */
export async function sumUse(db: Queryable, organizationId: string, { start, end }: Period): Promise<readonly MeterUse[]> {
  const { rows } = await db.query<MeterUse>(
    `select meter, sum(quantity)::bigint as quantity, sum(overage)::bigint as overage, sum(drawn)::bigint as drawn
     from usage_hourly where organization_id = $1 and hour >= $2 and hour < $3 group by meter order by meter`,
    [organizationId, start, end],
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
