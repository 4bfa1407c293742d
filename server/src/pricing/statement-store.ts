import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { Period } from '../lib/period.ts'
import type { Quantity } from '../lib/quantity.ts'
import { IS_PRORATION } from '../stripe/gateway/invoice-items.ts'
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
       and ${IS_PRORATION}
       and (line -> 'period' ->> 'start')::bigint >= extract(epoch from $2::timestamptz)
       and (line -> 'period' ->> 'start')::bigint < extract(epoch from $3::timestamptz)
     order by start, line ->> 'id'`,
    [organizationId, start, end],
  )
  return rows.map(({ start: from, end: to, ...row }) => ({ ...row, period: { start: from, end: to } }))
}

/** The periods of Stripe's that an organization's spans lie in. */
export async function listCycles(db: Queryable, organizationId: string): Promise<readonly Period[]> {
  const { rows } = await db.query<Period>(
    `select distinct period_start as start, period_end as "end" from billing_spans
     where organization_id = $1 and period_start < period_end`,
    [organizationId],
  )
  return rows
}

/**
 * Whether Stripe has invoiced all that a period of subscriptions leaves to invoice. What a change leaves pending is on the next
 * invoice of its subscription: one from the period's end on that is no draft, or the last. `isEnded`: no subscription goes on.
 */
export async function readInvoicing(
  db: Queryable,
  query: { readonly organizationId: string; readonly period: Period; readonly subscriptionIds: readonly string[] },
): Promise<{ readonly isInvoiced: boolean; readonly isEnded: boolean }> {
  const { organizationId, period, subscriptionIds } = query
  const { rows } = await db.query<{ isInvoiced: boolean; isEnded: boolean }>(
    `select coalesce(bool_and(is_ended), true) as "isEnded",
       coalesce(bool_and(is_ended or is_followed), true) and not exists (
         select from stripe_invoices draft cross join lateral jsonb_array_elements(draft.data -> 'lines' -> 'data') line
         where draft.organization_id = $1 and draft.status = 'draft' and draft.subscription_id is not null
           and (line -> 'period' ->> 'start')::bigint >= extract(epoch from $2::timestamptz)
           and (line -> 'period' ->> 'start')::bigint < extract(epoch from $3::timestamptz)
       ) as "isInvoiced"
     from (
       select subscription.status in ('canceled', 'incomplete_expired') as is_ended, exists (
         select from stripe_invoices invoice
         where invoice.organization_id = $1 and invoice.subscription_id = subscription.id and invoice.status <> 'draft'
           -- Our clock and Stripe's differ by seconds.
           and invoice.created_at >= $3::timestamptz - interval '1 minute'
       ) as is_followed
       from stripe_subscriptions subscription where subscription.organization_id = $1 and subscription.id = any($4)
     ) as own`,
    [organizationId, period.start, period.end, subscriptionIds],
  )
  return rows[0]!
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
       coalesce(sum(used), 0)::bigint as used, coalesce(array_agg(id::text order by starts_at), '{}') as "grantIds"
     from grants where organization_id = $1 and balance = $2 and kind = 'plan' and starts_at < $4 and expires_at > $3`,
    [query.organizationId, query.balanceKey, query.period.start, query.period.end],
  )
  return rows[0]!
}
