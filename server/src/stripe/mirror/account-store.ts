import type { Queryable } from '../../db/database.ts'
import type { Instant } from '../../lib/clock.ts'
import type {
  DerivedAccount,
  MirroredInvoice,
  MirroredItem,
  MirroredSubscription,
  SoldPlan,
  SoldUntil,
} from './derive-account.ts'
import type { CountedDispute } from './dispute-rules.ts'
import { listCountedDisputes, PAYS } from './dispute-store.ts'

/** What the mirror holds of an organization, as far as its account follows from it. */
export type MirrorState = {
  readonly subscriptions: readonly MirroredSubscription[]
  readonly invoices: readonly MirroredInvoice[]
  readonly customerPaymentMethodId: string | null
  readonly disputes: readonly CountedDispute[]
}

/** By organization, for each of those asked for. */
export async function readMirror(tx: Queryable, organizationIds: readonly string[]): Promise<ReadonlyMap<string, MirrorState>> {
  const [customers, subscriptions, invoices, disputes] = await Promise.all([
    tx.query<{ organizationId: string; paymentMethodId: string | null }>(
      `select organization.id as "organizationId", customer.default_payment_method_id as "paymentMethodId"
       from organizations organization
       join stripe_customers customer
         on customer.organization_id = organization.id and customer.id = organization.stripe_customer_id
       where organization.id = any($1) and not customer.deleted`,
      [organizationIds],
    ),
    listMirroredSubscriptions(tx, organizationIds),
    listUnsettledInvoices(tx, organizationIds),
    listCountedDisputes(tx, organizationIds),
  ])
  const methods = new Map(customers.rows.map(({ organizationId, paymentMethodId }) => [organizationId, paymentMethodId]))
  return new Map(
    organizationIds.map((id) => [
      id,
      {
        subscriptions: subscriptions.get(id) ?? [],
        invoices: invoices.get(id) ?? [],
        customerPaymentMethodId: methods.get(id) ?? null,
        disputes: disputes.filter(({ organizationId }) => organizationId === id),
      },
    ]),
  )
}

/** Of a `stripe_subscriptions subscription` and its latest `stripe_invoices waiting`: that a change of it, or its resumption, is given once that is paid. */
export const IS_WAITED_FOR = `(subscription.pending_update_expires_at is not null
  or subscription.status = 'paused' and waiting.billing_reason = 'subscription_update')`

/** The first payment of a `stripe_invoices invoice`: a later one takes nothing back of it, however long that is under way. */
export const FIRST_TRY = `lateral (
  select charge.status, charge.failed_at from stripe_charges charge
  where charge.organization_id = invoice.organization_id and ${PAYS}
  order by charge.created_at, charge.id limit 1)`

type Owned = { readonly organizationId: string }
type SubscriptionRow = Omit<MirroredSubscription, 'items' | 'scheduled'> & {
  readonly scheduledPriceId: string | null
  readonly scheduledAt: Instant | null
}
type ItemRow = Omit<MirroredItem, 'quantity'> & { readonly subscriptionId: string; readonly quantity: bigint | null }

async function listMirroredSubscriptions(
  tx: Queryable,
  organizationIds: readonly string[],
): Promise<ReadonlyMap<string, MirroredSubscription[]>> {
  const [subscriptions, items] = await Promise.all([
    tx.query<SubscriptionRow & Owned>(
      `select organization_id as "organizationId", id, status, cancel_at as "cancelAt", cancel_at_period_end as "cancelAtPeriodEnd",
         trial_end as "trialEnd", cycle_anchor as "cycleAnchor", ended_at as "endedAt",
         created_at as "createdAt",
         scheduled_price_id as "scheduledPriceId", scheduled_at as "scheduledAt",
         case when not exists (
           select from stripe_customers customer
           where customer.organization_id = subscription.organization_id and customer.id = customer_id and customer.deleted
         ) then default_payment_method_id end as "defaultPaymentMethodId",
         (select waiting.id from stripe_invoices waiting
          where waiting.organization_id = subscription.organization_id and waiting.id = subscription.latest_invoice_id
            and ${IS_WAITED_FOR}) as "pendingInvoiceId"
       from stripe_subscriptions subscription where organization_id = any($1)`,
      [organizationIds],
    ),
    tx.query<ItemRow>(
      `select subscription_id as "subscriptionId", id, price_id as "priceId", quantity,
         current_period_start as "currentPeriodStart", current_period_end as "currentPeriodEnd"
       from stripe_subscription_items where organization_id = any($1)`,
      [organizationIds],
    ),
  ])
  const itemsOf = Map.groupBy(items.rows, ({ subscriptionId }) => subscriptionId)
  return ownedBy(subscriptions.rows, ({ scheduledPriceId, scheduledAt, ...subscription }) => ({
    ...subscription,
    scheduled: scheduledPriceId === null || scheduledAt === null ? null : { priceId: scheduledPriceId, at: scheduledAt },
    items: (itemsOf.get(subscription.id) ?? []).map((item) => ({
      ...item,
      quantity: item.quantity === null ? null : Number(item.quantity),
    })),
  }))
}

async function listUnsettledInvoices(
  tx: Queryable,
  organizationIds: readonly string[],
): Promise<ReadonlyMap<string, MirroredInvoice[]>> {
  const { rows } = await tx.query<Omit<MirroredInvoice, 'amountRemainingMinor'> & { amountRemainingMinor: bigint } & Owned>(
    `select invoice.organization_id as "organizationId", invoice.id, subscription_id as "subscriptionId", invoice.status,
       collection_method as "collectionMethod", attempted, amount_remaining_minor as "amountRemainingMinor",
       finalized_at as "finalizedAt", invoice.created_at as "createdAt", coalesce(tried.status = 'pending', false) as "underWay",
       tried.failed_at as "failedAt"
     from stripe_invoices invoice
     left join ${FIRST_TRY} tried on invoice.attempted
     where invoice.organization_id = any($1) and invoice.status in ('draft', 'open')`,
    [organizationIds],
  )
  return ownedBy(rows, (row) => ({ ...row, amountRemainingMinor: Number(row.amountRemainingMinor) }))
}

/** Rows by their organization, without naming it again. */
function ownedBy<Row extends Owned, Mirrored>(
  rows: readonly Row[],
  map: (row: Omit<Row, 'organizationId'>) => Mirrored,
): ReadonlyMap<string, Mirrored[]> {
  const owned = new Map<string, Mirrored[]>()
  for (const { organizationId, ...row } of rows) {
    const own = owned.get(organizationId)
    if (own === undefined) owned.set(organizationId, [map(row)])
    else own.push(map(row))
  }
  return owned
}

export async function readPlansByPrice(tx: Queryable, priceIds: readonly string[]): Promise<ReadonlyMap<string, SoldPlan>> {
  const { rows } = await tx.query<SoldPlan & { priceId: string }>(
    `select stripe_price_id as "priceId", plan_key as "planKey", price_key as "priceKey", catalog_version as "catalogVersion"
     from plan_prices where stripe_price_id = any($1)`,
    [priceIds],
  )
  return new Map(rows.map(({ priceId, ...sold }) => [priceId, sold]))
}

/** Of prices of plans and of their use: those that are sold no more, where it is known in which version they were sold last. */
export async function readSoldUntil(tx: Queryable, priceIds: readonly string[]): Promise<ReadonlyMap<string, SoldUntil>> {
  const { rows } = await tx.query<SoldUntil & { priceId: string }>(
    `select stripe_price_id as "priceId", superseded_at as at, last_catalog_version as "catalogVersion" from (
       select stripe_price_id, superseded_at, last_catalog_version from plan_prices
       union all select stripe_price_id, superseded_at, last_catalog_version from usage_prices where plan_key is not null
     ) price where stripe_price_id = any($1) and superseded_at is not null and last_catalog_version is not null`,
    [priceIds],
  )
  return new Map(rows.map(({ priceId, ...until }) => [priceId, until]))
}

/**
 * Locks accounts for the rest of the transaction, in the order in which everybody locks them, and answers what they hold; an organization
 * that has none yet is left out.
 */
export async function lockAccounts(
  tx: Queryable,
  organizationIds: readonly string[],
): Promise<ReadonlyMap<string, DerivedAccount>> {
  const { rows } = await tx.query<Omit<DerivedAccount, 'quantity'> & { quantity: bigint | null } & Owned>(
    `select organization_id as "organizationId", plan_key as "planKey", catalog_version as "catalogVersion",
       subscription_id as "subscriptionId", subscription_status as "subscriptionStatus",
       current_period_start as "currentPeriodStart", current_period_end as "currentPeriodEnd", cycle_anchor as "cycleAnchor",
       trial_ends_at as "trialEndsAt", cancel_at as "cancelAt", payment_failed_at as "paymentFailedAt", stripe_price_id as "stripePriceId",
       price_key as "priceKey", quantity, payment_method_id as "paymentMethodId", next_invoice_at as "nextInvoiceAt",
       scheduled_plan_key as "scheduledPlanKey", scheduled_price_key as "scheduledPriceKey", scheduled_at as "scheduledAt",
       ended_at as "endedAt", left_owing_since as "leftOwingSince"
     from unnest($1::text[]) as asked (id)
     cross join lateral (select * from accounts where organization_id = asked.id for update) as account`,
    [organizationIds.toSorted()],
  )
  return new Map(
    rows.map(({ organizationId, quantity, ...account }) => [
      organizationId,
      { ...account, quantity: quantity === null ? null : Number(quantity) },
    ]),
  )
}

/** Counts the add-ons of the subscriptions on which the accounts stand; one that has ended has none. */
export async function refreshAddOns(tx: Queryable, organizationIds: readonly string[]): Promise<void> {
  if (organizationIds.length === 0) return
  await tx.query(
    `update accounts account set add_ons = counted.add_ons
     from unnest($1::text[]) as own (id)
     join accounts held on held.organization_id = own.id
     cross join lateral (
       select coalesce(jsonb_object_agg(add_on_key, quantity), '{}') as add_ons from (
         select sold.add_on_key, sum(coalesce(item.quantity, 1)) as quantity
         from stripe_subscription_items item join add_on_prices sold on sold.stripe_price_id = item.price_id
         where item.organization_id = held.organization_id and item.subscription_id = held.subscription_id
           and held.subscription_status in ('active', 'trialing', 'past_due', 'unpaid', 'paused')
         group by sold.add_on_key) as sums) as counted
     where account.organization_id = own.id and account.add_ons is distinct from counted.add_ons`,
    [organizationIds],
  )
}

export type OwnAccount = DerivedAccount & { readonly organizationId: string }

/** Writes what is derived; what operators set stays. */
export async function upsertAccounts(tx: Queryable, accounts: readonly OwnAccount[], now: Instant): Promise<void> {
  if (accounts.length === 0) return
  await tx.query(
    `insert into accounts (organization_id, plan_key, catalog_version, subscription_id, subscription_status,
       current_period_start, current_period_end, trial_ends_at, cancel_at, payment_failed_at, stripe_price_id, price_key,
       quantity, payment_method_id, next_invoice_at, scheduled_plan_key, scheduled_price_key, scheduled_at, ended_at, left_owing_since,
       cycle_anchor, updated_at)
     select "organizationId", "planKey", "catalogVersion", "subscriptionId", "subscriptionStatus", "currentPeriodStart",
       "currentPeriodEnd", "trialEndsAt", "cancelAt", "paymentFailedAt", "stripePriceId", "priceKey", quantity, "paymentMethodId",
       "nextInvoiceAt", "scheduledPlanKey", "scheduledPriceKey", "scheduledAt", "endedAt", "leftOwingSince", "cycleAnchor", $2
     from jsonb_to_recordset($1) as row ("organizationId" text, "planKey" text, "catalogVersion" integer, "subscriptionId" text,
       "subscriptionStatus" text, "currentPeriodStart" timestamptz, "currentPeriodEnd" timestamptz, "trialEndsAt" timestamptz,
       "cancelAt" timestamptz, "paymentFailedAt" timestamptz, "stripePriceId" text, "priceKey" text, quantity bigint,
       "paymentMethodId" text, "nextInvoiceAt" timestamptz, "scheduledPlanKey" text, "scheduledPriceKey" text,
       "scheduledAt" timestamptz, "endedAt" timestamptz, "leftOwingSince" timestamptz, "cycleAnchor" timestamptz)
     on conflict (organization_id) do update set
       (plan_key, catalog_version, subscription_id, subscription_status, current_period_start, current_period_end,
        trial_ends_at, cancel_at, payment_failed_at, stripe_price_id, price_key, quantity, payment_method_id, next_invoice_at,
        scheduled_plan_key, scheduled_price_key, scheduled_at, ended_at, left_owing_since, cycle_anchor,
        updated_at) =
       (excluded.plan_key, excluded.catalog_version, excluded.subscription_id, excluded.subscription_status,
        excluded.current_period_start, excluded.current_period_end, excluded.trial_ends_at, excluded.cancel_at,
        excluded.payment_failed_at, excluded.stripe_price_id, excluded.price_key, excluded.quantity,
        excluded.payment_method_id, excluded.next_invoice_at, excluded.scheduled_plan_key, excluded.scheduled_price_key,
        excluded.scheduled_at, excluded.ended_at, excluded.left_owing_since,
        excluded.cycle_anchor, excluded.updated_at)`,
    [JSON.stringify(accounts), now],
  )
}
