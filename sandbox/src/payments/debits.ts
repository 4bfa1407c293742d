import type { Ctx } from '../engine/context.ts'
import { timeRule } from '../engine/module.ts'
import { failPendingCharge, payPendingCharge, recordPendingCharge, type Charge, type ChargeRequest } from './charges.ts'
import { invoiceSettlement } from './contract.ts'
import { debitAnsweredAfterSeconds } from './inferred.ts'
import type { PaymentIntent } from './payment-intents.ts'
import { accountOf } from './payment-methods.ts'
import type { DebitFailure, TestBankAccount } from './test-accounts.ts'

/** Asks a bank for a debit, which it answers later. Emits `charge.pending` and `payment_intent.processing`. */
export function startDebit(
  ctx: Ctx,
  intent: PaymentIntent,
  request: ChargeRequest,
  account: TestBankAccount,
): { readonly intent: PaymentIntent; readonly charge: Charge } {
  const charge = recordPendingCharge(ctx, request)
  const patch: Partial<PaymentIntent> = {
    last_payment_error: null,
    latest_charge: charge.id,
    next_action: null,
    payment_method_types: ['us_bank_account'],
    status: 'processing',
    _: { ...intent._, debitAnsweredAt: account.answer === 'nothing' ? null : charge.created + debitAnsweredAfterSeconds },
  }
  return { charge, intent: ctx.change('payment_intent', intent.id, patch, 'payment_intent.processing') }
}

/** The bank has answered: the debit is paid or has failed, and so is the invoice that it pays. */
function answerDebit(ctx: Ctx, intent: PaymentIntent): void {
  const method = ctx.require('payment_method', intent.payment_method ?? '')
  const answer = accountOf(method)?.answer
  if (answer === undefined || answer === 'nothing') throw new Error(`The debit of ${intent.id} has no bank that answers`)
  if (answer === 'paid') succeed(ctx, intent)
  else fail(ctx, intent, answer)
}

function succeed(ctx: Ctx, intent: PaymentIntent): void {
  const charge = payPendingCharge(ctx, intent.latest_charge ?? '')
  const patch = { amount_received: intent.amount, status: 'succeeded' as const }
  ctx.change('payment_intent', intent.id, patch, 'payment_intent.succeeded')
  const { invoice } = intent._
  if (invoice === null) return
  const paymentMethod = charge.payment_method ?? ''
  const paid = { amount: charge.amount, charge: charge.id, invoice, paymentIntent: intent.id, paymentMethod }
  invoiceSettlement().invoiceIntentSucceeded(ctx, paid)
}

function fail(ctx: Ctx, intent: PaymentIntent, failure: DebitFailure): void {
  const charge = failPendingCharge(ctx, intent.latest_charge ?? '', failure)
  const last_payment_error = {
    ...failure,
    charge: charge.id,
    doc_url: `https://stripe.com/docs/error-codes/${failure.code.replaceAll('_', '-')}`,
    payment_method: ctx.present(ctx.require('payment_method', charge.payment_method ?? '')),
    type: 'invalid_request_error',
  } as unknown as PaymentIntent['last_payment_error']
  const patch = { last_payment_error, payment_method: null, status: 'requires_payment_method' as const }
  ctx.change('payment_intent', intent.id, patch, 'payment_intent.payment_failed')
  const { invoice } = intent._
  if (invoice === null) return
  invoiceSettlement().invoiceIntentFailed(ctx, { code: failure.code, declineCode: null, invoice, paymentIntent: intent.id })
}

export const debitRules = [
  timeRule({
    name: 'payment intent: the bank answers the debit',
    object: 'payment_intent',
    order: 40,
    due: (intent) => (intent.status === 'processing' ? (intent._.debitAnsweredAt ?? null) : null),
    run: (intent, ctx) => answerDebit(ctx, intent),
  }),
]
