import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { DiscountSnapshot } from '../stripe/gateway/discount-snapshots.ts'

/** A line of an invoice that discounts come off. */
export type DiscountedLine = {
  readonly amountMinor: number
  readonly productId: string | null
  /** Of the subscription. */
  readonly itemId: string | null
}

/** What a coupon takes off: of which item (null for all), and of which products only; a percentage, or an amount. */
export type TakenOff = Pick<DiscountSnapshot, 'itemId' | 'products' | 'percentOff' | 'amountOffMinor'>

/** What Stripe foretold of the next invoice, in minor units. */
export type Foretold = {
  readonly totalMinor: number
  /** Below zero is a credit. */
  readonly balanceMinor: number
  /** Those that discounts come off, before these, and those of what meters had counted. */
  readonly lines: readonly (DiscountedLine & { readonly priceId: string | null; readonly isMetered: boolean })[]
  /** In the order in which they come off. */
  readonly discounts: readonly TakenOff[]
}

type ForetoldRow = Pick<Foretold, 'lines' | 'discounts'> & {
  readonly totalMinor: bigint
  readonly balanceMinor: bigint
  readonly isCurrent: boolean
}

/** The last one, and whether nothing of the organization has been refetched since; null when Stripe was never asked. */
export async function findForetold(
  db: Queryable,
  organizationId: string,
): Promise<(Foretold & { readonly isCurrent: boolean }) | null> {
  const { rows } = await db.query<ForetoldRow>(
    `select total_minor as "totalMinor", balance_minor as "balanceMinor", lines, discounts,
       computed_at >= coalesce((select synced_at from stripe_syncs where organization_id = $1), computed_at) as "isCurrent"
     from upcoming_invoices where organization_id = $1`,
    [organizationId],
  )
  const row = rows[0]
  return row === undefined ? null : { ...row, totalMinor: Number(row.totalMinor), balanceMinor: Number(row.balanceMinor) }
}

export async function storeForetold(
  db: Queryable,
  { organizationId, computedAt }: { readonly organizationId: string; readonly computedAt: Instant },
  { totalMinor, balanceMinor, lines, discounts }: Foretold,
): Promise<void> {
  await db.query(
    `insert into upcoming_invoices (organization_id, total_minor, balance_minor, lines, discounts, computed_at)
     values ($1, $2, $3, $4, $5, $6)
     on conflict (organization_id) do update set (total_minor, balance_minor, lines, discounts, computed_at) =
       (excluded.total_minor, excluded.balance_minor, excluded.lines, excluded.discounts, excluded.computed_at)`,
    [organizationId, totalMinor, balanceMinor, JSON.stringify(lines), JSON.stringify(discounts), computedAt],
  )
}

/** A subscription as far as its next invoice depends on it, from the mirror alone. */
export type Renewing = {
  readonly subscriptionId: string
  readonly customerId: string
  readonly currency: string
  readonly renews: boolean
  /** Its items, those of use too. */
  readonly items: readonly RenewingItem[]
  readonly balanceMinor: number
  /** Those that still come off the next invoice, in the order in which they do. */
  readonly discounts: readonly TakenOff[]
}

export type RenewingItem = DiscountedLine & {
  readonly priceId: string
  readonly isMetered: boolean
  /** Whether its period ends with the next invoice. */
  readonly isDue: boolean
}

/** Null when no invoice can come: nothing is subscribed to, it has ended, or it is paused and does not end either. */
export async function findRenewing(db: Queryable, organizationId: string): Promise<Renewing | null> {
  const { rows } = await db.query<Omit<Renewing, 'balanceMinor'> & { readonly balanceMinor: bigint }>(
    `select subscription.id as "subscriptionId", subscription.customer_id as "customerId", subscription.currency,
       account.next_invoice_at is not null as renews,
       (select coalesce(jsonb_agg(jsonb_build_object('itemId', item.id, 'priceId', item.price_id, 'productId', item.product_id,
          'amountMinor', coalesce(unit_amount_minor, 0) * coalesce(quantity, 1), 'isMetered', usage_type = 'metered',
          'isDue', current_period_end is not distinct from account.next_invoice_at) order by item.id), '[]')
        from stripe_subscription_items item
        where item.organization_id = account.organization_id and item.subscription_id = subscription.id) as items,
       coalesce(customer.balance_minor, 0) as "balanceMinor",
       (select coalesce(jsonb_agg(discount order by position), '[]')
        from jsonb_array_elements(subscription.discounts) with ordinality as taken (discount, position)
        where (discount ->> 'endsAt')::timestamptz > coalesce(account.next_invoice_at, subscription.cancel_at)
          or (discount ->> 'endsAt')::timestamptz is null or coalesce(account.next_invoice_at, subscription.cancel_at) is null) as discounts
     from accounts account
     join stripe_subscriptions subscription
       on subscription.organization_id = account.organization_id and subscription.id = account.subscription_id
     left join stripe_customers customer
       on customer.organization_id = account.organization_id and customer.id = subscription.customer_id
     where account.organization_id = $1 and (subscription.status in ('trialing', 'active', 'past_due', 'unpaid')
       or (subscription.status = 'paused' and subscription.cancel_at is not null))`,
    [organizationId],
  )
  const row = rows[0]
  return row === undefined ? null : { ...row, balanceMinor: Number(row.balanceMinor) }
}
