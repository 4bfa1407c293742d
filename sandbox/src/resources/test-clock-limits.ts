/** How much one test clock carries. Source: docs.stripe.com/billing/testing/test-clocks (limits). */
import type { Ctx } from '../engine/context.ts'
import { invalidRequest } from '../engine/errors.ts'
import type { Stored } from '../model/stored.ts'

const MAX_CUSTOMERS = 3
const MAX_SUBSCRIPTIONS = 3

/** Refuses a fourth customer on a clock. */
export function requireRoomOnClock(ctx: Ctx, clock: string): void {
  if (ctx.store.by('customer', 'test_clock', clock).length < MAX_CUSTOMERS) return
  throw invalidRequest(`A test clock can have at most ${MAX_CUSTOMERS} customers.`, { param: 'test_clock' })
}

/** Refuses a fourth running subscription of a customer on a test clock. */
export function requireRoomForSubscription(ctx: Ctx, customer: Stored<'customer'>): void {
  if ((customer.test_clock ?? null) === null) return
  const running = ctx.store.by('subscription', 'customer', customer.id).filter((subscription) => subscription.ended_at === null)
  if (running.length < MAX_SUBSCRIPTIONS) return
  throw invalidRequest(`A customer on a test clock can have at most ${MAX_SUBSCRIPTIONS} subscriptions.`, { param: 'customer' })
}
