import { hash } from 'node:crypto'
import type { Queryable } from '../../db/database.ts'
import type { Instant } from '../../lib/clock.ts'
import type { WholeObject } from '../gateway/wire.ts'
import type { StripeState } from './fetch.ts'

/** What was fetched of one organization, and when. */
export type MirrorWrite = {
  readonly organizationId: string
  /** The time before the fetch. */
  readonly refreshedAt: Instant
  /** The same by the database's clock. */
  readonly databaseAskedAt: string
  /** By the organization's own time. */
  readonly now: Instant
  /** Whether everything was fetched: then every row is written, whatever the mirror says that it holds. */
  readonly isComplete: boolean
  readonly state: StripeState
}

/** What the mirror held of an invoice. */
export type InvoiceState = { readonly status: string; readonly attemptCount: number }

export type MirrorOutcome = {
  /** Organizations of which a row was written or removed. */
  readonly changed: ReadonlySet<string>
  /** By their ids, the fetched invoices that the mirror held before. */
  readonly invoicesBefore: ReadonlyMap<string, InvoiceState>
}

/** A row on its way into the mirror; `digest` tells whether the mirror holds just this. */
type Row = {
  readonly id: string
  readonly organizationId: string
  readonly refreshedAt: Instant
  /** What it is made of, as JSON. */
  readonly text: string
  readonly digest: string
}

/**
 * Writes what was fetched of any number of organizations, each of them there once. A refetch mostly brings what is known already:
 * what the mirror holds is asked first, by digests, and only rows that differ are written. Writing a
 * customer's newest invoices again took 2.2 ms of PostgreSQL at each refetch (docs/decisions/0127-webhooks-in-groups.md).
 */
export async function writeMirror(tx: Queryable, writes: readonly MirrorWrite[]): Promise<MirrorOutcome> {
  const rows = rowsOf(writes)
  const tables = ['stripe_customers', 'stripe_subscriptions', 'stripe_payment_methods', 'stripe_charges'] as const
  const [invoices, ...others] = await Promise.all([
    findInvoices(tx, rows.stripe_invoices),
    ...tables.map((table) => findDigests(tx, table, rows[table])),
  ])
  const complete = new Set(writes.filter(({ isComplete }) => isComplete).map(({ organizationId }) => organizationId))
  const held = new Map([...invoices, ...others.flat()].map(({ id, digest }) => [id, digest]))
  const differing = <Mirrored extends Row>(all: readonly Mirrored[]): readonly Mirrored[] =>
    all.filter(({ id, organizationId, digest }) => complete.has(organizationId) || held.get(id) !== digest)
  const changes = await Promise.all([
    // Before they are overwritten.
    noteLateFailures(tx, writes),
    upsertCustomers(tx, differing(rows.stripe_customers)),
    ...upsertSubscriptions(tx, differing(rows.stripe_subscriptions)),
    upsertPaymentMethods(tx, differing(rows.stripe_payment_methods)),
    deleteOtherPaymentMethods(tx, writes),
    upsertCharges(tx, differing(rows.stripe_charges)),
    upsertInvoices(tx, differing(rows.stripe_invoices)),
    deleteInvoices(tx, writes),
    ...writes.filter(({ state }) => state.customerGone).map((write) => endSubscriptionsOfCustomer(tx, write)),
    recordSyncs(tx, writes),
  ])
  return {
    changed: new Set(changes.flat()),
    invoicesBefore: new Map(invoices.map(({ id, status, attemptCount }) => [id, { status, attemptCount }])),
  }
}

function rowsOf(writes: readonly MirrorWrite[]) {
  const rows = <Source extends Whole & { readonly id: string }>(sourcesOf: (state: StripeState) => readonly Source[]) =>
    writes.flatMap(({ organizationId, refreshedAt, state }) =>
      sourcesOf(state).map((source) => {
        const text = toJson(source)
        // Of the row as this version makes it: one that reads more of an object writes it anew.
        return { ...source, organizationId, refreshedAt, text, digest: hash('sha1', text, 'base64') }
      }),
    )
  return {
    stripe_customers: rows(({ customer }) => (customer === null ? [] : [customer])),
    stripe_subscriptions: rows(({ subscriptions }) =>
      subscriptions.map((subscription) => ({
        ...subscription,
        scheduledItems: subscription.scheduled?.items ?? [],
        scheduledAt: subscription.scheduled?.at ?? null,
      })),
    ),
    stripe_payment_methods: rows(({ customerId, paymentMethods }) =>
      (paymentMethods ?? []).map((method) => ({ ...method, customerId })),
    ),
    stripe_charges: rows(({ charges }) => charges),
    stripe_invoices: rows(({ invoices }) => invoices),
  }
}

/** What is written of an object, with the object itself. */
type Whole = { readonly data: WholeObject }

/** As `JSON.stringify` would write it, if it could be told that `data` is JSON already. */
function toJson({ data, ...columns }: Whole): string {
  return `${JSON.stringify(columns).slice(0, -1)},"data":${data.text}}`
}

type MirrorTable = 'stripe_customers' | 'stripe_subscriptions' | 'stripe_payment_methods' | 'stripe_charges'

async function findDigests(tx: Queryable, table: MirrorTable, rows: readonly Row[]) {
  if (rows.length === 0) return []
  const found = await tx.query<{ id: string; digest: string | null }>(
    `select mirror.id, mirror.digest from unnest($1::text[], $2::text[]) as asked (organization_id, id)
     join ${table} mirror on mirror.organization_id = asked.organization_id and mirror.id = asked.id`,
    [rows.map(({ organizationId }) => organizationId), rows.map(({ id }) => id)],
  )
  return found.rows
}

async function findInvoices(tx: Queryable, rows: readonly Row[]) {
  if (rows.length === 0) return []
  const found = await tx.query<InvoiceState & { id: string; digest: string | null }>(
    `select mirror.id, mirror.digest, mirror.status, mirror.attempt_count as "attemptCount"
     from unnest($1::text[], $2::text[]) as asked (organization_id, id)
     join stripe_invoices mirror on mirror.organization_id = asked.organization_id and mirror.id = asked.id`,
    [rows.map(({ organizationId }) => organizationId), rows.map(({ id }) => id)],
  )
  return found.rows
}

/** Runs a statement whose `$1` is the rows as JSON; answers whose rows they are. */
async function write(tx: Queryable, text: string, rows: readonly Row[]): Promise<readonly string[]> {
  return writeJson(tx, text, rows, ({ organizationId, refreshedAt, digest, text: made }) => {
    const own = JSON.stringify({ organizationId, refreshedAt, digest })
    return `${own.slice(0, -1)},${made.slice(1)}`
  })
}

type Owned = { readonly organizationId: string }

async function writeJson<Written extends Owned>(
  tx: Queryable,
  text: string,
  rows: readonly Written[],
  toText: (row: Written) => string,
): Promise<readonly string[]> {
  if (rows.length === 0) return []
  await tx.query(text, [`[${rows.map(toText).join(',')}]`])
  return rows.map(({ organizationId }) => organizationId)
}

/** Runs a statement that names the organizations of the rows that it touched. */
async function touch(tx: Queryable, text: string, values: readonly unknown[]): Promise<readonly string[]> {
  const { rows } = await tx.query<{ organization_id: string }>(text, [...values])
  return rows.map(({ organization_id: organizationId }) => organizationId)
}

function upsertCustomers(tx: Queryable, rows: readonly Row[]) {
  return write(
    tx,
    `insert into stripe_customers (organization_id, id, deleted, email, name, currency, balance_minor, delinquent,
       default_payment_method_id, created_at, data, refreshed_at, digest)
     select "organizationId", id, deleted, email, name, currency, "balanceMinor", delinquent, "defaultPaymentMethodId", "createdAt",
       data, "refreshedAt", digest
     from jsonb_to_recordset($1) as row ("organizationId" text, id text, deleted boolean, email text, name text, currency text,
       "balanceMinor" bigint, delinquent boolean, "defaultPaymentMethodId" text, "createdAt" timestamptz, data jsonb,
       "refreshedAt" timestamptz, digest text)
     on conflict (organization_id, id) do update set
       (deleted, email, name, currency, balance_minor, delinquent, default_payment_method_id, data, refreshed_at, digest) =
       (excluded.deleted, excluded.email, excluded.name, excluded.currency, excluded.balance_minor, excluded.delinquent,
        excluded.default_payment_method_id, excluded.data, excluded.refreshed_at, excluded.digest)`,
    rows,
  )
}

type SubscriptionRow = Row & { readonly items: readonly { readonly id: string }[] }

/**
 * Subscriptions with their items; items that a subscription no longer has are removed. What is scheduled is the item of the next phase that
 * sells a plan, as of the subscription itself; where none does, the first.
 */
function upsertSubscriptions(tx: Queryable, rows: readonly SubscriptionRow[]) {
  const items = rows.flatMap(({ id, organizationId, items: own }) =>
    own.map((item) => ({ ...item, organizationId, subscriptionId: id })),
  )
  return [
    write(
      tx,
      `insert into stripe_subscriptions (organization_id, id, customer_id, status, currency, collection_method, cancel_at,
         cancel_at_period_end, canceled_at, ended_at, trial_start, trial_end, pause_behavior, default_payment_method_id,
         latest_invoice_id, schedule_id, scheduled_price_id, scheduled_quantity, scheduled_at, pending_update_expires_at,
         cycle_anchor, discounts, created_at, data, refreshed_at, digest)
       select "organizationId", id, "customerId", status, currency, "collectionMethod", "cancelAt", "cancelAtPeriodEnd", "canceledAt", "endedAt",
         "trialStart", "trialEnd", "pauseBehavior", "defaultPaymentMethodId", "latestInvoiceId", "scheduleId", next."priceId",
         next.quantity, "scheduledAt", "pendingUpdateExpiresAt", "cycleAnchor", discounts, "createdAt", data, "refreshedAt", digest
       from jsonb_to_recordset($1) as row ("organizationId" text, id text, "customerId" text, status text, currency text, "collectionMethod" text,
         "cancelAt" timestamptz, "cancelAtPeriodEnd" boolean, "canceledAt" timestamptz, "endedAt" timestamptz,
         "trialStart" timestamptz, "trialEnd" timestamptz, "pauseBehavior" text, "defaultPaymentMethodId" text,
         "latestInvoiceId" text, "scheduleId" text, "scheduledItems" jsonb, "scheduledAt" timestamptz,
         "pendingUpdateExpiresAt" timestamptz, "cycleAnchor" timestamptz, discounts jsonb, "createdAt" timestamptz, data jsonb, "refreshedAt" timestamptz,
         digest text)
       left join lateral (
         select item."priceId", coalesce(item.quantity, 1) as quantity
         from rows from (jsonb_to_recordset("scheduledItems") as ("priceId" text, quantity bigint)) with ordinality as item ("priceId", quantity, position)
         order by not exists (select from plan_prices price where price.stripe_price_id = item."priceId"), position limit 1
       ) next on true
       on conflict (organization_id, id) do update set
         (status, currency, collection_method, cancel_at, cancel_at_period_end, canceled_at, ended_at, trial_start, trial_end,
          pause_behavior, default_payment_method_id, latest_invoice_id, schedule_id, scheduled_price_id, scheduled_quantity, scheduled_at,
          pending_update_expires_at, cycle_anchor, discounts, data, refreshed_at, digest) =
         (excluded.status, excluded.currency, excluded.collection_method, excluded.cancel_at, excluded.cancel_at_period_end,
          excluded.canceled_at, excluded.ended_at, excluded.trial_start, excluded.trial_end, excluded.pause_behavior,
          excluded.default_payment_method_id, excluded.latest_invoice_id, excluded.schedule_id, excluded.scheduled_price_id,
          excluded.scheduled_quantity, excluded.scheduled_at, excluded.pending_update_expires_at, excluded.cycle_anchor, excluded.discounts,
          excluded.data, excluded.refreshed_at, excluded.digest)`,
      rows,
    ),
    upsertItems(tx, items),
    deleteOtherItems(tx, rows, items),
  ]
}

function upsertItems(tx: Queryable, items: readonly Owned[]) {
  return writeJson(
    tx,
    `insert into stripe_subscription_items (organization_id, subscription_id, id, price_id, product_id, quantity,
       unit_amount_minor, currency, billing_interval, interval_count, usage_type, current_period_start, current_period_end)
     select "organizationId", "subscriptionId", id, "priceId", "productId", quantity, "unitAmountMinor", currency, "interval", "intervalCount",
       "usageType", "currentPeriodStart", "currentPeriodEnd"
     from jsonb_to_recordset($1) as row ("organizationId" text, "subscriptionId" text, id text, "priceId" text, "productId" text, quantity bigint,
       "unitAmountMinor" bigint, currency text, "interval" text, "intervalCount" integer, "usageType" text,
       "currentPeriodStart" timestamptz, "currentPeriodEnd" timestamptz)
     on conflict (organization_id, id) do update set
       (subscription_id, price_id, product_id, quantity, unit_amount_minor, currency, billing_interval, interval_count,
        usage_type, current_period_start, current_period_end) =
       (excluded.subscription_id, excluded.price_id, excluded.product_id, excluded.quantity, excluded.unit_amount_minor,
        excluded.currency, excluded.billing_interval, excluded.interval_count, excluded.usage_type,
        excluded.current_period_start, excluded.current_period_end)`,
    items,
    (item) => JSON.stringify(item),
  )
}

async function deleteOtherItems(tx: Queryable, subscriptions: readonly Row[], kept: readonly { readonly id: string }[]) {
  if (subscriptions.length === 0) return []
  return touch(
    tx,
    `delete from stripe_subscription_items item using unnest($1::text[], $2::text[]) as own (organization_id, id)
     where item.organization_id = own.organization_id and item.subscription_id = own.id and not item.id = any($3)
     returning item.organization_id`,
    [subscriptions.map(({ organizationId }) => organizationId), subscriptions.map(({ id }) => id), kept.map(({ id }) => id)],
  )
}

/** A customer that was deleted at Stripe takes its subscriptions with it. */
function endSubscriptionsOfCustomer(tx: Queryable, { organizationId, refreshedAt, state }: MirrorWrite) {
  return touch(
    tx,
    `update stripe_subscriptions set status = 'canceled', ended_at = coalesce(ended_at, $3), refreshed_at = $3, digest = null
     where organization_id = $1 and customer_id = $2 and status not in ('canceled', 'incomplete_expired')
     returning organization_id`,
    [organizationId, state.customerId, refreshedAt],
  )
}

function upsertInvoices(tx: Queryable, rows: readonly Row[]) {
  return write(
    tx,
    `insert into stripe_invoices (organization_id, id, customer_id, subscription_id, number, status, billing_reason,
       collection_method, currency, subtotal_minor, total_minor, amount_due_minor, amount_paid_minor, amount_remaining_minor,
       amount_credited_minor, credited_by_refund_minor, credited_outside_minor, credited_lines, attempted, attempt_count, next_payment_attempt_at, period_start, period_end, due_at, finalized_at, paid_at,
       hosted_invoice_url, invoice_pdf, payment_ids, created_at, data, refreshed_at, digest)
     select "organizationId", id, "customerId", "subscriptionId", number, status, "billingReason", "collectionMethod", currency,
       "subtotalMinor", "totalMinor", "amountDueMinor", "amountPaidMinor", "amountRemainingMinor", "amountCreditedMinor",
       "creditedByRefundMinor", "creditedOutsideMinor", "creditedLines", attempted, "attemptCount",
       "nextPaymentAttemptAt", "periodStart", "periodEnd", "dueAt", "finalizedAt", "paidAt", "hostedInvoiceUrl", "invoicePdf",
       "paymentIds", "createdAt", data, "refreshedAt", digest
     from jsonb_to_recordset($1) as row ("organizationId" text, id text, "customerId" text, "subscriptionId" text, number text, status text,
       "billingReason" text, "collectionMethod" text, currency text, "subtotalMinor" bigint, "totalMinor" bigint,
       "amountDueMinor" bigint, "amountPaidMinor" bigint, "amountRemainingMinor" bigint, "amountCreditedMinor" bigint,
       "creditedByRefundMinor" bigint, "creditedOutsideMinor" bigint, "creditedLines" jsonb, attempted boolean,
       "attemptCount" integer, "nextPaymentAttemptAt" timestamptz, "periodStart" timestamptz, "periodEnd" timestamptz,
       "dueAt" timestamptz, "finalizedAt" timestamptz, "paidAt" timestamptz, "hostedInvoiceUrl" text, "invoicePdf" text,
       "paymentIds" text[], "createdAt" timestamptz, data jsonb, "refreshedAt" timestamptz,
       digest text)
     on conflict (organization_id, id) do update set
       (subscription_id, number, status, billing_reason, collection_method, currency, subtotal_minor, total_minor,
        amount_due_minor, amount_paid_minor, amount_remaining_minor, amount_credited_minor, credited_by_refund_minor,
        credited_outside_minor, credited_lines, attempted, attempt_count, next_payment_attempt_at,
        period_start, period_end, due_at, finalized_at, paid_at, hosted_invoice_url, invoice_pdf, payment_ids,
        data, refreshed_at, digest) =
       (excluded.subscription_id, excluded.number, excluded.status, excluded.billing_reason, excluded.collection_method,
        excluded.currency, excluded.subtotal_minor, excluded.total_minor, excluded.amount_due_minor, excluded.amount_paid_minor,
        excluded.amount_remaining_minor, excluded.amount_credited_minor, excluded.credited_by_refund_minor,
        excluded.credited_outside_minor, excluded.credited_lines, excluded.attempted, excluded.attempt_count, excluded.next_payment_attempt_at,
        excluded.period_start, excluded.period_end, excluded.due_at, excluded.finalized_at, excluded.paid_at,
        excluded.hosted_invoice_url, excluded.invoice_pdf, excluded.payment_ids, excluded.data, excluded.refreshed_at, excluded.digest)`,
    rows,
  )
}

/** A draft that was deleted at Stripe leaves no trace there either. */
async function deleteInvoices(tx: Queryable, writes: readonly MirrorWrite[]) {
  const gone = writes.flatMap(({ organizationId, state }) => state.goneInvoiceIds.map((id) => ({ organizationId, id })))
  if (gone.length === 0) return []
  return touch(
    tx,
    `delete from stripe_invoices invoice using unnest($1::text[], $2::text[]) as gone (organization_id, id)
     where invoice.organization_id = gone.organization_id and invoice.id = gone.id returning invoice.organization_id`,
    [gone.map(({ organizationId }) => organizationId), gone.map(({ id }) => id)],
  )
}

function upsertPaymentMethods(tx: Queryable, rows: readonly Row[]) {
  return write(
    tx,
    `insert into stripe_payment_methods (organization_id, id, customer_id, type, card_brand, card_last4, card_exp_month,
       card_exp_year, created_at, data, refreshed_at, digest)
     select "organizationId", id, "customerId", type, card ->> 'brand', card ->> 'last4', (card ->> 'expMonth')::integer, (card ->> 'expYear')::integer,
       "createdAt", data, "refreshedAt", digest
     from jsonb_to_recordset($1) as row ("organizationId" text, id text, "customerId" text, type text, card jsonb, "createdAt" timestamptz, data jsonb, "refreshedAt" timestamptz,
       digest text)
     on conflict (organization_id, id) do update set
       (card_brand, card_last4, card_exp_month, card_exp_year, data, refreshed_at, digest) =
       (excluded.card_brand, excluded.card_last4, excluded.card_exp_month, excluded.card_exp_year, excluded.data,
        excluded.refreshed_at, excluded.digest)`,
    rows,
  )
}

/** The list that was fetched is the whole list: a payment method that is not in it was detached. */
async function deleteOtherPaymentMethods(tx: Queryable, writes: readonly MirrorWrite[]) {
  const listed = writes.filter(({ state }) => state.paymentMethods !== null)
  if (listed.length === 0) return []
  return touch(
    tx,
    'delete from stripe_payment_methods where organization_id = any($1) and not id = any($2) returning organization_id',
    [
      listed.map(({ organizationId }) => organizationId),
      listed.flatMap(({ state }) => (state.paymentMethods ?? []).map(({ id }) => id)),
    ],
  )
}

/** Payments that were under way when they were last looked at, and have failed: the bank of a debit answers days later. */
async function noteLateFailures(tx: Queryable, writes: readonly MirrorWrite[]): Promise<readonly string[]> {
  const failed = writes.flatMap(({ organizationId, now, state }) =>
    state.charges.flatMap(({ id, status }) => (status === 'failed' ? [{ organizationId, id, now }] : [])),
  )
  if (failed.length === 0) return []
  return touch(
    tx,
    `update stripe_charges charge set failed_at = failed.now
     from unnest($1::text[], $2::text[], $3::timestamptz[]) as failed (organization_id, id, now)
     where charge.organization_id = failed.organization_id and charge.id = failed.id and charge.status = 'pending'
     returning charge.organization_id`,
    [failed.map(({ organizationId }) => organizationId), failed.map(({ id }) => id), failed.map(({ now }) => now)],
  )
}

function upsertCharges(tx: Queryable, rows: readonly Row[]) {
  return write(
    tx,
    `insert into stripe_charges (organization_id, id, customer_id, payment_intent_id, amount_minor, amount_refunded_minor,
       currency, status, paid, refunded, disputed, description, failure_code, created_at, data, refreshed_at, digest)
     select "organizationId", id, "customerId", "paymentIntentId", "amountMinor", "amountRefundedMinor", currency, status, paid, refunded,
       disputed, description, "failureCode", "createdAt", data, "refreshedAt", digest
     from jsonb_to_recordset($1) as row ("organizationId" text, id text, "customerId" text, "paymentIntentId" text, "amountMinor" bigint,
       "amountRefundedMinor" bigint, currency text, status text, paid boolean, refunded boolean, disputed boolean,
       description text, "failureCode" text, "createdAt" timestamptz, data jsonb, "refreshedAt" timestamptz,
       digest text)
     on conflict (organization_id, id) do update set
       (amount_minor, amount_refunded_minor, status, paid, refunded, disputed, description, failure_code, data, refreshed_at, digest) =
       (excluded.amount_minor, excluded.amount_refunded_minor, excluded.status, excluded.paid, excluded.refunded,
        excluded.disputed, excluded.description, excluded.failure_code, excluded.data, excluded.refreshed_at, excluded.digest)`,
    rows,
  )
}

/** How fresh each organization's mirror is now; that alone is no change. */
async function recordSyncs(tx: Queryable, writes: readonly MirrorWrite[]): Promise<readonly string[]> {
  await tx.query(
    `insert into stripe_syncs (organization_id, synced_at, database_asked_at, reconciled_at)
     select id, synced_at, asked_at, case when is_complete then synced_at end
     from unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::boolean[]) as row (id, synced_at, asked_at, is_complete)
     on conflict (organization_id) do update set (synced_at, database_asked_at, reconciled_at) =
       (excluded.synced_at, excluded.database_asked_at, coalesce(excluded.reconciled_at, stripe_syncs.reconciled_at))`,
    [
      writes.map(({ organizationId }) => organizationId),
      writes.map(({ refreshedAt }) => refreshedAt),
      writes.map(({ databaseAskedAt }) => databaseAskedAt),
      writes.map(({ isComplete }) => isComplete),
    ],
  )
  return []
}
