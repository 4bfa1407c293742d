import type { Ctx } from '../../engine/context.ts'
import { invalidRequest } from '../../engine/errors.ts'
import { operation, type Module, timeRule } from '../../engine/module.ts'
import { deletedDiscount, markDiscountEnded, type StoredDiscount } from './discount-rules.ts'

/** Takes a discount off whatever holds it, and announces both. */
export function removeDiscount(ctx: Ctx, discount: StoredDiscount): void {
  markDiscountEnded(ctx, discount.id)
  const { subscription, subscription_item: item, customer } = discount
  const without = (ids: readonly string[]): string[] => ids.filter((id) => id !== discount.id)
  const holder = subscription ?? (item === null ? null : ctx.store.lastBy('subscription', 'item', item)?.id)
  const held = holder == null ? undefined : ctx.get('subscription', holder)
  if (held !== undefined) {
    const items = held._.items.map((member) => ({ ...member, discounts: without(member.discounts) }))
    const patch = { discounts: without(held.discounts), _: { ...held._, items } }
    ctx.change('subscription', held.id, patch, 'customer.subscription.updated')
  }
  if (customer !== null && ctx.get('customer', customer)?.discount === discount.id) {
    ctx.change('customer', customer, { discount: null }, 'customer.updated')
  }
}

function deleteOf(ctx: Ctx, id: string | null | undefined): object {
  const discount = id == null ? undefined : ctx.get('discount', id)
  if (discount === undefined) throw invalidRequest('No active discount.', { code: 'resource_missing' })
  removeDiscount(ctx, discount)
  return deletedDiscount(discount)
}

const operations = [
  operation({
    on: 'DELETE /v1/customers/{id}/discount',
    takes: [],
    run: (ctx, _params, { id }) => deleteOf(ctx, ctx.require('customer', id).discount),
  }),
  operation({
    on: 'DELETE /v1/subscriptions/{id}/discount',
    takes: [],
    run: (ctx, _params, { id }) => deleteOf(ctx, ctx.require('subscription', id).discounts.at(-1)),
  }),
]

const rules = [
  timeRule({
    name: 'discount: run out',
    object: 'discount',
    order: 8,
    due: (discount) => (discount._.ended ? null : discount.end),
    run: (discount, ctx) => removeDiscount(ctx, discount),
  }),
]

export const discountsModule: Module = { operations, rules }
