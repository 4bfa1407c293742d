import type { Instant } from '../lib/clock.ts'
import { SECOND_MS } from '../lib/period.ts'
import type { Quantity } from '../lib/quantity.ts'

export type PurchaseStatus = 'pending' | 'paid' | 'failed'

/** What became of the payment of a purchase, as the mirror has it. */
export type Payment = {
  readonly chargeId: string
  readonly amountMinor: number
  readonly refundedMinor: number
  readonly disputed: boolean
}

/**
 * How much of a purchase a payment does not stand for any more: the refunded share, rounded down; all of it while it is
 * disputed or wholly refunded.
 */
export function unpaidShare(amount: Quantity, { amountMinor, refundedMinor, disputed }: Payment): Quantity {
  if (disputed || refundedMinor >= amountMinor) return amount
  return (amount * BigInt(refundedMinor)) / BigInt(amountMinor)
}

export type AutoTopUpState = {
  /** null is unlimited. */
  readonly remaining: Quantity | null
  readonly below: Quantity
  /** When the balance was used last under the mark, or the mark was set. */
  readonly requestedAt: Instant
  readonly monthBegan: Instant
  /** null while there is one, and where there was none. */
  readonly subscriptionEndedAt: Instant | null
  readonly boughtThisMonth: number
  readonly mostPerMonth: number
  /** With what the payment failed after which nothing is bought; null when nothing failed. */
  readonly stopped: { readonly method: string | null } | null
  readonly method: string | null
}

/** Whether to buy now. `enough`: there is nothing to do; `wait`: there is, but not yet. */
export function decideAutoTopUp(state: AutoTopUpState): 'buy' | 'wait' | 'enough' {
  if (state.remaining === null || state.remaining >= state.below || isServed(state)) return 'enough'
  if (state.stopped !== null && state.stopped.method === state.method) return 'wait'
  return state.boughtThisMonth < state.mostPerMonth ? 'buy' : 'wait'
}

/** A use from before the customer left asks for nothing any more, and what waited for another month is bought once in it. */
function isServed({ requestedAt, monthBegan, subscriptionEndedAt, boughtThisMonth }: AutoTopUpState): boolean {
  // Stripe tells its end in whole seconds.
  if (subscriptionEndedAt !== null && requestedAt.getTime() < subscriptionEndedAt.getTime() + SECOND_MS) return true
  return requestedAt < monthBegan && boughtThisMonth > 0
}
