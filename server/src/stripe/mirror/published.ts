import { eventTypes, type NewEvent } from '../../events/types.ts'
import type { BillingEvent } from './billing-events.ts'

/** What the history of billing says, as events for the outside. A notice of a trial's end is `notifications/`' own. */
export function publishedEvents(organizationId: string, recorded: readonly BillingEvent[]): NewEvent[] {
  return recorded.flatMap((event) => toEvent(organizationId, event))
}

function toEvent(organizationId: string, { kind, key, data, occurredAt }: BillingEvent): NewEvent[] {
  const common = { organizationId, key, occurredAt }
  switch (kind) {
    case 'subscription.started':
      return [{ ...common, type: 'subscription.created', data: eventTypes['subscription.created'].data.parse(data) }]
    case 'subscription.ended':
      return [{ ...common, type: 'subscription.canceled', data: eventTypes['subscription.canceled'].data.parse(data) }]
    case 'subscription.status_changed':
      return [{ ...common, type: 'subscription.updated', data: updateOf('status', data) }]
    case 'plan.changed':
      return [{ ...common, type: 'subscription.updated', data: updateOf('plan', data) }]
    case 'subscription.cancel_scheduled':
      return [{ ...common, type: 'subscription.updated', data: updateOf('cancel_scheduled', data) }]
    case 'subscription.cancel_undone':
      return [{ ...common, type: 'subscription.updated', data: updateOf('cancel_undone', data) }]
    case 'invoice.created':
    case 'invoice.paid':
    case 'invoice.payment_failed':
      return [{ ...common, type: kind, data: eventTypes[kind].data.parse(data) }]
    case 'payment.refunded':
      return [{ ...common, type: kind, data: eventTypes[kind].data.parse(data) }]
    case 'dispute.opened':
    case 'dispute.closed':
      return [{ ...common, type: kind, data: eventTypes[kind].data.parse(data) }]
    case 'trial.will_end':
      return []
  }
}

type Change = 'status' | 'plan' | 'cancel_scheduled' | 'cancel_undone'

function updateOf(change: Change, data: BillingEvent['data']) {
  const { subscription_id, from = null, to = null, cancel_at = null } = data
  const until = cancel_at instanceof Date ? cancel_at.toISOString() : null
  return eventTypes['subscription.updated'].data.parse({ subscription_id, change, from, to, cancel_at: until })
}
