import type { Quantity } from '../lib/quantity.ts'
import type { UnitAmount } from '../lib/unit-amount.ts'
import type { Aggregation, AllowancePeriod, PriceInterval } from './define.ts'

/** A billing.config.ts after validation: every default filled in, every quantity exact. Plain data, JSON apart from bigints. */
export type Catalog = {
  readonly currency: string
  /** IANA name; days, calendar months and years begin in it. */
  readonly timeZone: string
  readonly meters: ReadonlyMap<string, Meter>
  readonly balances: ReadonlyMap<string, Balance>
  readonly features: ReadonlyMap<string, Feature>
  readonly plans: ReadonlyMap<string, Plan>
  readonly topUps: ReadonlyMap<string, TopUp>
  readonly addOns: ReadonlyMap<string, AddOn>
  readonly defaultPlanKey: string
}

export type Meter = {
  readonly key: string
  readonly name: string
  readonly unit: string
  readonly aggregation: Aggregation
  readonly uniqueBy: string | null
  /** Properties by which reports can be split. */
  readonly groupBy: readonly string[]
  /** By property, the values that count; an event that lacks one of them is not counted. Empty counts all. */
  readonly filter: ReadonlyMap<string, ReadonlySet<string>>
  /** The balance its use is drawn from: a credit pool that lists the meter, else the meter's own key. */
  readonly balanceKey: string
  /** What one unit of the meter draws from that balance. */
  readonly cost: Quantity
}

/** What can be used up: a credit pool, or a meter's own allowance. */
export type Balance = { readonly key: string; readonly name: string; readonly unit: string }

/** What a plan has or has not. */
export type Feature = {
  readonly key: string
  readonly name: string
  readonly type: 'boolean' | 'number' | 'choice'
  /** Of a number. */
  readonly unit: string | null
  /** Of a choice, ascending. */
  readonly values: readonly string[]
}

/** What somebody has of a feature: `true`, a quantity above zero or `'unlimited'`, one of the values of a choice. Nothing is no value. */
export type FeatureValue = true | Quantity | string

export type Plan = {
  readonly key: string
  readonly name: string
  /** How answers call it. */
  readonly tier: string
  readonly description: string
  readonly purchasable: boolean
  readonly prices: ReadonlyMap<PriceInterval, PlanPrice>
  readonly allowances: ReadonlyMap<string, Allowance>
  /** By meter. */
  readonly rateLimits: ReadonlyMap<string, RateLimit>
  readonly features: ReadonlyMap<string, FeatureValue>
}

export type PlanPrice = { readonly interval: PriceInterval; readonly amountMinor: number; readonly priceVariable: string | null }

export type Allowance = {
  readonly balanceKey: string
  /** null is unlimited. */
  readonly amount: Quantity | null
  readonly period: AllowancePeriod
  readonly limit: 'hard' | 'soft'
  /** What overage costs; null is nothing. */
  readonly overage: UsagePrice | null
  /** The most that overage may cost per period, minor units; null is any. */
  readonly spendLimitMinor: number | null
  readonly rollover: Rollover | null
  /** Percent of the amount, ascending. */
  readonly thresholds: readonly number[]
}

/** `max` null is all that is left. */
export type Rollover = { readonly max: Quantity | null; readonly periods: number }

/** At most `limit` units of the meter in each span of `seconds`. */
export type RateLimit = { readonly limit: Quantity; readonly seconds: number }

/** `upTo` null is without end; tiers ascend and the last is without end. */
export type Tier = { readonly upTo: Quantity | null; readonly unitAmount: UnitAmount; readonly flatAmountMinor: number }

export type UsagePrice =
  | { readonly model: 'per_unit'; readonly unitAmount: UnitAmount }
  | { readonly model: 'package'; readonly size: Quantity; readonly amountMinor: number }
  | { readonly model: 'graduated' | 'volume'; readonly tiers: readonly Tier[] }

export type TopUp = {
  readonly key: string
  readonly name: string
  readonly balanceKey: string
  readonly amount: Quantity
  readonly priceMinor: number
  readonly priceVariable: string | null
  readonly expiresAfterDays: number | null
}

export type AddOn = {
  readonly key: string
  readonly name: string
  readonly prices: ReadonlyMap<PriceInterval, PlanPrice>
  /** By balance: what one of it adds to the plan's allowance of each period. */
  readonly allowances: ReadonlyMap<string, Quantity>
  /** What one of it adds. */
  readonly features: ReadonlyMap<string, FeatureValue>
  readonly maxQuantity: number
}
