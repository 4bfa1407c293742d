import type { Ctx } from '../../engine/context.ts'
import { noSuch } from '../../engine/errors.ts'
import type { Stored } from '../../model/stored.ts'

/** Finds a customer; a deleted one is refused as Stripe refuses it. */
export function requireCustomer(ctx: Ctx, id: string, param = 'id'): Stored<'customer'> {
  const customer = ctx.get('customer', id)
  if (customer === undefined) throw noSuch('customer', id, param)
  return customer
}
