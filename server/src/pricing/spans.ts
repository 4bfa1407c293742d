import type { Instant } from '../lib/clock.ts'
import type { Quantity } from '../lib/quantity.ts'
import { billingTimeOf } from '../metering/decide/late.ts'

/** An item of a subscription that bills now, as the mirror has it. */
export type BillingItem = {
  readonly subscriptionId: string
  readonly itemId: string
  readonly priceId: string
  /** How many; of a metered item nothing. */
  readonly quantity: bigint
  /** Minor units for one; of a metered item nothing. */
  readonly unitAmountMinor: bigint
  /** Of a metered item: the balance whose use it bills. */
  readonly balanceKey: string | null
  readonly periodStart: Instant
  readonly periodEnd: Instant
  /** From which the subscription's periods are counted. */
  readonly anchor: Instant
}

/** The time in which one item bills at one price: a period of Stripe's, or what of it lies between two changes. */
export type BillingSpan = {
  readonly id: string
  /** `late`: what was told late of a line that a change had ended, on the next invoice as an item. */
  readonly kind: 'base' | 'usage' | 'late'
  readonly subscriptionId: string
  readonly itemId: string
  readonly priceId: string
  readonly startsAt: Instant
  readonly endsAt: Instant
  /** Whether it begins with a period of Stripe's: a base fee is then charged whole. */
  readonly whole: boolean
  /** The period of Stripe's in which it lies. */
  readonly periodStart: Instant
  readonly periodEnd: Instant
  readonly unitAmountMinor: bigint
  /** base: how many. usage: what has been reported, in millionths. */
  readonly quantity: Quantity
  readonly balanceKey: string | null
  readonly state: 'open' | 'closing' | 'closed'
  readonly reports: number
  readonly lastReportAt: Instant | null
  readonly invoiceId: string | null
  /** usage: the plan's allowance as it was when a change ended the span; null while it stands, or ended with its period. */
  readonly included: Included | null
  /** late: the line whose use it is, by whose price it is billed; and what it comes to, from when its item is asked for. */
  readonly lateOf: string | null
  readonly amountMinor: bigint | null
}

/** The plan's allowances that stand in a time; `amount` null is unlimited. */
export type Included = { readonly amount: Quantity | null; readonly used: Quantity; readonly grantIds: readonly string[] }

export type SpanChanges = {
  /** Spans as they now are. */
  readonly ended: readonly BillingSpan[]
  readonly opened: readonly BillingSpan[]
}

/**
 * Follows a subscription's items: which spans have ended, and which begin. Pure; doing it again changes nothing.
 * - A span whose period is over goes on as `closing`: its invoice is a draft, which takes use until it is finalized.
 * - One whose item was removed, re-priced or counted anew is `closed`: Stripe has billed it in that moment.
 * @param spans those that are open; `ended` until when each subscription has spans that are not; `items` those that bill now
 */
export function followItems({
  spans,
  ended: endedUntil,
  items,
  now,
}: {
  readonly spans: readonly BillingSpan[]
  readonly ended: ReadonlyMap<string, Instant>
  readonly items: readonly BillingItem[]
  /** The organization's time. */
  readonly now: Instant
}): SpanChanges {
  const present = new Date(Math.floor(now.getTime() / 1_000) * 1_000)
  const ended: BillingSpan[] = []
  const opened: BillingSpan[] = []
  const kept = new Set<BillingItem>()
  for (const span of spans) {
    const item = items.find((each) => bills(span, each))
    if (item && item.periodEnd.getTime() === span.endsAt.getTime()) {
      kept.add(item)
      continue
    }
    if (item && item.periodStart >= span.endsAt) {
      kept.add(item)
      ended.push({ ...span, state: span.kind === 'usage' ? 'closing' : 'closed' })
      // A test clock may pass two periods at once.
      if (item.periodStart > span.endsAt) opened.push(between(item, span))
      opened.push(spanOf(item, item.periodStart, true))
      continue
    }
    ended.push({ ...span, state: 'closed', endsAt: earlier(span.endsAt, later(span.startsAt, changeTime(items, span, present))) })
  }
  for (const item of items) {
    if (kept.has(item)) continue
    const before = spans.filter(({ subscriptionId }) => subscriptionId === item.subscriptionId)
    const last = endedUntil.get(item.subscriptionId)
    const isNewPeriod = before.every((span) => hasBegunAfter(item, span)) && (last === undefined || item.periodStart >= last)
    opened.push(isNewPeriod ? spanOf(item, item.periodStart, true) : spanOf(item, later(item.periodStart, present), false))
  }
  return { ended, opened }
}

function bills(span: BillingSpan, item: BillingItem): boolean {
  const isSame = span.itemId === item.itemId && span.priceId === item.priceId
  return isSame && (span.kind === 'usage' || span.quantity === item.quantity)
}

/**
 * Whether an item's period is one that came after a span, and so is charged whole. Within the span's own time only moving the
 * subscription's anchor begins a period; a year that becomes months is in the midst of one of them, and its rest is prorated
 * (https://docs.stripe.com/billing/subscriptions/billing-cycle).
 */
function hasBegunAfter({ periodStart, anchor }: BillingItem, { startsAt, endsAt }: BillingSpan): boolean {
  return periodStart > startsAt && (periodStart >= endsAt || periodStart.getTime() === anchor.getTime())
}

/** A change that began a new period took place when that period began, others now. */
function changeTime(items: readonly BillingItem[], span: BillingSpan, present: Instant): Instant {
  const begun = items.filter(
    (item) => item.subscriptionId === span.subscriptionId && item.periodStart < span.endsAt && hasBegunAfter(item, span),
  )
  return begun.reduce((first, { periodStart }) => earlier(first, periodStart), present)
}

function spanOf(item: BillingItem, startsAt: Instant, whole: boolean): BillingSpan {
  const usage = item.balanceKey !== null
  return {
    id: `${item.itemId}:${item.priceId}:${startsAt.getTime() / 1_000}${usage ? '' : `:${item.quantity}`}`,
    kind: usage ? 'usage' : 'base',
    subscriptionId: item.subscriptionId,
    itemId: item.itemId,
    priceId: item.priceId,
    startsAt,
    endsAt: item.periodEnd,
    whole,
    periodStart: item.periodStart,
    periodEnd: item.periodEnd,
    unitAmountMinor: item.unitAmountMinor,
    quantity: usage ? 0n : item.quantity,
    balanceKey: item.balanceKey,
    state: 'open',
    reports: 0,
    lastReportAt: null,
    invoiceId: null,
    included: null,
    lateOf: null,
    amountMinor: null,
  }
}

function between(item: BillingItem, span: BillingSpan): BillingSpan {
  const filler = spanOf(item, span.endsAt, true)
  return {
    ...filler,
    endsAt: item.periodStart,
    periodStart: span.endsAt,
    periodEnd: item.periodStart,
    state: span.kind === 'usage' ? 'closing' : 'closed',
  }
}

function earlier(a: Instant, b: Instant): Instant {
  return a < b ? a : b
}

function later(a: Instant, b: Instant): Instant {
  return a > b ? a : b
}

/** A grant's count of what is billed, and how much of it has been taken into reports. */
export type CountedGrant = {
  readonly grantId: string
  readonly balanceKey: string
  readonly startsAt: Instant
  /** null never expires. */
  readonly expiresAt: Instant | null
  readonly counted: Quantity
  readonly reported: Quantity
}

/** What is to be reported in one span. */
export type Report = {
  readonly span: BillingSpan
  readonly quantity: Quantity
  /** Counted in a period whose invoice is closed: it comes on the next one. */
  readonly late: boolean
  readonly grants: readonly CountedGrant[]
}

/**
 * Which span bills what grants have counted since the last report (`billingTimeOf`); before any has begun, it waits. What was taken
 * back is `takenBackFrom`’s. Pure.
 */
export function assignCounts(spans: readonly BillingSpan[], grants: readonly CountedGrant[]): readonly Report[] {
  const ordered = spans.toSorted((a, b) => a.startsAt.getTime() - b.startsAt.getTime())
  const reports = new Map<string, Report>()
  for (const grant of grants) {
    if (grant.counted <= grant.reported) continue
    const own = ordered.filter(({ balanceKey }) => balanceKey === grant.balanceKey)
    const billing = billingTimeOf(own, grant)
    if (billing === null) continue
    const { time: span, isLate: late } = billing
    const name = `${span.id}\n${late}`
    const known = reports.get(name) ?? { span, late, quantity: 0n, grants: [] }
    reports.set(name, {
      ...known,
      quantity: known.quantity + grant.counted - grant.reported,
      grants: [...known.grants, grant],
    })
  }
  return [...reports.values()]
}

/**
 * The time under which a report is sent: the last second that is over, within its span. A price that is swapped bills what lies
 * before the second of the swap, and that may be this one; `isStanding` says that no change comes in this second any more.
 * null while no second of the span is over: what was counted waits. Whole seconds, as Stripe counts.
 */
export function reportTime(
  span: Pick<BillingSpan, 'startsAt' | 'endsAt'>,
  now: Instant,
  { isStanding = false }: { readonly isStanding?: boolean } = {},
): Instant | null {
  const first = Math.ceil(span.startsAt.getTime() / 1_000)
  const last = Math.ceil(span.endsAt.getTime() / 1_000) - 1
  const at = Math.min(last, Math.floor(now.getTime() / 1_000) - (isStanding ? 0 : 1))
  return at < first ? null : new Date(at * 1_000)
}
