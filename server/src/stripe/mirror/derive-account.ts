import type { Instant } from '../../lib/clock.ts'
import type { SubscriptionStatus } from '../../standing/rules.ts'
import type { InvoiceStatus } from '../gateway/snapshots.ts'
import { unpaidSince, type CountedDispute, type DisputeCounts } from './dispute-rules.ts'

/** A subscription as the mirror holds it, as far as the account depends on it. */
export type MirroredSubscription = {
  readonly id: string
  readonly status: SubscriptionStatus
  readonly cancelAt: Instant | null
  readonly cancelAtPeriodEnd: boolean
  readonly trialEnd: Instant | null
  /** From which its periods are counted; null where the mirror is of before it was kept. */
  readonly cycleAnchor: Instant | null
  readonly defaultPaymentMethodId: string | null
  readonly endedAt: Instant | null
  readonly createdAt: Instant
  readonly items: readonly MirroredItem[]
  /** The invoice of a change or a resumption that waits for the customer: nothing of it has been given, so nothing is owed. */
  readonly pendingInvoiceId: string | null
  /** What the next phase of its schedule sells, and from when. */
  readonly scheduled: { readonly priceId: string; readonly at: Instant } | null
}

export type MirroredItem = {
  readonly id: string
  readonly priceId: string
  readonly quantity: number | null
  readonly currentPeriodStart: Instant
  readonly currentPeriodEnd: Instant
}

export type MirroredInvoice = {
  readonly id: string
  readonly subscriptionId: string | null
  readonly status: InvoiceStatus
  readonly collectionMethod: string
  readonly attempted: boolean
  readonly amountRemainingMinor: number
  readonly finalizedAt: Instant | null
  readonly createdAt: Instant
  /** Whether its first payment is neither made nor refused yet: a debit of a bank account takes days. */
  readonly underWay: boolean
  /** When that was heard to have failed, where it did not fail at once. */
  readonly failedAt: Instant | null
}

/** What a Stripe price sells, from `plan_prices`. */
export type SoldPlan = { readonly planKey: string; readonly priceKey: string; readonly catalogVersion: number }

/** When a price ceased to be sold, and in which catalog version it was sold last. */
export type SoldUntil = { readonly at: Instant; readonly catalogVersion: number }

export type AccountInputs = {
  readonly subscriptions: readonly MirroredSubscription[]
  /** Those that are open. */
  readonly invoices: readonly MirroredInvoice[]
  readonly customerPaymentMethodId: string | null
  /** Those of invoices that may cost something. */
  readonly disputes: readonly CountedDispute[]
  readonly disputeCounts: DisputeCounts
  readonly plansByPrice: ReadonlyMap<string, SoldPlan>
  /** Of plans and of their use; those that sell now are not among them. */
  readonly soldUntil: ReadonlyMap<string, SoldUntil>
  readonly previous:
    | (Pick<DerivedAccount, 'planKey' | 'catalogVersion' | 'subscriptionId' | 'priceKey'> & {
        /** Whether it is the default plan of the catalog version under which it stands. */
        readonly isDefaultPlan: boolean
      })
    | null
  /** The catalog of new customers, and its default plan. */
  readonly current: { readonly catalogVersion: number; readonly defaultPlanKey: string; readonly planKeys: ReadonlySet<string> }
}

/** An `accounts` row without the columns that operators set. */
export type DerivedAccount = {
  readonly planKey: string
  readonly catalogVersion: number
  readonly subscriptionId: string | null
  readonly subscriptionStatus: SubscriptionStatus | null
  readonly currentPeriodStart: Instant | null
  readonly currentPeriodEnd: Instant | null
  readonly cycleAnchor: Instant | null
  readonly trialEndsAt: Instant | null
  readonly cancelAt: Instant | null
  readonly paymentFailedAt: Instant | null
  /** When the subscription ended; null while it has not. */
  readonly endedAt: Instant | null
  /** Since when an invoice of a subscription that ended, or of another that has not, is due; null when none is. */
  readonly leftOwingSince: Instant | null
  readonly stripePriceId: string | null
  readonly priceKey: string | null
  readonly quantity: number | null
  readonly paymentMethodId: string | null
  readonly nextInvoiceAt: Instant | null
  readonly scheduledPlanKey: string | null
  readonly scheduledPriceKey: string | null
  readonly scheduledAt: Instant | null
}

export type AccountAlert =
  | { readonly kind: 'unknown_price'; readonly subscriptionId: string; readonly priceIds: readonly string[] }
  | { readonly kind: 'several_subscriptions'; readonly subscriptionIds: readonly string[] }

export type AccountDerivation = { readonly account: DerivedAccount; readonly alerts: readonly AccountAlert[] }

/**
 * Derives what an organization has from the mirror of Stripe, and from nothing else. Pure.
 * - Of several subscriptions that are live those that sell a plan count first, then the best standing one, then the newer: the same
 *   whatever the order of the rows.
 * - A price that sells no known plan keeps the plan there was and raises an alert; it never means the free plan.
 * - An account keeps the catalog version under which its subscription began; another plan or interval has that of today, or where its prices are
 *   sold no more (it was scheduled, or its page was opened, before) the last in which they were.
 * - Without a subscription it keeps the default plan that it has, whatever the default plan is today.
 * - `paymentFailedAt` is when the oldest open, attempted, automatically charged invoice of that subscription was finalized (EM-7):
 *   Stripe tries to charge it in that moment; one that is paid by a debit, when that has failed. A dispute that took the money back counts likewise (`dispute-rules.ts`).
 * - `leftOwingSince` says the same of subscriptions that ended, whichever counts now, for which a new one is not sold, and of others that live. It ends
 *   no use.
 */
export function deriveAccount(inputs: AccountInputs): AccountDerivation {
  const ranked = [...inputs.subscriptions].sort((a, b) => compareSubscriptions(a, b, inputs.plansByPrice))
  const subscription = ranked[0] ?? null
  if (subscription === null) return { account: withoutSubscription(inputs), alerts: [] }
  const item = findPlanItem(subscription, inputs.plansByPrice)
  const sold = item === null ? null : (inputs.plansByPrice.get(item.priceId) ?? null)
  const ended = ENDED.has(subscription.status)
  const terms = ended ? defaultTerms(inputs) : subscribedTerms(inputs, subscription, sold)
  const timed = item ?? subscription.items[0] ?? null
  const account: DerivedAccount = {
    ...terms,
    subscriptionId: subscription.id,
    subscriptionStatus: subscription.status,
    currentPeriodStart: timed?.currentPeriodStart ?? null,
    currentPeriodEnd: timed?.currentPeriodEnd ?? null,
    cycleAnchor: subscription.cycleAnchor,
    trialEndsAt: subscription.trialEnd,
    cancelAt: ended ? null : cancelTime(subscription, timed),
    paymentFailedAt: ended ? null : findPaymentFailure(inputs, subscription),
    endedAt: ended ? subscription.endedAt : null,
    leftOwingSince: earliestOf([
      findLeftDebt(inputs),
      ...ranked.slice(1).map((other) => (ENDED.has(other.status) ? null : findPaymentFailure(inputs, other))),
    ]),
    stripePriceId: item?.priceId ?? null,
    priceKey: sold?.priceKey ?? null,
    quantity: item?.quantity ?? null,
    paymentMethodId: subscription.defaultPaymentMethodId ?? inputs.customerPaymentMethodId,
    nextInvoiceAt: nextInvoiceTime(subscription, timed),
    ...scheduledChange(ended ? null : subscription.scheduled, inputs.plansByPrice),
  }
  return { account, alerts: findAlerts(ranked, subscription, sold) }
}

/** Better standing first. One that is paid for goes before one that is tried, that before one that owes, and any before an ended one. */
const RANK: Readonly<Record<SubscriptionStatus, number>> = {
  active: 0,
  trialing: 1,
  past_due: 2,
  unpaid: 3,
  paused: 4,
  incomplete: 5,
  canceled: 6,
  incomplete_expired: 7,
}
const ENDED: ReadonlySet<SubscriptionStatus> = new Set(['canceled', 'incomplete_expired'])

function compareSubscriptions(a: MirroredSubscription, b: MirroredSubscription, plans: ReadonlyMap<string, SoldPlan>): number {
  // One to something else beside the plan's, support by the month for instance, must not be taken for it.
  const isBeside = (one: MirroredSubscription) => Number(findPlanItem(one, plans) === null)
  return (
    (isLive(a) && isLive(b) ? isBeside(a) - isBeside(b) : 0) ||
    RANK[a.status] - RANK[b.status] ||
    b.createdAt.getTime() - a.createdAt.getTime() ||
    (a.id < b.id ? 1 : -1)
  )
}

function isLive({ status }: MirroredSubscription): boolean {
  return RANK[status] < RANK.incomplete
}

function withoutSubscription(inputs: AccountInputs): DerivedAccount {
  return {
    ...defaultTerms(inputs),
    subscriptionId: null,
    subscriptionStatus: null,
    currentPeriodStart: null,
    currentPeriodEnd: null,
    cycleAnchor: null,
    trialEndsAt: null,
    cancelAt: null,
    paymentFailedAt: null,
    endedAt: null,
    leftOwingSince: null,
    stripePriceId: null,
    priceKey: null,
    quantity: null,
    paymentMethodId: inputs.customerPaymentMethodId,
    nextInvoiceAt: null,
    scheduledPlanKey: null,
    scheduledPriceKey: null,
    scheduledAt: null,
  }
}

type Terms = Pick<DerivedAccount, 'planKey' | 'catalogVersion'>

function defaultTerms({ previous, current }: AccountInputs): Terms {
  if (previous !== null && (previous.planKey === current.defaultPlanKey || previous.isDefaultPlan)) {
    return { planKey: previous.planKey, catalogVersion: previous.catalogVersion }
  }
  return { planKey: current.defaultPlanKey, catalogVersion: current.catalogVersion }
}

function subscribedTerms(inputs: AccountInputs, subscription: MirroredSubscription, sold: SoldPlan | null): Terms {
  const { previous, current } = inputs
  if (sold === null) {
    const { planKey, catalogVersion } = previous ?? { planKey: current.defaultPlanKey, catalogVersion: current.catalogVersion }
    return { planKey, catalogVersion }
  }
  const isSamePlan = previous !== null && previous.subscriptionId === subscription.id && previous.planKey === sold.planKey
  const isSameInterval = isSamePlan && (previous.priceKey === null || previous.priceKey === sold.priceKey)
  // Whoever pays a price that was made later has its terms as well.
  if (isSameInterval && sold.catalogVersion <= previous.catalogVersion) {
    return { planKey: previous.planKey, catalogVersion: previous.catalogVersion }
  }
  const soldUntil = findSoldUntil(inputs, subscription)
  if (soldUntil !== null) return { planKey: sold.planKey, catalogVersion: soldUntil.catalogVersion }
  // A plan that the current catalog no longer has keeps the terms under which its price was made.
  return {
    planKey: sold.planKey,
    catalogVersion: current.planKeys.has(sold.planKey) ? current.catalogVersion : sold.catalogVersion,
  }
}

/** What of a subscription ceased to be sold first; null where all of it sells now. */
function findSoldUntil({ soldUntil }: AccountInputs, { items }: MirroredSubscription): SoldUntil | null {
  const ended = items.flatMap(({ priceId }) => soldUntil.get(priceId) ?? [])
  return ended.sort((a, b) => a.at.getTime() - b.at.getTime() || a.catalogVersion - b.catalogVersion)[0] ?? null
}

/** The item that sells a plan; with several, the one whose id comes first, so that the answer does not depend on their order. */
function findPlanItem(subscription: MirroredSubscription, plans: ReadonlyMap<string, SoldPlan>): MirroredItem | null {
  const selling = subscription.items.filter((item) => plans.has(item.priceId))
  return selling.sort((a, b) => (a.id < b.id ? -1 : 1))[0] ?? null
}

/** A portal in flexible mode sets `cancel_at`, the API `cancel_at_period_end`: both are read. */
function cancelTime(subscription: MirroredSubscription, item: MirroredItem | null): Instant | null {
  if (subscription.cancelAt !== null) return subscription.cancelAt
  return subscription.cancelAtPeriodEnd ? (item?.currentPeriodEnd ?? null) : null
}

function findPaymentFailure(inputs: AccountInputs, subscription: MirroredSubscription): Instant | null {
  const disputed = inputs.disputes
    .filter(({ subscriptionId }) => subscriptionId === subscription.id)
    .flatMap((dispute) => unpaidSince(dispute, inputs.disputeCounts)?.getTime() ?? [])
  const failed = inputs.invoices
    .filter(
      (invoice) =>
        invoice.subscriptionId === subscription.id &&
        invoice.id !== subscription.pendingInvoiceId &&
        invoice.status === 'open' &&
        invoice.attempted &&
        !invoice.underWay &&
        invoice.collectionMethod === 'charge_automatically' &&
        invoice.amountRemainingMinor > 0,
    )
    .map(dueTime)
  return earliest([...failed, ...disputed])
}

/** The same invoices for which no other subscription is sold (`findDebt` of subscriptions). */
function findLeftDebt({ invoices, subscriptions }: AccountInputs): Instant | null {
  const ended = new Set(subscriptions.filter(({ status }) => status === 'canceled').map(({ id }) => id))
  const left = invoices.filter(
    ({ subscriptionId, status, attempted, underWay, amountRemainingMinor }) =>
      subscriptionId !== null &&
      ended.has(subscriptionId) &&
      status === 'open' &&
      attempted &&
      !underWay &&
      amountRemainingMinor > 0,
  )
  return earliest(left.map(dueTime))
}

function dueTime({ failedAt, finalizedAt, createdAt }: MirroredInvoice): number {
  return (failedAt ?? finalizedAt ?? createdAt).getTime()
}

function earliestOf(times: readonly (Instant | null)[]): Instant | null {
  return earliest(times.flatMap((time) => time?.getTime() ?? []))
}

function earliest(times: readonly number[]): Instant | null {
  return times.length === 0 ? null : new Date(Math.min(...times))
}

type ScheduledChange = Pick<DerivedAccount, 'scheduledPlanKey' | 'scheduledPriceKey' | 'scheduledAt'>

function scheduledChange(scheduled: MirroredSubscription['scheduled'], plans: ReadonlyMap<string, SoldPlan>): ScheduledChange {
  const sold = scheduled === null ? undefined : plans.get(scheduled.priceId)
  if (scheduled === null || sold === undefined) return { scheduledPlanKey: null, scheduledPriceKey: null, scheduledAt: null }
  return { scheduledPlanKey: sold.planKey, scheduledPriceKey: sold.priceKey, scheduledAt: scheduled.at }
}

function nextInvoiceTime(subscription: MirroredSubscription, item: MirroredItem | null): Instant | null {
  if (ENDED.has(subscription.status) || subscription.status === 'paused' || subscription.status === 'incomplete') return null
  // Use is invoiced monthly, also beside a yearly plan: the item that ends first is invoiced first.
  const ends = subscription.items.map(({ currentPeriodEnd }) => currentPeriodEnd.getTime())
  const end = ends.length === 0 ? null : new Date(Math.min(...ends))
  const cancelAt = cancelTime(subscription, item)
  return end !== null && cancelAt !== null && cancelAt <= end ? null : end
}

function findAlerts(
  ranked: readonly MirroredSubscription[],
  subscription: MirroredSubscription,
  sold: SoldPlan | null,
): AccountAlert[] {
  const alerts: AccountAlert[] = []
  if (sold === null && !ENDED.has(subscription.status)) {
    alerts.push({
      kind: 'unknown_price',
      subscriptionId: subscription.id,
      priceIds: subscription.items.map((item) => item.priceId),
    })
  }
  const live = ranked.filter(isLive)
  if (live.length > 1) alerts.push({ kind: 'several_subscriptions', subscriptionIds: live.map(({ id }) => id) })
  return alerts
}
