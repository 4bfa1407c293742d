import { updated } from '../../engine/answer.ts'
import type { Ctx } from '../../engine/context.ts'
import { cardError, invalidRequest, missing, notSupported } from '../../engine/errors.ts'
import { list, wholeList } from '../../engine/lists.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import { operation, presenter, type Module } from '../../engine/module.ts'
import { field, search } from '../../engine/search.ts'
import { requireChargeable, requireCurrency } from '../../payments/amounts.ts'
import { authorize } from '../../payments/authorization.ts'
import { declineFields } from '../../payments/cards.ts'
import type { Charge } from '../../payments/charges.ts'
import { captureCharge, openDisputeOfCard, recordApprovedCharge, recordFailedCharge } from '../../payments/charges.ts'
import { captureIntent } from '../../payments/payment-intents.ts'
import { accountOf, behaviourOf, requireUsableBy, resolvePaymentMethod } from '../../payments/payment-methods.ts'
import { describeDecline } from '../../payments/test-cards.ts'
import type { Params } from '../../wire.gen.ts'
import { requireCustomer } from '../customers/customer-find.ts'
import { shippingOf } from './intent-params.ts'

type CreateParams = Params['POST /v1/charges']
type UpdateParams = Params['POST /v1/charges/{id}']

const createTakes = [
  'amount',
  'capture',
  'currency',
  'customer',
  'description',
  'metadata',
  'receipt_email',
  'shipping',
  'source',
  'statement_descriptor',
  'statement_descriptor_suffix',
  'transfer_group',
] as const

function sourceOf(ctx: Ctx, params: Pick<CreateParams, 'customer' | 'source'>): string {
  if (params.source !== undefined) return params.source
  const customer = params.customer === undefined ? undefined : requireCustomer(ctx, params.customer, 'customer')
  if (customer === undefined) throw invalidRequest('Must provide source or customer.')
  if (typeof customer.default_source === 'string') return customer.default_source
  throw cardError({ code: 'missing', message: 'Cannot charge a customer that has no active card', param: 'card' })
}

/** A charge without a payment intent: the older way, still taken with test tokens. */
function create(ctx: Ctx, params: Pick<CreateParams, (typeof createTakes)[number]>): Charge {
  if (params.amount === undefined) throw missing('amount')
  if (params.currency === undefined) throw missing('currency')
  const currency = requireCurrency(params.currency)
  requireChargeable(params.amount, currency)
  const method = resolvePaymentMethod(ctx, sourceOf(ctx, params), 'source')
  requireUsableBy(method, params.customer ?? null, 'source')
  if (accountOf(method) !== undefined) throw notSupported('A debit without a payment intent', 'source')
  const request = {
    amount: params.amount,
    authenticated: false,
    capture: params.capture ?? true,
    currency,
    customer: params.customer ?? null,
    description: params.description ?? null,
    metadata: mergeMetadata({}, params.metadata),
    method,
    paymentIntent: null,
    receiptEmail: params.receipt_email ?? null,
    shipping: shippingOf(params.shipping),
    statementDescriptor: params.statement_descriptor ?? null,
    statementDescriptorSuffix: params.statement_descriptor_suffix ?? null,
    transferGroup: params.transfer_group ?? null,
  }
  const attempt = {
    authenticated: false,
    challengeRequested: false,
    offSession: true,
    purpose: 'payment',
    setUp: method._.setUp,
  } as const
  const answer = authorize(behaviourOf(method), attempt)
  if (answer.kind === 'declined') {
    const decline = describeDecline(answer.reason)
    const failed = recordFailedCharge(ctx, request, decline)
    throw cardError({ ...declineFields(decline), charge: failed.id })
  }
  const charge = recordApprovedCharge(ctx, request)
  openDisputeOfCard(ctx, charge.id)
  return ctx.require('charge', charge.id)
}

function update(
  ctx: Ctx,
  id: string,
  params: Pick<
    UpdateParams,
    'customer' | 'description' | 'fraud_details' | 'metadata' | 'receipt_email' | 'shipping' | 'transfer_group'
  >,
): Charge {
  const charge = ctx.require('charge', id)
  if (params.customer !== undefined) requireCustomer(ctx, params.customer, 'customer')
  const report = params.fraud_details?.user_report
  return ctx.change(
    'charge',
    id,
    {
      customer: params.customer ?? charge.customer,
      description: updated(charge.description, params.description),
      fraud_details: report === undefined || report === '' ? charge.fraud_details : { user_report: report },
      metadata: mergeMetadata(charge.metadata, params.metadata),
      receipt_email: updated(charge.receipt_email, params.receipt_email),
      shipping: params.shipping === undefined ? charge.shipping : shippingOf(params.shipping),
      transfer_group: params.transfer_group ?? charge.transfer_group,
    },
    'charge.updated',
  )
}

function capture(ctx: Ctx, id: string, amount: number | undefined): Charge {
  const charge = ctx.require('charge', id)
  if (charge.captured) throw invalidRequest(`Charge ${id} has already been captured.`, { code: 'charge_already_captured' })
  if (charge.status !== 'succeeded' || charge.refunded) throw invalidRequest(`Charge ${id} cannot be captured.`)
  if (amount !== undefined && (amount < 1 || amount > charge.amount)) {
    throw invalidRequest(`The amount to capture must be between 1 and ${charge.amount}.`, {
      param: 'amount',
      code: 'amount_too_large',
    })
  }
  if (charge.payment_intent === null) return captureCharge(ctx, id, amount ?? charge.amount)
  captureIntent(ctx, charge.payment_intent, { amount: amount ?? null, metadata: null })
  return ctx.require('charge', id)
}

/** Numbers are searched as text here. */
const stated = (value: number | undefined): string | null => (value === undefined ? null : String(value))

const operations = [
  operation({ on: 'POST /v1/charges', takes: createTakes, run: create }),
  operation({
    on: 'POST /v1/charges/{id}',
    takes: ['customer', 'description', 'fraud_details', 'metadata', 'receipt_email', 'shipping', 'transfer_group'],
    run: (ctx, params, { id }) => update(ctx, id, params),
  }),
  operation({ on: 'GET /v1/charges/{id}', takes: [], run: (ctx, _params, { id }) => ctx.require('charge', id) }),
  operation({
    on: 'GET /v1/charges',
    takes: ['limit', 'starting_after', 'ending_before', 'created', 'customer', 'payment_intent', 'transfer_group'],
    run: (ctx, params) =>
      list(ctx, 'charge', params, {
        by: params.payment_intent === undefined ? ['customer', params.customer] : ['payment_intent', params.payment_intent],
        url: '/v1/charges',
        where: (charge) =>
          (params.customer === undefined || charge.customer === params.customer) &&
          (params.transfer_group === undefined || charge.transfer_group === params.transfer_group),
      }),
  }),
  operation({
    on: 'GET /v1/charges/search',
    takes: ['query', 'limit', 'page'],
    run: (ctx, params) =>
      search(ctx, 'charge', params, {
        url: '/v1/charges/search',
        fields: {
          amount: field.numeric((charge) => charge.amount),
          created: field.numeric((charge) => charge.created),
          currency: field.token((charge) => charge.currency),
          customer: field.token((charge) => charge.customer),
          disputed: field.token((charge) => String(charge.disputed)),
          'payment_method_details.card.brand': field.token((charge) => charge.payment_method_details?.card?.brand ?? null),
          'payment_method_details.card.exp_month': field.token((charge) =>
            stated(charge.payment_method_details?.card?.exp_month),
          ),
          'payment_method_details.card.exp_year': field.token((charge) => stated(charge.payment_method_details?.card?.exp_year)),
          'payment_method_details.card.fingerprint': field.token(
            (charge) => charge.payment_method_details?.card?.fingerprint ?? null,
          ),
          'payment_method_details.card.last4': field.token((charge) => charge.payment_method_details?.card?.last4 ?? null),
          refunded: field.token((charge) => String(charge.refunded)),
          status: field.token((charge) => charge.status),
        },
      }),
  }),
  operation({
    on: 'POST /v1/charges/{id}/capture',
    takes: ['amount'],
    run: (ctx, params, { id }) => capture(ctx, id, params.amount),
  }),
]

const presenters = [
  presenter('charge', {
    onExpand: {
      refunds: (charge, ctx) => {
        const newestFirst = ctx.store.by('refund', 'charge', charge.id).toReversed()
        return wholeList(newestFirst, `/v1/charges/${charge.id}/refunds`)
      },
    },
  }),
]

export const chargesModule: Module = { operations, presenters }
