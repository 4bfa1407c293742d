import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { ChargeSnapshot, PaymentMethodSnapshot } from './payment-snapshots.ts'
import type { CustomerSnapshot, InvoiceSnapshot, SubscriptionSnapshot } from './snapshots.ts'

/** Whose rows, and when they were fetched. */
export type MirrorWrite = { readonly organizationId: string; readonly refreshedAt: Instant }

export async function upsertCustomer(tx: Queryable, { organizationId, refreshedAt }: MirrorWrite, customer: CustomerSnapshot) {
  await tx.query(
    `insert into stripe_customers as mirror (organization_id, id, deleted, email, name, currency, balance_minor, delinquent,
       default_payment_method_id, created_at, data, refreshed_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
     on conflict (organization_id, id) do update set
       (deleted, email, name, currency, balance_minor, delinquent, default_payment_method_id, data, refreshed_at) =
       (excluded.deleted, excluded.email, excluded.name, excluded.currency, excluded.balance_minor, excluded.delinquent,
        excluded.default_payment_method_id, excluded.data, excluded.refreshed_at)`,
    [
      organizationId,
      customer.id,
      customer.deleted,
      customer.email,
      customer.name,
      customer.currency,
      customer.balanceMinor,
      customer.delinquent,
      customer.defaultPaymentMethodId,
      customer.createdAt,
      customer.data,
      refreshedAt,
    ],
  )
}

/** Upserts subscriptions with their items; items that a subscription no longer has are removed. */
export async function upsertSubscriptions(
  tx: Queryable,
  { organizationId, refreshedAt }: MirrorWrite,
  subscriptions: readonly SubscriptionSnapshot[],
): Promise<void> {
  if (subscriptions.length === 0) return
  const rows = subscriptions.map((subscription) => ({
    ...subscription,
    scheduledPriceId: subscription.scheduled?.priceId ?? null,
    scheduledAt: subscription.scheduled?.at ?? null,
  }))
  await tx.query(
    `insert into stripe_subscriptions (organization_id, id, customer_id, status, currency, collection_method, cancel_at,
       cancel_at_period_end, canceled_at, ended_at, trial_start, trial_end, pause_behavior, default_payment_method_id,
       latest_invoice_id, schedule_id, scheduled_price_id, scheduled_at, pending_update_expires_at, created_at, data, refreshed_at)
     select $1, id, "customerId", status, currency, "collectionMethod", "cancelAt", "cancelAtPeriodEnd", "canceledAt", "endedAt",
       "trialStart", "trialEnd", "pauseBehavior", "defaultPaymentMethodId", "latestInvoiceId", "scheduleId", "scheduledPriceId",
       "scheduledAt", "pendingUpdateExpiresAt", "createdAt", data, $3
     from jsonb_to_recordset($2) as row (id text, "customerId" text, status text, currency text, "collectionMethod" text,
       "cancelAt" timestamptz, "cancelAtPeriodEnd" boolean, "canceledAt" timestamptz, "endedAt" timestamptz,
       "trialStart" timestamptz, "trialEnd" timestamptz, "pauseBehavior" text, "defaultPaymentMethodId" text,
       "latestInvoiceId" text, "scheduleId" text, "scheduledPriceId" text, "scheduledAt" timestamptz,
       "pendingUpdateExpiresAt" timestamptz, "createdAt" timestamptz, data jsonb)
     on conflict (organization_id, id) do update set
       (status, currency, collection_method, cancel_at, cancel_at_period_end, canceled_at, ended_at, trial_start, trial_end,
        pause_behavior, default_payment_method_id, latest_invoice_id, schedule_id, scheduled_price_id, scheduled_at,
        pending_update_expires_at, data, refreshed_at) =
       (excluded.status, excluded.currency, excluded.collection_method, excluded.cancel_at, excluded.cancel_at_period_end,
        excluded.canceled_at, excluded.ended_at, excluded.trial_start, excluded.trial_end, excluded.pause_behavior,
        excluded.default_payment_method_id, excluded.latest_invoice_id, excluded.schedule_id, excluded.scheduled_price_id,
        excluded.scheduled_at, excluded.pending_update_expires_at, excluded.data, excluded.refreshed_at)`,
    [organizationId, JSON.stringify(rows), refreshedAt],
  )
  const items = subscriptions.flatMap(({ id, items: own }) => own.map((item) => ({ ...item, subscriptionId: id })))
  await upsertItems(tx, organizationId, items)
  await tx.query(
    `delete from stripe_subscription_items
     where organization_id = $1 and subscription_id = any($2) and not id = any($3)`,
    [organizationId, subscriptions.map(({ id }) => id), items.map(({ id }) => id)],
  )
}

async function upsertItems(tx: Queryable, organizationId: string, items: readonly object[]): Promise<void> {
  await tx.query(
    `insert into stripe_subscription_items (organization_id, subscription_id, id, price_id, product_id, quantity,
       unit_amount_minor, currency, billing_interval, interval_count, usage_type, current_period_start, current_period_end)
     select $1, "subscriptionId", id, "priceId", "productId", quantity, "unitAmountMinor", currency, "interval", "intervalCount",
       "usageType", "currentPeriodStart", "currentPeriodEnd"
     from jsonb_to_recordset($2) as row ("subscriptionId" text, id text, "priceId" text, "productId" text, quantity bigint,
       "unitAmountMinor" bigint, currency text, "interval" text, "intervalCount" integer, "usageType" text,
       "currentPeriodStart" timestamptz, "currentPeriodEnd" timestamptz)
     on conflict (organization_id, id) do update set
       (subscription_id, price_id, product_id, quantity, unit_amount_minor, currency, billing_interval, interval_count,
        usage_type, current_period_start, current_period_end) =
       (excluded.subscription_id, excluded.price_id, excluded.product_id, excluded.quantity, excluded.unit_amount_minor,
        excluded.currency, excluded.billing_interval, excluded.interval_count, excluded.usage_type,
        excluded.current_period_start, excluded.current_period_end)`,
    [organizationId, JSON.stringify(items)],
  )
}

/** A customer that was deleted at Stripe takes its subscriptions with it. */
export async function endSubscriptionsOfCustomer(
  tx: Queryable,
  { organizationId, refreshedAt }: MirrorWrite,
  customerId: string,
): Promise<void> {
  await tx.query(
    `update stripe_subscriptions set status = 'canceled', ended_at = coalesce(ended_at, $3), refreshed_at = $3
     where organization_id = $1 and customer_id = $2 and status not in ('canceled', 'incomplete_expired')`,
    [organizationId, customerId, refreshedAt],
  )
}

export async function upsertInvoices(
  tx: Queryable,
  { organizationId, refreshedAt }: MirrorWrite,
  invoices: readonly InvoiceSnapshot[],
): Promise<void> {
  if (invoices.length === 0) return
  await tx.query(
    `insert into stripe_invoices (organization_id, id, customer_id, subscription_id, number, status, billing_reason,
       collection_method, currency, subtotal_minor, total_minor, amount_due_minor, amount_paid_minor, amount_remaining_minor,
       attempted, attempt_count, next_payment_attempt_at, period_start, period_end, due_at, finalized_at, paid_at,
       hosted_invoice_url, invoice_pdf, created_at, data, refreshed_at)
     select $1, id, "customerId", "subscriptionId", number, status, "billingReason", "collectionMethod", currency,
       "subtotalMinor", "totalMinor", "amountDueMinor", "amountPaidMinor", "amountRemainingMinor", attempted, "attemptCount",
       "nextPaymentAttemptAt", "periodStart", "periodEnd", "dueAt", "finalizedAt", "paidAt", "hostedInvoiceUrl", "invoicePdf",
       "createdAt", data, $3
     from jsonb_to_recordset($2) as row (id text, "customerId" text, "subscriptionId" text, number text, status text,
       "billingReason" text, "collectionMethod" text, currency text, "subtotalMinor" bigint, "totalMinor" bigint,
       "amountDueMinor" bigint, "amountPaidMinor" bigint, "amountRemainingMinor" bigint, attempted boolean,
       "attemptCount" integer, "nextPaymentAttemptAt" timestamptz, "periodStart" timestamptz, "periodEnd" timestamptz,
       "dueAt" timestamptz, "finalizedAt" timestamptz, "paidAt" timestamptz, "hostedInvoiceUrl" text, "invoicePdf" text,
       "createdAt" timestamptz, data jsonb)
     on conflict (organization_id, id) do update set
       (subscription_id, number, status, billing_reason, collection_method, currency, subtotal_minor, total_minor,
        amount_due_minor, amount_paid_minor, amount_remaining_minor, attempted, attempt_count, next_payment_attempt_at,
        period_start, period_end, due_at, finalized_at, paid_at, hosted_invoice_url, invoice_pdf, data, refreshed_at) =
       (excluded.subscription_id, excluded.number, excluded.status, excluded.billing_reason, excluded.collection_method,
        excluded.currency, excluded.subtotal_minor, excluded.total_minor, excluded.amount_due_minor, excluded.amount_paid_minor,
        excluded.amount_remaining_minor, excluded.attempted, excluded.attempt_count, excluded.next_payment_attempt_at,
        excluded.period_start, excluded.period_end, excluded.due_at, excluded.finalized_at, excluded.paid_at,
        excluded.hosted_invoice_url, excluded.invoice_pdf, excluded.data, excluded.refreshed_at)`,
    [organizationId, JSON.stringify(invoices), refreshedAt],
  )
}

/** A draft that was deleted at Stripe leaves no trace there either. */
export async function deleteInvoices(tx: Queryable, organizationId: string, ids: readonly string[]): Promise<void> {
  if (ids.length === 0) return
  await tx.query('delete from stripe_invoices where organization_id = $1 and id = any($2)', [organizationId, ids])
}

/** Replaces the whole list: a detached payment method is gone. */
export async function replacePaymentMethods(
  tx: Queryable,
  { organizationId, refreshedAt }: MirrorWrite,
  customerId: string,
  methods: readonly PaymentMethodSnapshot[],
): Promise<void> {
  await tx.query(
    `insert into stripe_payment_methods (organization_id, id, customer_id, type, card_brand, card_last4, card_exp_month,
       card_exp_year, created_at, data, refreshed_at)
     select $1, id, $4, type, card ->> 'brand', card ->> 'last4', (card ->> 'expMonth')::integer, (card ->> 'expYear')::integer,
       "createdAt", data, $3
     from jsonb_to_recordset($2) as row (id text, type text, card jsonb, "createdAt" timestamptz, data jsonb)
     on conflict (organization_id, id) do update set
       (card_brand, card_last4, card_exp_month, card_exp_year, data, refreshed_at) =
       (excluded.card_brand, excluded.card_last4, excluded.card_exp_month, excluded.card_exp_year, excluded.data,
        excluded.refreshed_at)`,
    [organizationId, JSON.stringify(methods), refreshedAt, customerId],
  )
  await tx.query('delete from stripe_payment_methods where organization_id = $1 and not id = any($2)', [
    organizationId,
    methods.map(({ id }) => id),
  ])
}

export async function upsertCharges(
  tx: Queryable,
  { organizationId, refreshedAt }: MirrorWrite,
  charges: readonly ChargeSnapshot[],
): Promise<void> {
  if (charges.length === 0) return
  await tx.query(
    `insert into stripe_charges (organization_id, id, customer_id, payment_intent_id, amount_minor, amount_refunded_minor,
       currency, status, paid, refunded, disputed, description, failure_code, created_at, data, refreshed_at)
     select $1, id, "customerId", "paymentIntentId", "amountMinor", "amountRefundedMinor", currency, status, paid, refunded,
       disputed, description, "failureCode", "createdAt", data, $3
     from jsonb_to_recordset($2) as row (id text, "customerId" text, "paymentIntentId" text, "amountMinor" bigint,
       "amountRefundedMinor" bigint, currency text, status text, paid boolean, refunded boolean, disputed boolean,
       description text, "failureCode" text, "createdAt" timestamptz, data jsonb)
     on conflict (organization_id, id) do update set
       (amount_minor, amount_refunded_minor, status, paid, refunded, disputed, description, failure_code, data, refreshed_at) =
       (excluded.amount_minor, excluded.amount_refunded_minor, excluded.status, excluded.paid, excluded.refunded,
        excluded.disputed, excluded.description, excluded.failure_code, excluded.data, excluded.refreshed_at)`,
    [organizationId, JSON.stringify(charges), refreshedAt],
  )
}

export async function recordSync(tx: Queryable, { organizationId, refreshedAt }: MirrorWrite, complete: boolean): Promise<void> {
  await tx.query(
    `insert into stripe_syncs (organization_id, synced_at, reconciled_at) values ($1, $2, $3)
     on conflict (organization_id) do update set
       (synced_at, reconciled_at) = (excluded.synced_at, coalesce(excluded.reconciled_at, stripe_syncs.reconciled_at))`,
    [organizationId, refreshedAt, complete ? refreshedAt : null],
  )
}
