import type { Stored } from '../../model/stored.ts'

export type StoredSubscription = Stored<'subscription'>

/** Statuses that end a subscription for good. */
export function isEnded(subscription: StoredSubscription): boolean {
  return subscription.status === 'canceled' || subscription.status === 'incomplete_expired'
}
