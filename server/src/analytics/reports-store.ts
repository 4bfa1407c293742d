import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { Quantity } from '../lib/quantity.ts'
import { PRICE_OF_LINE } from '../stripe/gateway/invoice-items.ts'
import type { MovementKind } from './rules.ts'

export type Standing = { readonly currency: string; readonly mrr: Quantity; readonly customers: number }

/** Monthly revenue and paying customers by currency, just before `at`: the last day's row, and what moved since. */
export async function listStandingAt(db: Queryable, at: Instant): Promise<Standing[]> {
  const { rows } = await db.query<Standing>(
    `with closed as (select max(day) as day from mrr_days where day < ($1::timestamptz)::date)
     select currency, sum(mrr)::bigint as mrr, sum(customers)::float8 as customers
     from (
       select currency, mrr, customers from mrr_days, closed where mrr_days.day = closed.day
       union all
       select currency, amount, case kind when 'churn' then -1 when 'new' then 1 when 'reactivation' then 1 else 0 end
       from mrr_movements, closed
       where occurred_at < $1 and occurred_at >= coalesce((closed.day + 1)::timestamptz, '-infinity')
     ) parts
     group by currency having sum(mrr) <> 0 or sum(customers) <> 0`,
    [at],
  )
  return rows
}

export type MovementSum = {
  /** Of the boundaries that were given, from 0. */
  readonly bucket: number
  readonly currency: string
  readonly kind: MovementKind
  readonly amount: Quantity
  readonly count: number
  /** Of a churn: how many customers of the span's beginning, each once. */
  readonly leavers: number
}

/**
 * What moved between the first and the last of the boundaries, by the spans between them. Who leaves without having come in the same
 * span was there at its beginning, and leaves for the first time.
 */
export async function sumMovements(db: Queryable, boundaries: readonly Instant[]): Promise<MovementSum[]> {
  const { rows } = await db.query<MovementSum>(
    `select width_bucket(occurred_at, $1::timestamptz[]) - 1 as bucket, currency, kind, sum(amount)::bigint as amount,
       count(*)::float8 as count,
       count(*) filter (where kind = 'churn' and not exists (
         select from mrr_movements came
         where came.organization_id = movement.organization_id and came.currency = movement.currency
           and came.number < movement.number and came.kind in ('new', 'reactivation')
           and came.occurred_at >= ($1::timestamptz[])[width_bucket(movement.occurred_at, $1::timestamptz[])]
       ))::float8 as leavers
     from mrr_movements movement where occurred_at >= $2 and occurred_at < $3 group by 1, 2, 3`,
    [boundaries, boundaries[0], boundaries.at(-1)],
  )
  return rows
}

export type TrialCounts = {
  readonly bucket: number
  readonly started: number
  readonly running: number
  readonly converted: number
  readonly lost: number
}

/**
 * Trials by when they began. Converted is one whose subscription was then paid for with more than nothing, lost one whose subscription
 * has ended or stopped without that; the first invoice after a trial is open for an hour at least, and until then it runs on.
 */
export async function countTrials(db: Queryable, boundaries: readonly Instant[]): Promise<TrialCounts[]> {
  const { rows } = await db.query<TrialCounts>(
    `select bucket, count(*)::float8 as started, count(*) filter (where in_trial or not paid and not stopped)::float8 as running,
       count(*) filter (where not in_trial and paid)::float8 as converted,
       count(*) filter (where not paid and stopped)::float8 as lost
     from (
       select width_bucket(trial_start, $1::timestamptz[]) - 1 as bucket, status = 'trialing' as in_trial,
         status in ('unpaid', 'paused', 'canceled', 'incomplete_expired') as stopped,
         exists (
           select from stripe_invoices invoice
           where invoice.organization_id = subscription.organization_id and invoice.subscription_id = subscription.id
             and invoice.status = 'paid' and invoice.amount_paid_minor > 0
         ) as paid
       from stripe_subscriptions subscription where trial_start >= $2 and trial_start < $3
     ) trials group by bucket`,
    [boundaries, boundaries[0], boundaries.at(-1)],
  )
  return rows
}

export type CohortSize = { readonly month: Instant; readonly currency: string; readonly customers: number }
export type CohortChange = {
  readonly month: Instant
  readonly currency: string
  /** Months since the cohort's own; what moved before counts in its own. */
  readonly offset: number
  readonly mrr: Quantity
  readonly customers: number
}

/** Customers by the month of their first payment. */
export async function listCohortSizes(db: Queryable, from: Instant, to: Instant): Promise<CohortSize[]> {
  const { rows } = await db.query<CohortSize>(
    `select date_trunc('month', first_paid_at) as month, currency, count(*)::float8 as customers
     from mrr_accounts where first_paid_at >= $1 and first_paid_at < $2 group by 1, 2 order by 1, 2`,
    [from, to],
  )
  return rows
}

/** How the monthly revenue and the number of each cohort moved, month by month. */
export async function listCohortChanges(db: Queryable, from: Instant, to: Instant): Promise<CohortChange[]> {
  const { rows } = await db.query<CohortChange>(
    `select month, currency, "offset", sum(amount)::bigint as mrr, sum(change)::float8 as customers
     from (
       select date_trunc('month', first_paid_at) as month, movement.currency, movement.amount,
         greatest(0, (extract(year from occurred_at) - extract(year from first_paid_at)) * 12
           + extract(month from occurred_at) - extract(month from first_paid_at))::int as "offset",
         case kind when 'churn' then -1 when 'new' then 1 when 'reactivation' then 1 else 0 end as change
       from mrr_accounts account
       join mrr_movements movement
         on movement.organization_id = account.organization_id and movement.currency = account.currency
       where first_paid_at >= $1 and first_paid_at < $2 and occurred_at < $2
     ) moved group by 1, 2, 3 order by 1, 2, 3`,
    [from, to],
  )
  return rows
}

export type AgingSum = {
  readonly currency: string
  readonly bucket: number
  readonly count: number
  readonly amountMinor: bigint
}

/** Open invoices by days since they were due: 0 not yet, 1 to 30 days, 2 to 60, 3 to 90, 4 more. Each by its organization's time. */
export async function sumOpenInvoices(db: Queryable, now: Instant): Promise<AgingSum[]> {
  const { rows } = await db.query<AgingSum>(
    `select currency, bucket, count(*)::float8 as count, sum(amount_remaining_minor)::bigint as "amountMinor"
     from (
       select invoice.currency, amount_remaining_minor,
         case
           when overdue.by <= interval '0' then 0 when overdue.by <= interval '30 days' then 1
           when overdue.by <= interval '60 days' then 2 when overdue.by <= interval '90 days' then 3 else 4
         end as bucket
       from stripe_invoices invoice join organizations organization on organization.id = invoice.organization_id,
       lateral (select coalesce(test_clock_now, $1) - coalesce(due_at, finalized_at, invoice.created_at) as by) overdue
       where invoice.status = 'open' and amount_remaining_minor > 0
     ) aged group by currency, bucket order by currency, bucket`,
    [now],
  )
  return rows
}

/** What of an invoice's `line` is not the seller's: discounts, credit grants, and the tax that its price includes. */
const NOT_BROUGHT = `(select coalesce(sum((each ->> 'amount')::bigint), 0) from (
  select jsonb_path_query(line, '$.pretax_credit_amounts[*]') union all
  select jsonb_path_query(line, '$.taxes[*] ? (@.tax_behavior == "inclusive")')
) taken (each))`

export type RevenueSum = {
  readonly bucket: number
  readonly currency: string
  readonly invoices: number
  readonly paidMinor: bigint
  readonly usageMinor: bigint
  readonly refundedMinor: bigint
  readonly disputedMinor: bigint
}

/**
 * What was paid, by when, with its tax; of it, what metered prices brought, without; and what of these payments was given back, at Stripe or
 * outside of it, or lost to disputes. A metered price is known by who has it, or as one that this server bills use at, which it stays when
 * nobody has it any more.
 */
export async function sumRevenue(db: Queryable, boundaries: readonly Instant[]): Promise<RevenueSum[]> {
  const { rows } = await db.query<RevenueSum>(
    `with metered as (
       select price_id from stripe_subscription_items where usage_type = 'metered'
       union select stripe_price_id from usage_prices
     ),
     parts as (
       select width_bucket(paid_at, $1::timestamptz[]) - 1 as bucket, currency, count(*) as invoices,
         sum(amount_paid_minor) as paid, 0::numeric as usage, 0::numeric as refunded, 0::numeric as disputed
       from stripe_invoices where status = 'paid' and paid_at >= $2 and paid_at < $3 group by 1, 2
       union all
       select width_bucket(paid_at, $1::timestamptz[]) - 1, invoice.currency, 0, 0, sum((line ->> 'amount')::bigint - ${NOT_BROUGHT}), 0, 0
       from stripe_invoices invoice, jsonb_array_elements(invoice.data -> 'lines' -> 'data') line
       where exists (select from metered) and status = 'paid' and paid_at >= $2 and paid_at < $3
         and ${PRICE_OF_LINE} in (select price_id from metered)
       group by 1, 2
       union all
       select width_bucket(paid_at, $1::timestamptz[]) - 1, invoice.currency, 0, 0, 0, sum(amount_refunded_minor + credited_outside_minor),
         coalesce(sum(dispute.amount_minor), 0)
       from stripe_invoices invoice
       left join stripe_disputes dispute on dispute.organization_id = invoice.organization_id and dispute.id = invoice.dispute_id
         and dispute.status = 'lost'
       where invoice.status = 'paid' and paid_at >= $2 and paid_at < $3
         and (amount_refunded_minor > 0 or credited_outside_minor > 0 or dispute.id is not null)
       group by 1, 2
     )
     select bucket, currency, sum(invoices)::float8 as invoices, sum(paid)::bigint as "paidMinor",
       sum(usage)::bigint as "usageMinor", sum(refunded)::bigint as "refundedMinor", sum(disputed)::bigint as "disputedMinor"
     from parts group by bucket, currency order by bucket, currency`,
    [boundaries, boundaries[0], boundaries.at(-1)],
  )
  return rows
}
