import type { Ctx } from '../../engine/context.ts'
import { invalidRequest } from '../../engine/errors.ts'
import { list } from '../../engine/lists.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import { operation, timeRule, type Module } from '../../engine/module.ts'
import type { Charge } from '../../payments/charges.ts'
import type { Refund } from '../../payments/refunds.ts'
import { createRefund, settleRefund } from '../../payments/refunds.ts'
import type { Params } from '../../wire.gen.ts'

type CreateParams = Params['POST /v1/refunds']

function chargeOf(ctx: Ctx, params: Pick<CreateParams, 'charge' | 'payment_intent'>): Charge {
  if (params.charge !== undefined) {
    const charge = ctx.require('charge', params.charge, 'charge')
    if (params.payment_intent === undefined || charge.payment_intent === params.payment_intent) return charge
    throw invalidRequest(`Charge ${charge.id} does not belong to PaymentIntent ${params.payment_intent}.`, { param: 'charge' })
  }
  if (params.payment_intent === undefined)
    throw invalidRequest('One of the following params should be provided for this request: payment_intent or charge.')
  const intent = ctx.require('payment_intent', params.payment_intent, 'payment_intent')
  const charge = intent.latest_charge === null ? undefined : ctx.get('charge', intent.latest_charge)
  if (charge?.status === 'succeeded' && charge.captured) return charge
  throw invalidRequest(`This PaymentIntent (${intent.id}) does not have a successful charge to refund.`, {
    param: 'payment_intent',
  })
}

function create(ctx: Ctx, params: Pick<CreateParams, 'amount' | 'charge' | 'metadata' | 'payment_intent' | 'reason'>): Refund {
  return createRefund(ctx, {
    amount: params.amount ?? null,
    charge: chargeOf(ctx, params),
    metadata: mergeMetadata({}, params.metadata),
    reason: params.reason ?? null,
  })
}

const operations = [
  operation({ on: 'POST /v1/refunds', takes: ['amount', 'charge', 'metadata', 'payment_intent', 'reason'], run: create }),
  operation({ on: 'GET /v1/refunds/{id}', takes: [], run: (ctx, _params, { id }) => ctx.require('refund', id) }),
  operation({
    on: 'POST /v1/refunds/{id}',
    takes: ['metadata'],
    run: (ctx, params, { id }) => {
      const refund = ctx.require('refund', id)
      return ctx.change('refund', id, { metadata: mergeMetadata(refund.metadata, params.metadata) }, 'refund.updated')
    },
  }),
  operation({
    on: 'GET /v1/refunds',
    takes: ['limit', 'starting_after', 'ending_before', 'created', 'charge', 'payment_intent'],
    run: (ctx, params) =>
      list(ctx, 'refund', params, {
        by: params.charge === undefined ? ['payment_intent', params.payment_intent] : ['charge', params.charge],
        url: '/v1/refunds',
      }),
  }),
  operation({
    on: 'POST /v1/refunds/{id}/cancel',
    takes: [],
    run: (ctx, _params, { id }) => {
      const refund = ctx.require('refund', id)
      // Only refunds that wait for the customer can be canceled; refunds to cards never do.
      throw invalidRequest(`You can only cancel a refund with status requires_action; this one is ${refund.status}.`)
    },
  }),
]

const rules = [
  timeRule({
    name: 'refund: reach the end that the test card gives it',
    object: 'refund',
    due: (refund) => refund._.next?.at ?? null,
    run: (refund, ctx) => settleRefund(ctx, refund),
  }),
]

export const refundsModule: Module = { operations, rules }
