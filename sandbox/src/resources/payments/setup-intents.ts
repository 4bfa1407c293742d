import { defined, updated } from '../../engine/answer.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest } from '../../engine/errors.ts'
import { list } from '../../engine/lists.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import { operation, type Module } from '../../engine/module.ts'
import { requireUsableBy, resolvePaymentMethod } from '../../payments/payment-methods.ts'
import type { SetupIntent } from '../../payments/setup-intents.ts'
import {
  cancelSetupIntent,
  confirmSetupIntent,
  createSetupIntent,
  setupDeclinedError,
  unexpectedSetupState,
} from '../../payments/setup-intents.ts'
import type { Params } from '../../wire.gen.ts'
import { requireCustomer } from '../customers/customer-find.ts'
import { methodTypes, refusedSetupOptions, requireReturnUrl, requireUrl } from './intent-params.ts'

type CreateParams = Params['POST /v1/setup_intents']
type UpdateParams = Params['POST /v1/setup_intents/{id}']

const createTakes = [
  'allowed_payment_method_types',
  'automatic_payment_methods',
  'confirm',
  'customer',
  'description',
  'mandate_data',
  'metadata',
  'payment_method',
  'payment_method_options',
  'return_url',
  'usage',
  'use_stripe_sdk',
] as const

function requestedChallenge(options: CreateParams['payment_method_options']): 'any' | 'automatic' | 'challenge' | undefined {
  return options?.card?.request_three_d_secure
}

function finish(ctx: Ctx, id: string, confirmation: { payment_method?: string; return_url?: string }): SetupIntent {
  const intent = ctx.require('setup_intent', id)
  if (intent.status !== 'succeeded' && intent.status !== 'canceled') {
    requireReturnUrl('SetupIntent', intent.automatic_payment_methods, confirmation.return_url ?? intent._.returnUrl ?? undefined)
  }
  const confirmed = confirmSetupIntent(ctx, id, {
    authenticated: false,
    paymentMethod: confirmation.payment_method ?? null,
    returnUrl: confirmation.return_url ?? null,
  })
  if (confirmed.kind === 'declined') throw setupDeclinedError(ctx, confirmed)
  return ctx.require('setup_intent', id)
}

function create(ctx: Ctx, params: Pick<CreateParams, (typeof createTakes)[number]>): SetupIntent {
  requireUrl(params.return_url, 'return_url')
  if (params.customer !== undefined) requireCustomer(ctx, params.customer, 'customer')
  const customer = params.customer ?? null
  const method = params.payment_method === undefined ? null : resolvePaymentMethod(ctx, params.payment_method, 'payment_method')
  if (method !== null) requireUsableBy(method, customer, 'payment_method')
  const { automatic, allowed } = methodTypes(params)
  if (params.confirm === true) requireReturnUrl('SetupIntent', automatic, params.return_url)
  const intent = createSetupIntent(
    ctx,
    defined({
      allowed,
      automatic,
      customer,
      description: params.description ?? null,
      metadata: mergeMetadata({}, params.metadata),
      paymentMethod: method?.id ?? null,
      requestThreeDSecure: requestedChallenge(params.payment_method_options),
      usage: params.usage,
    }),
  )
  if (params.confirm !== true) return intent
  return finish(ctx, intent.id, defined({ payment_method: method?.id, return_url: params.return_url }))
}

function update(
  ctx: Ctx,
  id: string,
  params: Pick<UpdateParams, 'customer' | 'description' | 'metadata' | 'payment_method' | 'allowed_payment_method_types'>,
): SetupIntent {
  const intent = ctx.require('setup_intent', id)
  if (intent.status === 'succeeded' || intent.status === 'canceled') {
    throw unexpectedSetupState(ctx, intent, `You cannot update this SetupIntent because it has a status of ${intent.status}.`)
  }
  if (params.customer !== undefined) requireCustomer(ctx, params.customer, 'customer')
  const customer = params.customer ?? intent.customer
  const method = params.payment_method === undefined ? null : resolvePaymentMethod(ctx, params.payment_method, 'payment_method')
  if (method !== null) requireUsableBy(method, customer, 'payment_method')
  const ready = { next_action: null, payment_method: method?.id ?? null, status: 'requires_confirmation' as const }
  const allowed = params.allowed_payment_method_types
  return ctx.update('setup_intent', id, {
    ...(allowed === undefined
      ? {}
      : { allowed_payment_method_types: methodTypes({ allowed_payment_method_types: allowed }).allowed }),
    customer,
    description: updated(intent.description, params.description),
    metadata: mergeMetadata(intent.metadata, params.metadata),
    ...(method === null ? {} : ready),
  })
}

const operations = [
  operation({ on: 'POST /v1/setup_intents', takes: createTakes, refuses: refusedSetupOptions, run: create }),
  operation({
    on: 'POST /v1/setup_intents/{id}',
    takes: ['customer', 'description', 'metadata', 'payment_method', 'allowed_payment_method_types'],
    run: (ctx, params, { id }) => update(ctx, id, params),
  }),
  operation({
    on: 'GET /v1/setup_intents/{id}',
    takes: ['client_secret'],
    publishable: true,
    run: (ctx, params, { id }) => {
      const intent = ctx.require('setup_intent', id)
      if (params.client_secret === undefined || params.client_secret === intent.client_secret) return intent
      throw invalidRequest('The client_secret provided does not match the client_secret associated with the SetupIntent.', {
        param: 'client_secret',
      })
    },
  }),
  operation({
    on: 'GET /v1/setup_intents',
    takes: ['limit', 'starting_after', 'ending_before', 'created', 'customer', 'payment_method'],
    run: (ctx, params) =>
      list(ctx, 'setup_intent', params, {
        by: params.customer === undefined ? ['payment_method', params.payment_method] : ['customer', params.customer],
        url: '/v1/setup_intents',
        where: (intent) => params.payment_method === undefined || intent.payment_method === params.payment_method,
      }),
  }),
  operation({
    on: 'POST /v1/setup_intents/{id}/confirm',
    takes: ['mandate_data', 'payment_method', 'payment_method_options', 'return_url', 'use_stripe_sdk'],
    refuses: refusedSetupOptions,
    run: (ctx, params, { id }) => {
      requireUrl(params.return_url, 'return_url')
      return finish(ctx, id, defined({ payment_method: params.payment_method, return_url: params.return_url }))
    },
  }),
  operation({
    on: 'POST /v1/setup_intents/{id}/cancel',
    takes: ['cancellation_reason'],
    run: (ctx, params, { id }) => cancelSetupIntent(ctx, id, params.cancellation_reason ?? null),
  }),
  operation({
    on: 'GET /v1/setup_attempts',
    takes: ['limit', 'starting_after', 'ending_before', 'created', 'setup_intent'],
    run: (ctx, params) => {
      ctx.require('setup_intent', params.setup_intent, 'setup_intent')
      return list(ctx, 'setup_attempt', params, { by: ['setup_intent', params.setup_intent], url: '/v1/setup_attempts' })
    },
  }),
]

export const setupIntentsModule: Module = { operations }
