import { formatAmount } from '../billing/currencies.ts'
import type { Ctx } from '../engine/context.ts'
import { invalidRequest } from '../engine/errors.ts'
import type { Stored } from '../model/stored.ts'
import type { Charge } from './charges.ts'
import { refundSettlesAfterSeconds } from './inferred.ts'
import { recordBalanceTransaction } from './ledger.ts'
import { behaviourOf } from './payment-methods.ts'

export type Refund = Stored<'refund'>

export interface RefundRequest {
  readonly charge: Charge
  /** Minor units; null refunds what is left. */
  readonly amount: number | null
  readonly reason: 'duplicate' | 'fraudulent' | 'requested_by_customer' | null
  readonly metadata: Record<string, string>
}

/** What was captured and not given back; what a smaller capture released counts as refunded already. */
const refundable = (charge: Charge): number => charge.amount - charge.amount_refunded

function requireRefundable(charge: Charge, amount: number): void {
  if (charge.refunded) {
    throw invalidRequest(`Charge ${charge.id} has already been refunded.`, { code: 'charge_already_refunded' })
  }
  if (charge.disputed) {
    throw invalidRequest(`Charge ${charge.id} has been charged back; cannot issue a refund.`, { code: 'charge_disputed' })
  }
  if (charge.status !== 'succeeded') {
    throw invalidRequest(`Charge ${charge.id} has not succeeded, so it cannot be refunded.`, { param: 'charge' })
  }
  if (!charge.captured && (charge.payment_intent !== null || amount !== charge.amount)) {
    const words = `Charge ${charge.id} was not captured. Cancel its PaymentIntent, or refund the whole charge, to release it.`
    throw invalidRequest(words, { param: 'charge' })
  }
  if (amount < 1) {
    throw invalidRequest('This value must be greater than or equal to 1.', { param: 'amount', code: 'parameter_invalid_integer' })
  }
  const left = refundable(charge)
  if (amount > left) {
    const [asked, rest] = [amount, left].map((value) => formatAmount(String(value), charge.currency))
    throw invalidRequest(`Refund amount (${asked}) is greater than unrefunded amount on charge (${rest})`, { param: 'amount' })
  }
}

function giveBack(ctx: Ctx, charge: Charge, refund: string, amount: number): string {
  return recordBalanceTransaction(ctx, {
    amount: -amount,
    availableOn: ctx.now(charge.customer),
    currency: charge.currency,
    customer: charge.customer,
    description: `REFUND FOR CHARGE${charge.description === null ? '' : ` (${charge.description})`}`,
    fee: 0,
    feeDescription: '',
    reportingCategory: 'refund',
    source: refund,
    type: 'refund',
  }).id
}

function testBehaviour(ctx: Ctx, charge: Charge): 'pending' | 'fails' | undefined {
  const method = charge.payment_method === null ? undefined : ctx.get('payment_method', charge.payment_method)
  return method === undefined ? undefined : behaviourOf(method).refund
}

/**
 * Refunds a charge, the whole of it or less. Emits `refund.created` and `charge.refunded`. Throws `charge_already_refunded`,
 * `charge_disputed`, or the amount's error.
 */
export function createRefund(ctx: Ctx, request: RefundRequest): Refund {
  const { charge } = request
  const amount = request.amount ?? refundable(charge)
  requireRefundable(charge, amount)
  const id = ctx.newId('re', 24)
  const now = ctx.now(charge.customer)
  const behaviour = testBehaviour(ctx, charge)
  const next = behaviour === undefined ? null : { at: now + refundSettlesAfterSeconds, status: nextStatus(behaviour) }
  const refund = ctx.create(
    'refund',
    {
      id,
      object: 'refund',
      amount,
      // Releasing an authorization moves no money.
      balance_transaction: charge.captured ? giveBack(ctx, charge, id, amount) : null,
      charge: charge.id,
      created: now,
      currency: charge.currency,
      customer: charge.customer,
      customer_account: null,
      destination_details: {
        card: { reference_status: 'pending', reference_type: 'acquirer_reference_number', type: 'refund' },
        type: 'card',
      },
      metadata: request.metadata,
      payment_intent: charge.payment_intent,
      payment_method: charge.payment_method,
      reason: request.reason,
      receipt_number: null,
      source_transfer_reversal: null,
      status: behaviour === 'pending' ? 'pending' : 'succeeded',
      transfer_reversal: null,
      _: { next },
    },
    'refund.created',
  )
  const amount_refunded = charge.amount_refunded + amount
  ctx.change('charge', charge.id, { amount_refunded, refunded: amount_refunded === charge.amount }, 'charge.refunded')
  return refund
}

function nextStatus(behaviour: 'pending' | 'fails'): 'succeeded' | 'failed' {
  return behaviour === 'pending' ? 'succeeded' : 'failed'
}

/** Brings a test refund to its end. Emits `refund.updated`, or `refund.failed` and gives the money back to the balance. */
export function settleRefund(ctx: Ctx, refund: Refund): void {
  const next = refund._.next
  if (next === null) return
  if (next.status === 'succeeded') {
    ctx.change('refund', refund.id, { status: 'succeeded', _: { next: null } }, 'refund.updated')
    return
  }
  const failure_balance_transaction = recordBalanceTransaction(ctx, {
    amount: refund.amount,
    availableOn: ctx.now(refund.customer),
    currency: refund.currency,
    customer: refund.customer,
    description: 'REFUND FAILURE',
    fee: 0,
    feeDescription: '',
    reportingCategory: 'refund_failure',
    source: refund.id,
    type: 'refund_failure',
  }).id
  const failed = { failure_balance_transaction, failure_reason: 'expired_or_canceled_card', status: 'failed', _: { next: null } }
  ctx.change('refund', refund.id, failed, 'refund.failed')
  if (refund.charge === null) return
  const charge = ctx.require('charge', refund.charge)
  ctx.update('charge', charge.id, { amount_refunded: charge.amount_refunded - refund.amount, refunded: false })
}
