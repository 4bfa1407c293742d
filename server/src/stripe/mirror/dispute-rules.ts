import type { Instant } from '../../lib/clock.ts'

/**
 * How a dispute ended. An inquiry that came to nothing (`warning_closed`) and one that was stopped before it began (`prevented`) cost
 * nothing, as a won one. https://docs.stripe.com/api/disputes/object#dispute_object-status
 */
const ENDED: Readonly<Record<string, 'kept' | 'lost'>> = { won: 'kept', warning_closed: 'kept', prevented: 'kept', lost: 'lost' }

/** Those that have taken their payment away and may still be won; of a row `dispute` in SQL. */
export const IS_UNDECIDED = `dispute.status not in ('${Object.keys(ENDED).join("', '")}') and dispute.status not like 'warning%'`

export function disputeOutcome(status: string): 'open' | 'kept' | 'lost' {
  return ENDED[status] ?? 'open'
}

/**
 * Whether a dispute has taken its payment away: from when it is opened until it is won. An inquiry (`warning_…`) takes no money. The charge's
 * own `disputed` does not say: Stripe documents that it was disputed, not that it no longer is.
 */
export function takesMoney(status: string): boolean {
  return disputeOutcome(status) !== 'kept' && !status.startsWith('warning_')
}

/** From when on a dispute counts like a payment that failed (`TOLLGATE_DISPUTE_COUNTS`, decision 0147). */
export type DisputeCounts = 'never' | 'lost' | 'opened'

export type CountedDispute = {
  /** Of which subscription the disputed invoice is; null when of none. */
  readonly subscriptionId: string | null
  readonly status: string
  readonly createdAt: Instant
  readonly closedAt: Instant | null
  /** When the subscription was last paid for with more than nothing. */
  readonly lastPaidAt: Instant | null
}

/**
 * Since when a dispute leaves its subscription unpaid; null when it does not. Pure. A payment after that moment settles it, as does winning the dispute.
 */
export function unpaidSince(dispute: CountedDispute, counts: DisputeCounts): Instant | null {
  if (counts === 'never' || !takesMoney(dispute.status)) return null
  if (counts === 'lost' && disputeOutcome(dispute.status) !== 'lost') return null
  const since = counts === 'opened' ? dispute.createdAt : (dispute.closedAt ?? dispute.createdAt)
  return dispute.lastPaidAt !== null && dispute.lastPaidAt > since ? null : since
}
