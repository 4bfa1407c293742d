import type { Instant } from '../../lib/clock.ts'
import type { SubscriptionStatus } from '../../standing/rules.ts'
import type { DiscountSnapshot } from './discount-snapshots.ts'
import { nextPhaseOf, type NextPhase, type WireSchedule } from './schedule-snapshots.ts'
import {
  fromUnix,
  fromUnixOrNull,
  idOf,
  requiredId,
  WholeObject,
  type Metadata,
  type Reference,
  type StripeObject,
} from './wire.ts'

/**
 * Stripe's objects as the rest of Tollgate sees them: the fields it reads, in its own types, and the whole object beside them.
 * The `Wire…` types name what is read of an answer; `client.ts` passes the SDK's objects, so the compiler checks that they fit.
 */
export type CustomerSnapshot = {
  readonly id: string
  readonly deleted: boolean
  readonly email: string | null
  readonly name: string | null
  /** Null until the first invoice or subscription fixes it. */
  readonly currency: string | null
  readonly balanceMinor: number
  readonly delinquent: boolean
  /** What is charged where a subscription has none of its own. */
  readonly defaultPaymentMethodId: string | null
  readonly testClockId: string | null
  readonly metadata: Readonly<Record<string, string>>
  readonly createdAt: Instant
  readonly data: WholeObject
}

export type SubscriptionSnapshot = {
  readonly id: string
  readonly customerId: string
  readonly status: SubscriptionStatus
  readonly currency: string
  readonly collectionMethod: string
  readonly cancelAt: Instant | null
  readonly cancelAtPeriodEnd: boolean
  readonly canceledAt: Instant | null
  readonly endedAt: Instant | null
  readonly trialStart: Instant | null
  readonly trialEnd: Instant | null
  /** From which its periods are counted. */
  readonly cycleAnchor: Instant
  readonly pauseBehavior: string | null
  readonly defaultPaymentMethodId: string | null
  readonly latestInvoiceId: string | null
  readonly scheduleId: string | null
  /** What its schedule switches it to next. */
  readonly scheduled: NextPhase | null
  /** Until when a change waits for its payment; null when none does. */
  readonly pendingUpdateExpiresAt: Instant | null
  readonly metadata: Readonly<Record<string, string>>
  readonly createdAt: Instant
  readonly items: readonly SubscriptionItemSnapshot[]
  /** Of single items first. */
  readonly discounts: readonly DiscountSnapshot[]
  readonly data: WholeObject
}

export type SubscriptionItemSnapshot = {
  readonly id: string
  readonly priceId: string
  readonly productId: string
  readonly quantity: number | null
  readonly unitAmountMinor: number | null
  readonly currency: string
  readonly interval: string
  readonly intervalCount: number
  readonly usageType: string
  readonly currentPeriodStart: Instant
  readonly currentPeriodEnd: Instant
}

export type InvoiceStatus = 'draft' | 'open' | 'paid' | 'uncollectible' | 'void'

export type InvoiceSnapshot = {
  readonly id: string
  readonly customerId: string
  readonly subscriptionId: string | null
  readonly number: string | null
  readonly status: InvoiceStatus
  readonly billingReason: string | null
  readonly collectionMethod: string
  readonly currency: string
  readonly subtotalMinor: number
  readonly totalMinor: number
  readonly amountDueMinor: number
  readonly amountPaidMinor: number
  readonly amountRemainingMinor: number
  /** What credit notes took off, of what was due and of what was paid. */
  readonly amountCreditedMinor: number
  /** Of it, by refunds of its payments. */
  readonly creditedByRefundMinor: number
  /** Of it, given back outside of Stripe. */
  readonly creditedOutsideMinor: number
  /** Of it, what was taken off single lines, by their ids, with their discounts and tax. */
  readonly creditedLines: Readonly<Record<string, number>>
  readonly attempted: boolean
  readonly attemptCount: number
  readonly nextPaymentAttemptAt: Instant | null
  readonly periodStart: Instant
  readonly periodEnd: Instant
  readonly dueAt: Instant | null
  readonly finalizedAt: Instant | null
  readonly paidAt: Instant | null
  readonly hostedInvoiceUrl: string | null
  readonly invoicePdf: string | null
  /** The payment intents that paid it, or try to; of before there were any, the charges. */
  readonly paymentIds: readonly string[]
  readonly createdAt: Instant
  readonly data: WholeObject
}

export type WireCustomer = {
  readonly id: string
  readonly deleted?: boolean | void
  readonly email?: string | null
  readonly name?: string | null
  readonly currency?: string | null
  readonly balance?: number
  readonly delinquent?: boolean | null
  readonly invoice_settings?: { readonly default_payment_method: Reference | null }
  readonly default_source?: Reference | null
  readonly test_clock?: Reference | null
  readonly metadata?: Metadata
  readonly created?: number
}

export type WireSubscription = {
  readonly id: string
  readonly customer: Reference
  readonly status: string
  readonly currency: string
  readonly collection_method: string
  readonly cancel_at: number | null
  readonly cancel_at_period_end: boolean
  readonly canceled_at: number | null
  readonly ended_at: number | null
  readonly trial_start: number | null
  readonly trial_end: number | null
  readonly billing_cycle_anchor: number
  readonly pause_collection: { readonly behavior: string } | null
  readonly default_payment_method: Reference | null
  readonly default_source: Reference | null
  readonly latest_invoice: Reference | null
  /** Expanded by whoever reads a subscription. */
  readonly schedule: string | WireSchedule | null
  readonly pending_update: { readonly expires_at: number } | null
  readonly metadata: Metadata
  readonly created: number
  readonly items: { readonly data: readonly WireSubscriptionItem[] }
}

export type WireSubscriptionItem = {
  readonly id: string
  readonly quantity?: number
  readonly current_period_start: number
  readonly current_period_end: number
  readonly price: {
    readonly id: string
    readonly product: Reference
    readonly currency: string
    readonly unit_amount: number | null
    readonly recurring: { readonly interval: string; readonly interval_count: number; readonly usage_type: string } | null
  }
}

export type WireInvoice = {
  readonly id: string
  readonly customer: Reference | null
  readonly parent: { readonly subscription_details: { readonly subscription: Reference } | null } | null
  readonly number: string | null
  readonly status: string | null
  readonly billing_reason: string | null
  readonly collection_method: string
  readonly currency: string
  readonly subtotal: number
  readonly total: number
  readonly amount_due: number
  readonly amount_paid: number
  readonly amount_remaining: number
  readonly pre_payment_credit_notes_amount: number
  readonly post_payment_credit_notes_amount: number
  readonly attempted: boolean
  readonly attempt_count: number
  readonly next_payment_attempt: number | null
  readonly period_start: number
  readonly period_end: number
  readonly due_date: number | null
  readonly status_transitions: { readonly finalized_at: number | null; readonly paid_at: number | null }
  readonly hosted_invoice_url?: string | null
  readonly invoice_pdf?: string | null
  /** Expanded by whoever reads an invoice. */
  readonly payments?: {
    readonly data: readonly {
      readonly payment: { readonly payment_intent?: Reference | null; readonly charge?: Reference | null }
    }[]
  }
  readonly created: number
}

export function toCustomerSnapshot(wire: WireCustomer): CustomerSnapshot {
  return {
    id: wire.id,
    deleted: wire.deleted === true,
    email: wire.email ?? null,
    name: wire.name ?? null,
    currency: wire.currency ?? null,
    balanceMinor: wire.balance ?? 0,
    delinquent: wire.delinquent === true,
    // In Stripe's order; a card from before payment methods is a source.
    defaultPaymentMethodId: idOf(wire.invoice_settings?.default_payment_method ?? wire.default_source),
    testClockId: idOf(wire.test_clock),
    metadata: wire.metadata ?? {},
    createdAt: fromUnix(wire.created ?? 0),
    data: new WholeObject(wire),
  }
}

function toSubscriptionSnapshot(wire: WireSubscription, discounts: readonly DiscountSnapshot[]): SubscriptionSnapshot {
  const items = wire.items.data.map(toItemSnapshot)
  const { schedule } = wire
  return {
    id: wire.id,
    customerId: requiredId(wire.customer),
    // Enums are open; a status that is not known yet fails the mirror's readers loudly rather than silently standing for another.
    status: wire.status as SubscriptionStatus,
    currency: wire.currency,
    collectionMethod: wire.collection_method,
    cancelAt: fromUnixOrNull(wire.cancel_at),
    cancelAtPeriodEnd: wire.cancel_at_period_end,
    canceledAt: fromUnixOrNull(wire.canceled_at),
    endedAt: fromUnixOrNull(wire.ended_at),
    trialStart: fromUnixOrNull(wire.trial_start),
    trialEnd: fromUnixOrNull(wire.trial_end),
    cycleAnchor: fromUnix(wire.billing_cycle_anchor),
    pauseBehavior: wire.pause_collection?.behavior ?? null,
    defaultPaymentMethodId: idOf(wire.default_payment_method ?? wire.default_source),
    latestInvoiceId: idOf(wire.latest_invoice),
    scheduleId: idOf(schedule),
    scheduled: typeof schedule === 'object' && schedule !== null ? nextPhaseOf(schedule) : null,
    pendingUpdateExpiresAt: fromUnixOrNull(wire.pending_update?.expires_at),
    metadata: wire.metadata,
    createdAt: fromUnix(wire.created),
    items,
    discounts,
    data: new WholeObject(wire),
  }
}

/** A subscription and its newest invoice, which came with it; null where it has none, or one of which not all came. */
export type ListedSubscription = { readonly subscription: SubscriptionSnapshot; readonly latestInvoice: InvoiceSnapshot | null }

type MaybeInPart = { readonly lines: { readonly has_more: boolean } }

export type WireListedSubscription = Omit<WireSubscription, 'latest_invoice'> & {
  readonly latest_invoice: string | (WireInvoice & MaybeInPart) | null
}

export function toListedSubscription(wire: WireListedSubscription, discounts: readonly DiscountSnapshot[]): ListedSubscription {
  const { latest_invoice: invoice } = wire
  return {
    // As it is wherever its invoice is not asked for.
    subscription: toSubscriptionSnapshot({ ...wire, latest_invoice: idOf(invoice) }, discounts),
    latestInvoice: invoice === null || typeof invoice === 'string' || !isWhole(invoice) ? null : toInvoiceSnapshot(invoice),
  }
}

function toItemSnapshot(wire: WireSubscriptionItem): SubscriptionItemSnapshot {
  return {
    id: wire.id,
    priceId: wire.price.id,
    productId: requiredId(wire.price.product),
    quantity: wire.quantity ?? null,
    unitAmountMinor: wire.price.unit_amount,
    currency: wire.price.currency,
    interval: wire.price.recurring?.interval ?? 'month',
    intervalCount: wire.price.recurring?.interval_count ?? 1,
    usageType: wire.price.recurring?.usage_type ?? 'licensed',
    currentPeriodStart: fromUnix(wire.current_period_start),
    currentPeriodEnd: fromUnix(wire.current_period_end),
  }
}

export function toInvoiceSnapshot(wire: WireInvoice): InvoiceSnapshot {
  return {
    id: wire.id,
    customerId: requiredId(wire.customer),
    subscriptionId: idOf(wire.parent?.subscription_details?.subscription),
    number: wire.number,
    status: (wire.status ?? 'draft') as InvoiceStatus,
    billingReason: wire.billing_reason,
    collectionMethod: wire.collection_method,
    currency: wire.currency,
    subtotalMinor: wire.subtotal,
    totalMinor: wire.total,
    amountDueMinor: wire.amount_due,
    amountPaidMinor: wire.amount_paid,
    amountRemainingMinor: wire.amount_remaining,
    amountCreditedMinor: wire.pre_payment_credit_notes_amount + wire.post_payment_credit_notes_amount,
    creditedByRefundMinor: 0,
    creditedOutsideMinor: 0,
    creditedLines: {},
    attempted: wire.attempted,
    attemptCount: wire.attempt_count,
    nextPaymentAttemptAt: fromUnixOrNull(wire.next_payment_attempt),
    periodStart: fromUnix(wire.period_start),
    periodEnd: fromUnix(wire.period_end),
    dueAt: fromUnixOrNull(wire.due_date),
    finalizedAt: fromUnixOrNull(wire.status_transitions.finalized_at),
    paidAt: fromUnixOrNull(wire.status_transitions.paid_at),
    hostedInvoiceUrl: wire.hosted_invoice_url ?? null,
    invoicePdf: wire.invoice_pdf ?? null,
    paymentIds: (wire.payments?.data ?? []).flatMap(({ payment }) => idOf(payment.payment_intent ?? payment.charge) ?? []),
    createdAt: fromUnix(wire.created),
    data: new WholeObject(wire),
  }
}

/** Whether an invoice brought all its lines, and has no credit notes, which are read by themselves. */
export function isWhole(wire: WireInvoice & MaybeInPart): boolean {
  return !wire.lines.has_more && !isCredited(wire)
}

export function isCredited({
  pre_payment_credit_notes_amount: before,
  post_payment_credit_notes_amount: after,
}: Pick<WireInvoice, 'pre_payment_credit_notes_amount' | 'post_payment_credit_notes_amount'>): boolean {
  return before + after > 0
}

/** The same with all its lines, where the answer brought only the first. */
export function withLines(snapshot: InvoiceSnapshot, lines: readonly StripeObject[]): InvoiceSnapshot {
  return {
    ...snapshot,
    data: new WholeObject({ ...snapshot.data.toJSON(), lines: { object: 'list', data: lines, has_more: false } }),
  }
}
