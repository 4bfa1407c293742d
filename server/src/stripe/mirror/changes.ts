import type { Instant } from '../../lib/clock.ts'
import { DAY_MS } from '../../lib/period.ts'
import { paymentIdsOf } from '../gateway/payment-snapshots.ts'
import type { InvoiceSnapshot } from '../gateway/snapshots.ts'
import type { BillingEvent } from './billing-events.ts'
import type { DerivedAccount } from './derive-account.ts'
import { paymentEvents, type PaymentChange } from './payment-changes.ts'

export type StateChange = {
  /** Names this change: on a clock that stands still, what is done, undone and done again happens at one time. */
  readonly id: string
  readonly before: DerivedAccount | null
  readonly after: DerivedAccount
  /** What the mirror held of the invoices that were fetched. */
  readonly invoicesBefore: ReadonlyMap<string, { readonly status: string; readonly attemptCount: number }>
  readonly invoices: readonly InvoiceSnapshot[]
  /** Charges and disputes that were fetched, and what the mirror held of them. */
  readonly payments: PaymentChange
  /** The organization's time. */
  readonly now: Instant
}

/** EM-6: a notice goes out three days before a trial ends, at once if it is shorter. */
const TRIAL_NOTICE_DAYS = 3

/**
 * Says what happened between two states of the mirror. Pure. It reads states, not webhooks, so a lost or doubled delivery
 * neither loses nor doubles anything that follows from it.
 */
export function describeChanges(change: StateChange): BillingEvent[] {
  return [
    ...subscriptionEvents(change),
    ...trialEvents(change),
    ...change.invoices.flatMap((invoice) => invoiceEvents(change, invoice)),
    ...paymentEvents(change.payments, change),
  ]
}

function subscriptionEvents({ id, before, after, now }: StateChange): BillingEvent[] {
  const events: BillingEvent[] = []
  const subscription = after.subscriptionId
  const plan = { subscription_id: subscription, plan: after.planKey, status: after.subscriptionStatus }
  const same = before !== null && before.subscriptionId === subscription
  if (subscription !== null && isLive(after) && !(same && isLive(before))) {
    events.push({ key: `subscription.started:${subscription}`, kind: 'subscription.started', data: plan, occurredAt: now })
  }
  if (same && isLive(before) && !isLive(after)) {
    events.push({ key: `subscription.ended:${subscription}`, kind: 'subscription.ended', data: plan, occurredAt: now })
  }
  if (same && before.subscriptionStatus !== after.subscriptionStatus) {
    const data = { ...plan, from: before.subscriptionStatus, to: after.subscriptionStatus }
    events.push({
      key: `subscription.status_changed:${subscription}:${id}`,
      kind: 'subscription.status_changed',
      data,
      occurredAt: now,
    })
  }
  if (before !== null && before.planKey !== after.planKey) {
    const data = { subscription_id: subscription, from: before.planKey, to: after.planKey }
    events.push({ key: `plan.changed:${subscription}:${id}`, kind: 'plan.changed', data, occurredAt: now })
  }
  if (same && isLive(after) && timeOf(before.cancelAt) !== timeOf(after.cancelAt)) {
    const kind = after.cancelAt === null ? 'subscription.cancel_undone' : 'subscription.cancel_scheduled'
    events.push({ key: `${kind}:${subscription}:${id}`, kind, data: { ...plan, cancel_at: after.cancelAt }, occurredAt: now })
  }
  return events
}

function trialEvents({ after, now }: StateChange): BillingEvent[] {
  const end = after.trialEndsAt
  if (after.subscriptionStatus !== 'trialing' || end === null) return []
  if (end.getTime() - now.getTime() > TRIAL_NOTICE_DAYS * DAY_MS) return []
  const data = { subscription_id: after.subscriptionId, plan: after.planKey, trial_ends_at: end }
  return [{ key: `trial.will_end:${after.subscriptionId}:${end.toISOString()}`, kind: 'trial.will_end', data, occurredAt: now }]
}

function invoiceEvents({ invoicesBefore, after, payments, now }: StateChange, invoice: InvoiceSnapshot): BillingEvent[] {
  const before = invoicesBefore.get(invoice.id)
  const data = {
    invoice_id: invoice.id,
    number: invoice.number,
    plan: after.planKey,
    currency: invoice.currency,
    amount_due_minor: invoice.amountDueMinor,
    amount_paid_minor: invoice.amountPaidMinor,
    attempt: invoice.attemptCount,
    hosted_invoice_url: invoice.hostedInvoiceUrl,
  }
  const events: BillingEvent[] = []
  if (invoice.status !== 'draft' && (before === undefined || before.status === 'draft')) {
    const occurredAt = invoice.finalizedAt ?? invoice.createdAt
    events.push({ key: `invoice.created:${invoice.id}`, kind: 'invoice.created', data, occurredAt })
  }
  if (invoice.status === 'paid' && before?.status !== 'paid') {
    events.push({ key: `invoice.paid:${invoice.id}`, kind: 'invoice.paid', data, occurredAt: invoice.paidAt ?? now })
  }
  const charges = payments.charges.filter((charge) => paymentIdsOf(charge).some((id) => invoice.paymentIds.includes(id)))
  // A debit of a bank account is tried, and fails days later.
  const underWay = charges.some(({ status }) => status === 'pending')
  const refused = charges.some(({ id, status }) => status === 'failed' && payments.before.pending.has(id))
  const failed = invoice.status === 'open' && invoice.attempted && !underWay
  if (failed && invoice.amountRemainingMinor > 0 && (refused || invoice.attemptCount > (before?.attemptCount ?? 0))) {
    const key = `invoice.payment_failed:${invoice.id}:${invoice.attemptCount}`
    events.push({ key, kind: 'invoice.payment_failed', data, occurredAt: now })
  }
  return events
}

function isLive({ subscriptionStatus }: DerivedAccount): boolean {
  return subscriptionStatus !== null && !['canceled', 'incomplete', 'incomplete_expired'].includes(subscriptionStatus)
}

function timeOf(at: Instant | null): number | null {
  return at?.getTime() ?? null
}
