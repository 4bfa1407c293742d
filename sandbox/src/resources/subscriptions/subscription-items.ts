import type { Ctx } from '../../engine/context.ts'
import { noSuch } from '../../engine/errors.ts'
import { pageOf } from '../../engine/lists.ts'
import { type Module, operation } from '../../engine/module.ts'
import type { StoredSubscriptionItem } from '../../model/billing.ts'
import type { StoredSubscription } from './stored.ts'
import { updateSubscription } from './update.ts'

/** Finds an item and the subscription that holds it. */
function requireItem(ctx: Ctx, id: string): { item: StoredSubscriptionItem; subscription: StoredSubscription } {
  const subscription = ctx.store.lastBy('subscription', 'item', id)
  const item = subscription?._.items.find((candidate) => candidate.id === id)
  if (subscription === undefined || item === undefined) throw noSuch('subscription_item', id)
  return { item, subscription }
}

const ITEM_TAKES = ['discounts', 'metadata', 'plan', 'price', 'price_data', 'quantity', 'tax_rates'] as const
const CHANGE_TAKES = ['payment_behavior', 'proration_behavior', 'proration_date'] as const

type ChangeParams = {
  payment_behavior?: 'allow_incomplete' | 'default_incomplete' | 'error_if_incomplete' | 'pending_if_incomplete'
  proration_behavior?: 'always_invoice' | 'create_prorations' | 'none'
  proration_date?: number
  off_session?: boolean
}

/** The parameters of the change itself, apart from those of the item. */
function split<T extends ChangeParams>(params: T): { change: ChangeParams; item: Omit<T, keyof ChangeParams> } {
  const { payment_behavior, proration_behavior, proration_date, off_session, ...item } = params
  return {
    item,
    change: {
      ...(payment_behavior === undefined ? {} : { payment_behavior }),
      ...(proration_behavior === undefined ? {} : { proration_behavior }),
      ...(proration_date === undefined ? {} : { proration_date }),
      ...(off_session === undefined ? {} : { off_session }),
    },
  }
}

const operations = [
  operation({
    on: 'POST /v1/subscription_items',
    takes: ['subscription', ...ITEM_TAKES, ...CHANGE_TAKES],
    run: (ctx, { subscription: id, ...params }) => {
      const { change, item } = split(params)
      const before = new Set(ctx.require('subscription', id, 'subscription')._.items.map((member) => member.id))
      const updated = updateSubscription(ctx, id, { ...change, items: [item] })
      const added = updated._.items.find((member) => !before.has(member.id))
      if (added === undefined) throw new Error(`Subscription ${id} got no item`)
      return added
    },
  }),
  operation({
    on: 'POST /v1/subscription_items/{id}',
    takes: [...ITEM_TAKES, ...CHANGE_TAKES, 'off_session'],
    run: (ctx, params, { id }) => {
      const { change, item } = split(params)
      updateSubscription(ctx, requireItem(ctx, id).subscription.id, { ...change, items: [{ ...item, id }] })
      return requireItem(ctx, id).item
    },
  }),
  operation({ on: 'GET /v1/subscription_items/{id}', takes: [], run: (ctx, _params, { id }) => requireItem(ctx, id).item }),
  operation({
    on: 'DELETE /v1/subscription_items/{id}',
    takes: ['clear_usage', ...CHANGE_TAKES],
    run: (ctx, params, { id }) => {
      const { change, item } = split(params)
      updateSubscription(ctx, requireItem(ctx, id).subscription.id, { ...change, items: [{ ...item, id, deleted: true }] })
      return { id, object: 'subscription_item', deleted: true }
    },
  }),
  operation({
    on: 'GET /v1/subscription_items',
    takes: ['limit', 'starting_after', 'ending_before', 'subscription'],
    run: (ctx, params) =>
      pageOf(ctx.require('subscription', params.subscription, 'subscription')._.items, params, '/v1/subscription_items'),
  }),
]

export const subscriptionItemsModule: Module = { operations }
