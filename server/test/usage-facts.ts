import { normalizeCatalog } from '../src/catalog/normalize.ts'
import type { CatalogDefinition } from '../src/catalog/schema.ts'
import { spanBefore } from '../src/grants/periods.ts'
import { nextTerms, planGrantAt, type History } from '../src/grants/history.ts'
import { billingCycleOf, planGrantOf, planGrantOn, type PlanGrant, type PlanTerms } from '../src/grants/rules.ts'
import type { Standing } from '../src/standing/rules.ts'
import type { ModelPlan, ModelSpan, ModelSpans } from './usage-model.ts'

// What the model of usage and the real thing are both told: plans, the organization's facts, when periods begin.

export const definition: CatalogDefinition = {
  meters: { search: {}, other: {} },
  credits: { credits: { costs: { search: '0.1' } } },
  plans: {
    free: { name: 'Free', allowances: { credits: { amount: 3, period: 'calendar_month', rollover: { max: 2, periods: 2 } } } },
    pro: { name: 'Pro', allowances: { credits: { amount: 12, rollover: { max: 8 } } } },
    soft: {
      name: 'Soft',
      allowances: {
        credits: { amount: 6, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: 1 }, spendLimitMinor: 4 },
      },
    },
    unlimited: { name: 'Unlimited', allowances: { credits: { amount: 'unlimited' } } },
    none: { name: 'None', allowances: { other: { amount: 1 } } },
  },
  defaultPlan: 'free',
}
export const catalog = normalizeCatalog(definition)
export const PLANS: readonly ModelPlan[] = [
  { key: 'free', amount: 30, limit: 'hard', included: true, rollover: { max: 20, periods: 2 } },
  { key: 'pro', amount: 120, limit: 'hard', included: true, rollover: { max: 80, periods: 1 } },
  { key: 'soft', amount: 60, limit: 'soft', included: true, spendLimit: 4 },
  { key: 'unlimited', amount: null, limit: 'hard', included: true },
  { key: 'none', amount: 0, limit: 'hard', included: false },
]
export const START = Date.parse('2026-03-10T12:00:00Z')

/** What the organization has, as its account says: changed by commands, read by both sides. */
export type Facts = {
  organizationId: string
  now: number
  planKey: string
  suspended: boolean
  cycleStart: number
  cycleEnd: number
  /** What it had before, as the server keeps it. */
  history: History
}

/** Keeps what the organization has from now on; answers it where it is something else than before. */
export function recordTerms(facts: Facts): History[number] | null {
  const next = nextTerms(termsOf(facts), facts.history.at(-1) ?? null, new Date(facts.now))
  if (next === null) return null
  const entry = { ...next, catalog }
  facts.history = [...facts.history.filter(({ since }) => since < entry.since), entry]
  return entry
}

export function termsOf(facts: Facts): PlanTerms {
  const free = facts.planKey === 'free'
  const standing: Standing = {
    state: facts.suspended ? 'suspended' : free ? 'free' : 'active',
    mayUse: !facts.suspended,
    reason: 'paid',
    planKey: facts.planKey,
    since: null,
    until: null,
  }
  return {
    standing,
    catalog,
    newerMeters: catalog.meters,
    catalogVersion: 1,
    anchor: new Date(START),
    currentPeriodStart: new Date(facts.cycleStart),
    currentPeriodEnd: new Date(facts.cycleEnd),
    timeZone: 'UTC',
    since: facts.history.at(-1)?.since ?? null,
  }
}

/** When periods begin and end, as the server works it out. */
export function spansOf(facts: Facts): ModelSpans {
  const shown = ({ id, span }: PlanGrant): ModelSpan => ({ id, start: span.start.getTime(), end: span.end!.getTime() })
  const planAt = (time: number): PlanGrant => planGrantOf(termsOf(facts), 'credits', new Date(time))
  return {
    at: (time) => shown(planAt(time)),
    before(span) {
      const plan = planAt(facts.now)
      const own = { name: new Date(span.start), start: new Date(span.start), end: new Date(span.end) }
      const earlier = spanBefore(plan.period, billingCycleOf(termsOf(facts)), own)
      return earlier && shown(planGrantOn(plan, earlier))
    },
    past(time) {
      const plan = planGrantAt(termsOf(facts), facts.history, 'credits', new Date(time))
      return { ...shown(plan), plan: PLANS.find(({ key }) => key === plan.planKey)! }
    },
    createdAt: START,
  }
}
