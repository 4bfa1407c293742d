import type { Queryable } from '../db/database.ts'

/** The terms that live subscriptions have: a plan in a catalog version. */
export type TermsInUse = { readonly planKey: string; readonly catalogVersion: number; readonly currency: string }

const LIVE = `subscription.status in ('active', 'trialing', 'past_due', 'unpaid')`

export async function listTermsInUse(db: Queryable): Promise<readonly TermsInUse[]> {
  const { rows } = await db.query<TermsInUse>(
    `select distinct account.plan_key as "planKey", account.catalog_version as "catalogVersion", subscription.currency
     from accounts account
     join stripe_subscriptions subscription
       on subscription.organization_id = account.organization_id and subscription.id = account.subscription_id
     where ${LIVE} order by 1, 2, 3`,
  )
  return rows
}

/** A subscription, and the balances whose use its items bill. */
export type BilledBalances = { readonly organizationId: string; readonly balances: readonly string[] }

/**
 * Of the subscriptions that have these terms, those with no metered item for one of `balances`, by organization. One that a schedule
 * or a payment is about to change is left alone: it is found when that is over.
 * The items are read once and hashed: over 20,000 subscriptions of which none lacks any it took a third of asking for each one's own.
 */
export async function listLackingItems(
  db: Queryable,
  { planKey, catalogVersion, currency }: TermsInUse,
  { balances, after, limit }: { readonly balances: readonly string[]; readonly after: string; readonly limit: number },
): Promise<readonly BilledBalances[]> {
  const { rows } = await db.query<BilledBalances>(
    `select account.organization_id as "organizationId", coalesce(billed.balances, '{}') as balances
     from accounts account
     join stripe_subscriptions subscription
       on subscription.organization_id = account.organization_id and subscription.id = account.subscription_id
     left join (
       select item.organization_id, item.subscription_id, array_agg(usage.balance) as balances
       from usage_prices usage join stripe_subscription_items item on item.price_id = usage.stripe_price_id
       where item.organization_id > $5 group by 1, 2
     ) billed on billed.organization_id = account.organization_id and billed.subscription_id = account.subscription_id
     where account.plan_key = $1 and account.catalog_version = $2 and subscription.currency = $3 and ${LIVE}
       and subscription.scheduled_at is null and subscription.pending_update_expires_at is null
       and not coalesce(billed.balances, '{}') @> $4::text[] and account.organization_id > $5
     order by account.organization_id limit $6`,
    [planKey, catalogVersion, currency, balances, after, limit],
  )
  return rows
}
