import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { DerivedAccount, MirroredInvoice, MirroredItem, MirroredSubscription, SoldPlan } from './derive-account.ts'

/** What the mirror holds of an organization, as far as its account follows from it. */
export type MirrorState = {
  readonly subscriptions: readonly MirroredSubscription[]
  readonly invoices: readonly MirroredInvoice[]
  readonly customerPaymentMethodId: string | null
}

export async function readMirror(tx: Queryable, organizationId: string): Promise<MirrorState> {
  const customer = await tx.query<{ default_payment_method_id: string | null }>(
    `select customer.default_payment_method_id from organizations organization
     join stripe_customers customer
       on customer.organization_id = organization.id and customer.id = organization.stripe_customer_id
     where organization.id = $1 and not customer.deleted`,
    [organizationId],
  )
  return {
    subscriptions: await listMirroredSubscriptions(tx, organizationId),
    invoices: await listUnsettledInvoices(tx, organizationId),
    customerPaymentMethodId: customer.rows[0]?.default_payment_method_id ?? null,
  }
}

type SubscriptionRow = Omit<MirroredSubscription, 'items' | 'scheduled'> & {
  readonly scheduledPriceId: string | null
  readonly scheduledAt: Instant | null
}
type ItemRow = Omit<MirroredItem, 'quantity'> & { readonly subscriptionId: string; readonly quantity: bigint | null }

async function listMirroredSubscriptions(tx: Queryable, organizationId: string): Promise<MirroredSubscription[]> {
  const subscriptions = await tx.query<SubscriptionRow>(
    `select id, status, cancel_at as "cancelAt", cancel_at_period_end as "cancelAtPeriodEnd", trial_end as "trialEnd",
       default_payment_method_id as "defaultPaymentMethodId", created_at as "createdAt",
       scheduled_price_id as "scheduledPriceId", scheduled_at as "scheduledAt",
       case when pending_update_expires_at is not null then latest_invoice_id end as "pendingInvoiceId"
     from stripe_subscriptions where organization_id = $1`,
    [organizationId],
  )
  const items = await tx.query<ItemRow>(
    `select subscription_id as "subscriptionId", id, price_id as "priceId", quantity,
       current_period_start as "currentPeriodStart", current_period_end as "currentPeriodEnd"
     from stripe_subscription_items where organization_id = $1`,
    [organizationId],
  )
  return subscriptions.rows.map(({ scheduledPriceId, scheduledAt, ...subscription }) => ({
    ...subscription,
    scheduled: scheduledPriceId === null || scheduledAt === null ? null : { priceId: scheduledPriceId, at: scheduledAt },
    items: items.rows
      .filter(({ subscriptionId }) => subscriptionId === subscription.id)
      .map((item) => ({ ...item, quantity: item.quantity === null ? null : Number(item.quantity) })),
  }))
}

async function listUnsettledInvoices(tx: Queryable, organizationId: string): Promise<MirroredInvoice[]> {
  const { rows } = await tx.query<Omit<MirroredInvoice, 'amountRemainingMinor'> & { amountRemainingMinor: bigint }>(
    `select id, subscription_id as "subscriptionId", status, collection_method as "collectionMethod", attempted,
       amount_remaining_minor as "amountRemainingMinor", finalized_at as "finalizedAt", created_at as "createdAt"
     from stripe_invoices where organization_id = $1 and status in ('draft', 'open')`,
    [organizationId],
  )
  return rows.map((row) => ({ ...row, amountRemainingMinor: Number(row.amountRemainingMinor) }))
}

export async function readPlansByPrice(tx: Queryable, priceIds: readonly string[]): Promise<ReadonlyMap<string, SoldPlan>> {
  const { rows } = await tx.query<SoldPlan & { priceId: string }>(
    `select stripe_price_id as "priceId", plan_key as "planKey", price_key as "priceKey", catalog_version as "catalogVersion"
     from plan_prices where stripe_price_id = any($1)`,
    [priceIds],
  )
  return new Map(rows.map(({ priceId, ...sold }) => [priceId, sold]))
}

/** Locks the account for the rest of the transaction; null when the organization has none yet. */
export async function lockAccount(tx: Queryable, organizationId: string): Promise<DerivedAccount | null> {
  const { rows } = await tx.query<Omit<DerivedAccount, 'quantity'> & { quantity: bigint | null }>(
    `select plan_key as "planKey", catalog_version as "catalogVersion", subscription_id as "subscriptionId",
       subscription_status as "subscriptionStatus", current_period_start as "currentPeriodStart",
       current_period_end as "currentPeriodEnd", trial_ends_at as "trialEndsAt", cancel_at as "cancelAt",
       payment_failed_at as "paymentFailedAt", stripe_price_id as "stripePriceId", price_key as "priceKey", quantity,
       payment_method_id as "paymentMethodId", next_invoice_at as "nextInvoiceAt", scheduled_plan_key as "scheduledPlanKey",
       scheduled_price_key as "scheduledPriceKey", scheduled_at as "scheduledAt"
     from accounts where organization_id = $1 for update`,
    [organizationId],
  )
  const row = rows[0]
  return row ? { ...row, quantity: row.quantity === null ? null : Number(row.quantity) } : null
}

/** Counts the add-ons of the subscription on which the account stands; one that has ended has none. */
export async function refreshAddOns(tx: Queryable, organizationId: string): Promise<void> {
  await tx.query(
    `update accounts account set add_ons = coalesce((
       select jsonb_object_agg(add_on_key, quantity) from (
         select sold.add_on_key, sum(coalesce(item.quantity, 1)) as quantity
         from stripe_subscription_items item join add_on_prices sold on sold.stripe_price_id = item.price_id
         where item.organization_id = account.organization_id and item.subscription_id = account.subscription_id
         group by sold.add_on_key) as counted
       where account.subscription_status in ('active', 'trialing', 'past_due', 'unpaid', 'paused')), '{}')
     where account.organization_id = $1`,
    [organizationId],
  )
}

/** Writes what is derived; what operators set stays. */
export async function upsertAccount(tx: Queryable, organizationId: string, account: DerivedAccount, now: Instant): Promise<void> {
  await tx.query(
    `insert into accounts (organization_id, plan_key, catalog_version, subscription_id, subscription_status,
       current_period_start, current_period_end, trial_ends_at, cancel_at, payment_failed_at, stripe_price_id, price_key,
       quantity, payment_method_id, next_invoice_at, scheduled_plan_key, scheduled_price_key, scheduled_at, updated_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
     on conflict (organization_id) do update set
       (plan_key, catalog_version, subscription_id, subscription_status, current_period_start, current_period_end,
        trial_ends_at, cancel_at, payment_failed_at, stripe_price_id, price_key, quantity, payment_method_id, next_invoice_at,
        scheduled_plan_key, scheduled_price_key, scheduled_at, updated_at) =
       (excluded.plan_key, excluded.catalog_version, excluded.subscription_id, excluded.subscription_status,
        excluded.current_period_start, excluded.current_period_end, excluded.trial_ends_at, excluded.cancel_at,
        excluded.payment_failed_at, excluded.stripe_price_id, excluded.price_key, excluded.quantity,
        excluded.payment_method_id, excluded.next_invoice_at, excluded.scheduled_plan_key, excluded.scheduled_price_key,
        excluded.scheduled_at, excluded.updated_at)`,
    [
      organizationId,
      account.planKey,
      account.catalogVersion,
      account.subscriptionId,
      account.subscriptionStatus,
      account.currentPeriodStart,
      account.currentPeriodEnd,
      account.trialEndsAt,
      account.cancelAt,
      account.paymentFailedAt,
      account.stripePriceId,
      account.priceKey,
      account.quantity,
      account.paymentMethodId,
      account.nextInvoiceAt,
      account.scheduledPlanKey,
      account.scheduledPriceKey,
      account.scheduledAt,
      now,
    ],
  )
}
