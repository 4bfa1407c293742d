import type { Instant } from '../lib/clock.ts'
import { MICRO, type Quantity } from '../lib/quantity.ts'
import { roundHalfUp } from '../lib/apportion.ts'
import type { UnitAmount } from '../lib/unit-amount.ts'
import type { SubscriptionStatus } from '../standing/rules.ts'

/** A subscription as far as its monthly revenue depends on it. */
export type RevenueSubscription = {
  readonly status: SubscriptionStatus
  readonly currency: string
  /** Whether collection is paused. */
  readonly paused: boolean
  readonly createdAt: Instant
  /** When the payment of its first invoice was made, where that is charged by itself: one that waited for the bank began then. */
  readonly firstPaidAt: Instant | null
  readonly trialEnd: Instant | null
  readonly endedAt: Instant | null
  readonly items: readonly RevenueItem[]
  readonly discounts: readonly RevenueDiscount[]
}

export type RevenueItem = {
  readonly id: string
  readonly productId: string
  readonly unitAmount: UnitAmount
  readonly quantity: number
  readonly interval: string
  readonly intervalCount: number
  readonly metered: boolean
  /** The tax that the price includes: so many parts of it upon so many of what is the seller's. */
  readonly includedTax: { readonly parts: bigint; readonly upon: bigint }
}

export type RevenueDiscount = {
  /** Of which item; null for the whole subscription. */
  readonly itemId: string | null
  /** Only what is of these products gets cheaper; null for all. */
  readonly products: readonly string[] | null
  /** Millionths of a percent; null where it takes off an amount. */
  readonly percentOff: bigint | null
  readonly amountOffMinor: number
  readonly duration: 'once' | 'repeating' | 'forever'
  readonly endsAt: Instant | null
}

/** Of an organization in one currency. */
export type Revenue = { readonly mrr: Quantity; readonly status: SubscriptionStatus }

export type MovementKind = 'new' | 'expansion' | 'contraction' | 'churn' | 'reactivation'
export const MOVEMENT_KINDS: readonly MovementKind[] = ['new', 'expansion', 'contraction', 'churn', 'reactivation']

/** Those that count: `past_due` until Stripe gives up collecting (`unpaid`) or the subscription is canceled. */
const COUNTED: ReadonlySet<SubscriptionStatus> = new Set(['active', 'past_due'])

/** Better standing first, as `deriveAccount` ranks them. */
const RANKED: readonly SubscriptionStatus[] = [
  'active',
  'trialing',
  'past_due',
  'unpaid',
  'paused',
  'incomplete',
  'canceled',
  'incomplete_expired',
]

/**
 * What an organization brings in a month, by currency, in millionths of a minor unit; docs/analytics.md has the definition. Pure.
 * A year counts as twelve months, a week as 12/52 of one, a day as 12/365. Trials, paused and unpaid subscriptions count 0, and so
 * do metered items: what they bring is known afterwards. A discount counts while it recurs; one that is taken off once does not. A tax that
 * a price includes is not the seller's.
 */
export function revenueOf(subscriptions: readonly RevenueSubscription[], now: Instant): ReadonlyMap<string, Revenue> {
  const currencies = [...new Set(subscriptions.map(({ currency }) => currency))]
  return new Map(
    currencies.map((currency) => {
      const own = subscriptions.filter((subscription) => subscription.currency === currency)
      const mrr = own.reduce((sum, subscription) => sum + monthlyRevenueOf(subscription, now), 0n)
      const status = RANKED.find((status) => own.some((subscription) => subscription.status === status))!
      return [currency, { mrr, status }]
    }),
  )
}

function monthlyRevenueOf(subscription: RevenueSubscription, now: Instant): Quantity {
  if (!COUNTED.has(subscription.status) || subscription.paused) return 0n
  let lines = subscription.items
    .filter(({ metered }) => !metered)
    .map((item) => ({ item, monthly: toMonth(item.unitAmount * BigInt(item.quantity), item) }))
  for (const discount of subscription.discounts) {
    if (discount.duration === 'once' || (discount.endsAt !== null && discount.endsAt <= now)) continue
    lines = takeOff(lines, discount)
  }
  const { parts, of } = lines.map(withoutTax).reduce(add, NOTHING)
  return roundHalfUp(parts * MICRO, of)
}

type Line = { readonly item: RevenueItem; readonly monthly: Fraction }

/** A hundred percent, in millionths of one. */
export const WHOLE: bigint = 100n * MICRO

/** What is left of each line; an amount is shared out by what the lines cost, and never more than that. */
function takeOff(lines: readonly Line[], { itemId, products, percentOff, amountOffMinor }: RevenueDiscount): Line[] {
  const gets = ({ item }: Line) =>
    (itemId === null || item.id === itemId) && (products === null || products.includes(item.productId))
  const cheaper = lines.filter(gets)
  const [first] = cheaper
  if (first === undefined) return [...lines]
  const left =
    percentOff === null
      ? leftOf(
          cheaper.map(({ monthly }) => monthly),
          toMonth(BigInt(amountOffMinor) * UNIT, first.item),
        )
      : { parts: WHOLE - percentOff, of: WHOLE }
  return lines.map((line) => (gets(line) ? { ...line, monthly: times(line.monthly, left) } : line))
}

/** Which part of all of them `off` leaves. */
function leftOf(amounts: readonly Fraction[], off: Fraction): Fraction {
  const total = amounts.reduce(add, NOTHING)
  const left = total.parts * off.of - off.parts * total.of
  return left <= 0n ? NOTHING : { parts: left, of: total.parts * off.of }
}

function withoutTax({ item, monthly }: Line): Fraction {
  const { parts, upon } = item.includedTax
  return times(monthly, { parts: upon, of: upon + parts })
}

/** A whole number of parts, and how many parts make one minor unit. */
type Fraction = { readonly parts: bigint; readonly of: bigint }

const NOTHING: Fraction = { parts: 0n, of: 1n }
const UNIT: bigint = 10n ** 12n

const MONTHS: Readonly<Record<string, { readonly times: bigint; readonly by: bigint }>> = {
  year: { times: 1n, by: 12n },
  month: { times: 1n, by: 1n },
  week: { times: 52n, by: 12n },
  day: { times: 365n, by: 12n },
}

function toMonth(amount: UnitAmount, { interval, intervalCount }: Pick<RevenueItem, 'interval' | 'intervalCount'>): Fraction {
  const { times, by } = MONTHS[interval] ?? MONTHS['month']!
  return { parts: amount * times, of: UNIT * by * BigInt(intervalCount) }
}

function add(a: Fraction, b: Fraction): Fraction {
  return reduced({ parts: a.parts * b.of + b.parts * a.of, of: a.of * b.of })
}

function times(a: Fraction, b: Fraction): Fraction {
  return reduced({ parts: a.parts * b.parts, of: a.of * b.of })
}

/** In its lowest terms: twenty discounts of twenty items would make numbers of thousands of digits. */
function reduced({ parts, of }: Fraction): Fraction {
  let [divisor, rest] = [of, parts]
  while (rest !== 0n) [divisor, rest] = [rest, divisor % rest]
  return { parts: parts / divisor, of: of / divisor }
}

/**
 * What a change from `before` to `after` is; null when there is none. Pure.
 * @param paidBefore whether the organization ever brought anything in this currency
 */
export function movementOf(before: Quantity, after: Quantity, paidBefore: boolean): MovementKind | null {
  if (before === after) return null
  if (before === 0n) return paidBefore ? 'reactivation' : 'new'
  if (after === 0n) return 'churn'
  return after > before ? 'expansion' : 'contraction'
}

/** Where a subscription begins to be paid for in the moment that Stripe names: when it is made, its first payment, or when its trial ends. */
const UNBEGUN: ReadonlySet<SubscriptionStatus> = new Set(['trialing', 'incomplete', 'incomplete_expired', 'canceled'])

export type Dating = {
  /** The movement before it. */
  readonly movedAt: Instant | null
  /** How the subscriptions stood when they were last compared; null where they never were. */
  readonly statusBefore: SubscriptionStatus | null
  readonly now: Instant
}

/**
 * When a movement took place: the organization's `now`, or where Stripe knows better, then. So the history of an installation that
 * takes over customers from Stripe begins when they did, and a lost webhook does not move a cancellation. What was seen to bring nothing
 * while it ran (at a price of nothing, under a discount of all of it) or stood still begins now: what reports have told of the time before
 * stays so. Never before the movement before it. Pure.
 */
export function movementTime(
  kind: MovementKind,
  subscriptions: readonly RevenueSubscription[],
  { movedAt, statusBefore, now }: Dating,
): Instant {
  const begins = kind === 'new' && (statusBefore === null || UNBEGUN.has(statusBefore))
  const told = begins ? beginningOf(subscriptions) : kind === 'churn' ? endOf(subscriptions) : null
  const at = told === null || told > now ? now : told
  return movedAt !== null && movedAt > at ? movedAt : at
}

function beginningOf(subscriptions: readonly RevenueSubscription[]): Instant | null {
  const began = subscriptions
    .filter(({ status }) => COUNTED.has(status))
    .map(({ createdAt, trialEnd, firstPaidAt }) =>
      Math.max(createdAt.getTime(), trialEnd?.getTime() ?? 0, firstPaidAt?.getTime() ?? 0),
    )
  return began.length === 0 ? null : new Date(Math.min(...began))
}

function endOf(subscriptions: readonly RevenueSubscription[]): Instant | null {
  const ended = subscriptions.map(({ endedAt }) => endedAt?.getTime() ?? Number.POSITIVE_INFINITY)
  const last = Math.max(0, ...ended)
  return last === 0 || !Number.isFinite(last) ? null : new Date(last)
}
