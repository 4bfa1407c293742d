/** Creating a subscription: laid out, its first invoice made and paid, and told of in Stripe's order. */
import { DRAFT_SECONDS } from '../../billing/inferred.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, missing, StripeError } from '../../engine/errors.ts'
import type { StoredLine } from '../../model/billing.ts'
import { type InvoiceChargeOutcome, invoicePayments } from '../../payments/contract.ts'
import { debitUnderWayActivates } from '../../payments/inferred.ts'
import { LaterEvents } from '../announce.ts'
import { collectInvoice, paymentMethodOf, settleIfNothingDue } from '../invoices/collect.ts'
import { composeInvoice, type StoredInvoice } from '../invoices/compose.ts'
import { finalizeInvoice } from '../invoices/finalize.ts'
import { addOneOffItems, linesOfItems, pendingItems, type StoredInvoiceItem } from '../invoices/item-store.ts'
import { requireTaxPlace } from '../tax/automatic-tax.ts'
import { storeInvoice } from './debits.ts'
import { sharedPeriodOf } from './items-params.ts'
import { type CreateParams, layOutSubscription } from './lay-out.ts'
import { INCOMPLETE_SECONDS } from './status.ts'
import type { StoredSubscription } from './stored.ts'

export type PaymentBehavior = NonNullable<CreateParams['payment_behavior']>

/** Further facts of a creation that do not come from the API's parameters. */
export interface CreationOptions {
  /** The checkout session that it comes from. */
  readonly checkoutSession?: string | null
  /** A schedule that manages it. */
  readonly schedule?: string | null
}

/**
 * Creates a subscription. Its first invoice is finalized and charged at once when it is collected automatically.
 * Source: docs.stripe.com/api/subscriptions/create, docs.stripe.com/billing/subscriptions/overview#payment-behavior.
 */
export function createSubscription(ctx: Ctx, params: CreateParams, options: CreationOptions = {}): StoredSubscription {
  if (params.customer === undefined) throw missing('customer')
  if (params.payment_behavior === 'pending_if_incomplete') {
    throw invalidRequest('`payment_behavior=pending_if_incomplete` can only be used when updating a subscription.', {
      param: 'payment_behavior',
    })
  }
  const events = new LaterEvents(ctx)
  const { subscription, lines } = storeNew(ctx, params, params.customer, options)
  // A schedule's first phase begins in any case: it is then not taxed.
  if (params.automatic_tax?.enabled === true && options.schedule === undefined) requireTaxPlace(ctx, params.customer)
  const taken = takeItems(ctx, params, subscription, events)
  const invoice = firstInvoice(ctx, subscription, lines, taken, params.off_session === true)
  if (invoice !== null) {
    events.announce('invoice.created', invoice)
    startCollection(ctx, subscription, invoice, params, events)
  } else prepareLaterPayment(ctx, subscription.id, params.payment_behavior)
  const created = ctx.require('subscription', subscription.id)
  events.announce('customer.subscription.created', created)
  events.flush()
  return created
}

/** Lays a subscription out and stores it, unannounced. */
export function storeNew(
  ctx: Ctx,
  params: CreateParams,
  customer: string,
  options: CreationOptions = {},
): { subscription: StoredSubscription; lines: readonly StoredLine[] } {
  const { subscription, lines } = layOutSubscription(ctx, params, customer)
  const stored = ctx.create('subscription', {
    ...subscription,
    schedule: options.schedule ?? null,
    _: { ...subscription._, checkoutSession: options.checkoutSession ?? null },
  })
  ctx.change('customer', stored.customer, { currency: stored.currency }, 'customer.updated')
  return { subscription: stored, lines }
}

function takeItems(ctx: Ctx, params: CreateParams, subscription: StoredSubscription, events: LaterEvents): StoredInvoiceItem[] {
  const period = sharedPeriodOf(subscription._.items)
  const owner = { customer: subscription.customer, subscription: subscription.id, currency: subscription.currency, period }
  addOneOffItems(ctx, params.add_invoice_items ?? [], owner, events.announce)
  return pendingItems(ctx, subscription.customer, { subscription: subscription.id, currency: subscription.currency })
}

/** The first invoice, stored as a draft and unannounced; null when there is nothing to show on it. */
export function firstInvoice(
  ctx: Ctx,
  subscription: StoredSubscription,
  lines: readonly StoredLine[],
  items: readonly StoredInvoiceItem[],
  offSession: boolean,
): StoredInvoice | null {
  const all = [...lines, ...linesOfItems(ctx, items)]
  if (all.length === 0) return null
  const now = ctx.nowOf(subscription)
  const invoice = composeInvoice(ctx, {
    customer: subscription.customer,
    subscription,
    lines: all,
    currency: subscription.currency,
    billingReason: 'subscription_create',
    period: { start: now, end: now },
    collectionMethod: subscription.collection_method,
    autoAdvance: true,
    automaticallyFinalizesAt: subscription.collection_method === 'send_invoice' ? now + DRAFT_SECONDS : null,
    discounts: inheritedDiscounts(ctx, subscription),
    defaultTaxRates: subscription.default_tax_rates,
    offSession,
    now,
  })
  return storeInvoice(ctx, subscription, invoice, items)
}

/** A subscription's own discounts, else its customer's. */
export function inheritedDiscounts(ctx: Ctx, subscription: StoredSubscription): string[] {
  if (subscription.discounts.length > 0) return subscription.discounts
  const discount = ctx.get('customer', subscription.customer)?.discount ?? null
  return discount === null ? [] : [discount]
}

function startCollection(
  ctx: Ctx,
  subscription: StoredSubscription,
  invoice: StoredInvoice,
  params: CreateParams,
  events: LaterEvents,
): void {
  const { announce } = events
  const isSent = subscription.collection_method === 'send_invoice'
  if (isSent && invoice.amount_due > 0) return
  finalizeInvoice(ctx, invoice.id, { announce, daysUntilDue: subscription.days_until_due })
  if (settleIfNothingDue(ctx, invoice.id, { announce, followSubscription: false })) {
    prepareLaterPayment(ctx, subscription.id, params.payment_behavior)
    return
  }
  const behavior = params.payment_behavior ?? 'allow_incomplete'
  if (behavior !== 'default_incomplete') requireSomePaymentMethod(ctx, invoice)
  const outcome = collectInvoice(ctx, invoice.id, {
    confirm: behavior !== 'default_incomplete',
    offSession: params.off_session === true,
    automatic: behavior !== 'default_incomplete',
    announce,
    followSubscription: false,
  })
  if (behavior === 'error_if_incomplete') refuseUnpaid(outcome)
  concludeCreation(ctx, subscription.id, outcome)
}

/** Without any payment method Stripe refuses instead of trying. */
export function requireSomePaymentMethod(ctx: Ctx, invoice: StoredInvoice): void {
  if (paymentMethodOf(ctx, invoice) !== null) return
  throw invalidRequest(
    'This customer has no attached payment source or default payment method. Please consider adding a default payment method. For more information, visit https://stripe.com/docs/billing/subscriptions/payment-methods-setting#payment-method-priority.',
    { code: 'resource_missing' },
  )
}

/** `error_if_incomplete`: a payment that did not go through undoes everything and answers 402. */
export function refuseUnpaid(outcome: InvoiceChargeOutcome): void {
  if (outcome.kind === 'succeeded' || outcome.kind === 'processing') return
  if (outcome.kind === 'declined') {
    const body = { type: 'card_error' as const, code: outcome.code, message: outcome.message }
    throw new StripeError(402, outcome.declineCode === null ? body : { ...body, decline_code: outcome.declineCode })
  }
  throw new StripeError(402, {
    type: 'card_error',
    code: 'invoice_payment_intent_requires_action',
    message:
      'Payment for this subscription requires additional user action before it can be completed successfully. Payment can be completed using the PaymentIntent associated with `subscription.latest_invoice`.',
  })
}

function concludeCreation(ctx: Ctx, id: string, outcome: InvoiceChargeOutcome): void {
  const subscription = ctx.require('subscription', id)
  const isTaken = outcome.kind === 'succeeded' || (outcome.kind === 'processing' && debitUnderWayActivates())
  if (!isTaken) {
    const incompleteUntil = subscription.created + INCOMPLETE_SECONDS
    ctx.update('subscription', id, { status: 'incomplete', _: { ...subscription._, incompleteUntil } })
    return
  }
  if (subscription.payment_settings?.save_default_payment_method === 'on_subscription') {
    ctx.update('subscription', id, { default_payment_method: outcome.paymentMethod })
  }
}

/** Nothing is due yet: with `default_incomplete` a setup intent collects the payment method for later. */
function prepareLaterPayment(ctx: Ctx, id: string, behavior: PaymentBehavior | undefined): void {
  const subscription = ctx.require('subscription', id)
  if (behavior !== 'default_incomplete' || subscription.collection_method === 'send_invoice') return
  const { setupIntent, status } = invoicePayments().createSubscriptionSetupIntent(ctx, {
    customer: subscription.customer,
    paymentMethod: subscription.default_payment_method,
    confirm: false,
    subscription: id,
  })
  if (status !== 'succeeded') ctx.update('subscription', id, { pending_setup_intent: setupIntent })
}
