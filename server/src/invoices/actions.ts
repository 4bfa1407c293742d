import { DomainError } from '../lib/errors.ts'
import type { BillingContext } from '../stripe/context.ts'
import { StripeCallError } from '../stripe/gateway/errors.ts'
import { ensureCustomer } from '../stripe/intents/customers.ts'
import { finishPendingIntents } from '../stripe/intents/finish-intents.ts'
import type { FollowUp } from '../stripe/intents/intent.ts'
import { performIntent, type FinishedIntent } from '../stripe/intents/intents.ts'
import { RECENT_SCOPE } from '../stripe/mirror/fetch.ts'
import { followChange, runExclusively, wasHeard, type Asker } from '../subscriptions/actions.ts'
import { attachAsDefault } from '../subscriptions/execute.ts'
import { releaseSuperseded } from '../subscriptions/superseded.ts'
import {
  findInvoice,
  findMethodInstead,
  findSubscriptionWithMethod,
  isBeingPaid,
  listPaymentMethods,
  type Invoice,
  type PaymentMethod,
} from './store.ts'

/**
 * Pays an open invoice with the payment method that is there, or with a new one. Paying the invoice that suspended an
 * organization reactivates it (EM-7).
 * @throws DomainError `not_found`, `conflict` when it is not open or a debit for it is under way, `payment_failed`, `payment_method_missing`
 */
export async function payInvoice(
  context: BillingContext,
  request: { organizationId: string; invoiceId: string; paymentMethodId: string | null },
  asker: Asker,
): Promise<Invoice> {
  const { organizationId, invoiceId } = request
  return runExclusively(context, organizationId, async (session, finished) => {
    const invoice = await findInvoice(session, organizationId, invoiceId)
    if (invoice === null) throw new DomainError('not_found', 'There is no such invoice.')
    const isAsked = ({ intent: { audit } }: FinishedIntent) => audit?.action === 'invoice.paid' && audit.target === invoiceId
    const isDone = (await wasHeard(session, organizationId, asker)) || (finished.some(isAsked) && invoice.status === 'paid')
    const scope = { ...RECENT_SCOPE, invoiceIds: [invoiceId] }
    if (isDone) {
      await followChange(context, session, organizationId, null, scope)
      return (await findInvoice(session, organizationId, invoiceId)) ?? invoice
    }
    if (invoice.status !== 'open')
      throw new DomainError('conflict', `The invoice is ${invoice.status}; only an open one can be paid.`)
    if (await isBeingPaid(session, organizationId, invoiceId)) {
      throw new DomainError(
        'conflict',
        'A debit for this invoice is under way, and the bank has not answered yet: that takes days.',
      )
    }
    const customerId = await ensureCustomer(context, session, organizationId)
    const paymentMethodId =
      request.paymentMethodId === null
        ? await findMethodInstead(session, organizationId, invoice.subscriptionId)
        : await attachAsDefault({ context, session, organizationId }, { customerId, paymentMethodId: request.paymentMethodId })
    const params = { invoiceId, paymentMethodId }
    const audit = {
      ...asker,
      action: 'invoice.paid',
      target: invoiceId,
      before: { status: invoice.status },
      after: { amount_minor: invoice.amountRemainingMinor, currency: invoice.currency },
    }
    await performIntent(context, session, { organizationId, kind: 'pay_invoice', params, audit }).catch((error: unknown) => {
      throw withPage(error, invoice)
    })
    await releaseSuperseded({ context, session, organizationId })
    await followChange(context, session, organizationId, null, scope)
    return (await findInvoice(session, organizationId, invoiceId)) ?? invoice
  })
}

/** Where the bank asks the customer, with the page where they answer it. */
function withPage(error: unknown, { hostedInvoiceUrl }: Invoice): unknown {
  if (!(error instanceof StripeCallError) || error.details['requires_action'] !== true) return error
  return new StripeCallError(error.code, error.message, error.outcome, { ...error.details, payment_url: hostedInvoiceUrl })
}

/**
 * Makes a payment method the one that is charged from now on: attached, the customer's default, and the subscription's own
 * where it has one. Its id comes from Stripe's form; card data never passes here (EM-14).
 * @throws DomainError `invalid_request` when there is no such payment method, `payment_failed` when the bank refuses it
 */
export async function replacePaymentMethod(
  context: BillingContext,
  request: { organizationId: string; paymentMethodId: string },
  asker: Asker,
): Promise<PaymentMethod> {
  const { organizationId } = request
  return runExclusively(context, organizationId, async (session, finished) => {
    const customerId = await ensureCustomer(context, session, organizationId)
    // Done again, it comes to the same; it is told once.
    const isTold = finished.some(
      ({ intent: { audit } }) => audit?.action === REPLACED && audit.target === request.paymentMethodId,
    )
    const paymentMethodId = await attachAsDefault(
      { context, session, organizationId },
      {
        customerId,
        paymentMethodId: request.paymentMethodId,
        auditOf: (target) => (isTold ? null : { ...asker, action: REPLACED, target, before: null, after: null }),
      },
    )
    const subscription = await findSubscriptionWithMethod(session, organizationId)
    if (subscription !== null) {
      const method = { defaultPaymentMethodId: paymentMethodId }
      const { id: subscriptionId, scheduleId } = subscription
      // A schedule brings the method of its time back when its next phase begins.
      const ofSchedule: FollowUp[] =
        scheduleId === null ? [] : [{ kind: 'update_schedule_method', params: { scheduleId, ...method } }]
      const params = { subscriptionId, ...method }
      await performIntent(context, session, { organizationId, kind: 'update_subscription', params, afterwards: ofSchedule })
      await finishPendingIntents(context, session, organizationId)
    }
    await followChange(context, session, organizationId)
    const method = (await listPaymentMethods(session, organizationId)).find(({ id }) => id === paymentMethodId)
    if (!method) throw new DomainError('conflict', 'The payment method was removed in the same moment.')
    return method
  })
}

const REPLACED = 'payment_method.replaced'

/**
 * Removes a payment method.
 * @throws DomainError `not_found`, `conflict` for the one that a live subscription is charged to
 */
export async function removePaymentMethod(
  context: BillingContext,
  request: { organizationId: string; paymentMethodId: string },
  asker: Asker,
): Promise<void> {
  const { organizationId, paymentMethodId } = request
  await runExclusively(context, organizationId, async (session, finished) => {
    const isAsked = ({ intent, result }: FinishedIntent) =>
      intent.kind === 'detach_payment_method' && result.id === paymentMethodId
    if ((await wasHeard(session, organizationId, asker)) || finished.some(isAsked)) {
      return followChange(context, session, organizationId)
    }
    const methods = await listPaymentMethods(session, organizationId)
    const method = methods.find(({ id }) => id === paymentMethodId)
    if (!method) throw new DomainError('not_found', 'There is no such payment method.')
    if (method.isDefault) throw new DomainError('conflict', 'This payment method is the one that is charged; replace it first.')
    const audit = { ...asker, action: 'payment_method.removed', target: paymentMethodId, before: null, after: null }
    await performIntent(context, session, { organizationId, kind: 'detach_payment_method', params: { paymentMethodId }, audit })
    await followChange(context, session, organizationId)
  })
}
