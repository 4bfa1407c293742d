import { createRoute, z } from '@hono/zod-openapi'
import type { App } from '../http/app.ts'
import { findStart } from '../http/page-query.ts'
import { json } from '../http/route-schemas.ts'
import { toMajorNumber } from '../lib/money.ts'
import type { BillingContext } from '../stripe/context.ts'
import { readOrganization } from '../stripe/organizations.ts'
import { answerOnce } from '../subscriptions/answer-once.ts'
import { callerOf } from '../subscriptions/routes.ts'
import { hostedPageSchema, keyHeader, organizationField, paymentMethodId } from '../subscriptions/schemas.ts'
import { payInvoice, removePaymentMethod, replacePaymentMethod } from './actions.ts'
import { openDisputePayment } from './disputes.ts'
import { findInvoice, findSyncTime, listInvoices, listPaymentMethods, type Invoice, type PaymentMethod } from './store.ts'

const tags = ['Invoices']
const SYNCED = 'Read from the mirror of Stripe; the header `X-Synced-At` says when Stripe was last asked.'
const time = z.iso.datetime().nullable()

const redirectsSchema = z.object({
  ...organizationField,
  success_url: z.string().optional().meta({ description: 'Default: STRIPE_SUCCESS_URL.' }),
  cancel_url: z.string().optional().meta({ description: 'Default: STRIPE_CANCEL_URL.' }),
})

/** OC-2: amounts in major units; beside them the minor units, which are exact. */
export const invoiceSchema = z
  .object({
    id: z.string(),
    number: z.string().nullable(),
    amount_due: z.number(),
    amount_paid: z.number(),
    amount_due_minor: z.number().int(),
    amount_paid_minor: z.number().int(),
    amount_remaining_minor: z.number().int(),
    amount_refunded: z.number().meta({ description: 'Given back of what was paid.' }),
    amount_refunded_minor: z.number().int(),
    amount_credited: z.number().meta({
      description:
        'Taken off by credit notes: of what was due, which is in `amount_due` already, and of what was paid, refunds by a note included.',
    }),
    amount_credited_minor: z.number().int(),
    dispute: z
      .object({
        id: z.string(),
        status: z.string().meta({ description: 'As Stripe names it: `needs_response`, `under_review`, `won`, `lost`, …' }),
        reason: z.string(),
        amount_minor: z.number().int(),
        respond_by: time.meta({ description: 'Until when evidence can be handed in.' }),
      })
      .nullable()
      .meta({ description: 'The newest dispute of one of its payments.' }),
    currency: z.string(),
    status: z.enum(['draft', 'open', 'paid', 'uncollectible', 'void']),
    billing_reason: z.string().nullable(),
    subscription_id: z.string().nullable(),
    created: z.iso.datetime(),
    due_date: time,
    period_start: z.iso.datetime(),
    period_end: z.iso.datetime(),
    paid: z.boolean(),
    paid_at: time,
    next_payment_attempt: time,
    invoice_pdf: z.string().nullable(),
    hosted_invoice_url: z.string().nullable(),
  })
  .openapi('Invoice')

/** OC-3. */
export const paymentMethodSchema = z
  .object({
    id: z.string(),
    type: z.string(),
    card: z.object({ brand: z.string(), last4: z.string(), exp_month: z.number().int(), exp_year: z.number().int() }).nullable(),
    created: z.iso.datetime(),
    is_default: z.boolean().meta({ description: 'Whether the next invoice is charged to it.' }),
  })
  .openapi('PaymentMethod')

const listInvoicesRoute = createRoute({
  method: 'get',
  path: '/api/v1/billing/invoices',
  tags,
  summary: 'List invoices, newest first',
  description: SYNCED,
  request: {
    query: z.object({
      ...organizationField,
      limit: z.coerce.number().int().min(1).max(100).default(10),
      status: z.enum(['draft', 'open', 'paid', 'uncollectible', 'void']).optional(),
      starting_after: z.string().max(200).optional().meta({ description: 'The last id of the page before.' }),
    }),
  },
  responses: { 200: json('A bare list.', z.array(invoiceSchema)) },
})

const payInvoiceRoute = createRoute({
  method: 'post',
  path: '/api/v1/billing/invoices/{id}/pay',
  tags,
  summary: 'Pay an open invoice',
  description: 'Paying the invoice that suspended an organization reactivates it (EM-7).',
  request: {
    headers: keyHeader,
    params: z.object({ id: z.string() }),
    body: {
      required: false,
      content: {
        'application/json': { schema: z.object({ ...organizationField, payment_method_id: paymentMethodId.optional() }) },
      },
    },
  },
  responses: { 200: json('It is paid.', invoiceSchema) },
})

const payDisputeRoute = createRoute({
  method: 'post',
  path: '/api/v1/billing/disputes/{id}/pay',
  tags,
  summary: 'Open a page where a payment that was charged back is made again',
  description: 'Of a dispute that was lost. Paying it settles the dispute: the standing follows.',
  request: {
    headers: keyHeader,
    params: z.object({ id: z.string() }),
    body: { required: false, content: { 'application/json': { schema: redirectsSchema } } },
  },
  responses: { 200: json('The page.', hostedPageSchema) },
})

const listPaymentMethodsRoute = createRoute({
  method: 'get',
  path: '/api/v1/billing/payment-methods',
  tags,
  summary: 'List payment methods',
  description: SYNCED,
  request: { query: z.object(organizationField) },
  responses: { 200: json('A bare list.', z.array(paymentMethodSchema)) },
})

const replacePaymentMethodRoute = createRoute({
  method: 'post',
  path: '/api/v1/billing/payment-methods',
  tags,
  summary: 'Make a payment method the one that is charged',
  description: 'Its id comes from Stripe’s form; card data never passes here.',
  request: {
    headers: keyHeader,
    body: {
      required: true,
      content: { 'application/json': { schema: z.object({ ...organizationField, payment_method_id: paymentMethodId }) } },
    },
  },
  responses: { 200: json('It is charged from now on.', paymentMethodSchema) },
})

const removePaymentMethodRoute = createRoute({
  method: 'delete',
  path: '/api/v1/billing/payment-methods/{id}',
  tags,
  summary: 'Remove a payment method',
  description:
    'The scope `admin`. The one that is charged is 409: replace it first. One of another customer is 404, as one that does not exist.',
  request: { headers: keyHeader, params: z.object({ id: z.string() }), query: z.object(organizationField) },
  responses: { 204: { description: 'It is removed.' } },
})

/** Routes of invoices and payment methods: OC-2, OC-3, CB-6. */
export function registerInvoiceRoutes(app: App, context: BillingContext): void {
  const { db } = context
  app.openapi(listInvoicesRoute, async (http) => {
    const { limit, status, starting_after: startingAfter, organization_id: named } = http.req.valid('query')
    const { organizationId } = callerOf(http, 'read', named)
    await readOrganization(db, organizationId)
    const last = await findStart(startingAfter, (id) => findInvoice(db, organizationId, id))
    const invoices = await listInvoices(db, { organizationId, status: status ?? null, limit, before: last?.id ?? null })
    return http.json(invoices.map(toInvoiceView), 200, await ageOf(context, organizationId))
  })
  app.openapi(payInvoiceRoute, async (http) => {
    const { payment_method_id: method, organization_id: named } = http.req.valid('json')
    const caller = callerOf(http, 'admin', named)
    const { id: invoiceId } = http.req.valid('param')
    const request = { organizationId: caller.organizationId, invoiceId, paymentMethodId: method ?? null }
    const sent = { operation: `invoices/${invoiceId}/pay`, body: { payment_method_id: method } }
    return http.json(
      await answerOnce(context, caller, sent, async (asker) => toInvoiceView(await payInvoice(context, request, asker))),
      200,
    )
  })
  app.openapi(payDisputeRoute, async (http) => {
    const body = http.req.valid('json')
    const caller = callerOf(http, 'admin', body.organization_id)
    const { id: disputeId } = http.req.valid('param')
    const urls = { successUrl: body.success_url, cancelUrl: body.cancel_url }
    const open = () => openDisputePayment(context, { organizationId: caller.organizationId, disputeId, ...urls })
    return http.json(await answerOnce(context, caller, { operation: `disputes/${disputeId}/pay`, body }, open), 200)
  })
  app.openapi(listPaymentMethodsRoute, async (http) => {
    const { organizationId } = callerOf(http, 'read', http.req.valid('query').organization_id)
    await readOrganization(db, organizationId)
    const methods = await listPaymentMethods(db, organizationId)
    return http.json(methods.map(toPaymentMethodView), 200, await ageOf(context, organizationId))
  })
  app.openapi(replacePaymentMethodRoute, async (http) => {
    const { payment_method_id: paymentMethodId, organization_id: named } = http.req.valid('json')
    const caller = callerOf(http, 'admin', named)
    const request = { organizationId: caller.organizationId, paymentMethodId }
    const sent = { operation: 'payment-methods', body: { payment_method_id: paymentMethodId } }
    return http.json(
      await answerOnce(context, caller, sent, async (asker) =>
        toPaymentMethodView(await replacePaymentMethod(context, request, asker)),
      ),
      200,
    )
  })
  app.openapi(removePaymentMethodRoute, async (http) => {
    const caller = callerOf(http, 'admin', http.req.valid('query').organization_id)
    const request = { organizationId: caller.organizationId, paymentMethodId: http.req.valid('param').id }
    await answerOnce(context, caller, { operation: `payment-methods/${request.paymentMethodId}`, body: {} }, async (asker) => {
      await removePaymentMethod(context, request, asker)
      return {}
    })
    return http.body(null, 204)
  })
}

/** How fresh a bare list is, which has no field for it. */
async function ageOf({ db }: BillingContext, organizationId: string): Promise<Record<string, string>> {
  const syncedAt = await findSyncTime(db, organizationId)
  return syncedAt === null ? {} : { 'x-synced-at': syncedAt.toISOString() }
}

export function toInvoiceView(invoice: Invoice): z.infer<typeof invoiceSchema> {
  const { currency } = invoice
  return {
    id: invoice.id,
    number: invoice.number,
    amount_due: toMajorNumber({ amountMinor: invoice.amountDueMinor, currency }),
    amount_paid: toMajorNumber({ amountMinor: invoice.amountPaidMinor, currency }),
    amount_due_minor: invoice.amountDueMinor,
    amount_paid_minor: invoice.amountPaidMinor,
    amount_remaining_minor: invoice.amountRemainingMinor,
    amount_refunded: toMajorNumber({ amountMinor: invoice.amountRefundedMinor, currency }),
    amount_refunded_minor: invoice.amountRefundedMinor,
    amount_credited: toMajorNumber({ amountMinor: invoice.amountCreditedMinor, currency }),
    amount_credited_minor: invoice.amountCreditedMinor,
    dispute: invoice.dispute && {
      id: invoice.dispute.id,
      status: invoice.dispute.status,
      reason: invoice.dispute.reason,
      amount_minor: invoice.dispute.amountMinor,
      respond_by: invoice.dispute.dueAt === null ? null : new Date(invoice.dispute.dueAt).toISOString(),
    },
    currency,
    status: invoice.status,
    billing_reason: invoice.billingReason,
    subscription_id: invoice.subscriptionId,
    created: invoice.createdAt.toISOString(),
    due_date: invoice.dueAt?.toISOString() ?? null,
    period_start: invoice.periodStart.toISOString(),
    period_end: invoice.periodEnd.toISOString(),
    paid: invoice.status === 'paid',
    paid_at: invoice.paidAt?.toISOString() ?? null,
    next_payment_attempt: invoice.nextPaymentAttemptAt?.toISOString() ?? null,
    invoice_pdf: invoice.invoicePdf,
    hosted_invoice_url: invoice.hostedInvoiceUrl,
  }
}

export function toPaymentMethodView(method: PaymentMethod): z.infer<typeof paymentMethodSchema> {
  const { cardBrand, cardLast4, cardExpMonth, cardExpYear } = method
  return {
    id: method.id,
    type: method.type,
    card:
      cardBrand === null || cardLast4 === null
        ? null
        : { brand: cardBrand, last4: cardLast4, exp_month: cardExpMonth ?? 0, exp_year: cardExpYear ?? 0 },
    created: method.createdAt.toISOString(),
    is_default: method.isDefault,
  }
}
