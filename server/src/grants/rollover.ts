import type { Instant } from '../lib/clock.ts'
import type { Quantity } from '../lib/quantity.ts'
import { allowanceSpanOf, spanBefore } from './periods.ts'
import {
  availableOf,
  billingCycleOf,
  DEFAULT_PRIORITY,
  openedGrant,
  planGrantOn,
  UNTOUCHED,
  type Grant,
  type WantedGrant,
} from './rules.ts'

/**
 * What moves on when a period begins. `passed` are the allowances of periods that nobody asked for, `moved` the ended allowances
 * less what moved on, `rollovers` the grants that hold it now: each of `moved` (which may be one of `passed`) has one.
 */
export type MovedOn = {
  readonly passed: readonly Grant[]
  readonly moves: readonly { readonly from: Grant; readonly to: Grant }[]
}

const NOTHING: MovedOn = { passed: [], moves: [] }

/** The id of what an allowance leaves over: there is never more than one. */
export function rolloverIdOf(planGrantId: string): string {
  return `rollover:${planGrantId}`
}

/**
 * What is left of the periods before one that begins, by the terms of the plan that stands in it: capped, and for so many periods
 * from the end of its own. What is held then stays with the old period, and so does what is given back to it later. Periods that
 * passed without any use are looked back upon, as though each had been opened in its time. Pure; the caller holds the account's
 * lock, and moves nothing whose rollover is there already.
 * @param previous the allowance of the balance that stood last, null when there was none
 */
export function moveOn(want: WantedGrant, previous: Grant | null): MovedOn {
  const { plan, terms, now } = want
  const { rollover } = plan.allowance
  if (rollover === null) return NOTHING
  const passed = passedGrants(want, previous, rollover.periods)
  const first = passed[0]?.startsAt ?? plan.span.start
  // Whoever had no allowance for a while has nothing left from before.
  const follows =
    previous?.expiresAt != null &&
    previous.startsAt < plan.span.start &&
    (previous.expiresAt >= first || previous.expiresAt >= now)
  const ended = follows ? [previous, ...passed] : passed
  const cycle = billingCycleOf(terms)
  const moves = ended.flatMap((from) => {
    const amount = movable(from, rollover.max)
    const expiresAt = endAfter(from.expiresAt!, rollover.periods, (at) => allowanceSpanOf(plan.period, cycle, at).end!)
    if (amount === 0n || expiresAt <= now) return []
    return [{ from: { ...from, revoked: from.revoked + amount }, to: rolloverGrant(from, { amount, expiresAt, now }) }]
  })
  return { passed, moves }
}

/** The allowances of periods between the last that is known and this one, the oldest first; at most as many as still count. */
function passedGrants({ organizationId, plan, terms, now }: WantedGrant, previous: Grant | null, most: number): Grant[] {
  // Another plan may have stood meanwhile, but then its allowance would be known: a change of plan opens them.
  if (previous !== null && previous.planKey !== plan.planKey) return []
  if (previous === null && terms.standing.state !== 'free') return []
  const since = previous === null ? terms.anchor : previous.expiresAt
  if (since === null) return []
  const cycle = billingCycleOf(terms)
  const passed: Grant[] = []
  let span = spanBefore(plan.period, cycle, plan.span)
  while (span?.end != null && span.end > since && passed.length < most) {
    if (previous !== null && span.start < since) break
    passed.unshift(openedGrant(organizationId, planGrantOn(plan, span), now))
    span = spanBefore(plan.period, cycle, span)
  }
  return passed
}

function movable(from: Grant, max: Quantity | null): Quantity {
  const left = availableOf(from) ?? 0n
  return max === null || left < max ? left : max
}

function endAfter(from: Instant, periods: number, endOf: (at: Instant) => Instant): Instant {
  let end = from
  for (let period = 0; period < periods; period += 1) end = endOf(end)
  return end
}

function rolloverGrant(from: Grant, { amount, expiresAt, now }: { amount: Quantity; expiresAt: Instant; now: Instant }): Grant {
  return {
    ...from,
    id: rolloverIdOf(from.id),
    kind: 'rollover',
    planKey: null,
    catalogVersion: null,
    amount,
    limit: 'hard',
    ...UNTOUCHED,
    priority: DEFAULT_PRIORITY.rollover,
    startsAt: from.expiresAt!,
    expiresAt,
    createdAt: now,
  }
}
