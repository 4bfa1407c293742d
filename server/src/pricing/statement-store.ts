import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { Period } from '../lib/period.ts'
import type { Quantity } from '../lib/quantity.ts'
import type { Included } from './spans.ts'

/** A line that Stripe made because a plan was changed within a period. */
export type Adjustment = {
  readonly description: string
  readonly amountMinor: number
  readonly invoiceId: string
  readonly period: Period
}

/** The prorations on an organization's invoices whose time begins in a period, as the mirror has them. */
export async function listAdjustments(
  db: Queryable,
  organizationId: string,
  { start, end }: Period,
): Promise<readonly Adjustment[]> {
  const { rows } = await db.query<Omit<Adjustment, 'period'> & { start: Instant; end: Instant }>(
    `select coalesce(line ->> 'description', '') as description, (line ->> 'amount')::float8 as "amountMinor",
       invoice.id as "invoiceId", to_timestamp((line -> 'period' ->> 'start')::bigint) as start,
       to_timestamp((line -> 'period' ->> 'end')::bigint) as end
     from stripe_invoices invoice cross join lateral jsonb_array_elements(invoice.data -> 'lines' -> 'data') line
     where invoice.organization_id = $1 and invoice.status <> 'void' and invoice.subscription_id is not null
       and coalesce(
         line -> 'parent' -> 'subscription_item_details' -> 'proration', line -> 'parent' -> 'invoice_item_details' -> 'proration'
       ) = 'true'::jsonb
       and (line -> 'period' ->> 'start')::bigint >= extract(epoch from $2::timestamptz)
       and (line -> 'period' ->> 'start')::bigint < extract(epoch from $3::timestamptz)
     order by start, line ->> 'id'`,
    [organizationId, start, end],
  )
  return rows.map(({ start: from, end: to, ...row }) => ({ ...row, period: { start: from, end: to } }))
}

/** How much of each span's reports was counted in an earlier period. */
export async function listLateUse(
  db: Queryable,
  organizationId: string,
  spanIds: readonly string[],
): Promise<ReadonlyMap<string, Quantity>> {
  const { rows } = await db.query<{ id: string; quantity: Quantity }>(
    `select span_id as id, sum(quantity)::bigint as quantity from meter_events
     where organization_id = $1 and span_id = any($2) and late group by span_id`,
    [organizationId, spanIds],
  )
  return new Map(rows.map(({ id, quantity }) => [id, quantity]))
}

/** The plan's allowances that stand in a time, as they are now. */
export async function readIncluded(
  db: Queryable,
  query: { readonly organizationId: string; readonly balanceKey: string; readonly period: Period },
): Promise<Included> {
  const { rows } = await db.query<Included>(
    `select case when bool_or(amount is null) then null else coalesce(sum(amount), 0)::bigint end as amount,
       coalesce(sum(used), 0)::bigint as used, coalesce(array_agg(id order by starts_at), '{}') as "grantIds"
     from grants where organization_id = $1 and balance = $2 and kind = 'plan' and starts_at < $4 and expires_at > $3`,
    [query.organizationId, query.balanceKey, query.period.start, query.period.end],
  )
  return rows[0]!
}
