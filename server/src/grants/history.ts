import type { Instant } from '../lib/clock.ts'
import type { SubscriptionCycle } from './periods.ts'
import { billingCycleOf, planGrantOf, type PlanGrant, type PlanTerms } from './rules.ts'

/** What an organization had from a moment on, until the next of its terms. */
export type PastTerms = {
  readonly since: Instant
  readonly planKey: string
  readonly catalogVersion: number
  /** The subscription's cycle; null without one. */
  readonly cycle: SubscriptionCycle | null
  readonly addOns: Readonly<Record<string, number>>
}

/** Past terms with the catalog that they name, and the add-ons that it does not declare; the oldest first, and the last of them those of now. */
export type History = readonly (PastTerms & Pick<PlanTerms, 'catalog' | 'otherAddOns'>)[]

/**
 * The plan's allowance of a balance that stood at a moment of the past: by the plan, the cycle and the add-ons of that time. The one
 * place that says where use that is told late belongs. Its span ends where other terms began, as that of an allowance does whose
 * plan is changed. Before the first of the history, its first terms stood.
 * @param terms those of now
 */
export function planGrantAt(terms: PlanTerms, history: History, balanceKey: string, at: Instant): PlanGrant {
  const index = indexAt(history, at)
  const past = history[index]
  const until = endOfTermsAt(history, at)
  if (past === undefined || until === null) return planGrantOf(terms, balanceKey, at)
  const plan = planGrantOf(termsThen(terms, past), balanceKey, at)
  const { span } = plan
  return span.end === null || span.end > until ? { ...plan, span: { ...span, end: until } } : plan
}

/** When the terms of a moment ended; null where they are those of now. */
export function endOfTermsAt(history: History, at: Instant): Instant | null {
  return history[indexAt(history, at) + 1]?.since ?? null
}

function indexAt(history: History, at: Instant): number {
  return Math.max(
    history.findLastIndex(({ since }) => since <= at),
    0,
  )
}

function termsThen(terms: PlanTerms, past: History[number]): PlanTerms {
  const { planKey, catalogVersion, catalog, cycle, addOns, otherAddOns } = past
  return {
    ...terms,
    // Whether it could be used then does not matter any more; whether there was a subscription says which cycle counts.
    standing: { ...terms.standing, planKey, state: cycle === null ? 'free' : 'active' },
    catalog,
    catalogVersion,
    currentPeriodStart: cycle?.start ?? null,
    currentPeriodEnd: cycle?.end ?? null,
    cycleAnchor: cycle?.anchor ?? null,
    addOns,
    otherAddOns,
  }
}

/**
 * The terms of now as the next of a history; null where the last has them already. A cycle began when it says, which may be a
 * moment before it was heard of; anything else changed now.
 */
export function nextTerms(terms: PlanTerms, last: PastTerms | null, now: Instant): PastTerms | null {
  const cycle = billingCycleOf(terms).current
  const { catalogVersion, addOns = {} } = terms
  const next = { since: now, planKey: terms.standing.planKey, catalogVersion, cycle, addOns }
  if (last !== null && isSame(last, next)) return null
  const isBegun = cycle !== null && cycle.start < now && (last?.cycle == null || last.cycle.start < cycle.start)
  const since = isBegun ? cycle.start : now
  return { ...next, since: last !== null && since < last.since ? last.since : since }
}

function isSame(a: PastTerms, b: PastTerms): boolean {
  const isSameCycle = a.cycle?.start.getTime() === b.cycle?.start.getTime() && a.cycle?.end.getTime() === b.cycle?.end.getTime()
  const names = Object.keys(a.addOns)
  const isSameAddOns = names.length === Object.keys(b.addOns).length && names.every((name) => a.addOns[name] === b.addOns[name])
  return a.planKey === b.planKey && a.catalogVersion === b.catalogVersion && isSameCycle && isSameAddOns
}
