/** Subscriptions and their items as the API answers them. */
import type { Ctx } from '../../engine/context.ts'
import { wholeList } from '../../engine/lists.ts'
import { presenter } from '../../engine/module.ts'
import type { StoredSubscriptionItem } from '../../model/billing.ts'
import { planOf } from '../catalog/plans.ts'
import type { StoredSubscription } from './stored.ts'

/** An item as the wire shows it. */
export function presentItem(ctx: Ctx, item: StoredSubscriptionItem): object {
  return ctx.present(item)
}

function pendingUpdateOf(ctx: Ctx, subscription: StoredSubscription): object | null {
  const pending = subscription._.pendingUpdate
  if (pending === null) return null
  return {
    billing_cycle_anchor: pending.billingCycleAnchor,
    cancel_at_period_end: pending.cancelAtPeriodEnd,
    discount: null,
    discounts: null,
    expires_at: pending.expiresAt,
    metadata: null,
    subscription_items: pending.items?.map((item) => presentItem(ctx, item)) ?? null,
    trial_end: pending.trialEnd,
    trial_from_plan: null,
  }
}

export const subscriptionPresenters = [
  presenter('subscription', {
    compose: (subscription, ctx) => ({
      items: wholeList(
        subscription._.items.map((item) => presentItem(ctx, item)),
        `/v1/subscription_items?subscription=${subscription.id}`,
      ),
      default_tax_rates: subscription.default_tax_rates.map((rate) => ctx.present(ctx.require('tax_rate', rate))),
      pending_update: pendingUpdateOf(ctx, subscription),
    }),
  }),
  presenter('subscription_item', {
    compose: (item, ctx) => {
      const price = ctx.require('price', item.price)
      return {
        price: ctx.present(price),
        plan: planOf(price),
        tax_rates: item.tax_rates.map((rate) => ctx.present(ctx.require('tax_rate', rate))),
      }
    },
  }),
]
