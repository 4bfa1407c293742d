import type { Instant } from '../../lib/clock.ts'
import { fromUnix, fromUnixOrNull, idOf, requiredId, WholeObject, type Reference } from './wire.ts'

export type PaymentMethodSnapshot = {
  readonly id: string
  readonly customerId: string | null
  readonly type: string
  readonly card: {
    readonly brand: string
    readonly last4: string
    readonly expMonth: number
    readonly expYear: number
  } | null
  readonly createdAt: Instant
  readonly data: WholeObject
}

export type ChargeSnapshot = {
  readonly id: string
  readonly customerId: string | null
  readonly paymentIntentId: string | null
  readonly amountMinor: number
  readonly amountRefundedMinor: number
  readonly currency: string
  readonly status: string
  /** The money is there: a debit that is under way may still fail. */
  readonly paid: boolean
  readonly refunded: boolean
  readonly disputed: boolean
  readonly description: string | null
  readonly failureCode: string | null
  readonly createdAt: Instant
  readonly data: WholeObject
}

export type WirePaymentMethod = {
  readonly id: string
  readonly customer: Reference | null
  readonly type: string
  readonly card?: {
    readonly brand: string
    readonly last4: string
    readonly exp_month: number
    readonly exp_year: number
  }
  readonly created: number
}

export type WireCharge = {
  readonly id: string
  readonly customer: Reference | null
  readonly payment_intent: Reference | null
  readonly amount: number
  readonly amount_refunded: number
  readonly currency: string
  readonly status: string
  readonly paid: boolean
  readonly refunded: boolean
  readonly disputed: boolean
  readonly description: string | null
  readonly failure_code: string | null
  readonly created: number
}

export function toPaymentMethodSnapshot(wire: WirePaymentMethod): PaymentMethodSnapshot {
  const { card } = wire
  return {
    id: wire.id,
    customerId: idOf(wire.customer),
    type: wire.type,
    card: card ? { brand: card.brand, last4: card.last4, expMonth: card.exp_month, expYear: card.exp_year } : null,
    createdAt: fromUnix(wire.created),
    data: new WholeObject(wire),
  }
}

export function toChargeSnapshot(wire: WireCharge): ChargeSnapshot {
  return {
    id: wire.id,
    customerId: idOf(wire.customer),
    paymentIntentId: idOf(wire.payment_intent),
    amountMinor: wire.amount,
    amountRefundedMinor: wire.amount_refunded,
    currency: wire.currency,
    status: wire.status,
    paid: wire.paid && wire.status !== 'pending',
    refunded: wire.refunded,
    disputed: wire.disputed,
    description: wire.description,
    failureCode: wire.failure_code,
    createdAt: fromUnix(wire.created),
    data: new WholeObject(wire),
  }
}

/** By which ids an invoice may name a payment that is this charge. */
export function paymentIdsOf({ id, paymentIntentId }: Pick<ChargeSnapshot, 'id' | 'paymentIntentId'>): readonly string[] {
  return paymentIntentId === null ? [id] : [id, paymentIntentId]
}

export type DisputeSnapshot = {
  readonly id: string
  readonly chargeId: string
  readonly amountMinor: number
  readonly currency: string
  readonly reason: string
  readonly status: string
  /** Until when evidence can be handed in. */
  readonly dueAt: Instant | null
  readonly createdAt: Instant
  readonly data: WholeObject
}

export type WireDispute = {
  readonly id: string
  readonly charge: Reference
  readonly amount: number
  readonly currency: string
  readonly reason: string
  readonly status: string
  readonly evidence_details: { readonly due_by: number | null }
  readonly created: number
}

export function toDisputeSnapshot(wire: WireDispute): DisputeSnapshot {
  return {
    id: wire.id,
    chargeId: requiredId(wire.charge),
    amountMinor: wire.amount,
    currency: wire.currency,
    reason: wire.reason,
    status: wire.status,
    dueAt: fromUnixOrNull(wire.evidence_details.due_by),
    createdAt: fromUnix(wire.created),
    data: new WholeObject(wire),
  }
}
