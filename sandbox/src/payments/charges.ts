import type { Ctx } from '../engine/context.ts'
import type { Stored } from '../model/stored.ts'
import { describeMethod } from './cards.ts'
import { openDispute } from './disputes.ts'
import { availableOn, captureBefore, debitUnderWayIsPaid, processingFee, riskScore } from './inferred.ts'
import { recordBalanceTransaction } from './ledger.ts'
import { behaviourOf, recordBankChecks, type PaymentMethod } from './payment-methods.ts'
import type { DebitFailure } from './test-accounts.ts'
import type { CardOutcome, Decline } from './test-cards.ts'

export type Charge = Stored<'charge'>
type Shipping = Charge['shipping']

/** A try to take money from a method. */
export interface ChargeRequest {
  readonly amount: number
  readonly currency: string
  readonly method: PaymentMethod
  readonly customer: string | null
  readonly paymentIntent: string | null
  readonly description: string | null
  readonly metadata: Record<string, string>
  readonly receiptEmail: string | null
  readonly shipping: Shipping
  readonly statementDescriptor: string | null
  readonly statementDescriptorSuffix: string | null
  readonly transferGroup: string | null
  /** False leaves an authorization to be captured later. */
  readonly capture: boolean
  /** The holder answered a 3D Secure challenge for it. */
  readonly authenticated: boolean
}

function approvedOutcome(card: CardOutcome): NonNullable<Charge['outcome']> {
  const risk = card.risk ?? 'normal'
  return {
    advice_code: null,
    network_advice_code: null,
    network_decline_code: null,
    network_status: 'approved_by_network',
    reason: risk === 'elevated' ? 'elevated_risk_level' : null,
    risk_level: risk,
    risk_score: riskScore(risk),
    seller_message: 'Payment complete.',
    type: 'authorized',
  }
}

function declinedOutcome(card: CardOutcome, decline: Decline): NonNullable<Charge['outcome']> {
  const risk = card.risk ?? 'normal'
  const blocked = risk === 'highest'
  return {
    advice_code: decline.adviceCode,
    network_advice_code: null,
    network_decline_code: null,
    network_status: blocked ? 'not_sent_to_network' : 'declined_by_network',
    reason: blocked ? 'highest_risk_level' : decline.declineCode,
    risk_level: risk,
    risk_score: riskScore(risk),
    seller_message: decline.sellerMessage,
    type: blocked ? 'blocked' : 'issuer_declined',
  }
}

type CardDetails = NonNullable<NonNullable<Charge['payment_method_details']>['card']>

function cardDetails(request: ChargeRequest, now: number): CardDetails | undefined {
  const card = request.method.card
  if (card === undefined) return undefined
  return {
    amount_authorized: request.amount,
    authorization_code: null,
    brand: card.brand,
    ...(request.capture ? {} : { capture_before: captureBefore(now) }),
    checks: card.checks,
    country: card.country,
    electronic_commerce_indicator: null,
    exp_month: card.exp_month,
    exp_year: card.exp_year,
    extended_authorization: { status: 'disabled' },
    fingerprint: card.fingerprint ?? null,
    funding: card.funding,
    incremental_authorization: { status: 'unavailable' },
    installments: null,
    last4: card.last4,
    mandate: null,
    multicapture: { status: 'unavailable' },
    network: card.brand,
    network_token: { used: false },
    network_transaction_id: null,
    overcapture: { maximum_amount_capturable: request.amount, status: 'unavailable' },
    regulated_status: card.regulated_status,
    three_d_secure: request.authenticated ? authenticatedDetails : null,
    transaction_link_id: null,
    wallet: null,
  }
}

const authenticatedDetails: NonNullable<CardDetails['three_d_secure']> = {
  authentication_flow: 'challenge',
  electronic_commerce_indicator: '05',
  exemption_indicator: null,
  result: 'authenticated',
  result_reason: null,
  transaction_id: null,
  version: '2.2.0',
}

type BankDetails = NonNullable<NonNullable<Charge['payment_method_details']>['us_bank_account']>

function bankDetails({ us_bank_account: account }: PaymentMethod): BankDetails | undefined {
  if (account === undefined) return undefined
  const { account_holder_type, account_type, bank_name, fingerprint, last4, routing_number } = account
  return { account_holder_type, account_type, bank_name, fingerprint, last4, payment_reference: null, routing_number }
}

function draftCharge(ctx: Ctx, request: ChargeRequest, method: PaymentMethod): Charge {
  const now = ctx.now(request.customer)
  const bank = bankDetails(method)
  const id = ctx.newId(bank === undefined ? 'ch' : 'py', 24)
  const details = cardDetails({ ...request, method }, now)
  return {
    id,
    object: 'charge',
    amount: request.amount,
    amount_captured: 0,
    amount_refunded: 0,
    application: null,
    application_fee: null,
    application_fee_amount: null,
    balance_transaction: null,
    billing_details: method.billing_details,
    calculated_statement_descriptor: request.statementDescriptor ?? 'SANDBOX',
    captured: false,
    created: now,
    currency: request.currency,
    customer: request.customer,
    description: request.description,
    disputed: false,
    failure_balance_transaction: null,
    failure_code: null,
    failure_message: null,
    fraud_details: {},
    livemode: false,
    metadata: request.metadata,
    on_behalf_of: null,
    outcome: null,
    paid: false,
    payment_intent: request.paymentIntent,
    payment_method: method.id,
    payment_method_details: {
      type: method.type,
      ...(details === undefined ? {} : { card: details }),
      ...(bank === undefined ? {} : { us_bank_account: bank }),
    },
    radar_options: {},
    receipt_email: request.receiptEmail,
    receipt_number: null,
    receipt_url: `${ctx.baseUrl}/receipts/${id}`,
    refunded: false,
    review: null,
    shipping: request.shipping,
    source: null,
    source_transfer: null,
    statement_descriptor: request.statementDescriptor,
    statement_descriptor_suffix: request.statementDescriptorSuffix,
    status: 'pending',
    transfer_data: null,
    transfer_group: request.transferGroup,
  }
}

/** Records a charge that the bank declined. Emits `charge.failed`. */
export function recordFailedCharge(ctx: Ctx, request: ChargeRequest, decline: Decline): Charge {
  const draft = draftCharge(ctx, request, recordBankChecks(ctx, request.method))
  const charge: Charge = {
    ...draft,
    failure_code: decline.code,
    failure_message: decline.message,
    outcome: declinedOutcome(behaviourOf(request.method), decline),
    receipt_url: null,
    status: 'failed',
  }
  return ctx.create('charge', charge, 'charge.failed')
}

/** Records a debit that the bank has not answered. Emits `charge.pending`. */
export function recordPendingCharge(ctx: Ctx, request: ChargeRequest): Charge {
  const draft = draftCharge(ctx, request, request.method)
  const charge: Charge = { ...draft, amount_captured: request.amount, captured: true, paid: debitUnderWayIsPaid() }
  return ctx.create('charge', charge, 'charge.pending')
}

/** The bank has paid a debit that was under way. Emits `charge.succeeded`. */
export function payPendingCharge(ctx: Ctx, id: string): Charge {
  const charge = ctx.require('charge', id)
  const patch: Partial<Charge> = {
    balance_transaction: takeIn(ctx, charge, charge.amount),
    outcome: approvedOutcome({}),
    paid: true,
    status: 'succeeded',
  }
  return ctx.change('charge', id, patch, 'charge.succeeded')
}

/** A debit that was under way has failed, or was called off. Emits `charge.failed`. */
export function failPendingCharge(ctx: Ctx, id: string, failure: DebitFailure | null): Charge {
  const patch: Partial<Charge> = {
    amount_captured: 0,
    captured: false,
    failure_code: failure?.code ?? null,
    failure_message: failure?.message ?? null,
    paid: false,
    status: 'failed',
  }
  return ctx.change('charge', id, patch, 'charge.failed')
}

function takeIn(ctx: Ctx, charge: Charge, amount: number): string {
  const card = charge.payment_method === null ? undefined : ctx.get('payment_method', charge.payment_method)
  const now = ctx.now(charge.customer)
  const bypasses = card !== undefined && behaviourOf(card).bypassesPending === true
  return recordBalanceTransaction(ctx, {
    amount,
    availableOn: bypasses ? now : availableOn(now),
    currency: charge.currency,
    customer: charge.customer,
    description: charge.description,
    fee: processingFee(amount),
    feeDescription: 'Stripe processing fees',
    reportingCategory: 'charge',
    source: charge.id,
    type: 'charge',
  }).id
}

/** Records a charge that the bank approved, captured or only authorized. Emits `charge.succeeded`, and opens the card's dispute. */
export function recordApprovedCharge(ctx: Ctx, request: ChargeRequest): Charge {
  const method = recordBankChecks(ctx, request.method)
  const draft = draftCharge(ctx, request, method)
  const card = behaviourOf(method)
  const approved: Charge = { ...draft, outcome: approvedOutcome(card), paid: true, status: 'succeeded' }
  const charge: Charge = request.capture
    ? { ...approved, amount_captured: request.amount, balance_transaction: takeIn(ctx, approved, request.amount), captured: true }
    : approved
  return ctx.create('charge', charge, 'charge.succeeded')
}

/** Opens the dispute of a dispute test card, once its payment is through. */
export function openDisputeOfCard(ctx: Ctx, chargeId: string): void {
  const charge = ctx.require('charge', chargeId)
  const method = charge.payment_method === null ? undefined : ctx.get('payment_method', charge.payment_method)
  const kind = method === undefined ? undefined : behaviourOf(method).dispute
  if (kind !== undefined && charge.captured && !charge.disputed) openDispute(ctx, charge, kind)
}

/** Captures an authorized charge, the whole of it or less; what is left over is released. Emits `charge.captured`. */
export function captureCharge(ctx: Ctx, id: string, amount: number): Charge {
  const charge = ctx.require('charge', id)
  const released = charge.amount - amount
  const patch = {
    amount_captured: amount,
    amount_refunded: released,
    balance_transaction: takeIn(ctx, charge, amount),
    captured: true,
  }
  return ctx.change('charge', id, patch, 'charge.captured')
}

/** "Visa ending in 4242", for receipts. */
export function describeChargeMethod(charge: Charge): string {
  return describeMethod(charge.payment_method_details ?? {})
}
