import { normalizeCatalog } from '../src/catalog/normalize.ts'
import { changedGrant, openedGrant, type Grant, type PlanTerms } from '../src/grants/rules.ts'
import { DomainError } from '../src/lib/errors.ts'
import { parseQuantity, type Quantity } from '../src/lib/quantity.ts'
import { decide, planGrantsNeeded } from '../src/metering/decide/decide.ts'
import { NOTHING_KNOWN, type Decision, type DecisionInput } from '../src/metering/decide/decision.ts'
import type { OrganizationState } from '../src/metering/decide/ledger.ts'
import type { UsageAnswer, UsageEvent, UsageRequest } from '../src/metering/usage.ts'
import type { Standing } from '../src/standing/rules.ts'

// What the tests of decisions share: a catalog, an organization in memory, requests in short.

export const now = new Date('2026-03-10T12:00:00Z')
export const catalog = normalizeCatalog({
  meters: { episode_ingestion: {}, episode_search: {}, tokens: {}, calls: { aggregation: 'count' }, extra: {} },
  credits: { credits: { costs: { episode_ingestion: 1, episode_search: '0.1' } } },
  plans: {
    free: {
      name: 'Free',
      allowances: { credits: { amount: 100, period: 'calendar_month' }, calls: { amount: 3, period: 'day' } },
    },
    soft: { name: 'Soft', allowances: { credits: { amount: 500, limit: 'soft' } } },
    pro: { name: 'Pro', allowances: { credits: { amount: 'unlimited' }, tokens: { amount: 10, period: 'calendar_month' } } },
  },
  defaultPlan: 'free',
})

const standing = (planKey: string, over: Partial<Standing> = {}): Standing => ({
  state: 'active',
  mayUse: true,
  reason: 'paid',
  planKey,
  since: null,
  until: null,
  ...over,
})

export function termsOf(planKey: string, over: Partial<Standing> = {}): PlanTerms {
  return {
    standing: standing(planKey, over),
    catalog,
    newerMeters: catalog.meters,
    catalogVersion: 1,
    anchor: new Date('2026-01-05T00:00:00Z'),
    currentPeriodStart: null,
    currentPeriodEnd: null,
    timeZone: 'UTC',
  }
}

/** The state of an organization whose plan allowances are open, with the counters and other grants that a test names. */
export function stateOf(
  terms: PlanTerms,
  { used = {}, others = [] }: { used?: Record<string, string>; others?: Grant[] } = {},
): OrganizationState {
  const plans = planGrantsNeeded(terms, now, terms.catalog.meters.keys()).map((plan) => {
    const grant = openedGrant('org', plan, now)
    return { ...grant, used: parseQuantity(used[grant.balanceKey] ?? '0') }
  })
  return { organizationId: 'org', now, terms, grants: [...plans, ...others] }
}

export function grantOf(id: string, amount: string | null, over: Partial<Grant> = {}): Grant {
  const template = openedGrant('org', planGrantsNeeded(termsOf('free'), now, ['episode_search'])[0]!, now)
  return {
    ...template,
    id,
    kind: 'manual',
    planKey: null,
    catalogVersion: null,
    amount: amount === null ? null : parseQuantity(amount),
    ...over,
  }
}

let ids = 0
export function run(state: OrganizationState, requests: readonly UsageRequest[], over: Partial<DecisionInput> = {}): Decision {
  return decide({
    requests,
    organizations: new Map([['org', state]]),
    ...NOTHING_KNOWN,
    recordedAt: now,
    newEventId: () => `event ${(ids += 1)}`,
    newReservationId: () => `reservation ${(ids += 1)}`,
    ...over,
  })
}

export const use = (
  verb: 'consume' | 'track',
  meter: string,
  quantity: number | string,
  key: string,
  occurredAt: Date | null = null,
): UsageRequest => ({
  verb,
  organizationId: 'org',
  meter,
  quantity: parseQuantity(quantity),
  idempotencyKey: key,
  occurredAt,
  properties: null,
})
export const reserve = (quantity: number, key: string): UsageRequest => ({
  verb: 'reserve',
  organizationId: 'org',
  meter: 'episode_ingestion',
  quantity: parseQuantity(quantity),
  idempotencyKey: key,
  properties: null,
  ttlMs: 60_000,
})

export function answers(decision: Decision): UsageAnswer[] {
  return decision.outcomes.map((outcome) => {
    if (outcome.kind === 'error') throw outcome.error
    return outcome.answer
  })
}

export function errorOf(decision: Decision, index = 0): DomainError {
  const outcome = decision.outcomes[index]!
  if (outcome.kind !== 'error' || !(outcome.error instanceof DomainError)) throw new Error('an error was expected')
  return outcome.error
}

/** Writes a decision onto a state, as the store does. */
export function apply(state: OrganizationState, decision: Decision): OrganizationState {
  const changes = new Map(decision.grantChanges.map((change) => [change.id, change]))
  const grants = state.grants.map((grant) => {
    const change = changes.get(grant.id)
    return change ? changedGrant(grant, change) : grant
  })
  return { ...state, grants }
}

/** What events took from each grant, overage included. */
export function sumDraws(events: readonly UsageEvent[]): Map<string, Quantity> {
  const sums = new Map<string, Quantity>()
  for (const draw of events.flatMap((event) => event.draws)) {
    sums.set(draw.grantId, (sums.get(draw.grantId) ?? 0n) + draw.amount + draw.overage)
  }
  return sums
}
