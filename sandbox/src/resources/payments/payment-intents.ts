import { defined, updated } from '../../engine/answer.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, noSuch } from '../../engine/errors.ts'
import { list } from '../../engine/lists.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import { operation, timeRule, type Module } from '../../engine/module.ts'
import { field, search } from '../../engine/search.ts'
import { requireChargeable, requireCurrency } from '../../payments/amounts.ts'
import { actionRequiredError, confirmIntent, declinedError, settle } from '../../payments/confirm.ts'
import { captureBefore } from '../../payments/inferred.ts'
import type { IntentPatch, PaymentIntent } from '../../payments/payment-intents.ts'
import { cancelIntent, captureIntent, createIntent, requireOwnIntent, updateIntent } from '../../payments/payment-intents.ts'
import { requireUsableBy, resolvePaymentMethod } from '../../payments/payment-methods.ts'
import type { Params } from '../../wire.gen.ts'
import { requireCustomer } from '../customers/customer-find.ts'
import { methodTypes, refusedPaymentOptions, requireReturnUrl, requireUrl, shippingOf } from './intent-params.ts'

type CreateParams = Params['POST /v1/payment_intents']
type UpdateParams = Params['POST /v1/payment_intents/{id}']
type ConfirmParams = Params['POST /v1/payment_intents/{id}/confirm']

const createTakes = [
  'allowed_payment_method_types',
  'amount',
  'automatic_payment_methods',
  'capture_method',
  'confirm',
  'confirmation_method',
  'currency',
  'customer',
  'description',
  'error_on_requires_action',
  'hooks',
  'metadata',
  'off_session',
  'payment_method',
  'payment_method_options',
  'receipt_email',
  'return_url',
  'setup_future_usage',
  'shipping',
  'statement_descriptor',
  'statement_descriptor_suffix',
  'transfer_group',
  'use_stripe_sdk',
] as const

const updateTakes = [
  'allowed_payment_method_types',
  'amount',
  'capture_method',
  'currency',
  'customer',
  'description',
  'hooks',
  'metadata',
  'payment_method',
  'payment_method_options',
  'receipt_email',
  'setup_future_usage',
  'shipping',
  'statement_descriptor',
  'statement_descriptor_suffix',
  'transfer_group',
] as const

const confirmTakes = [
  'allowed_payment_method_types',
  'capture_method',
  'error_on_requires_action',
  'hooks',
  'off_session',
  'payment_method',
  'payment_method_options',
  'receipt_email',
  'return_url',
  'setup_future_usage',
  'shipping',
  'use_stripe_sdk',
] as const

type CardOptions = { card?: { request_three_d_secure?: 'any' | 'automatic' | 'challenge'; capture_method?: string } | '' }

function cardOptions(options: CreateParams['payment_method_options']): Exclude<CardOptions['card'], '' | undefined> {
  const card = (options as CardOptions | undefined)?.card
  return card === '' || card === undefined ? {} : card
}

function finish(
  ctx: Ctx,
  id: string,
  params: Pick<ConfirmParams, 'error_on_requires_action' | 'off_session' | 'payment_method' | 'return_url'>,
): PaymentIntent {
  const offSession = params.off_session !== undefined && params.off_session !== false
  const intent = ctx.require('payment_intent', id)
  const confirmable = intent.status !== 'succeeded' && intent.status !== 'canceled' && intent.status !== 'requires_capture'
  if (!offSession && confirmable)
    requireReturnUrl('PaymentIntent', intent.automatic_payment_methods, params.return_url ?? intent._.returnUrl ?? undefined)
  const confirmed = confirmIntent(ctx, id, {
    authenticated: false,
    offSession,
    paymentMethod: params.payment_method ?? null,
    returnUrl: params.return_url ?? null,
  })
  settle(ctx, confirmed)
  if (confirmed.kind === 'declined') throw declinedError(ctx, confirmed)
  if (confirmed.kind === 'requires_action' && params.error_on_requires_action === true)
    throw actionRequiredError(ctx, confirmed.intent)
  return ctx.require('payment_intent', id)
}

type Hooks = NonNullable<PaymentIntent['hooks']>

/** What is to follow from the payment: the tax of a calculation is recorded. What is not named stays. */
function hooksOf(ctx: Ctx, param: CreateParams['hooks']): Hooks | undefined {
  const named = param?.inputs?.tax?.calculation
  if (named === undefined) return undefined
  if (named === '') return {}
  if (ctx.get('tax.calculation', named) === undefined) throw noSuch('tax_calculation', named, 'hooks[inputs][tax][calculation]')
  return { inputs: { tax: { calculation: named } } }
}

function requireConsistent(params: Pick<CreateParams, (typeof createTakes)[number]>): void {
  requireUrl(params.return_url, 'return_url')
  if (params.confirm === true) return
  for (const name of ['off_session', 'return_url', 'error_on_requires_action'] as const) {
    if (params[name] !== undefined) {
      throw invalidRequest(
        `The parameter '${name}' cannot be passed when creating a PaymentIntent unless confirm is set to true.`,
        { param: name },
      )
    }
  }
}

function create(ctx: Ctx, params: Pick<CreateParams, (typeof createTakes)[number]>): PaymentIntent {
  const currency = requireCurrency(params.currency)
  requireChargeable(params.amount, currency)
  requireConsistent(params)
  if (params.customer !== undefined) requireCustomer(ctx, params.customer, 'customer')
  const customer = params.customer ?? null
  const method = params.payment_method === undefined ? null : resolvePaymentMethod(ctx, params.payment_method, 'payment_method')
  if (method !== null) requireUsableBy(method, customer, 'payment_method')
  const { automatic, allowed } = methodTypes(params)
  if (params.confirm === true && (params.off_session === undefined || params.off_session === false)) {
    requireReturnUrl('PaymentIntent', automatic, params.return_url)
  }
  const { request_three_d_secure: requestThreeDSecure } = cardOptions(params.payment_method_options)
  const intent = createIntent(
    ctx,
    defined({
      amount: params.amount,
      allowed,
      automatic,
      captureMethod: params.capture_method,
      confirmationMethod: params.confirmation_method,
      currency,
      customer,
      description: params.description ?? null,
      hooks: hooksOf(ctx, params.hooks),
      metadata: mergeMetadata({}, params.metadata),
      paymentMethod: method?.id ?? null,
      receiptEmail: params.receipt_email ?? null,
      requestThreeDSecure,
      setupFutureUsage: params.setup_future_usage ?? null,
      shipping: shippingOf(params.shipping),
      statementDescriptor: params.statement_descriptor ?? null,
      statementDescriptorSuffix: params.statement_descriptor_suffix ?? null,
      transferGroup: params.transfer_group ?? null,
    }),
  )
  return params.confirm === true ? finish(ctx, intent.id, { ...params, payment_method: method?.id ?? '' }) : intent
}

type Allowed = NonNullable<PaymentIntent['allowed_payment_method_types']>

function allowedPatch(param: Allowed | '' | undefined): Partial<IntentPatch> {
  return param === undefined ? {} : { allowed_payment_method_types: methodTypes({ allowed_payment_method_types: param }).allowed }
}

function optionsPatch(intent: PaymentIntent, options: CreateParams['payment_method_options']): Partial<IntentPatch> {
  const { request_three_d_secure } = cardOptions(options)
  if (request_three_d_secure === undefined) return {}
  const card = {
    installments: null,
    mandate_options: null,
    network: null,
    ...intent.payment_method_options?.card,
    request_three_d_secure,
  }
  return { payment_method_options: { ...intent.payment_method_options, card } }
}

function update(ctx: Ctx, id: string, params: Pick<UpdateParams, (typeof updateTakes)[number]>): PaymentIntent {
  const intent = ctx.require('payment_intent', id)
  return updateIntent(
    ctx,
    id,
    defined({
      ...allowedPatch(params.allowed_payment_method_types),
      amount: params.amount,
      capture_method: params.capture_method,
      currency: params.currency === undefined ? undefined : requireCurrency(params.currency),
      customer: params.customer,
      description: updated(intent.description, params.description),
      hooks: hooksOf(ctx, params.hooks),
      metadata: mergeMetadata(intent.metadata, params.metadata),
      ...optionsPatch(intent, params.payment_method_options),
      payment_method: params.payment_method,
      receipt_email: updated(intent.receipt_email, params.receipt_email),
      setup_future_usage: params.setup_future_usage === undefined ? undefined : params.setup_future_usage || null,
      shipping: params.shipping === undefined ? undefined : shippingOf(params.shipping),
      statement_descriptor: params.statement_descriptor,
      statement_descriptor_suffix: params.statement_descriptor_suffix,
      transfer_group: params.transfer_group,
    }),
  )
}

function confirm(ctx: Ctx, id: string, params: Pick<ConfirmParams, (typeof confirmTakes)[number]>): PaymentIntent {
  requireUrl(params.return_url, 'return_url')
  const intent = ctx.require('payment_intent', id)
  const patch = defined({
    ...allowedPatch(params.allowed_payment_method_types),
    capture_method: params.capture_method,
    hooks: hooksOf(ctx, params.hooks),
    ...optionsPatch(intent, params.payment_method_options),
    receipt_email: params.receipt_email === undefined ? undefined : params.receipt_email || null,
    setup_future_usage: params.setup_future_usage === undefined ? undefined : params.setup_future_usage || null,
    shipping: params.shipping === undefined ? undefined : shippingOf(params.shipping),
  })
  if (Object.keys(patch).length > 0) updateIntent(ctx, id, patch)
  return finish(ctx, id, params)
}

const operations = [
  operation({ on: 'POST /v1/payment_intents', takes: createTakes, refuses: refusedPaymentOptions, run: create }),
  operation({
    on: 'POST /v1/payment_intents/{id}',
    takes: updateTakes,
    refuses: refusedPaymentOptions,
    run: (ctx, params, { id }) => update(ctx, id, params),
  }),
  operation({
    on: 'GET /v1/payment_intents/{id}',
    takes: ['client_secret'],
    publishable: true,
    run: (ctx, params, { id }) => {
      const intent = ctx.require('payment_intent', id)
      if (params.client_secret === undefined || params.client_secret === intent.client_secret) return intent
      throw invalidRequest('The client_secret provided does not match the client_secret associated with the PaymentIntent.', {
        param: 'client_secret',
      })
    },
  }),
  operation({
    on: 'GET /v1/payment_intents',
    takes: ['limit', 'starting_after', 'ending_before', 'created', 'customer'],
    run: (ctx, params) => list(ctx, 'payment_intent', params, { by: ['customer', params.customer], url: '/v1/payment_intents' }),
  }),
  operation({
    on: 'GET /v1/payment_intents/search',
    takes: ['query', 'limit', 'page'],
    run: (ctx, params) =>
      search(ctx, 'payment_intent', params, {
        url: '/v1/payment_intents/search',
        fields: {
          amount: field.numeric((intent) => intent.amount),
          created: field.numeric((intent) => intent.created),
          currency: field.token((intent) => intent.currency),
          customer: field.token((intent) => intent.customer),
          status: field.token((intent) => intent.status),
        },
      }),
  }),
  operation({
    on: 'POST /v1/payment_intents/{id}/confirm',
    takes: confirmTakes,
    refuses: refusedPaymentOptions,
    run: (ctx, params, { id }) => confirm(ctx, id, params),
  }),
  operation({
    on: 'POST /v1/payment_intents/{id}/capture',
    takes: ['amount_to_capture', 'metadata'],
    run: (ctx, params, { id }) => {
      const before = ctx.require('payment_intent', id)
      const metadata = params.metadata === undefined ? null : mergeMetadata(before.metadata, params.metadata)
      return captureIntent(ctx, id, { amount: params.amount_to_capture ?? null, metadata })
    },
  }),
  operation({
    on: 'POST /v1/payment_intents/{id}/cancel',
    takes: ['cancellation_reason'],
    run: (ctx, params, { id }) => {
      requireOwnIntent(ctx, ctx.require('payment_intent', id))
      return cancelIntent(ctx, id, params.cancellation_reason ?? null)
    },
  }),
]

const rules = [
  timeRule({
    name: 'payment intent: release an authorization that was not captured in time',
    object: 'payment_intent',
    due: (intent, ctx) => {
      if (intent.status !== 'requires_capture' || intent.latest_charge === null) return null
      const charge = ctx.get('charge', intent.latest_charge)
      return charge === undefined ? null : captureBefore(charge.created)
    },
    run: (intent, ctx) => {
      cancelIntent(ctx, intent.id, 'automatic')
    },
  }),
]

export const paymentIntentsModule: Module = { operations, rules }
