import { defined } from '../../engine/answer.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, noSuch } from '../../engine/errors.ts'
import type { List, PageParams } from '../../engine/lists.ts'
import { list } from '../../engine/lists.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import { operation, type Module } from '../../engine/module.ts'
import type { PaymentMethod } from '../../payments/payment-methods.ts'
import {
  attachPaymentMethod,
  createPaymentMethod,
  detachPaymentMethod,
  mergeBillingDetails,
  resolvePaymentMethod,
} from '../../payments/payment-methods.ts'
import type { Params } from '../../wire.gen.ts'
import { requireCustomer } from '../customers/customer-find.ts'

type CreateParams = Params['POST /v1/payment_methods']
type UpdateParams = Params['POST /v1/payment_methods/{id}']

function create(
  ctx: Ctx,
  params: Pick<CreateParams, 'allow_redisplay' | 'billing_details' | 'card' | 'metadata' | 'type'>,
): PaymentMethod {
  return createPaymentMethod(
    ctx,
    defined({
      allow_redisplay: params.allow_redisplay,
      billing_details: params.billing_details,
      card: params.card,
      metadata: mergeMetadata({}, params.metadata),
      type: params.type,
    }),
  )
}

function changedCard(method: PaymentMethod, card: UpdateParams['card']): PaymentMethod['card'] {
  if (card === undefined || method.card === undefined) return method.card
  const exp_month = card.exp_month ?? method.card.exp_month
  if (exp_month < 1 || exp_month > 12) {
    throw invalidRequest("Your card's expiration month is invalid.", { param: 'card[exp_month]', code: 'invalid_expiry_month' })
  }
  const networks = method.card.networks && {
    ...method.card.networks,
    preferred: card.networks?.preferred ?? method.card.networks.preferred,
  }
  return { ...method.card, exp_month, exp_year: card.exp_year ?? method.card.exp_year, networks }
}

function update(
  ctx: Ctx,
  id: string,
  params: Pick<UpdateParams, 'allow_redisplay' | 'billing_details' | 'card' | 'metadata'>,
): PaymentMethod {
  const method = ctx.require('payment_method', id)
  if (method.customer === null) {
    throw invalidRequest('You must save this PaymentMethod to a customer before you can update it.')
  }
  const card = changedCard(method, params.card)
  const patch = {
    allow_redisplay: params.allow_redisplay ?? method.allow_redisplay ?? 'unspecified',
    billing_details: mergeBillingDetails(method.billing_details, params.billing_details),
    ...(card === undefined ? {} : { card }),
    metadata: mergeMetadata(method.metadata, params.metadata),
  }
  return ctx.change('payment_method', id, patch, 'payment_method.updated')
}

interface Filter {
  readonly type?: string
  readonly allow_redisplay?: string
}

function listOf(ctx: Ctx, customer: string | undefined, params: PageParams & Filter, url: string): List {
  if (customer !== undefined) requireCustomer(ctx, customer, 'customer')
  return list(ctx, 'payment_method', params, {
    url,
    by: ['customer', customer],
    where: (method) =>
      method.customer !== null &&
      (params.type === undefined || method.type === params.type) &&
      (params.allow_redisplay === undefined || method.allow_redisplay === params.allow_redisplay),
  })
}

const paging = ['limit', 'starting_after', 'ending_before', 'allow_redisplay', 'type'] as const

const operations = [
  operation({
    on: 'POST /v1/payment_methods',
    takes: ['allow_redisplay', 'billing_details', 'card', 'metadata', 'type'],
    publishable: true,
    run: create,
  }),
  operation({
    on: 'GET /v1/payment_methods/{id}',
    takes: [],
    run: (ctx, _params, { id }) => resolvePaymentMethod(ctx, id, 'id'),
  }),
  operation({
    on: 'POST /v1/payment_methods/{id}',
    takes: ['allow_redisplay', 'billing_details', 'card', 'metadata'],
    run: (ctx, params, { id }) => update(ctx, id, params),
  }),
  operation({
    on: 'GET /v1/payment_methods',
    takes: [...paging, 'customer'],
    run: (ctx, params) => listOf(ctx, params.customer, params, '/v1/payment_methods'),
  }),
  operation({
    on: 'GET /v1/customers/{id}/payment_methods',
    takes: paging,
    run: (ctx, params, { id }) => {
      requireCustomer(ctx, id)
      return listOf(ctx, id, params, `/v1/customers/${id}/payment_methods`)
    },
  }),
  operation({
    on: 'GET /v1/customers/{customerId}/payment_methods/{id}',
    takes: [],
    run: (ctx, _params, { customerId, id }) => {
      requireCustomer(ctx, customerId)
      const method = ctx.require('payment_method', id)
      if (method.customer !== customerId) throw noSuch('payment_method', id)
      return method
    },
  }),
  operation({
    on: 'POST /v1/payment_methods/{id}/attach',
    takes: ['customer'],
    run: (ctx, params, { id }) => {
      if (params.customer === undefined)
        throw invalidRequest('Missing required param: customer.', { param: 'customer', code: 'parameter_missing' })
      return attachPaymentMethod(ctx, id, params.customer)
    },
  }),
  operation({
    on: 'POST /v1/payment_methods/{id}/detach',
    takes: [],
    run: (ctx, _params, { id }) => detachPaymentMethod(ctx, id),
  }),
]

export const paymentMethodsModule: Module = { operations }
