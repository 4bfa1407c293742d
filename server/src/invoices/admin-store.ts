import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'

/**
 * What operators list over all organizations (OC-5 to OC-8, CB-7). Everything comes from the mirror. Each list says how many there
 * are in all; money is minor units.
 */
export type Page = { readonly limit: number; readonly offset: number }

export type ListedCustomer = {
  readonly id: string
  readonly organizationId: string
  readonly email: string
  readonly name: string
  readonly tier: string
  readonly createdAt: Instant
}

export async function listCustomers(db: Queryable, { limit, offset }: Page, defaultPlanKey: string): Promise<ListedCustomer[]> {
  const { rows } = await db.query<ListedCustomer>(
    `select coalesce(organization.stripe_customer_id, organization.id) as id, organization.id as "organizationId",
       organization.email, organization.name, coalesce(account.override_plan_key, account.plan_key, $3) as tier,
       organization.created_at as "createdAt"
     from organizations organization left join accounts account on account.organization_id = organization.id
     order by organization.created_at desc, organization.id limit $1 offset $2`,
    [limit, offset, defaultPlanKey],
  )
  return rows
}

export type ListedSubscription = {
  readonly id: string
  readonly customerId: string
  readonly organizationId: string
  readonly tier: string | null
  readonly status: string
  readonly amountMinor: number
  readonly currency: string
  readonly interval: string
  readonly currentPeriodEnd: Instant
  readonly cancelAtPeriodEnd: boolean
}

export async function listSubscriptions(
  db: Queryable,
  { limit, offset, status }: Page & { status: string | null },
): Promise<ListedSubscription[]> {
  const { rows } = await db.query<Omit<ListedSubscription, 'amountMinor'> & { amountMinor: string }>(
    `select subscription.id, subscription.customer_id as "customerId", subscription.organization_id as "organizationId",
       min(sold.plan_key) as tier, subscription.status,
       sum(coalesce(item.unit_amount_minor, 0) * coalesce(item.quantity, 1))::text as "amountMinor", subscription.currency,
       min(item.billing_interval) as "interval", min(item.current_period_end) as "currentPeriodEnd",
       subscription.cancel_at_period_end or subscription.cancel_at is not null as "cancelAtPeriodEnd"
     from (
       select * from stripe_subscriptions where $3::text is null or status = $3
       order by created_at desc, id limit $1 offset $2
     ) subscription
     join stripe_subscription_items item
       on item.organization_id = subscription.organization_id and item.subscription_id = subscription.id
     left join plan_prices sold on sold.stripe_price_id = item.price_id
     group by subscription.id, subscription.customer_id, subscription.organization_id, subscription.status, subscription.currency,
       subscription.cancel_at_period_end, subscription.cancel_at, subscription.created_at
     order by subscription.created_at desc, subscription.id`,
    [limit, offset, status],
  )
  return rows.map((row) => ({ ...row, amountMinor: Number(row.amountMinor) }))
}

export type ListedCharge = {
  readonly id: string
  readonly customerId: string
  readonly organizationId: string
  readonly amountMinor: number
  readonly currency: string
  readonly status: string
  readonly description: string | null
  readonly paid: boolean
  readonly refunded: boolean
  readonly createdAt: Instant
}

export async function listCharges(db: Queryable, { limit, offset }: Page): Promise<ListedCharge[]> {
  const { rows } = await db.query<Omit<ListedCharge, 'amountMinor'> & { amountMinor: bigint }>(
    `select id, customer_id as "customerId", organization_id as "organizationId", amount_minor as "amountMinor", currency, status,
       description, paid, refunded, created_at as "createdAt"
     from stripe_charges order by created_at desc, id desc limit $1 offset $2`,
    [limit, offset],
  )
  return rows.map((row) => ({ ...row, amountMinor: Number(row.amountMinor) }))
}

type Counted = 'organizations' | 'stripe_charges' | 'stripe_subscriptions' | 'stripe_invoices'

export async function countRows(db: Queryable, table: Counted, status: string | null = null): Promise<number> {
  const { rows } = await db.query<{ count: number }>(
    status === null
      ? `select count(*)::int as count from ${table}`
      : `select count(*)::int as count from ${table} where status = $1`,
    status === null ? [] : [status],
  )
  return rows[0]!.count
}

/** Live subscriptions by plan, currency and status, with what they bring in a month, in hundredths of a minor unit's twelfth. */
export type PlanTotals = {
  readonly tier: string
  readonly status: string
  readonly currency: string
  readonly count: number
  /** Minor units a year; a month is a twelfth of it. */
  readonly yearlyMinor: number
}

/**
 * What live subscriptions bring, by plan. A trial brings nothing yet. A yearly price counts as twelve months; metered items do not
 * count, since what they bring is known afterwards.
 */
export async function sumPlans(db: Queryable): Promise<PlanTotals[]> {
  const { rows } = await db.query<Omit<PlanTotals, 'yearlyMinor'> & { yearlyMinor: string }>(
    `select account.plan_key as tier, subscription.status, subscription.currency, count(distinct subscription.id)::int as count,
       sum(coalesce(item.unit_amount_minor, 0) * coalesce(item.quantity, 1)
         * case item.billing_interval when 'year' then 1.0 when 'month' then 12.0 when 'week' then 52.0 else 365.0 end
         / item.interval_count)::bigint::text as "yearlyMinor"
     from accounts account
     join stripe_subscriptions subscription
       on subscription.organization_id = account.organization_id and subscription.id = account.subscription_id
     join stripe_subscription_items item
       on item.organization_id = account.organization_id and item.subscription_id = subscription.id
     where subscription.status in ('trialing', 'active', 'past_due') and item.usage_type = 'licensed'
     group by account.plan_key, subscription.status, subscription.currency`,
  )
  return rows.map((row) => ({ ...row, yearlyMinor: Number(row.yearlyMinor) }))
}
