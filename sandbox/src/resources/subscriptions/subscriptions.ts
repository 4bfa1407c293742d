import type { Ctx } from '../../engine/context.ts'
import { invalidRequest } from '../../engine/errors.ts'
import { inRange, list, type PageParams } from '../../engine/lists.ts'
import { type Module, operation } from '../../engine/module.ts'
import { field, search } from '../../engine/search.ts'
import type { Params } from '../../wire.gen.ts'
import { cancelSubscription } from './cancel.ts'
import { UPDATE_TAKES } from './change.ts'
import { createSubscription } from './create.ts'
import { SHARED_REFUSES } from './fields.ts'
import { CREATE_TAKES, refuseItemized } from './lay-out.ts'
import { pauseSubscription, resumeSubscription } from './pause.ts'
import { subscriptionPresenters } from './present.ts'
import { isEnded, type StoredSubscription } from './stored.ts'
import { subscriptionRules } from './time.ts'
import { refuseManagedEnd, updateSubscription } from './update.ts'

type ListParams = PageParams &
  Pick<
    Params['GET /v1/subscriptions'],
    'collection_method' | 'current_period_end' | 'current_period_start' | 'customer' | 'plan' | 'price' | 'status' | 'test_clock'
  >

/** Without `status` canceled ones are left out; `all` shows them too, `ended` only what is over. */
function hasStatus(subscription: StoredSubscription, status: ListParams['status']): boolean {
  if (status === undefined) return subscription.status !== 'canceled'
  if (status === 'all') return true
  return status === 'ended' ? isEnded(subscription) : subscription.status === status
}

function isListed(subscription: StoredSubscription, params: ListParams): boolean {
  const { items } = subscription._
  const price = params.price ?? params.plan
  return (
    hasStatus(subscription, params.status) &&
    (params.customer === undefined || subscription.customer === params.customer) &&
    (price === undefined || items.some((item) => item.price === price)) &&
    (params.collection_method === undefined || subscription.collection_method === params.collection_method) &&
    (params.test_clock === undefined || subscription.test_clock === params.test_clock) &&
    items.some((item) => inRange(item.current_period_end, params.current_period_end)) &&
    items.some((item) => inRange(item.current_period_start, params.current_period_start))
  )
}

function listSubscriptions(ctx: Ctx, params: ListParams): object {
  const price = params.price ?? params.plan
  return list(ctx, 'subscription', params, {
    url: '/v1/subscriptions',
    by: params.customer === undefined ? ['price', price] : ['customer', params.customer],
    where: (subscription) => isListed(subscription, params),
  })
}

/** Classic becomes flexible; there is no way back. Source: docs.stripe.com/api/subscriptions/migrate. */
function migrate(ctx: Ctx, id: string, mode: Params['POST /v1/subscriptions/{id}/migrate']['billing_mode']): StoredSubscription {
  const subscription = ctx.require('subscription', id)
  if (isEnded(subscription)) throw invalidRequest(`You cannot migrate a subscription that is ${subscription.status}.`)
  if (subscription.billing_mode.type === 'flexible' && mode.flexible === undefined) {
    throw invalidRequest('The subscription is in flexible billing mode already.', { param: 'billing_mode[type]' })
  }
  refuseItemized(mode.flexible?.proration_discounts)
  const flexible = { proration_discounts: 'included' as const }
  const billing_mode = { type: 'flexible' as const, flexible, updated_at: ctx.nowOf(subscription) }
  return ctx.change('subscription', id, { billing_mode }, 'customer.subscription.updated')
}

const operations = [
  operation({
    on: 'POST /v1/subscriptions',
    takes: CREATE_TAKES,
    refuses: SHARED_REFUSES,
    run: (ctx, params) => createSubscription(ctx, params),
  }),
  operation({
    on: 'POST /v1/subscriptions/{id}',
    takes: UPDATE_TAKES,
    refuses: SHARED_REFUSES,
    run: (ctx, params, { id }) => {
      refuseManagedEnd(ctx, id, params)
      return updateSubscription(ctx, id, params)
    },
  }),
  operation({ on: 'GET /v1/subscriptions/{id}', takes: [], run: (ctx, _params, { id }) => ctx.require('subscription', id) }),
  operation({
    on: 'DELETE /v1/subscriptions/{id}',
    takes: ['cancellation_details', 'invoice_now', 'prorate'],
    run: (ctx, params, { id }) => cancelSubscription(ctx, id, params),
  }),
  operation({
    on: 'POST /v1/subscriptions/{id}/pause',
    takes: ['bill_for', 'invoicing_behavior', 'type'],
    run: (ctx, params, { id }) => pauseSubscription(ctx, id, params),
  }),
  operation({
    on: 'POST /v1/subscriptions/{id}/resume',
    takes: ['billing_cycle_anchor', 'payment_behavior', 'proration_behavior', 'proration_date'],
    run: (ctx, params, { id }) => resumeSubscription(ctx, id, params),
  }),
  operation({
    on: 'POST /v1/subscriptions/{id}/migrate',
    takes: ['billing_mode'],
    run: (ctx, params, { id }) => migrate(ctx, id, params.billing_mode),
  }),
  operation({
    on: 'GET /v1/subscriptions/search',
    takes: ['query', 'limit', 'page'],
    run: (ctx, params) =>
      search(ctx, 'subscription', params, {
        url: '/v1/subscriptions/search',
        fields: {
          canceled_at: field.numeric((subscription) => subscription.canceled_at),
          created: field.numeric((subscription) => subscription.created),
          status: field.string((subscription) => subscription.status),
        },
      }),
  }),
  operation({
    on: 'GET /v1/subscriptions',
    takes: [
      'limit',
      'starting_after',
      'ending_before',
      'created',
      'collection_method',
      'current_period_end',
      'current_period_start',
      'customer',
      'plan',
      'price',
      'status',
      'test_clock',
    ],
    run: listSubscriptions,
  }),
]

export const subscriptionsModule: Module = { operations, presenters: subscriptionPresenters, rules: subscriptionRules }
