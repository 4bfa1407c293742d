import { defined } from '../../engine/answer.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest } from '../../engine/errors.ts'
import type { List, PageParams } from '../../engine/lists.ts'
import { list, pageOf } from '../../engine/lists.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import { operation, presenter, timeRule, type Module } from '../../engine/module.ts'
import { createSession, expireSession, sessionRefuses, sessionTakes } from '../../payments/checkout-sessions.ts'
import { totalsOf, type Session } from '../../payments/checkout-totals.ts'
import type { Item } from '../../wire.gen.ts'

/** The lines of a session as the API shows them. */
function lineItems(ctx: Ctx, session: Session): Array<Omit<Item, 'price'> & { price: unknown }> {
  if (session._.items.length === 0) return []
  const { lines } = totalsOf(ctx, session)
  const currency = session.currency ?? 'usd'
  return session._.items.map((item, index) => {
    const line = lines[index]
    const price = ctx.require('price', item.price)
    const discount = line?.discounts.reduce((sum, share) => sum + share.amount, 0) ?? 0
    const taxes = line?.taxes ?? []
    const exclusive = taxes.reduce((sum, tax) => sum + (tax.inclusive ? 0 : tax.amount), 0)
    const amount = line?.amount ?? 0
    return {
      id: item.id,
      object: 'item',
      adjustable_quantity: item.adjustable,
      amount_discount: discount,
      amount_subtotal: amount,
      amount_tax: taxes.reduce((sum, tax) => sum + tax.amount, 0),
      amount_total: amount - discount + exclusive,
      currency,
      description: ctx.get('product', price.product)?.name ?? price.nickname,
      metadata: item.metadata,
      price: ctx.present(price),
      quantity: item.quantity === 0 ? null : item.quantity,
    }
  })
}

function linesPage(ctx: Ctx, id: string, params: PageParams): List {
  const session = ctx.require('checkout.session', id)
  return pageOf(lineItems(ctx, session), params, `/v1/checkout/sessions/${id}/line_items`)
}

interface Filter extends PageParams {
  readonly customer?: string
  readonly customer_details?: { email: string }
  readonly payment_intent?: string
  readonly status?: string
  readonly subscription?: string
}

function listSessions(ctx: Ctx, params: Filter): List {
  const { customer, customer_details: details, payment_intent, status, subscription } = params
  const by: readonly [string, string | undefined] =
    subscription !== undefined
      ? ['subscription', subscription]
      : payment_intent === undefined
        ? ['customer', customer]
        : ['payment_intent', payment_intent]
  return list(ctx, 'checkout.session', params, {
    by,
    url: '/v1/checkout/sessions',
    where: (session) =>
      (customer === undefined || session.customer === customer) &&
      (details === undefined || session.customer_details?.email === details.email) &&
      (status === undefined || session.status === status),
  })
}

const operations = [
  operation({ on: 'POST /v1/checkout/sessions', takes: sessionTakes, refuses: sessionRefuses, run: createSession }),
  operation({
    on: 'GET /v1/checkout/sessions/{id}',
    takes: [],
    run: (ctx, _params, { id }) => ctx.require('checkout.session', id),
  }),
  operation({
    on: 'POST /v1/checkout/sessions/{id}',
    takes: ['metadata'],
    run: (ctx, params, { id }) => {
      const session = ctx.require('checkout.session', id)
      return ctx.update('checkout.session', id, { metadata: mergeMetadata(session.metadata, params.metadata) })
    },
  }),
  operation({
    on: 'GET /v1/checkout/sessions',
    takes: [
      'limit',
      'starting_after',
      'ending_before',
      'created',
      'customer',
      'customer_details',
      'payment_intent',
      'status',
      'subscription',
    ],
    run: (ctx, params) => {
      if (params.subscription !== undefined && params.payment_intent !== undefined) {
        throw invalidRequest('You may only specify one of these parameters: payment_intent, subscription.', {
          param: 'subscription',
        })
      }
      return listSessions(ctx, defined(params))
    },
  }),
  operation({ on: 'POST /v1/checkout/sessions/{id}/expire', takes: [], run: (ctx, _params, { id }) => expireSession(ctx, id) }),
  operation({
    on: 'GET /v1/checkout/sessions/{id}/line_items',
    takes: ['limit', 'starting_after', 'ending_before'],
    run: (ctx, params, { id }) => linesPage(ctx, id, params),
  }),
]

const presenters = [presenter('checkout.session', { onExpand: { line_items: (session, ctx) => linesPage(ctx, session.id, {}) } })]

const rules = [
  timeRule({
    name: 'checkout session: expire',
    object: 'checkout.session',
    due: (session) => (session.status === 'open' ? session.expires_at : null),
    run: (session, ctx) => {
      expireSession(ctx, session.id)
    },
  }),
]

export const checkoutSessionsModule: Module = { operations, presenters, rules }
