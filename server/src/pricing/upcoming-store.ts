import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'

/** What Stripe foretold of the next invoice, in minor units. */
export type Foretold = {
  /** Before discounts. */
  readonly subtotalMinor: number
  readonly totalMinor: number
  /** Of the subtotal, the lines of what meters had counted. */
  readonly meteredMinor: readonly number[]
  /** Below zero is a credit. */
  readonly balanceMinor: number
}

type ForetoldRow = { readonly [Amount in Exclude<keyof Foretold, 'meteredMinor'>]: bigint } & Pick<Foretold, 'meteredMinor'> & {
    readonly isCurrent: boolean
  }

/** The last one, and whether nothing of the organization has been refetched since; null when Stripe was never asked. */
export async function findForetold(
  db: Queryable,
  organizationId: string,
): Promise<(Foretold & { readonly isCurrent: boolean }) | null> {
  const { rows } = await db.query<ForetoldRow>(
    `select subtotal_minor as "subtotalMinor", total_minor as "totalMinor", metered_minor as "meteredMinor",
       balance_minor as "balanceMinor",
       computed_at >= coalesce((select synced_at from stripe_syncs where organization_id = $1), computed_at) as "isCurrent"
     from upcoming_invoices where organization_id = $1`,
    [organizationId],
  )
  const row = rows[0]
  if (row === undefined) return null
  return {
    subtotalMinor: Number(row.subtotalMinor),
    totalMinor: Number(row.totalMinor),
    meteredMinor: row.meteredMinor,
    balanceMinor: Number(row.balanceMinor),
    isCurrent: row.isCurrent,
  }
}

export async function storeForetold(
  db: Queryable,
  { organizationId, computedAt }: { readonly organizationId: string; readonly computedAt: Instant },
  { subtotalMinor, totalMinor, meteredMinor, balanceMinor }: Foretold,
): Promise<void> {
  await db.query(
    `insert into upcoming_invoices (organization_id, subtotal_minor, total_minor, metered_minor, balance_minor, computed_at)
     values ($1, $2, $3, $4, $5, $6)
     on conflict (organization_id) do update set (subtotal_minor, total_minor, metered_minor, balance_minor, computed_at) =
       (excluded.subtotal_minor, excluded.total_minor, excluded.metered_minor, excluded.balance_minor, excluded.computed_at)`,
    [organizationId, subtotalMinor, totalMinor, JSON.stringify(meteredMinor), balanceMinor, computedAt],
  )
}

/** What a coupon takes off; one of the two. */
export type TakenOff = { readonly percent: number | null; readonly amountMinor: number | null }

/** A subscription as far as its next invoice depends on it, from the mirror alone. */
export type Renewing = {
  readonly subscriptionId: string
  readonly customerId: string
  readonly renews: boolean
  /** What its licensed items that end first come to. */
  readonly itemsMinor: number
  readonly balanceMinor: number
  /** In the order in which they come off. */
  readonly discounts: readonly TakenOff[]
}

type RenewingRow = Omit<Renewing, 'itemsMinor' | 'balanceMinor'> & { readonly itemsMinor: bigint; readonly balanceMinor: bigint }

/** Null when no invoice can come: nothing is subscribed to, it has ended, or it is paused and does not end either. */
export async function findRenewing(db: Queryable, organizationId: string): Promise<Renewing | null> {
  const { rows } = await db.query<RenewingRow>(
    `select subscription.id as "subscriptionId", subscription.customer_id as "customerId",
       account.next_invoice_at is not null as renews,
       (select coalesce(sum(unit_amount_minor * coalesce(quantity, 1)), 0)::bigint from stripe_subscription_items item
        where item.organization_id = account.organization_id and item.subscription_id = subscription.id and usage_type = 'licensed'
          and current_period_end = account.next_invoice_at) as "itemsMinor",
       coalesce(customer.balance_minor, 0) as "balanceMinor",
       (select coalesce(jsonb_agg(jsonb_build_object('percent', discount #> '{source,coupon,percent_off}',
          'amountMinor', discount #> '{source,coupon,amount_off}')), '[]')
        from jsonb_array_elements(
          case jsonb_typeof(subscription.data -> 'discounts') when 'array' then subscription.data -> 'discounts' else '[]' end
        ) discount where jsonb_typeof(discount #> '{source,coupon}') = 'object') as discounts
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
  return row === undefined ? null : { ...row, itemsMinor: Number(row.itemsMinor), balanceMinor: Number(row.balanceMinor) }
}
