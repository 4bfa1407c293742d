import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { InvoiceStatus } from '../stripe/gateway/snapshots.ts'
import { PAYS } from '../stripe/mirror/dispute-store.ts'

export type Invoice = {
  readonly id: string
  readonly subscriptionId: string | null
  readonly number: string | null
  readonly status: InvoiceStatus
  readonly billingReason: string | null
  readonly currency: string
  readonly subtotalMinor: number
  readonly totalMinor: number
  readonly amountDueMinor: number
  readonly amountPaidMinor: number
  readonly amountRemainingMinor: number
  readonly attempted: boolean
  readonly nextPaymentAttemptAt: Instant | null
  readonly periodStart: Instant
  readonly periodEnd: Instant
  readonly dueAt: Instant | null
  readonly paidAt: Instant | null
  readonly hostedInvoiceUrl: string | null
  readonly invoicePdf: string | null
  readonly createdAt: Instant
  /** What of its payments was given back. */
  readonly amountRefundedMinor: number
  /** What credit notes took off, before it was paid or after. */
  readonly amountCreditedMinor: number
  /** The newest dispute of one of them. */
  readonly dispute: InvoiceDispute | null
}

export type InvoiceDispute = {
  readonly id: string
  readonly status: string
  readonly reason: string
  readonly amountMinor: number
  /** Stripe's time as text; null when there is nothing to answer. */
  readonly dueAt: string | null
}

type Amounts =
  | 'subtotalMinor'
  | 'totalMinor'
  | 'amountDueMinor'
  | 'amountPaidMinor'
  | 'amountRemainingMinor'
  | 'amountRefundedMinor'
  | 'amountCreditedMinor'
/** As the columns below answer it. */
export type InvoiceRow = Omit<Invoice, Amounts> & { readonly [Amount in Amounts]: bigint }

export const INVOICE_COLUMNS = `id, subscription_id as "subscriptionId", number, status, billing_reason as "billingReason", currency,
  subtotal_minor as "subtotalMinor", total_minor as "totalMinor", amount_due_minor as "amountDueMinor",
  amount_paid_minor as "amountPaidMinor", amount_remaining_minor as "amountRemainingMinor", attempted,
  next_payment_attempt_at as "nextPaymentAttemptAt", period_start as "periodStart", period_end as "periodEnd", due_at as "dueAt",
  paid_at as "paidAt", hosted_invoice_url as "hostedInvoiceUrl", invoice_pdf as "invoicePdf", created_at as "createdAt",
  amount_refunded_minor as "amountRefundedMinor", amount_credited_minor as "amountCreditedMinor",
  (select jsonb_build_object('id', dispute.id, 'status', dispute.status, 'reason', dispute.reason, 'amountMinor', dispute.amount_minor,
     'dueAt', dispute.due_at)
   from stripe_disputes dispute
   where dispute.id = dispute_id) as dispute`

export function toInvoice(row: InvoiceRow): Invoice {
  return {
    ...row,
    subtotalMinor: Number(row.subtotalMinor),
    totalMinor: Number(row.totalMinor),
    amountDueMinor: Number(row.amountDueMinor),
    amountPaidMinor: Number(row.amountPaidMinor),
    amountRemainingMinor: Number(row.amountRemainingMinor),
    amountRefundedMinor: Number(row.amountRefundedMinor),
    amountCreditedMinor: Number(row.amountCreditedMinor),
  }
}

/** Newest first. */
export async function listInvoices(
  db: Queryable,
  query: { organizationId: string; status: InvoiceStatus | null; limit: number; before: string | null },
): Promise<Invoice[]> {
  const { rows } = await db.query<InvoiceRow>(
    `select ${INVOICE_COLUMNS} from stripe_invoices
     where organization_id = $1 and ($2::text is null or status = $2)
       and ($4::text is null or (created_at, id) < (select created_at, id from stripe_invoices where organization_id = $1 and id = $4))
     order by created_at desc, id desc limit $3`,
    [query.organizationId, query.status, query.limit, query.before],
  )
  return rows.map(toInvoice)
}

export async function findInvoice(db: Queryable, organizationId: string, id: string): Promise<Invoice | null> {
  const { rows } = await db.query<InvoiceRow>(
    `select ${INVOICE_COLUMNS} from stripe_invoices where organization_id = $1 and id = $2`,
    [organizationId, id],
  )
  return rows[0] ? toInvoice(rows[0]) : null
}

/** Whether a debit of a bank account pays it, which the bank has not answered: it takes days. */
export async function isBeingPaid(db: Queryable, organizationId: string, id: string): Promise<boolean> {
  const { rowCount } = await db.query(
    `select from stripe_invoices invoice
     join stripe_charges charge on charge.organization_id = invoice.organization_id
       and ${PAYS} and charge.status = 'pending'
     where invoice.organization_id = $1 and invoice.id = $2 limit 1`,
    [organizationId, id],
  )
  return rowCount === 1
}

export type PaymentMethod = {
  readonly id: string
  readonly type: string
  readonly cardBrand: string | null
  readonly cardLast4: string | null
  readonly cardExpMonth: number | null
  readonly cardExpYear: number | null
  readonly createdAt: Instant
  /** Whether the next invoice is charged to it. */
  readonly isDefault: boolean
}

/** The one that is charged first, then the newest. */
export async function listPaymentMethods(db: Queryable, organizationId: string): Promise<PaymentMethod[]> {
  const { rows } = await db.query<PaymentMethod>(
    `select method.id, type, card_brand as "cardBrand", card_last4 as "cardLast4", card_exp_month as "cardExpMonth",
       card_exp_year as "cardExpYear", created_at as "createdAt",
       coalesce(method.id = account.payment_method_id, false) as "isDefault"
     from stripe_payment_methods method left join accounts account using (organization_id)
     where organization_id = $1 order by "isDefault" desc, created_at desc, method.id`,
    [organizationId],
  )
  return rows
}

/** The subscription whose own payment method goes before the customer's (Stripe's order), if there is one, and what is scheduled of it. */
export async function findSubscriptionWithMethod(
  db: Queryable,
  organizationId: string,
): Promise<{ readonly id: string; readonly scheduleId: string | null } | null> {
  const { rows } = await db.query<{ id: string; scheduleId: string | null }>(
    `select subscription.id, subscription.schedule_id as "scheduleId" from accounts account
     join stripe_subscriptions subscription
       on subscription.organization_id = account.organization_id and subscription.id = account.subscription_id
     where account.organization_id = $1 and subscription.default_payment_method_id is not null
       and subscription.status not in ('canceled', 'incomplete_expired')`,
    [organizationId],
  )
  return rows[0] ?? null
}

/**
 * The customer's default payment method, for an invoice of a subscription that has ended: Stripe would go on charging what that subscription
 * was paid with. null where Stripe's own order holds.
 */
export async function findMethodInstead(
  db: Queryable,
  organizationId: string,
  subscriptionId: string | null,
): Promise<string | null> {
  const { rows } = await db.query<{ method: string | null }>(
    `select customer.default_payment_method_id as method from stripe_subscriptions subscription
     join stripe_customers customer on customer.id = subscription.customer_id
     where subscription.organization_id = $1 and subscription.id = $2 and subscription.status in ('canceled', 'incomplete_expired')`,
    [organizationId, subscriptionId],
  )
  return rows[0]?.method ?? null
}

/** When the organization's mirror was last refreshed; null when it never was. */
export async function findSyncTime(db: Queryable, organizationId: string): Promise<Instant | null> {
  const { rows } = await db.query<{ at: Instant | null }>('select synced_at as at from stripe_syncs where organization_id = $1', [
    organizationId,
  ])
  return rows[0]?.at ?? null
}
