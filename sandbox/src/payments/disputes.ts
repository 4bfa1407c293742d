import type { Ctx } from '../engine/context.ts'
import { invalidRequest } from '../engine/errors.ts'
import type { Stored } from '../model/stored.ts'
import { disputeDueBy, disputeFee } from './inferred.ts'
import { recordBalanceTransaction } from './ledger.ts'
import type { DisputeKind } from './test-cards.ts'

export type Dispute = Stored<'dispute'>
type Evidence = Dispute['evidence']

const noEvidence: Evidence = {
  access_activity_log: null,
  billing_address: null,
  cancellation_policy: null,
  cancellation_policy_disclosure: null,
  cancellation_rebuttal: null,
  customer_communication: null,
  customer_email_address: null,
  customer_name: null,
  customer_purchase_ip: null,
  customer_signature: null,
  duplicate_charge_documentation: null,
  duplicate_charge_explanation: null,
  duplicate_charge_id: null,
  enhanced_evidence: {},
  product_description: null,
  receipt: null,
  refund_policy: null,
  refund_policy_disclosure: null,
  refund_refusal_explanation: null,
  service_date: null,
  service_documentation: null,
  shipping_address: null,
  shipping_carrier: null,
  shipping_date: null,
  shipping_documentation: null,
  shipping_tracking_number: null,
  uncategorized_file: null,
  uncategorized_text: null,
}

const reasons: Readonly<Record<DisputeKind, string>> = {
  fraudulent: 'fraudulent',
  product_not_received: 'product_not_received',
  inquiry: 'general',
}

const networkReasons: Readonly<Record<DisputeKind, string>> = { fraudulent: '10.4', product_not_received: '13.1', inquiry: '10' }

const isInquiry = (dispute: Dispute): boolean => dispute.status.startsWith('warning_')

/** Moves the disputed money and tells of it. */
function moveFunds(ctx: Ctx, dispute: Dispute, direction: 'withdrawn' | 'reinstated'): void {
  const now = ctx.nowOf(disputeOwner(ctx, dispute))
  const withdrawn = direction === 'withdrawn'
  const transaction = recordBalanceTransaction(ctx, {
    amount: withdrawn ? -dispute.amount : dispute.amount,
    availableOn: now,
    currency: dispute.currency,
    customer: disputeOwner(ctx, dispute).customer,
    description: `Chargeback ${withdrawn ? 'withdrawal' : 'reversal'} for ${dispute.charge}`,
    fee: withdrawn ? disputeFee : 0,
    feeDescription: 'Dispute fee',
    reportingCategory: withdrawn ? 'dispute' : 'dispute_reversal',
    source: dispute.id,
    type: 'adjustment',
  })
  const balanceTransactions = [...dispute._.balanceTransactions, transaction.id]
  ctx.change(
    'dispute',
    dispute.id,
    { _: { balanceTransactions } },
    withdrawn ? 'charge.dispute.funds_withdrawn' : 'charge.dispute.funds_reinstated',
  )
}

function disputeOwner(ctx: Ctx, dispute: Dispute): { customer: string | null } {
  return { customer: ctx.get('charge', dispute.charge)?.customer ?? null }
}

/** The holder of a charge's card disputes it. Emits `charge.dispute.created`, and `funds_withdrawn` unless it is an inquiry. */
export function openDispute(ctx: Ctx, charge: Stored<'charge'>, kind: DisputeKind): Dispute {
  const now = ctx.now(charge.customer)
  const brand = charge.payment_method_details?.card?.brand ?? 'visa'
  const inquiry = kind === 'inquiry'
  ctx.update('charge', charge.id, { disputed: true })
  const dispute = ctx.create(
    'dispute',
    {
      id: ctx.newId('du', 24),
      object: 'dispute',
      amount: charge.amount_captured,
      charge: charge.id,
      created: now,
      currency: charge.currency,
      enhanced_eligibility_types: [],
      evidence: noEvidence,
      evidence_details: {
        due_by: disputeDueBy(now),
        enhanced_eligibility: {},
        has_evidence: false,
        past_due: false,
        submission_count: 0,
        submission_method: 'not_submitted',
      },
      intended_submission_method: 'manual',
      is_charge_refundable: inquiry,
      livemode: false,
      metadata: {},
      network_reason_code: networkReasons[kind],
      payment_intent: charge.payment_intent,
      payment_method_details: {
        card: { brand, case_type: inquiry ? 'inquiry' : 'chargeback', network: brand, network_reason_code: networkReasons[kind] },
        type: 'card',
      },
      reason: reasons[kind],
      status: inquiry ? 'warning_needs_response' : 'needs_response',
      _: { balanceTransactions: [] },
    },
    'charge.dispute.created',
  )
  if (!inquiry) moveFunds(ctx, dispute, 'withdrawn')
  return ctx.require('dispute', dispute.id)
}

type Ending = 'won' | 'lost' | 'warning_closed'

/** Ends a dispute. Winning gives the money back. Emits `charge.dispute.closed`. */
export function endDispute(ctx: Ctx, id: string, status: Ending): Dispute {
  const closed = ctx.change('dispute', id, { is_charge_refundable: status === 'warning_closed', status }, 'charge.dispute.closed')
  if (status === 'won') moveFunds(ctx, closed, 'reinstated')
  if (status === 'won' || status === 'warning_closed') ctx.update('charge', closed.charge, { disputed: false })
  return ctx.require('dispute', id)
}

/** The evidence texts that decide a test dispute. Source: https://docs.stripe.com/testing#disputes (evidence). */
function endingOf(text: string | null, inquiry: boolean): Ending | null {
  if (text === 'winning_evidence') return inquiry ? 'warning_closed' : 'won'
  if (text === 'losing_evidence') return inquiry ? 'warning_closed' : 'lost'
  return null
}

/**
 * Stores evidence, and submits it unless `submit` is false. Emits `charge.dispute.updated`; the test texts `winning_evidence`
 * and `losing_evidence` end the dispute at once.
 */
export function submitEvidence(
  ctx: Ctx,
  id: string,
  change: { readonly evidence: Partial<Evidence>; readonly metadata: Record<string, string>; readonly submit: boolean },
): Dispute {
  const dispute = ctx.require('dispute', id)
  const given = Object.keys(change.evidence).length > 0
  const open = dispute.status === 'needs_response' || dispute.status === 'warning_needs_response'
  if (given && !open) throw invalidRequest(`This dispute is already ${dispute.status}; its evidence can no longer be changed.`)
  const evidence = { ...dispute.evidence, ...change.evidence }
  const hasEvidence = Object.values(evidence).some((value) => typeof value === 'string' && value !== '')
  const submits = given && change.submit
  const details = dispute.evidence_details
  const changed = ctx.change(
    'dispute',
    id,
    {
      evidence,
      evidence_details: {
        ...details,
        has_evidence: hasEvidence,
        submission_count: details.submission_count + (submits ? 1 : 0),
        submission_method: submits ? 'manual' : details.submission_method,
      },
      metadata: change.metadata,
      ...(submits ? { status: isInquiry(dispute) ? ('warning_under_review' as const) : ('under_review' as const) } : {}),
    },
    'charge.dispute.updated',
  )
  const ending = submits ? endingOf(evidence.uncategorized_text, isInquiry(dispute)) : null
  return ending === null ? changed : endDispute(ctx, id, ending)
}

/** Accepts a dispute as lost. */
export function closeDispute(ctx: Ctx, id: string): Dispute {
  const dispute = ctx.require('dispute', id)
  if (dispute.status !== 'needs_response' && dispute.status !== 'warning_needs_response') {
    throw invalidRequest(`This dispute is already ${dispute.status} and cannot be closed.`)
  }
  return endDispute(ctx, id, isInquiry(dispute) ? 'warning_closed' : 'lost')
}

/** A dispute that nobody answered is lost when its time is over. */
export function expireDispute(ctx: Ctx, dispute: Dispute): void {
  const evidence_details = { ...dispute.evidence_details, past_due: true }
  ctx.update('dispute', dispute.id, { evidence_details })
  endDispute(ctx, dispute.id, isInquiry(dispute) ? 'warning_closed' : 'lost')
}
