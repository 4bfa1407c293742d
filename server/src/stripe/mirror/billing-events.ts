import type { Instant } from '../../lib/clock.ts'

/**
 * What of a customer's money an operator has to see to, and what the log calls it: a change that was paid and cannot be made again; one that was scheduled,
 * and cannot be brought back; an amount that was to wait again, and that Stripe does not take; a call to Stripe of which it is not known whether it was made, or that
 * has to be made and is not. In the same history as the events below, for operators alone.
 */
export const LEFT_TO_OPERATORS = {
  'paid_change.overtaken': 'billing.paid_change_overtaken',
  'scheduled_change.lost': 'billing.change_not_scheduled_again',
  'invoice_item.left_out': 'billing.item_not_restored',
  'stripe_call.given_up': 'billing.stripe_call_given_up',
} as const
export type LeftToOperators = keyof typeof LEFT_TO_OPERATORS

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
