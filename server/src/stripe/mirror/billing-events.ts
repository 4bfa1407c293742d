import type { Instant } from '../../lib/clock.ts'

/** Something that happened to an organization's billing. `key` makes it once: it says what, and of which object. */
export type BillingEvent = {
  readonly key: string
  readonly kind:
    | 'subscription.started'
    | 'subscription.ended'
    | 'subscription.status_changed'
    | 'subscription.cancel_scheduled'
    | 'subscription.cancel_undone'
    | 'plan.changed'
    | 'trial.will_end'
    | 'invoice.created'
    | 'invoice.paid'
    | 'invoice.payment_failed'
    | 'payment.refunded'
    | 'dispute.opened'
    | 'dispute.closed'
  readonly data: Readonly<Record<string, unknown>>
  readonly occurredAt: Instant
}
