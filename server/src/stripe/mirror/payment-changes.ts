import type { Instant } from '../../lib/clock.ts'
import type { ChargeSnapshot, DisputeSnapshot } from '../gateway/payment-snapshots.ts'
import type { BillingEvent } from './billing-events.ts'
import { disputeOutcome } from './dispute-rules.ts'
import type { PaymentStates } from './dispute-store.ts'

export type PaymentChange = {
  readonly before: PaymentStates
  readonly charges: readonly ChargeSnapshot[]
  readonly disputes: readonly DisputeSnapshot[]
}

/** What of payments came back, or is asked back, between two states of the mirror, in the change that `id` names. Pure. */
export function paymentEvents(
  { before, charges, disputes }: PaymentChange,
  { id, now }: { readonly id: string; readonly now: Instant },
): BillingEvent[] {
  return [
    ...charges.flatMap((charge) => refundEvent(charge, before.refunded.get(charge.id) ?? null, { id, now })),
    ...disputes.flatMap((dispute) => disputeEvents(dispute, before.disputes.get(dispute.id) ?? null, now)),
  ]
}

/** A bank may send a refund back, and the next one be of the same sum. A charge that was not known is told of once for each sum. */
function refundEvent(
  charge: ChargeSnapshot,
  refundedBefore: number | null,
  change: { readonly id: string; readonly now: Instant },
): BillingEvent[] {
  const { id, amountMinor, amountRefundedMinor, currency } = charge
  if (amountRefundedMinor <= (refundedBefore ?? 0)) return []
  const key = `payment.refunded:${id}:${refundedBefore === null ? amountRefundedMinor : change.id}`
  const data = { charge_id: id, currency, amount_minor: amountMinor, amount_refunded_minor: amountRefundedMinor }
  return [{ key, kind: 'payment.refunded', data, occurredAt: change.now }]
}

function disputeEvents(dispute: DisputeSnapshot, statusBefore: string | null, now: Instant): BillingEvent[] {
  const { id, chargeId, amountMinor, currency, reason, status, dueAt, createdAt } = dispute
  const data = {
    dispute_id: id,
    charge_id: chargeId,
    currency,
    amount_minor: amountMinor,
    reason,
    status,
    respond_by: dueAt?.toISOString() ?? null,
  }
  const events: BillingEvent[] = []
  if (statusBefore === null) events.push({ key: `dispute.opened:${id}`, kind: 'dispute.opened', data, occurredAt: createdAt })
  const isOver = disputeOutcome(status) !== 'open'
  if (isOver && (statusBefore === null || disputeOutcome(statusBefore) === 'open')) {
    events.push({ key: `dispute.closed:${id}`, kind: 'dispute.closed', data, occurredAt: now })
  }
  return events
}
