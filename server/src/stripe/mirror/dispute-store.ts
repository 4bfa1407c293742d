import { hash } from 'node:crypto'
import type { Queryable } from '../../db/database.ts'
import type { Instant } from '../../lib/clock.ts'
import { paymentIdsOf } from '../gateway/payment-snapshots.ts'
import { disputeOutcome, unpaidSince, type CountedDispute } from './dispute-rules.ts'
import type { StripeState } from './fetch.ts'

export type DisputeWrite = {
  readonly organizationId: string
  readonly refreshedAt: Instant
  /** By the organization's own time. */
  readonly now: Instant
  readonly state: StripeState
}

/** What the mirror held before. */
export type PaymentStates = {
  /** Status by dispute. */
  readonly disputes: ReadonlyMap<string, string>
  /** Refunded minor units by charge. */
  readonly refunded: ReadonlyMap<string, number>
  /** Charges that were under way. */
  readonly pending: ReadonlySet<string>
}

/** What the mirror holds of the charges and disputes that were fetched; read before it is overwritten. */
export async function findPaymentStates(tx: Queryable, states: readonly StripeState[]): Promise<PaymentStates> {
  const disputeIds = states.flatMap(({ disputes }) => disputes.map(({ id }) => id))
  const chargeIds = states.flatMap(({ charges }) =>
    charges.filter((one) => one.amountRefundedMinor > 0 || one.status === 'failed').map(({ id }) => id),
  )
  const [disputes, charges] = await Promise.all([
    disputeIds.length === 0
      ? { rows: [] }
      : tx.query<{ id: string; status: string }>('select id, status from stripe_disputes where id = any($1)', [disputeIds]),
    chargeIds.length === 0
      ? { rows: [] }
      : tx.query<{ id: string; refunded: number; status: string }>(
          'select id, amount_refunded_minor::float8 as refunded, status from stripe_charges where id = any($1)',
          [chargeIds],
        ),
  ])
  return {
    disputes: new Map(disputes.rows.map(({ id, status }) => [id, status])),
    refunded: new Map(charges.rows.map(({ id, refunded }) => [id, refunded])),
    pending: new Set(charges.rows.flatMap(({ id, status }) => (status === 'pending' ? [id] : []))),
  }
}

/**
 * Writes disputes, and what charges and disputes mean for the invoices that they paid. Answers whose rows were touched.
 * Stripe does not say when a dispute ended. One that was seen while it was open ends when that is heard of; one that had ended
 * before counts from its beginning, so that whatever was paid since settles it.
 */
export async function writeDisputes(
  tx: Queryable,
  writes: readonly DisputeWrite[],
  { disputes: known }: PaymentStates,
): Promise<readonly string[]> {
  const rows = writes.flatMap(({ organizationId, refreshedAt, now, state }) =>
    state.disputes.map((dispute) => ({
      ...dispute,
      organizationId,
      refreshedAt,
      closedAt: disputeOutcome(dispute.status) === 'open' ? null : known.has(dispute.id) ? now : dispute.createdAt,
      digest: hash('sha1', JSON.stringify(dispute), 'base64'),
    })),
  )
  const written = rows.length === 0 ? [] : await upsertDisputes(tx, rows)
  return [...written, ...(await reflectPayments(tx, writes))]
}

async function upsertDisputes(tx: Queryable, disputes: readonly object[]): Promise<readonly string[]> {
  const { rows } = await tx.query<{ id: string }>(
    `insert into stripe_disputes as mirror (organization_id, id, charge_id, amount_minor, currency, reason, status, due_at, created_at,
       closed_at, data, refreshed_at, digest)
     select "organizationId", id, "chargeId", "amountMinor", currency, reason, status, "dueAt", "createdAt", "closedAt", data,
       "refreshedAt", digest
     from jsonb_to_recordset($1) as row ("organizationId" text, id text, "chargeId" text, "amountMinor" bigint, currency text,
       reason text, status text, "dueAt" timestamptz, "createdAt" timestamptz, "closedAt" timestamptz, data jsonb,
       "refreshedAt" timestamptz, digest text)
     on conflict (organization_id, id) do update set
       (amount_minor, reason, status, due_at, closed_at, data, refreshed_at, digest) =
       (excluded.amount_minor, excluded.reason, excluded.status, excluded.due_at,
        case when excluded.closed_at is not null then coalesce(mirror.closed_at, excluded.closed_at) end,
        excluded.data, excluded.refreshed_at, excluded.digest)
     where mirror.digest is distinct from excluded.digest
     returning organization_id as id`,
    [JSON.stringify(disputes)],
  )
  return rows.map(({ id }) => id)
}

/** Of a `stripe_charges charge` and a `stripe_invoices invoice` of one organization: that the one pays, or is to pay, the other. */
export const PAYS = '(charge.payment_intent_id = any(invoice.payment_ids) or charge.id = any(invoice.payment_ids))'

/** Brings the invoices in line that the fetched charges have paid. */
async function reflectPayments(tx: Queryable, writes: readonly DisputeWrite[]): Promise<readonly string[]> {
  const payments = writes.flatMap(({ organizationId, state }) =>
    state.charges.flatMap((charge) => paymentIdsOf(charge).map((paymentId) => ({ organizationId, paymentId }))),
  )
  if (payments.length === 0) return []
  const { rows } = await tx.query<{ id: string }>(
    `update stripe_invoices invoice set amount_refunded_minor = actual.refunded, dispute_id = actual.dispute_id
     from (
       select invoice.organization_id, invoice.id, coalesce(sum(charge.amount_refunded_minor), 0)::bigint as refunded,
         (select dispute.id from stripe_disputes dispute
          where dispute.organization_id = invoice.organization_id and dispute.charge_id = any(array_agg(charge.id))
          order by dispute.created_at desc, dispute.id desc limit 1) as dispute_id
       from stripe_invoices invoice
       join stripe_charges charge on charge.organization_id = invoice.organization_id and ${PAYS}
       where invoice.organization_id = any($1) and invoice.payment_ids && $2
       group by invoice.organization_id, invoice.id
     ) actual
     where invoice.organization_id = actual.organization_id and invoice.id = actual.id
       and (invoice.amount_refunded_minor, coalesce(invoice.dispute_id, '')) <> (actual.refunded, coalesce(actual.dispute_id, ''))
     returning invoice.organization_id as id`,
    [[...new Set(payments.map(({ organizationId }) => organizationId))], payments.map(({ paymentId }) => paymentId)],
  )
  return rows.map(({ id }) => id)
}

/** The metadata by which a payment says that it makes up for a disputed one. */
export const DISPUTE_METADATA = 'tollgate_dispute'

/** A dispute that may cost something, of an invoice. */
export type InvoiceDispute = CountedDispute & {
  readonly organizationId: string
  readonly id: string
  readonly amountMinor: number
  readonly currency: string
  readonly reason: string
}

/** Disputes of invoices that may cost something and were not paid again: what standing depends on. By organization. */
export async function listCountedDisputes(tx: Queryable, organizationIds: readonly string[]): Promise<readonly InvoiceDispute[]> {
  const { rows } = await tx.query<InvoiceDispute>(
    `select dispute.organization_id as "organizationId", dispute.id, dispute.amount_minor::float8 as "amountMinor", dispute.currency,
       dispute.reason, invoice.subscription_id as "subscriptionId", dispute.status,
       dispute.created_at as "createdAt", dispute.closed_at as "closedAt",
       (select max(paid_at) from stripe_invoices later where later.organization_id = invoice.organization_id
          and later.subscription_id = invoice.subscription_id and later.status = 'paid' and later.amount_paid_minor > 0) as "lastPaidAt"
     from stripe_disputes dispute
     join stripe_invoices invoice on invoice.organization_id = dispute.organization_id and invoice.dispute_id = dispute.id
     where dispute.organization_id = any($1) and dispute.status not in ('won', 'warning_closed', 'prevented')
       and not exists (select from stripe_charges charge where charge.organization_id = dispute.organization_id
         and charge.paid and not charge.refunded and charge.data -> 'metadata' ->> '${DISPUTE_METADATA}' = dispute.id)
     order by dispute.created_at desc, dispute.id`,
    [organizationIds],
  )
  return rows
}

/** Disputes that were lost and that nothing was paid for since, with when they were; the newest first. */
export async function listLostDisputes(
  tx: Queryable,
  organizationIds: readonly string[],
): Promise<readonly (InvoiceDispute & { readonly since: Instant })[]> {
  return (await listCountedDisputes(tx, organizationIds)).flatMap((dispute) => {
    const since = unpaidSince(dispute, 'lost')
    return since === null ? [] : [{ ...dispute, since }]
  })
}
