import { isDeepStrictEqual } from 'node:util'
import type { AddOn, Allowance, Catalog, Meter, RateLimit } from '../catalog/catalog.ts'
import type { AllowancePeriod } from '../catalog/define.ts'
import { isoTextOf, type Instant } from '../lib/clock.ts'
import { assert } from '../lib/errors.ts'
import type { Quantity } from '../lib/quantity.ts'
import { overageCost } from '../pricing/rules.ts'
import type { Standing } from '../standing/rules.ts'
import { allowanceSpanOf, type AllowanceSpan, type BillingCycle } from './periods.ts'

export type GrantKind = 'plan' | 'top_up' | 'promotion' | 'rollover' | 'manual'

/**
 * Something that may be used up. Always: amount − used − reserved − revoked − expired = remaining, and used + overage is
 * the sum of what its events drew.
 */
export type Grant = {
  readonly organizationId: string
  readonly id: string
  readonly balanceKey: string
  readonly kind: GrantKind
  /** Of a plan's allowance: whose terms the amount is. */
  readonly planKey: string | null
  readonly catalogVersion: number | null
  /** null is unlimited. */
  readonly amount: Quantity | null
  readonly limit: 'hard' | 'soft'
  readonly used: Quantity
  /** Use beyond the amount; only a plan's allowance carries it. */
  readonly overage: Quantity
  /** Held by open reservations. */
  readonly reserved: Quantity
  /** What open reservations will make of overage when they are settled as held; only a plan's allowance carries it. */
  readonly heldOverage: Quantity
  /** Of `used` and of `overage`: what was used in a time in which nothing billed the balance. It is never billed. */
  readonly freeUsed: Quantity
  readonly freeOverage: Quantity
  /** Of a plan's allowance: what use of its period drew from other grants. */
  readonly usedElsewhere: Quantity
  /** Of `overage`: what was priced by a plan that was changed within the period, and what that costs in minor units. */
  readonly pricedOverage: Quantity
  readonly pricedMinor: bigint
  readonly revoked: Quantity
  /** Lower is drawn first. */
  readonly priority: number
  /** The meters it may pay for; null is every meter of the balance. */
  readonly meters: readonly string[] | null
  readonly startsAt: Instant
  readonly expiresAt: Instant | null
  /** Why it was given, for whoever reads it later. */
  readonly reason: string | null
  readonly createdAt: Instant
}

/**
 * What is drawn first: what was given away, then what would be lost soonest, then the plan's own, and last what was paid
 * for separately. An operator may set another priority on a grant.
 */
export const DEFAULT_PRIORITY: Readonly<Record<GrantKind, number>> = {
  promotion: 30,
  rollover: 40,
  plan: 50,
  manual: 50,
  top_up: 70,
}

/** The order of drawing: priority, then earliest expiry, then earliest created; the id makes it total. */
export function compareDrawOrder(a: Grant, b: Grant): number {
  return (
    a.priority - b.priority ||
    timeOf(a.expiresAt) - timeOf(b.expiresAt) ||
    a.createdAt.getTime() - b.createdAt.getTime() ||
    (a.id < b.id ? -1 : a.id > b.id ? 1 : 0)
  )
}

function timeOf(instant: Instant | null): number {
  // Far beyond every date and, unlike Infinity, safe to subtract from itself.
  return instant === null ? Number.MAX_SAFE_INTEGER : instant.getTime()
}

/** Whether a grant can be drawn from at a time: from its start inclusive to its expiry exclusive. */
export function isActiveAt(grant: Pick<Grant, 'startsAt' | 'expiresAt'>, now: Instant): boolean {
  return grant.startsAt <= now && (grant.expiresAt === null || now < grant.expiresAt)
}

/** What a grant still gives when it has not expired; null is unlimited. */
export function availableOf(grant: Pick<Grant, 'amount' | 'used' | 'reserved' | 'revoked'>): Quantity | null {
  return grant.amount === null ? null : grant.amount - grant.used - grant.reserved - grant.revoked
}

/** The parts of a grant's amount at a time. They add up to the amount; an unlimited grant has no remaining and nothing expires. */
export type GrantParts = { readonly remaining: Quantity | null; readonly expired: Quantity }

/** Splits what a grant still gives into remaining and expired. */
export function partsOf(grant: Grant, now: Instant): GrantParts {
  const available = availableOf(grant)
  if (available === null) return { remaining: null, expired: 0n }
  const over = grant.expiresAt !== null && grant.expiresAt <= now
  return over ? { remaining: 0n, expired: available } : { remaining: available, expired: 0n }
}

/** The plan's allowance of one balance for one span, as a grant that is yet to be opened or already stands. */
export type PlanGrant = {
  readonly id: string
  readonly balanceKey: string
  readonly period: AllowancePeriod
  readonly planKey: string
  readonly catalogVersion: number
  /** Whether the plan names the balance at all; a balance it does not name is a grant of nothing, which carries overage. */
  readonly included: boolean
  readonly amount: Quantity | null
  readonly limit: 'hard' | 'soft'
  /** What else the plan says of it. */
  readonly allowance: Omit<Allowance, 'balanceKey'>
  readonly span: AllowanceSpan
}

/** A plan's allowance that an organization is to have now. */
export type WantedGrant = {
  readonly organizationId: string
  readonly terms: PlanTerms
  readonly plan: PlanGrant
  readonly now: Instant
}

/** What decides an organization's plan allowances. */
export type PlanTerms = {
  readonly standing: Standing
  readonly catalog: Catalog
  /** The current catalog's meters: one that was declared after this organization's terms is known, if not included. */
  readonly newerMeters: Catalog['meters']
  /** The add-ons of the subscription that these terms do not declare: sold after them, or no more. */
  readonly otherAddOns?: Catalog['addOns'] | undefined
  readonly catalogVersion: number
  /** When the organization came; billing cycles without a subscription are counted from it. */
  readonly anchor: Instant
  readonly currentPeriodStart: Instant | null
  readonly currentPeriodEnd: Instant | null
  /** From which the subscription's periods are counted; without it, from the present one. */
  readonly cycleAnchor?: Instant | null
  /** Of calendar periods: the organization's own, else the catalog's. */
  readonly timeZone: string
  /** How many of each add-on go with the plan. */
  readonly addOns?: Readonly<Record<string, number>>
  /** Since when all of this stands (`history.ts`); null is ever since. */
  readonly since?: Instant | null
}

const NOTHING_INCLUDED: Omit<Allowance, 'balanceKey'> = {
  amount: 0n,
  period: 'billing_cycle',
  limit: 'hard',
  overage: null,
  spendLimitMinor: null,
  rollover: null,
  thresholds: [],
}

/**
 * The plan's allowance of a balance that stands at `now`. Its id is made of the balance, the kind of period and the
 * period's start, never of the plan: a plan changed within the period is the same grant with another amount, so that
 * nothing is handed out twice.
 */
export function planGrantOf(terms: PlanTerms, balanceKey: string, now: Instant): PlanGrant {
  const plan = terms.catalog.plans.get(terms.standing.planKey)
  const included = plan?.allowances.get(balanceKey)
  const allowance = included ?? NOTHING_INCLUDED
  const { period, limit } = allowance
  const added = addedByAddOns(terms, balanceKey)
  const amount = allowance.amount === null ? null : allowance.amount + added
  const span = allowanceSpanOf(period, billingCycleOf(terms), now)
  return {
    id: planGrantId(balanceKey, period, span.name),
    balanceKey,
    period,
    planKey: terms.standing.planKey,
    catalogVersion: terms.catalogVersion,
    included: included !== undefined || added > 0n,
    amount,
    limit,
    allowance,
    span,
  }
}

/** The balances that a plan and its add-ons give something of. */
export function includedBalances(terms: PlanTerms): string[] {
  const { catalog, standing, addOns = {} } = terms
  const added = Object.keys(addOns).flatMap((key) => [...(addOnOf(terms, key)?.allowances.keys() ?? [])])
  return [...new Set([...(catalog.plans.get(standing.planKey)?.allowances.keys() ?? []), ...added])]
}

/** What the add-ons of a subscription add to the allowance of each period. */
function addedByAddOns(terms: PlanTerms, balanceKey: string): Quantity {
  const { addOns = {} } = terms
  let sum = 0n
  for (const key in addOns) sum += (addOnOf(terms, key)?.allowances.get(balanceKey) ?? 0n) * BigInt(addOns[key]!)
  return sum
}

/** An add-on as an organization's terms have it; one that they do not declare, as the newest catalog that has it. */
export function addOnOf({ catalog, otherAddOns }: Pick<PlanTerms, 'catalog' | 'otherAddOns'>, key: string): AddOn | undefined {
  return catalog.addOns.get(key) ?? otherAddOns?.get(key)
}

/**
 * Whether an allowance is yet to be opened into which something may move on from the period before.
 * @param balanceKey null asks of every balance of the plan
 */
export function isCarryDue(
  terms: PlanTerms,
  { balanceKey, now, isOpen }: { balanceKey: string | null; now: Instant; isOpen: (grantId: string) => boolean },
): boolean {
  for (const allowance of terms.catalog.plans.get(terms.standing.planKey)?.allowances.values() ?? []) {
    if (allowance.rollover === null || (balanceKey !== null && balanceKey !== allowance.balanceKey)) continue
    if (!isOpen(planGrantOf(terms, allowance.balanceKey, now).id)) return true
  }
  return false
}

/** The same allowance for another span. */
export function planGrantOn(plan: PlanGrant, span: AllowanceSpan): PlanGrant {
  return { ...plan, id: planGrantId(plan.balanceKey, plan.period, span.name), span }
}

/** The id of a plan's allowance: balance, kind of period, name of its span. */
export function planGrantId(balanceKey: string, period: AllowancePeriod, name: Instant): string {
  return `plan:${balanceKey}:${period}:${isoTextOf(name)}`
}

/** The ids of allowances by billing cycles, as `like` has them. */
export const IDS_BY_CYCLE = String.raw`plan:%:billing\_cycle:%`

/** The kind of period in the name of a plan's allowance. */
export function periodOfPlanGrant(id: string): AllowancePeriod {
  const from = id.indexOf(':', 'plan:'.length) + 1
  return id.slice(from, id.indexOf(':', from)) as AllowancePeriod
}

/** What the periods of an organization follow. */
export function billingCycleOf({
  standing,
  anchor,
  currentPeriodStart: start,
  currentPeriodEnd: end,
  cycleAnchor = null,
  timeZone,
}: PlanTerms): BillingCycle {
  // A subscription that ended leaves its last period on the account; what counts then is the organization's own month.
  const subscribed = standing.state !== 'free' && start !== null && end !== null && start < end
  return { anchor, current: subscribed ? { start, end, anchor: cycleAnchor } : null, timeZone }
}

/** What a grant's counters are, or change by, where nothing is counted. */
export const UNCOUNTED = {
  used: 0n,
  overage: 0n,
  reserved: 0n,
  heldOverage: 0n,
  freeUsed: 0n,
  freeOverage: 0n,
  usedElsewhere: 0n,
} satisfies Partial<Grant>

/** What is written to a grant after it was made. */
export const UNTOUCHED = { ...UNCOUNTED, pricedOverage: 0n, pricedMinor: 0n, revoked: 0n } satisfies Partial<Grant>

/** The grant as it is first stored. */
export function openedGrant(organizationId: string, plan: PlanGrant, now: Instant): Grant {
  return {
    organizationId,
    id: plan.id,
    balanceKey: plan.balanceKey,
    kind: 'plan',
    planKey: plan.planKey,
    catalogVersion: plan.catalogVersion,
    amount: plan.amount,
    limit: plan.limit,
    ...UNTOUCHED,
    priority: DEFAULT_PRIORITY.plan,
    meters: null,
    startsAt: plan.span.start,
    expiresAt: plan.span.end,
    reason: null,
    createdAt: now,
  }
}

/** Whether a stored grant carries the plan's present terms. */
export function hasTermsOf(grant: Grant, plan: PlanGrant): boolean {
  return isOfPlan(grant, plan) && hasSpanOf(grant, plan) && grant.amount === amountUnder(grant, plan)
}

/** A period that stands while the time zone changes keeps its name, and starts and ends at other moments. */
function hasSpanOf(grant: Grant, { span }: PlanGrant): boolean {
  return timeOf(grant.expiresAt) === timeOf(span.end) && grant.startsAt.getTime() === span.start.getTime()
}

function isOfPlan(grant: Grant, plan: PlanGrant): boolean {
  return grant.planKey === plan.planKey && grant.catalogVersion === plan.catalogVersion && grant.limit === plan.limit
}

/**
 * The amount of a plan's allowance: the plan's own, but never less than what is used or held already. What a smaller plan
 * leaves over so goes back to the plan's amount as soon as holds are released.
 */
function amountUnder({ used, reserved, revoked }: Grant, plan: PlanGrant): Quantity | null {
  const committed = used + reserved + revoked
  return plan.amount === null || plan.amount > committed ? plan.amount : committed
}

/**
 * The grant of a period under the terms of a plan changed within it. What was used so far counts against the new amount:
 * - up: the rest of the new amount can be used, and overage that nobody bills (a hard limit's) is absorbed by it;
 * - down: what was used while it was included stays included, so the amount never falls below it, and nothing remains;
 * - overage under a soft limit stays overage, since it may already be on a bill; what it costs is what it cost under the plan before.
 * @param before the catalog that the grant names: a later one may sell the same plan at another price, or not at all
 */
export function regrant(grant: Grant, plan: PlanGrant, before: Catalog): Grant {
  assert(grant.id === plan.id && grant.kind === 'plan', 'a plan grant takes the terms of its own period only')
  const amount = amountUnder(grant, plan)
  const room = amount === null ? grant.overage : amount - grant.used - grant.reserved - grant.revoked
  const absorbable = isOfPlan(grant, plan) || grant.limit === 'soft' ? 0n : grant.overage
  const absorbed = absorbable < room ? absorbable : room
  const overage = grant.overage - absorbed
  const freeOverage = grant.freeOverage < overage ? grant.freeOverage : overage
  return {
    ...grant,
    planKey: plan.planKey,
    catalogVersion: plan.catalogVersion,
    limit: plan.limit,
    startsAt: plan.span.start,
    expiresAt: plan.span.end,
    amount,
    used: grant.used + absorbed,
    overage,
    freeUsed: grant.freeUsed + grant.freeOverage - freeOverage,
    freeOverage,
    ...pricedBefore({ ...grant, overage, freeOverage }, plan, before),
  }
}

/** What overage has cost until its plan, or the plan's price, changed: its line is billed by the terms that end. */
function pricedBefore(
  grant: Grant,
  plan: PlanGrant,
  before: Catalog,
): Pick<Grant, 'pricedOverage' | 'pricedMinor'> | Record<string, never> {
  const price = before.plans.get(grant.planKey ?? '')?.allowances.get(grant.balanceKey)?.overage ?? null
  if (grant.planKey === plan.planKey && isDeepStrictEqual(price, plan.allowance.overage)) return {}
  return {
    pricedOverage: grant.overage - grant.freeOverage,
    pricedMinor: price === null ? grant.pricedMinor : BigInt(overageCost(price, grant)),
  }
}

/** A meter by its name, in the organization's own terms or in the current catalog. */
export function meterOf(terms: Pick<PlanTerms, 'catalog' | 'newerMeters'>, meterKey: string): Meter | undefined {
  return terms.catalog.meters.get(meterKey) ?? terms.newerMeters.get(meterKey)
}

/** The balances from which something that an organization may use is drawn: what is in any other can never be used. */
export function drawnBalances({ catalog, newerMeters }: Pick<PlanTerms, 'catalog' | 'newerMeters'>): ReadonlySet<string> {
  const meters = new Map([...newerMeters, ...catalog.meters])
  return new Set([...meters.values()].map(({ balanceKey }) => balanceKey))
}

/** How fast a plan lets a meter be used; null is as fast as may be. */
export function rateLimitOf({ catalog, standing }: Pick<PlanTerms, 'catalog' | 'standing'>, meterKey: string): RateLimit | null {
  return catalog.plans.get(standing.planKey)?.rateLimits.get(meterKey) ?? null
}

/** What one event took from one grant. */
export type Draw = { readonly grantId: string; readonly amount: Quantity; readonly overage: Quantity }

export type GrantName = { readonly organizationId: string; readonly id: string }

/** What a grant's counters change by. */
export type GrantChange = GrantName &
  Pick<Grant, 'used' | 'overage' | 'reserved' | 'heldOverage' | 'freeUsed' | 'freeOverage' | 'usedElsewhere'> & {
    /** What its amount changes by: where a smaller plan's allowance holds what a larger one gave, it shrinks as holds are released. */
    readonly amount: Quantity
  }

/** The grant after a change. */
export function changedGrant(grant: Grant, change: GrantChange): Grant {
  return {
    ...grant,
    amount: grant.amount === null ? null : grant.amount + change.amount,
    used: grant.used + change.used,
    overage: grant.overage + change.overage,
    reserved: grant.reserved + change.reserved,
    heldOverage: grant.heldOverage + change.heldOverage,
    freeUsed: grant.freeUsed + change.freeUsed,
    freeOverage: grant.freeOverage + change.freeOverage,
    usedElsewhere: grant.usedElsewhere + change.usedElsewhere,
  }
}
