import { isDeepStrictEqual } from 'node:util'
import type { Catalog, FeatureValue, UsagePrice } from '../catalog/catalog.ts'
import { featuresFor } from '../entitlements/rules.ts'
import type { PriceInterval } from '../catalog/define.ts'
import type { Instant } from '../lib/clock.ts'
import type { Quantity } from '../lib/quantity.ts'

/** An organization whose terms are not the present ones, as the account and the mirror tell. Amounts: minor units per interval, for one. */
export type Candidate = {
  readonly organizationId: string
  readonly name: string
  readonly planKey: string
  readonly catalogVersion: number
  /** null where nothing is paid. */
  readonly interval: PriceInterval | null
  readonly quantity: number
  readonly priceId: string | null
  readonly amountMinor: number
  readonly currency: string
  readonly currentPeriodEnd: Instant | null
}

export type OfferedPrice = {
  readonly planKey: string
  readonly interval: string
  readonly priceId: string
  readonly amountMinor: number
  readonly currency: string
}

/** What moving one organization means. */
export type Move = Candidate & { readonly toPriceId: string | null; readonly toAmountMinor: number }

export type Unmovable = Pick<Candidate, 'organizationId' | 'planKey'> & { readonly why: string }

/** A price that the plan no longer has is kept: its terms still move. A plan that is gone, or sold in another currency, cannot be moved to. Pure. */
export function moveOf(candidate: Candidate, present: Catalog, offers: readonly OfferedPrice[]): Move | Unmovable {
  const { organizationId, planKey: kept } = candidate
  if (!present.plans.has(kept)) return { organizationId, planKey: kept, why: `The catalog no longer has the plan "${kept}".` }
  const offer =
    candidate.priceId === null
      ? undefined
      : offers.find(({ planKey, interval }) => planKey === candidate.planKey && interval === candidate.interval)
  const currency = offer?.currency ?? present.currency
  if (candidate.priceId !== null && candidate.currency !== currency) {
    return { organizationId, planKey: kept, why: `It is paid in ${candidate.currency}, and the plan is sold in ${currency}.` }
  }
  return {
    ...candidate,
    toPriceId: offer?.priceId ?? candidate.priceId,
    toAmountMinor: offer?.amountMinor ?? candidate.amountMinor,
  }
}

/** The present catalog as whoever pays nothing finds it: a default plan that is gone is today's default plan, under its old name. Pure. */
export function withDefaultOf(before: Catalog, present: Catalog): Catalog {
  const { defaultPlanKey } = before
  const today = present.plans.get(present.defaultPlanKey)
  if (today === undefined || present.plans.has(defaultPlanKey)) return present
  return { ...present, plans: new Map([...present.plans, [defaultPlanKey, today]]) }
}

export function isMove(each: Move | Unmovable): each is Move {
  return 'toPriceId' in each
}

/** An allowance as it was and as it will be; null is unlimited, undefined is that the plan does not include it. */
export type AllowanceChange = {
  readonly balanceKey: string
  readonly from: Quantity | null | undefined
  readonly to: Quantity | null | undefined
}

/** How a plan's allowances differ between two catalogs. Pure. */
export function allowanceChanges(planKey: string, before: Catalog, after: Catalog): AllowanceChange[] {
  const old = before.plans.get(planKey)?.allowances
  const present = after.plans.get(planKey)?.allowances
  const balanceKeys = [...new Set([...(old?.keys() ?? []), ...(present?.keys() ?? [])])].toSorted()
  return balanceKeys.flatMap((balanceKey) => {
    const change = { balanceKey, from: old?.get(balanceKey)?.amount, to: present?.get(balanceKey)?.amount }
    return change.from === change.to ? [] : [change]
  })
}

/** A feature as it was and as it will be; null is that the plan does not include it. */
export type FeatureChange = {
  readonly featureKey: string
  readonly from: FeatureValue | null
  readonly to: FeatureValue | null
}

/** How a plan's features differ between two catalogs. Pure. */
export function featureChanges(planKey: string, before: Catalog, after: Catalog): FeatureChange[] {
  const [old, present] = [before, after].map((catalog) => catalog.plans.get(planKey)?.features)
  return [...featuresFor(before, after).keys()].flatMap((featureKey) => {
    const change = { featureKey, from: old?.get(featureKey) ?? null, to: present?.get(featureKey) ?? null }
    return change.from === change.to ? [] : [change]
  })
}

/** What use beyond an allowance costs, where it costs something before and after, and not the same. Pure. */
export type Repricing = { readonly balanceKey: string; readonly from: UsagePrice; readonly to: UsagePrice }

export function repricings(planKey: string, before: Catalog, after: Catalog): Repricing[] {
  const old = before.plans.get(planKey)?.allowances
  return [...(after.plans.get(planKey)?.allowances.values() ?? [])].flatMap(({ balanceKey, overage: to }) => {
    const from = old?.get(balanceKey)?.overage ?? null
    return from === null || to === null || isDeepStrictEqual(from, to) ? [] : [{ balanceKey, from, to }]
  })
}

/** Balances whose use beyond the allowance a plan begins to bill. Pure. */
export function newlyBilled(planKey: string, before: Catalog, after: Catalog): string[] {
  const old = before.plans.get(planKey)?.allowances
  const present = [...(after.plans.get(planKey)?.allowances.values() ?? [])]
  return present
    .filter(({ balanceKey, overage }) => overage !== null && old?.get(balanceKey)?.overage == null)
    .map(({ balanceKey }) => balanceKey)
}

/** Sums of moves in one currency, as minor units of a year: a monthly price counts twelve times. */
export type YearlyTotal = { readonly currency: string; readonly beforeMinor: number; readonly afterMinor: number }

/** Adds moves to the sums of those before them. Pure. */
export function yearlyTotals(moves: readonly Move[], before: readonly YearlyTotal[] = []): YearlyTotal[] {
  const totals = new Map(before.map((total) => [total.currency, total]))
  for (const { currency, interval, quantity, amountMinor, toAmountMinor } of moves) {
    const { beforeMinor, afterMinor } = totals.get(currency) ?? { beforeMinor: 0, afterMinor: 0 }
    const times = quantity * (interval === 'monthly' ? 12 : 1)
    totals.set(currency, {
      currency,
      beforeMinor: beforeMinor + amountMinor * times,
      afterMinor: afterMinor + toAmountMinor * times,
    })
  }
  return [...totals.values()]
}
