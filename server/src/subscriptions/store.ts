import type { PriceInterval } from '../catalog/define.ts'
import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { SubscriptionStatus } from '../standing/rules.ts'
import type { ItemTerms } from '../stripe/gateway/mutations.ts'
import { FIRST_TRY, IS_WAITED_FOR } from '../stripe/mirror/account-store.ts'
import type { AddOnItem, Offer, Debt } from './plan-change.ts'

/** Of `stripe_subscription_items item`: what is paid whether it is used or not; use has prices of its own. */
export const IS_LICENSED = `item.usage_type is distinct from 'metered'`

/** Prices that sell a plan now, of the plans named, each with the metered prices that are sold with it. */
export async function listOffers(db: Queryable, planKeys: readonly string[]): Promise<Offer[]> {
  const { rows } = await db.query<Omit<Offer, 'amountMinor'> & { amountMinor: bigint }>(
    // A price of use that every plan has gives way to the plan's own for the same balance.
    `select price.plan_key as "planKey", price.price_key as "interval", price.stripe_price_id as "priceId",
       price.amount_minor as "amountMinor", price.currency, price.created_at as "soldSince",
       array(
         select distinct on (usage.balance) usage.stripe_price_id from usage_prices usage
         where usage.superseded_at is null and (usage.plan_key = price.plan_key or usage.plan_key is null)
         order by usage.balance, usage.plan_key nulls last
       ) as "usagePriceIds",
       (select coalesce(jsonb_object_agg(sold.add_on_key, sold.stripe_price_id), '{}') from add_on_prices sold
        where sold.superseded_at is null and sold.price_key = price.price_key and sold.currency = price.currency) as "addOnPriceIds"
     from plan_prices price where price.superseded_at is null and price.plan_key = any($1) order by plan_key, price_key`,
    [planKeys],
  )
  return rows.map((row) => ({ ...row, amountMinor: Number(row.amountMinor) }))
}

/** At what the account's subscription is scheduled to be sold next, with the metered prices of that phase; null where nothing of ours is scheduled. */
export async function findScheduledOffer(db: Queryable, organizationId: string): Promise<Offer | null> {
  const { rows } = await db.query<Omit<Offer, 'amountMinor'> & { amountMinor: bigint }>(
    `select price.plan_key as "planKey", price.price_key as "interval", price.stripe_price_id as "priceId",
       price.amount_minor as "amountMinor", price.currency, null as "soldSince",
       array(
         select item ->> 'price' from jsonb_array_elements(subscription.data #> '{schedule,phases}') phase, jsonb_array_elements(phase -> 'items') item
         where to_timestamp((phase ->> 'start_date')::bigint) = subscription.scheduled_at and item -> 'quantity' is null
       ) as "usagePriceIds", '{}'::jsonb as "addOnPriceIds"
     from accounts account
     join stripe_subscriptions subscription
       on subscription.organization_id = account.organization_id and subscription.id = account.subscription_id
     join plan_prices price on price.stripe_price_id = subscription.scheduled_price_id
     where account.organization_id = $1`,
    [organizationId],
  )
  const row = rows[0]
  return row === undefined ? null : { ...row, amountMinor: Number(row.amountMinor) }
}

/**
 * Of `stripe_invoices invoice`, since the period of `stripe_subscription_items item` began. Stripe dates a period and its invoice alike;
 * the minute is for a second in between.
 */
const SINCE_PERIOD_BEGAN = `invoice.organization_id = item.organization_id and invoice.subscription_id = item.subscription_id
  and invoice.created_at >= item.current_period_start - interval '1 minute'`

/** The subscription on which an account stands, with the item that sells its plan. */
export type AccountSubscription = {
  readonly planKey: string
  readonly subscriptionId: string
  readonly status: SubscriptionStatus
  readonly interval: PriceInterval | null
  readonly cancelAt: Instant | null
  readonly endedAt: Instant | null
  readonly cancelAtPeriodEnd: boolean
  readonly trialEndsAt: Instant | null
  readonly scheduledAt: Instant | null
  readonly scheduledPlanKey: string | null
  readonly scheduledInterval: PriceInterval | null
  readonly scheduledQuantity: number | null
  readonly scheduleId: string | null
  readonly phaseStartedAt: Instant
  readonly pauseBehavior: string | null
  readonly pendingUpdateExpiresAt: Instant | null
  /** The open invoice that its first payment, a change of it, or its resumption waits for. */
  readonly waitingInvoiceId: string | null
  readonly waitingInvoiceUrl: string | null
  /** Whether the resumption with which the present period began was never paid. */
  readonly resumedUnpaid: boolean
  readonly paymentMethodId: string | null
  readonly itemId: string
  readonly priceId: string
  readonly amountMinor: number
  /** What all of it costs a period, add-ons and seats included, without use. */
  readonly totalMinor: number
  readonly currency: string
  readonly quantity: number
  readonly currentPeriodStart: Instant
  readonly currentPeriodEnd: Instant
  readonly usageItems: readonly { readonly itemId: string; readonly priceId: string }[]
  readonly billedBalances: Readonly<Record<string, string>>
  readonly addOnItems: readonly AddOnItem[]
  readonly discountIds: readonly string[]
  readonly taxRateIds: readonly string[]
  readonly automaticTax: boolean
  readonly itemTerms: Readonly<Record<string, ItemTerms>>
}

export async function findAccountSubscription(db: Queryable, organizationId: string): Promise<AccountSubscription | null> {
  const { rows } = await db.query<
    Omit<AccountSubscription, 'amountMinor' | 'totalMinor' | 'quantity'> & {
      amountMinor: bigint
      totalMinor: bigint | null
      quantity: bigint
    }
  >(
    `select account.plan_key as "planKey", subscription.id as "subscriptionId", subscription.status,
       case item.billing_interval when 'year' then 'yearly' when 'month' then 'monthly' end as "interval",
       account.cancel_at as "cancelAt", subscription.ended_at as "endedAt", subscription.cancel_at_period_end as "cancelAtPeriodEnd",
       account.trial_ends_at as "trialEndsAt", account.scheduled_at as "scheduledAt",
       account.scheduled_plan_key as "scheduledPlanKey", account.scheduled_price_key as "scheduledInterval",
       subscription.schedule_id as "scheduleId",
       coalesce(to_timestamp((subscription.data #>> '{schedule,current_phase,start_date}')::bigint), item.current_period_start) as "phaseStartedAt",
       subscription.scheduled_quantity::float8 as "scheduledQuantity",
       subscription.pause_behavior as "pauseBehavior", subscription.pending_update_expires_at as "pendingUpdateExpiresAt",
       waiting.id as "waitingInvoiceId", waiting.hosted_invoice_url as "waitingInvoiceUrl",
       subscription.status = 'paused'
         and exists (select from stripe_invoices invoice where ${SINCE_PERIOD_BEGAN}
           and invoice.billing_reason = 'subscription_update' and invoice.status in ('open', 'void'))
         and not exists (select from stripe_invoices invoice where ${SINCE_PERIOD_BEGAN}
           and invoice.status not in ('open', 'void')) as "resumedUnpaid",
       account.payment_method_id as "paymentMethodId", item.id as "itemId",
       item.price_id as "priceId", coalesce(item.unit_amount_minor, 0) as "amountMinor", item.currency,
       (select sum(coalesce(item.unit_amount_minor, 0) * coalesce(item.quantity, 1))::bigint from stripe_subscription_items item
        where item.organization_id = account.organization_id and item.subscription_id = subscription.id and ${IS_LICENSED}) as "totalMinor",
       coalesce(item.quantity, 1) as quantity, item.current_period_start as "currentPeriodStart",
       item.current_period_end as "currentPeriodEnd",
       (select coalesce(jsonb_agg(jsonb_build_object('itemId', metered.id, 'priceId', metered.price_id) order by metered.id), '[]')
        from stripe_subscription_items metered join usage_prices on usage_prices.stripe_price_id = metered.price_id
        where metered.organization_id = account.organization_id and metered.subscription_id = subscription.id) as "usageItems",
       (select coalesce(jsonb_object_agg(stripe_price_id, balance), '{}') from usage_prices) as "billedBalances",
       (select coalesce(jsonb_agg(jsonb_build_object('itemId', added.id, 'priceId', added.price_id, 'addOnKey', sold.add_on_key,
          'quantity', coalesce(added.quantity, 1)) order by added.id), '[]')
        from stripe_subscription_items added join add_on_prices sold on sold.stripe_price_id = added.price_id
        where added.organization_id = account.organization_id and added.subscription_id = subscription.id) as "addOnItems",
       jsonb_path_query_array(subscription.data, '$.discounts[*].id') as "discountIds",
       jsonb_path_query_array(subscription.data, '$.default_tax_rates[*].id') as "taxRateIds",
       coalesce((subscription.data #>> '{automatic_tax,enabled}')::boolean, false) as "automaticTax",
       (select coalesce(jsonb_object_agg(wire ->> 'id', jsonb_build_object(
          'taxRateIds', jsonb_path_query_array(wire, '$.tax_rates[*].id'), 'discountIds', jsonb_path_query_array(wire, '$.discounts[*]'))), '{}')
        from jsonb_array_elements(subscription.data -> 'items' -> 'data') wire) as "itemTerms"
     from accounts account
     join stripe_subscriptions subscription
       on subscription.organization_id = account.organization_id and subscription.id = account.subscription_id
     join stripe_subscription_items item
       on item.organization_id = account.organization_id and item.subscription_id = subscription.id
     left join stripe_invoices waiting
       on waiting.organization_id = account.organization_id and waiting.id = subscription.latest_invoice_id and waiting.status = 'open'
         and (subscription.status = 'incomplete' or ${IS_WAITED_FOR})
     where account.organization_id = $1
     order by item.price_id = account.stripe_price_id desc nulls last, item.id limit 1`,
    [organizationId],
  )
  const row = rows[0]
  if (!row) return null
  const { amountMinor, totalMinor, quantity } = row
  return { ...row, amountMinor: Number(amountMinor), totalMinor: Number(totalMinor ?? 0), quantity: Number(quantity) }
}

/** The subscriptions that have not ended and sell anything of a catalog: what is sold beside it in Stripe's dashboard is nobody's here. */
export async function listLiveSubscriptionIds(db: Queryable, organizationId: string): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(
    `select id from stripe_subscriptions subscription
     where organization_id = $1 and status not in ('canceled', 'incomplete_expired')
       and exists (
         select from stripe_subscription_items item
         where item.organization_id = subscription.organization_id and item.subscription_id = subscription.id
           and item.price_id in (select stripe_price_id from plan_prices union all select stripe_price_id from add_on_prices
             union all select stripe_price_id from usage_prices))
     order by created_at, id`,
    [organizationId],
  )
  return rows.map(({ id }) => id)
}

/** The schedule that says how a subscription goes on; null where none does. */
export async function findScheduleId(
  db: Queryable,
  { organizationId, subscriptionId }: { readonly organizationId: string; readonly subscriptionId: string },
): Promise<string | null> {
  const { rows } = await db.query<{ scheduleId: string | null }>(
    'select schedule_id as "scheduleId" from stripe_subscriptions where organization_id = $1 and id = $2',
    [organizationId, subscriptionId],
  )
  return rows[0]?.scheduleId ?? null
}

/** The oldest open invoice of an ended subscription whose payment was tried, and is not under way: what a customer leaves behind by cancelling. */
export async function findDebt(db: Queryable, organizationId: string): Promise<Debt | null> {
  const { rows } = await db.query<Debt>(
    `select invoice.id as "invoiceId", invoice.hosted_invoice_url as "paymentUrl"
     from stripe_invoices invoice join stripe_subscriptions subscription
       on subscription.organization_id = invoice.organization_id and subscription.id = invoice.subscription_id
     left join ${FIRST_TRY} tried on true
     where invoice.organization_id = $1 and invoice.status = 'open' and invoice.attempted and invoice.amount_remaining_minor > 0
       and tried.status is distinct from 'pending' and subscription.status = 'canceled'
     order by invoice.created_at, invoice.id limit 1`,
    [organizationId],
  )
  return rows[0] ?? null
}

/** The invoice that a subscription which goes on has not paid. */
export async function findUnpaid(db: Queryable, organizationId: string): Promise<Debt | null> {
  const { rows } = await db.query<Debt>(
    `select invoice.id as "invoiceId", invoice.hosted_invoice_url as "paymentUrl"
     from accounts account
     join stripe_subscriptions subscription
       on subscription.organization_id = account.organization_id and subscription.id = account.subscription_id
     join stripe_invoices invoice
       on invoice.organization_id = account.organization_id and invoice.id = subscription.latest_invoice_id
     where account.organization_id = $1 and subscription.status = 'past_due' and invoice.status = 'open'`,
    [organizationId],
  )
  return rows[0] ?? null
}

export type PaymentHistory = { readonly hadSubscription: boolean; readonly hadTrial: boolean; readonly hasPaymentMethod: boolean }

/** What an organization had before, as the mirror knows it. */
export async function readHistory(db: Queryable, organizationId: string): Promise<PaymentHistory> {
  const { rows } = await db.query<PaymentHistory>(
    `select
       exists (select from stripe_subscriptions where organization_id = $1 and status not in ('incomplete', 'incomplete_expired'))
         as "hadSubscription",
       exists (select from stripe_subscriptions where organization_id = $1 and trial_end is not null) as "hadTrial",
       exists (select from accounts where organization_id = $1 and payment_method_id is not null) as "hasPaymentMethod"`,
    [organizationId],
  )
  return rows[0]!
}

export type BillingFacts = {
  readonly paymentMethodId: string | null
  readonly nextInvoiceAt: Instant | null
  readonly syncedAt: Instant | null
}

/** What else is known of an organization's billing (EM-15). */
export async function findBillingFacts(db: Queryable, organizationId: string): Promise<BillingFacts> {
  const { rows } = await db.query<BillingFacts>(
    `select account.payment_method_id as "paymentMethodId", account.next_invoice_at as "nextInvoiceAt",
       sync.synced_at as "syncedAt"
     from organizations organization
     left join accounts account on account.organization_id = organization.id
     left join stripe_syncs sync on sync.organization_id = organization.id
     where organization.id = $1`,
    [organizationId],
  )
  return rows[0] ?? { paymentMethodId: null, nextInvoiceAt: null, syncedAt: null }
}

/** What is owed on open invoices, in minor units by currency. */
export async function sumOpenInvoices(db: Queryable, organizationId: string): Promise<Readonly<Record<string, number>>> {
  const { rows } = await db.query<{ currency: string; sum: number }>(
    `select currency, sum(amount_remaining_minor)::float8 as sum from stripe_invoices
     where organization_id = $1 and status = 'open' group by currency having sum(amount_remaining_minor) > 0 order by currency`,
    [organizationId],
  )
  return Object.fromEntries(rows.map(({ currency, sum }) => [currency, sum]))
}

/** Whether a payment failed and is still due, of whichever subscription, ended or not. */
export async function isDelinquent(db: Queryable, organizationId: string): Promise<boolean> {
  const { rowCount } = await db.query(
    'select from accounts where organization_id = $1 and coalesce(payment_failed_at, left_owing_since) is not null',
    [organizationId],
  )
  return rowCount === 1
}
