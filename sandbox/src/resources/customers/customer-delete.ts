import type { Ctx } from '../../engine/context.ts'
import type { Stored } from '../../model/stored.ts'
import { detachPaymentMethod } from '../../payments/payment-methods.ts'
import { endSubscription } from '../subscriptions/status.ts'
import { isEnded } from '../subscriptions/stored.ts'

/**
 * Deletes a customer: its subscriptions end at once, its payment methods are detached, its id answers `deleted: true` from now on.
 * Source: docs.stripe.com/api/customers/delete.
 */
export function deleteCustomer(ctx: Ctx, customer: Stored<'customer'>): Stored<'deleted_customer'> {
  const { id } = customer
  for (const subscription of ctx.store.by('subscription', 'customer', id)) {
    if (!isEnded(subscription)) endSubscription(ctx, subscription.id, { reason: 'cancellation_requested' })
  }
  for (const method of ctx.store.by('payment_method', 'customer', id)) detachPaymentMethod(ctx, method.id)
  ctx.emit('customer.deleted', ctx.require('customer', id))
  ctx.delete('customer', id)
  return ctx.create('deleted_customer', { id, object: 'customer', deleted: true })
}
