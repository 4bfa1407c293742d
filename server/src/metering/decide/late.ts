import type { Instant } from '../../lib/clock.ts'
import { SECOND_MS } from '../../lib/period.ts'
import type { Quantity } from '../../lib/quantity.ts'
import type { LateUse } from '../usage.ts'

/** A time in which the use of a balance is billed; `closed` when its invoice is. */
export type BilledTime = {
  readonly balanceKey: string | null
  readonly startsAt: Instant
  readonly endsAt: Instant
  readonly state: 'open' | 'closing' | 'closed'
}

/** A line as what is told of the past sees it. */
export type KnownLine = BilledTime & {
  readonly id: string
  /** Whether a change ended it, so that it bills what is told late of its time by itself; of levels none does. */
  readonly isChanged: boolean
}

/** The time of an allowance; null never ends. */
type GrantTime = { readonly startsAt: Instant; readonly expiresAt: Instant | null }

/**
 * Which time bills what a grant counts: of those whose invoice is not closed the latest that the grant touches, else the first after
 * it; null while there is none. Pure, and the one place that says so: for the answer, the statement and what Stripe is told.
 * @param times of the grant's balance, in their order
 */
export function billingTimeOf<T extends Omit<BilledTime, 'balanceKey'>>(
  times: readonly T[],
  { startsAt, expiresAt }: GrantTime,
): { readonly time: T; readonly isLate: boolean } | null {
  const open = times.filter(({ state }) => state !== 'closed')
  const touched = open.findLast((time) => startsAt < time.endsAt && (expiresAt === null || time.startsAt < expiresAt))
  if (touched !== undefined) return { time: touched, isLate: false }
  const next = open.find((time) => expiresAt !== null && time.startsAt >= expiresAt)
  return next === undefined ? null : { time: next, isLate: true }
}

/** What a line bills of what a grant counts. */
export type BilledPart = { readonly lineId: string; readonly late: boolean; readonly quantity: Quantity }

/** How much of a part is taken back; `isClosed`: its invoice is closed, so that it comes back as a credit. */
export type TakenPart = BilledPart & { readonly isClosed: boolean }

/**
 * Which of a grant's bills shrink when it counts less than they bill: what was billed last first, and first what an open invoice
 * still takes. So it comes back at the price at which it was charged. Pure, and as `billingTimeOf` the one place that says so.
 * @param lines of the grant's balance; a part of an unknown one stays
 * @param quantity how much less it counts
 */
export function takenBackFrom(
  lines: readonly (Omit<BilledTime, 'balanceKey'> & { readonly id: string })[],
  parts: readonly BilledPart[],
  quantity: Quantity,
): readonly TakenPart[] {
  const known = parts.flatMap((part) => {
    const line = lines.find(({ id }) => id === part.lineId)
    return line === undefined || part.quantity <= 0n ? [] : [{ part, line, isClosed: line.state === 'closed' }]
  })
  const order = known.toSorted(
    (a, b) =>
      Number(a.isClosed) - Number(b.isClosed) ||
      b.line.startsAt.getTime() - a.line.startsAt.getTime() ||
      Number(b.part.late) - Number(a.part.late),
  )
  const taken: TakenPart[] = []
  let rest = quantity
  for (const { part, isClosed } of order) {
    if (rest === 0n) break
    const less = part.quantity < rest ? part.quantity : rest
    taken.push({ ...part, quantity: less, isClosed })
    rest -= less
  }
  return taken
}

/** Whether anything billed a balance at a moment. */
export function isBilledAt(times: readonly BilledTime[], at: Instant): boolean {
  return times.some(({ startsAt, endsAt }) => startsAt <= at && at < endsAt)
}

/**
 * The line that a change has ended and that bills what is told late of a moment, while the balance is billed at all; null where the moment is not in
 * one. Lines end with whole seconds and terms within them: what was used in between counts by the terms.
 * @param until when the terms of the moment ended; null where they stand
 */
export function changedLineAt(lines: readonly KnownLine[], at: Instant, until: Instant | null): KnownLine | null {
  if (lines.every(({ state }) => state === 'closed')) return null
  const last = until === null ? at.getTime() : Math.floor(until.getTime() / SECOND_MS) * SECOND_MS - 1
  const line = lines.findLast(({ startsAt }) => startsAt.getTime() <= Math.min(at.getTime(), last))
  return line !== undefined && line.state === 'closed' && line.isChanged ? line : null
}

/** What becomes of use of a moment in a period that is over. */
export function lateUseOf(times: readonly BilledTime[], grant: GrantTime, at: Instant): LateUse {
  if (!isBilledAt(times, at)) return 'free'
  const billing = billingTimeOf(times, grant)
  if (billing === null) return 'ended'
  return billing.isLate ? 'closed' : 'open'
}
