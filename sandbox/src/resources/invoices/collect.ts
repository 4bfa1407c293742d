/** Collecting an invoice: the charge, and what follows from its outcome. */
import { isHardDecline, nextRetryAt } from '../../billing/retries.ts'
import type { Ctx } from '../../engine/context.ts'
import type { Stored } from '../../model/stored.ts'
import { type InvoiceChargeOutcome, invoicePayments } from '../../payments/contract.ts'
import { defaultPaymentMethod } from '../../payments/payment-methods.ts'
import { type Announce, announceDifference, announceNow } from '../announce.ts'
import { billingSettings } from '../billing-settings.ts'
import { followFailedInvoice, followPaidInvoice, followPendingInvoice } from '../subscriptions/status.ts'
import type { StoredInvoice } from './compose.ts'

export interface CollectOptions {
  /** Instead of the invoice's, the subscription's or the customer's default. */
  readonly paymentMethod?: string | null
  /** False leaves the intent unconfirmed. */
  readonly confirm?: boolean
  readonly offSession: boolean
  /** True for what the schedule does by itself: counted, and followed by a retry when it fails. */
  readonly automatic: boolean
  readonly announce?: Announce
  /** Whether the subscription follows the outcome; a subscription being created looks after itself. */
  readonly followSubscription?: boolean
}

/** The method with which an invoice is paid: its own, else the subscription's, else the customer's. */
export function paymentMethodOf(ctx: Ctx, invoice: StoredInvoice): string | null {
  if (invoice.default_payment_method !== null) return invoice.default_payment_method
  return invoice.customer === null ? null : defaultPaymentMethod(ctx, invoice.customer, invoice._.subscription)
}

/** The open payment of an invoice, or undefined before the first intent was made. */
export function openPaymentOf(ctx: Ctx, invoice: string): Stored<'invoice_payment'> | undefined {
  return ctx.store.by('invoice_payment', 'invoice', invoice).find((payment) => payment.status === 'open')
}

/** The method of a payment of an invoice that its bank has not answered; null where none is under way. */
export function methodUnderWay(ctx: Ctx, invoice: string): Stored<'payment_method'> | null {
  const id = openPaymentOf(ctx, invoice)?.payment.payment_intent
  const intent = id === undefined ? undefined : ctx.get('payment_intent', id)
  if (intent?.status !== 'processing' || intent.payment_method === null) return null
  return ctx.require('payment_method', intent.payment_method)
}

/** Charges what an open invoice still owes. Returns the outcome; the invoice is read again by the caller. */
export function collectInvoice(ctx: Ctx, id: string, options: CollectOptions): InvoiceChargeOutcome {
  const invoice = ctx.require('invoice', id)
  if (invoice.customer === null) throw new Error(`Invoice ${id} has no customer`)
  const paymentMethod = options.paymentMethod === undefined ? paymentMethodOf(ctx, invoice) : options.paymentMethod
  const subscription = invoice._.subscription === null ? undefined : ctx.get('subscription', invoice._.subscription)
  const outcome = invoicePayments().chargeInvoice(ctx, {
    customer: invoice.customer,
    paymentMethod,
    amount: invoice.amount_remaining,
    currency: invoice.currency,
    invoice: id,
    paymentIntent: openPaymentOf(ctx, id)?.payment.payment_intent ?? null,
    offSession: options.offSession,
    confirm: options.confirm ?? true,
    description: descriptionOf(invoice),
    statementDescriptor: invoice.statement_descriptor,
    setupFutureUsage: subscription === undefined ? null : 'off_session',
  })
  recordPayment(ctx, invoice, outcome.paymentIntent)
  if (options.confirm !== false) followOutcome(ctx, id, outcome, options)
  return outcome
}

function descriptionOf(invoice: StoredInvoice): string {
  if (invoice.billing_reason === 'subscription_create') return 'Subscription creation'
  return invoice._.subscription === null ? `Payment for Invoice ${invoice.number ?? ''}` : 'Subscription update'
}

/** The invoice's payment names the intent that is to pay it. */
function recordPayment(ctx: Ctx, invoice: StoredInvoice, paymentIntent: string): void {
  const open = openPaymentOf(ctx, invoice.id)
  if (open?.payment.payment_intent === paymentIntent) {
    ctx.update('invoice_payment', open.id, { amount_requested: invoice.amount_remaining })
    return
  }
  if (open !== undefined) ctx.update('invoice_payment', open.id, { status: 'canceled' })
  ctx.create('invoice_payment', {
    id: ctx.newId('inpay', 24),
    object: 'invoice_payment',
    amount_paid: null,
    amount_requested: invoice.amount_remaining,
    created: ctx.now(invoice.customer),
    currency: invoice.currency,
    invoice: invoice.id,
    is_default: true,
    livemode: false,
    payment: { payment_intent: paymentIntent, type: 'payment_intent' },
    status: 'open',
    status_transitions: { canceled_at: null, paid_at: null },
  })
}

function followOutcome(ctx: Ctx, id: string, outcome: InvoiceChargeOutcome, options: CollectOptions): void {
  countAttempt(ctx, id, options.automatic)
  switch (outcome.kind) {
    case 'succeeded':
      settlePaid(ctx, id, { paymentIntent: outcome.paymentIntent, paymentMethod: outcome.paymentMethod, ...options })
      return
    case 'declined':
      settleFailed(ctx, id, {
        ...options,
        isHard: isHardDecline(outcome.declineCode ?? outcome.code),
        actionRequired: outcome.code === 'authentication_required',
      })
      return
    case 'requires_payment_method':
      settleFailed(ctx, id, { ...options, isHard: false, actionRequired: false })
      return
    case 'requires_action':
      settleFailed(ctx, id, { ...options, isHard: false, actionRequired: true })
      return
    case 'processing':
      settleUnderWay(ctx, id, options)
      return
    case 'requires_confirmation':
      return
  }
}

/** Any attempt counts as the first; after it only automatic ones do. Source: docs.stripe.com/api/invoices/object (attempt_count). */
function countAttempt(ctx: Ctx, id: string, isAutomatic: boolean): void {
  const invoice = ctx.require('invoice', id)
  if (!isAutomatic && invoice.attempt_count > 0) return
  ctx.update('invoice', id, {
    attempt_count: invoice.attempt_count + 1,
    _: {
      ...invoice._,
      automaticAttempts: invoice._.automaticAttempts + 1,
      firstAttemptAt: invoice._.firstAttemptAt ?? ctx.nowOf(invoice),
    },
  })
}

/** An open invoice whose payment is under way: it is tried, and paid or failed when the bank has answered. */
export function settleUnderWay(
  ctx: Ctx,
  id: string,
  options: Pick<CollectOptions, 'announce' | 'followSubscription'> = {},
): void {
  const before = ctx.present(ctx.require('invoice', id))
  const tried = ctx.update('invoice', id, { attempted: true, next_payment_attempt: null })
  announceDifference(ctx, options.announce ?? announceNow(ctx), 'invoice.updated', tried, before)
  if (options.followSubscription !== false) followPendingInvoice(ctx, tried)
}

interface PaidBy extends Pick<CollectOptions, 'announce' | 'followSubscription'> {
  readonly paymentIntent: string | null
  readonly paymentMethod: string | null
  readonly outOfBand?: boolean
}

/** Marks an open invoice paid and tells of it; its subscription follows. */
export function settlePaid(ctx: Ctx, id: string, by: PaidBy): StoredInvoice {
  const announce = by.announce ?? announceNow(ctx)
  const invoice = ctx.require('invoice', id)
  const before = ctx.present(invoice)
  const now = ctx.nowOf(invoice)
  const paid = ctx.update('invoice', id, {
    amount_paid: invoice.amount_due,
    amount_remaining: 0,
    attempted: true,
    auto_advance: false,
    ...(invoice.attempt_count === 0 && by.paymentIntent !== null ? { attempt_count: 1 } : {}),
    next_payment_attempt: null,
    status: 'paid',
    status_transitions: { ...invoice.status_transitions, paid_at: now },
    ...(by.outOfBand === true ? { amount_paid_off_stripe: invoice.amount_due } : {}),
    _: { ...invoice._, retryAt: null, paidOutOfBand: by.outOfBand ?? false },
  })
  announceDifference(ctx, announce, 'invoice.updated', paid, before)
  settlePayments(ctx, paid, by, announce)
  announce('invoice.paid', paid)
  announce('invoice.payment_succeeded', paid)
  setDelinquent(ctx, paid)
  if (by.followSubscription !== false) followPaidInvoice(ctx, paid, by.paymentMethod)
  return paid
}

function settlePayments(ctx: Ctx, invoice: StoredInvoice, by: PaidBy, announce: Announce): void {
  const now = ctx.nowOf(invoice)
  for (const payment of ctx.store.by('invoice_payment', 'invoice', invoice.id)) {
    if (payment.status !== 'open') continue
    const isPaid = by.paymentIntent !== null && payment.payment.payment_intent === by.paymentIntent
    const settled = ctx.update('invoice_payment', payment.id, {
      amount_paid: isPaid ? payment.amount_requested : null,
      status: isPaid ? 'paid' : 'canceled',
      status_transitions: isPaid ? { canceled_at: null, paid_at: now } : { canceled_at: now, paid_at: null },
    })
    if (isPaid) announce('invoice_payment.paid', settled, { customer: invoice.customer })
    else if (payment.payment.payment_intent !== undefined) {
      invoicePayments().cancelInvoiceIntent(ctx, { paymentIntent: payment.payment.payment_intent, reason: 'automatic' })
    }
  }
}

/** An open invoice with nothing to pay is paid at once. */
export function settleIfNothingDue(
  ctx: Ctx,
  id: string,
  options: Pick<CollectOptions, 'announce' | 'followSubscription'> = {},
): boolean {
  const invoice = ctx.require('invoice', id)
  if (invoice.status !== 'open' || invoice.amount_remaining > 0) return false
  settlePaid(ctx, id, { paymentIntent: null, paymentMethod: null, ...options })
  return true
}

interface Failure extends CollectOptions {
  /** The issuer will not change its mind: only another payment method helps. */
  readonly isHard: boolean
  readonly actionRequired: boolean
}

function settleFailed(ctx: Ctx, id: string, failure: Failure): void {
  const announce = failure.announce ?? announceNow(ctx)
  const invoice = ctx.require('invoice', id)
  const before = ctx.present(invoice)
  const schedule = retryPatch(ctx, invoice, failure)
  const failed = ctx.update('invoice', id, { attempted: true, ...schedule })
  announce('invoice.payment_failed', failed)
  if (failure.actionRequired) announce('invoice.payment_action_required', failed)
  announceDifference(ctx, announce, 'invoice.updated', failed, before)
  setDelinquent(ctx, failed)
  if (failure.followSubscription === false) return
  followFailedInvoice(ctx, failed, failure.automatic && failed._.retryAt === null)
}

/** A confirmation that a person tried and that failed: announced, not counted. */
export function settleDeclined(ctx: Ctx, id: string, isHard: boolean): void {
  settleFailed(ctx, id, { offSession: false, automatic: false, isHard, actionRequired: false })
}

/** The next retry. After a hard decline the schedule goes on, but a try is made only when there is another payment method by then. */
function retryPatch(ctx: Ctx, invoice: StoredInvoice, failure: Failure): Partial<StoredInvoice> {
  const { firstAttemptAt, automaticAttempts } = invoice._
  const isRetried =
    failure.automatic &&
    invoice.auto_advance === true &&
    firstAttemptAt !== null &&
    invoice.billing_reason !== 'subscription_create'
  if (!isRetried) return {}
  const next = nextRetryAt({ offsets: billingSettings(ctx).retryOffsets }, firstAttemptAt, automaticAttempts)
  const method = failure.paymentMethod === undefined ? paymentMethodOf(ctx, invoice) : failure.paymentMethod
  return {
    next_payment_attempt: next,
    _: { ...invoice._, retryAt: next, hardDeclined: failure.isHard ? method : null },
  }
}

/** A customer is delinquent while the latest finalized invoice has failed. */
function setDelinquent(ctx: Ctx, invoice: StoredInvoice): void {
  const customer = invoice.customer === null ? undefined : ctx.get('customer', invoice.customer)
  const delinquent = invoice.status === 'open'
  if (customer === undefined || customer.delinquent === delinquent) return
  ctx.change('customer', customer.id, { delinquent }, 'customer.updated')
}
