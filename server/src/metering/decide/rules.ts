import type { Meter } from '../../catalog/catalog.ts'
import type { BalanceBook, GrantLine } from '../../grants/book.ts'
import type { Draw, PlanGrant } from '../../grants/rules.ts'
import type { Instant } from '../../lib/clock.ts'
import { DomainError } from '../../lib/errors.ts'
import { DAY_MS, MINUTE_MS } from '../../lib/period.ts'
import type { Quantity } from '../../lib/quantity.ts'
import { overageCost } from '../../pricing/rules.ts'
import type { BalanceSnapshot, RefusalCode, Spending, UsageEvent } from '../usage.ts'
import type { OrganizationLedger } from './ledger.ts'

/** The keys of what the server tells by itself begin with it, and no caller's may. */
export const CARRIED = 'level:'

/** How far in the past a use may be told, and how far ahead a caller's clock may be (as Stripe's meter events). */
export const LATEST_MS = 35 * DAY_MS
export const EARLIEST_MS = 5 * MINUTE_MS

/** What a reservation held on one grant. */
export type HeldLine = { readonly line: GrantLine; readonly amount: Quantity }

/** Why a use cannot go on, or null. A soft limit refuses only what would cost more overage than may be spent. */
export function refusalOf(ledger: OrganizationLedger, book: BalanceBook, meter: Meter, cost: Quantity): RefusalCode | null {
  const { standing } = ledger.state.terms
  if (!standing.mayUse) return standing.state === 'paused' ? 'paused' : 'suspended'
  const plan = ledger.planGrant(meter.balanceKey)
  if (!plan.included && book.countFor(meter.key) === 1) return 'not_included'
  const available = book.availableFor(meter.key)
  if (available === null || cost <= available) return null
  if (plan.limit === 'hard') return 'quota_exceeded'
  return isTooDear(plan, book.plan, cost - available) ? 'spend_limit_reached' : null
}

/** What is spent of a balance's limit of spending, with what is held; null without a limit. */
export function spendingOf(ledger: OrganizationLedger, book: BalanceBook): Spending | null {
  const { balanceKey } = book.plan.grant
  const spending = withMore(ledger.planGrant(balanceKey), book.plan, 0n)
  return spending && { ...spending, currency: ledger.state.terms.catalog.currency }
}

/** What would be spent with so much more overage, rounded as it will be on the bill. */
function withMore(
  { allowance: { overage: price, spendLimitMinor } }: PlanGrant,
  { grant, overage, heldOverage, freeOverage }: GrantLine,
  more: Quantity,
): Omit<Spending, 'currency'> | null {
  if (price === null || spendLimitMinor === null) return null
  const { pricedOverage, pricedMinor } = grant
  const whole = { overage: overage + heldOverage + more, freeOverage, pricedOverage, pricedMinor }
  return { limitMinor: spendLimitMinor, spentMinor: overageCost(price, whole) }
}

/** Whether more overage would make that of the period cost more than the plan lets it. */
function isTooDear(plan: PlanGrant, line: GrantLine, more: Quantity): boolean {
  const spending = withMore(plan, line, more)
  return spending !== null && spending.spentMinor > spending.limitMinor
}

export function occurredAtOf(occurredAt: Instant | null, now: Instant): Instant {
  if (occurredAt === null) return now
  const agoMs = now.getTime() - occurredAt.getTime()
  if (agoMs > LATEST_MS || agoMs < -EARLIEST_MS) {
    throw new DomainError(
      'time_out_of_range',
      `occurred_at may lie at most 35 days in the past and 5 minutes in the future; it is now ${now.toISOString()}.`,
      { field: 'occurred_at', now: now.toISOString() },
    )
  }
  return occurredAt
}

/** Whether use may be told of a moment that is over. Of what is refused for its time, nothing is looked up and no allowance opened. */
export function isTellablePast(at: Instant, now: Instant): boolean {
  const agoMs = now.getTime() - at.getTime()
  return agoMs > 0 && agoMs <= LATEST_MS
}

export function sumsOf(draws: readonly Draw[]): Pick<UsageEvent, 'drawn' | 'overage'> {
  let drawn = 0n
  let overage = 0n
  for (const draw of draws) {
    drawn += draw.amount + draw.overage
    overage += draw.overage
  }
  return { drawn, overage }
}

/**
 * When uses of a period may have been recorded: from a little before it (clocks differ) to as long after it as use may be told late. Two
 * days more are for a change of time zone, which moves its ends.
 */
export function recordedSpanOf({ periodStart, periodEnd }: Pick<BalanceSnapshot, 'periodStart' | 'periodEnd'>): {
  readonly from: Instant
  readonly until: Instant | null
} {
  const from = new Date(periodStart.getTime() - 2 * DAY_MS)
  return { from, until: periodEnd && new Date(periodEnd.getTime() + LATEST_MS + 2 * DAY_MS) }
}

/** Takes what was held, in the order in which it was held. */
export function takeFrom(held: readonly HeldLine[], cost: Quantity): Draw[] {
  let left = cost
  const draws: Draw[] = []
  for (const { line, amount: most } of held) {
    const amount = left < most ? left : most
    if (amount === 0n) continue
    line.used += amount
    left -= amount
    draws.push({ grantId: line.grant.id, amount, overage: 0n })
  }
  return draws
}
