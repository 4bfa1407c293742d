/** Invoices that a caller makes and works on by hand. */
import { HAND_FINALIZED_CHARGE_DELAY_SECONDS } from '../../billing/inferred.ts'
import type { Ctx } from '../../engine/context.ts'
import { missing, cardError, invalidRequest, StripeError } from '../../engine/errors.ts'
import { isTestMethod } from '../../payments/payment-methods.ts'
import type { Params } from '../../wire.gen.ts'
import { announceDifference, announceNow } from '../announce.ts'
import { markDiscountEnded, redeemDiscounts } from '../catalog/discount-rules.ts'
import { requireCurrency } from '../customers/customer-balance.ts'
import { requireCustomer } from '../customers/customer-find.ts'
import { inheritedDiscounts } from '../subscriptions/create.ts'
import { refuseManualRates } from '../tax/automatic-tax.ts'
import { collectInvoice, paymentMethodOf, settleIfNothingDue, settlePaid } from './collect.ts'
import { composeInvoice, customerFields, type StoredInvoice, totalsPatch } from './compose.ts'
import { FIELD_TAKES, type InvoiceFields, invoiceFieldsPatch } from './fields.ts'
import { finalizeInvoice } from './finalize.ts'
import { attachItems, linesOfItems, pendingItems } from './item-store.ts'

export const INVOICE_CREATE_TAKES = [
  ...FIELD_TAKES,
  'currency',
  'customer',
  'pending_invoice_items_behavior',
  'subscription',
] as const

type CreateParams = Pick<Params['POST /v1/invoices'], (typeof INVOICE_CREATE_TAKES)[number]>

/** `POST /v1/invoices`: a draft, with the pending items when asked for. */
export function createInvoice(ctx: Ctx, params: CreateParams): StoredInvoice {
  const subscription = params.subscription === undefined ? null : ctx.require('subscription', params.subscription, 'subscription')
  const customerId = params.customer ?? subscription?.customer
  if (customerId === undefined) throw missing('customer')
  const customer = requireCustomer(ctx, customerId, 'customer')
  if (subscription !== null && subscription.customer !== customer.id) {
    throw invalidRequest('The subscription belongs to another customer.', { param: 'subscription' })
  }
  const now = ctx.now(customer.id)
  const currency = params.currency?.toLowerCase() ?? subscription?.currency ?? customer.currency ?? 'usd'
  requireCurrency(customer, currency)
  const includes = params.pending_invoice_items_behavior === 'include' || subscription !== null
  const items = includes ? pendingItems(ctx, customer.id, { subscription: subscription?.id ?? null, currency }) : []
  const draft = composeInvoice(ctx, {
    customer: customer.id,
    subscription,
    lines: linesOfItems(ctx, items),
    currency,
    billingReason: 'manual',
    period: { start: now, end: now },
    collectionMethod: params.collection_method ?? 'charge_automatically',
    autoAdvance: false,
    automaticallyFinalizesAt: null,
    discounts: [],
    defaultTaxRates: [],
    offSession: true,
    now,
  })
  const discounts =
    params.discounts === undefined
      ? subscription === null
        ? (customer.discount ?? null) === null
          ? []
          : [customer.discount ?? '']
        : inheritedDiscounts(ctx, subscription)
      : invoiceDiscounts(ctx, draft, params.discounts)
  const invoice = { ...draft, discounts, ...invoiceFieldsPatch(ctx, draft, params, now) }
  refuseManualRates(invoice.automatic_tax, handSetRates(invoice))
  ctx.create('invoice', { ...invoice, ...totalsPatch(ctx, invoice, []) }, 'invoice.created')
  attachItems(ctx, items, invoice.id)
  return ctx.require('invoice', invoice.id)
}

/** The rates that were set by hand: on the invoice, and on each of its lines. */
export function handSetRates(invoice: StoredInvoice): Array<readonly string[]> {
  return [invoice.default_tax_rates, ...invoice._.lines.map((line) => line._.taxRates)]
}

function invoiceDiscounts(ctx: Ctx, invoice: StoredInvoice, params: NonNullable<InvoiceFields['discounts']>): string[] {
  if (params === '' || invoice.customer === null) return []
  return redeemDiscounts(ctx, params, { customer: invoice.customer, currency: invoice.currency, invoice: invoice.id })
}

/** Fields that a finalized invoice still lets change. Source: docs.stripe.com/invoicing/integration/workflow-transitions. */
const EDITABLE_AFTER_FINALIZATION = new Set([
  'auto_advance',
  'default_payment_method',
  'expand',
  'metadata',
  'payment_settings',
  'rendering',
  'due_date',
  'days_until_due',
])

/** `POST /v1/invoices/{id}`. */
export function updateInvoice(ctx: Ctx, id: string, params: InvoiceFields): StoredInvoice {
  const invoice = ctx.require('invoice', id)
  if (invoice.status !== 'draft') {
    for (const [name, value] of Object.entries(params)) {
      if (value !== undefined && !EDITABLE_AFTER_FINALIZATION.has(name)) {
        throw invalidRequest(`Finalized invoices can't be updated in this way: ${name}.`, {
          param: name,
          code: 'invoice_not_editable',
        })
      }
    }
    return ctx.change('invoice', id, invoiceFieldsPatch(ctx, invoice, params, ctx.nowOf(invoice)), 'invoice.updated')
  }
  const patched = { ...invoice, ...invoiceFieldsPatch(ctx, invoice, params, ctx.nowOf(invoice)) }
  if (params.automatic_tax !== undefined || params.default_tax_rates !== undefined) {
    refuseManualRates(patched.automatic_tax, handSetRates(patched))
  }
  const discounts = params.discounts === undefined ? invoice.discounts : invoiceDiscounts(ctx, invoice, params.discounts)
  for (const old of invoice.discounts) {
    if (!discounts.includes(old) && ctx.get('discount', old)?.invoice === id) markDiscountEnded(ctx, old)
  }
  return storeDraft(ctx, { ...patched, discounts })
}

/** Stores a changed draft with its sums computed again, and tells of it. */
export function storeDraft(ctx: Ctx, draft: StoredInvoice): StoredInvoice {
  const customer = draft.customer === null ? undefined : ctx.get('customer', draft.customer)
  const present = customer === undefined ? draft : { ...draft, ...customerFields(ctx, customer) }
  return ctx.change('invoice', draft.id, { ...present, ...totalsPatch(ctx, present, []) }, 'invoice.updated')
}

/** `POST /v1/invoices/{id}/finalize`. With `auto_advance` it is charged an hour later. */
export function finalizeByHand(ctx: Ctx, id: string, autoAdvance: boolean | undefined): StoredInvoice {
  const draft = ctx.require('invoice', id)
  const advances = autoAdvance ?? draft.auto_advance ?? false
  finalizeInvoice(ctx, id, { autoAdvance: advances })
  if (settleIfNothingDue(ctx, id)) return ctx.require('invoice', id)
  collectInvoice(ctx, id, { confirm: false, offSession: true, automatic: false })
  const open = ctx.require('invoice', id)
  if (!advances || open.collection_method !== 'charge_automatically') return open
  const at = ctx.nowOf(open) + HAND_FINALIZED_CHARGE_DELAY_SECONDS
  return ctx.change('invoice', id, { next_payment_attempt: at, _: { ...open._, retryAt: at } }, 'invoice.updated')
}

type PayParams = Pick<Params['POST /v1/invoices/{id}/pay'], 'forgive' | 'off_session' | 'paid_out_of_band' | 'payment_method'>

/** `POST /v1/invoices/{id}/pay`. A decline answers 402 and leaves the failed payment behind. */
export function payInvoice(ctx: Ctx, id: string, params: PayParams = {}): StoredInvoice {
  const invoice = ctx.require('invoice', id)
  if (invoice.status === 'paid') throw invalidRequest('Invoice is already paid')
  if (invoice.status === 'void') throw invalidRequest('This invoice can no longer be paid: it is void.')
  if (invoice.status === 'draft') finalizeInvoice(ctx, id)
  if (settleIfNothingDue(ctx, id)) return ctx.require('invoice', id)
  if (params.paid_out_of_band === true || params.forgive === true) {
    settlePaid(ctx, id, { paymentIntent: null, paymentMethod: null, outOfBand: true })
    return ctx.require('invoice', id)
  }
  requireMethod(ctx, ctx.require('invoice', id), params.payment_method)
  const outcome = collectInvoice(ctx, id, {
    ...(params.payment_method === undefined ? {} : { paymentMethod: params.payment_method }),
    offSession: params.off_session ?? true,
    automatic: false,
  })
  if (outcome.kind === 'declined') throw declined(ctx, outcome)
  if (outcome.kind === 'requires_action') {
    throw cardError({
      code: 'invoice_payment_intent_requires_action',
      message:
        'This payment requires additional user action before it can be completed successfully. Payment can be completed using the PaymentIntent associated with the invoice.',
    })
  }
  return ctx.require('invoice', id)
}

function requireMethod(ctx: Ctx, invoice: StoredInvoice, given: string | undefined): void {
  if (given !== undefined && isTestMethod(given)) return
  if (given !== undefined) {
    ctx.require('payment_method', given, 'payment_method')
    return
  }
  if (paymentMethodOf(ctx, invoice) !== null) return
  throw new StripeError(400, {
    type: 'invalid_request_error',
    code: 'invoice_no_payment_method_types',
    message:
      'There is no `default_payment_method` set on this Customer or Invoice. Please set either the Customer or Invoice `default_payment_method`.',
  })
}

function declined(
  ctx: Ctx,
  outcome: { code: string; declineCode: string | null; message: string; charge: string | null; paymentIntent: string },
): StripeError {
  return cardError({
    code: outcome.code,
    message: outcome.message,
    ...(outcome.declineCode === null ? {} : { decline_code: outcome.declineCode }),
    ...(outcome.charge === null ? {} : { charge: outcome.charge }),
    payment_intent: ctx.present(ctx.require('payment_intent', outcome.paymentIntent)),
  })
}

/** `POST /v1/invoices/{id}/send`: finalizes a draft first. */
export function sendInvoice(ctx: Ctx, id: string): StoredInvoice {
  const invoice = ctx.require('invoice', id)
  if (invoice.status === 'draft') finalizeByHand(ctx, id, undefined)
  const sent = ctx.require('invoice', id)
  if (sent.status !== 'open' && sent.status !== 'paid') {
    throw invalidRequest(`You can only manually send an open or paid invoice. This invoice is ${sent.status ?? 'a draft'}.`)
  }
  ctx.emit('invoice.sent', sent)
  return sent
}

/** `DELETE /v1/invoices/{id}`: drafts that no subscription made. Their items are pending again. */
export function deleteDraft(ctx: Ctx, id: string): object {
  const invoice = ctx.require('invoice', id)
  if (invoice.status !== 'draft') {
    throw invalidRequest('You can only delete draft invoices. To cancel a finalized invoice, void it.', {
      code: 'invoice_not_editable',
    })
  }
  if (invoice._.subscription !== null && invoice.billing_reason !== 'manual') {
    throw invalidRequest('You cannot delete invoices created by subscriptions.')
  }
  for (const item of ctx.store.by('invoiceitem', 'invoice', id)) ctx.update('invoiceitem', item.id, { invoice: null })
  ctx.emit('invoice.deleted', invoice)
  ctx.delete('invoice', id)
  return { id, object: 'invoice', deleted: true }
}

/** `POST /v1/invoices/{id}/attach_payment`: an existing payment intent pays, or is to pay, the invoice. */
export function attachPayment(ctx: Ctx, id: string, paymentIntent: string): StoredInvoice {
  const invoice = ctx.require('invoice', id)
  if (invoice.status !== 'open') throw invalidRequest('Payments can only be attached to open invoices.')
  const intent = ctx.require('payment_intent', paymentIntent, 'payment_intent')
  if (intent.customer !== invoice.customer || intent.currency !== invoice.currency) {
    throw invalidRequest('The PaymentIntent must have the customer and the currency of the invoice.', { param: 'payment_intent' })
  }
  const before = ctx.present(invoice)
  const paid = intent.status === 'succeeded' ? Math.min(intent.amount_received, invoice.amount_remaining) : 0
  const now = ctx.nowOf(invoice)
  const payment = ctx.create('invoice_payment', {
    id: ctx.newId('inpay', 24),
    object: 'invoice_payment',
    amount_paid: paid > 0 ? paid : null,
    amount_requested: paid > 0 ? paid : Math.min(intent.amount, invoice.amount_remaining),
    created: now,
    currency: invoice.currency,
    invoice: id,
    is_default: false,
    livemode: false,
    payment: { payment_intent: intent.id, type: 'payment_intent' },
    status: paid > 0 ? 'paid' : 'open',
    status_transitions: { canceled_at: null, paid_at: paid > 0 ? now : null },
  })
  ctx.update('payment_intent', intent.id, { _: { ...intent._, invoice: id } })
  if (paid === 0) return invoice
  return applyPartialPayment(ctx, invoice, payment.id, paid, before)
}

function applyPartialPayment(
  ctx: Ctx,
  invoice: StoredInvoice,
  payment: string,
  paid: number,
  before: Record<string, unknown>,
): StoredInvoice {
  ctx.emit('invoice_payment.paid', ctx.require('invoice_payment', payment), { customer: invoice.customer })
  const remaining = invoice.amount_remaining - paid
  if (remaining === 0) return settlePaid(ctx, invoice.id, { paymentIntent: null, paymentMethod: null })
  const partly = ctx.update('invoice', invoice.id, { amount_paid: invoice.amount_paid + paid, amount_remaining: remaining })
  announceDifference(ctx, announceNow(ctx), 'invoice.updated', partly, before)
  return partly
}
