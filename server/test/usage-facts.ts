import { normalizeCatalog } from '../src/catalog/normalize.ts'
import type { CatalogDefinition } from '../src/catalog/schema.ts'
import { nextTerms, type History } from '../src/grants/history.ts'
import type { PlanTerms } from '../src/grants/rules.ts'
import type { Standing } from '../src/standing/rules.ts'
import type { Plan, Terms } from './usage-reference.ts'

// What the reference of usage and the real thing are both told: plans, and the organization's facts.

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
export const PLANS: readonly Plan[] = [
  { key: 'free', amount: 30, monthly: 'calendar', rollover: { max: 20, periods: 2 } },
  { key: 'pro', amount: 120, monthly: 'cycle', rollover: { max: 80, periods: 1 } },
  { key: 'soft', amount: 60, monthly: 'cycle', spendLimit: 4 },
  { key: 'unlimited', amount: null, monthly: 'cycle' },
  { key: 'none', monthly: 'cycle' },
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

/** Keeps what the organization has from now on, where it is something else than before. */
export function recordTerms(facts: Facts): void {
  const next = nextTerms(termsOf(facts), facts.history.at(-1) ?? null, new Date(facts.now))
  if (next !== null) facts.history = [...facts.history.filter(({ since }) => since < next.since), { ...next, catalog }]
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

/** The same as the reference is told. */
export function plainTermsOf({ planKey, suspended, cycleStart, cycleEnd }: Facts): Terms {
  const hasCycle = planKey !== 'free' || suspended
  return {
    plan: PLANS.find(({ key }) => key === planKey)!,
    cycle: hasCycle ? { start: cycleStart, end: cycleEnd } : null,
    suspended,
  }
}
