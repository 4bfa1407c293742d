/** How the events of a meter become its quantity of a period. */
export type Aggregation = 'count' | 'sum' | 'max' | 'latest' | 'unique'

export type MeterDefinition = {
  readonly name?: string
  /** What one is called, e.g. `episode`. */
  readonly unit?: string
  /** Default `sum`. */
  readonly aggregation?: Aggregation
  /** For `unique`: the property whose different values are counted. */
  readonly uniqueBy?: string
  /** Properties of its events by which reports can be split, e.g. `['model', 'endpoint']`. */
  readonly groupBy?: readonly string[]
  /** Counts only events whose properties have one of these values, e.g. `{ status: ['ok'] }`. */
  readonly filter?: { readonly [property: string]: readonly string[] }
}

/** A pool that several meters draw from, each at its own cost. */
export type CreditDefinition<Meter extends string> = {
  readonly name?: string
  readonly unit?: string
  /** Credits per unit of the meter; a decimal string where a fraction is meant: `'0.1'` (EM-2). */
  readonly costs: { readonly [M in Meter]?: number | string }
}

/** When an allowance starts again. `billing_cycle` follows the subscription, the others the catalog's time zone. */
export type AllowancePeriod = 'billing_cycle' | 'calendar_month' | 'day' | 'year' | 'lifetime'

/** One step of a tiered price: what units up to and including `upTo` cost. The last step is `'infinity'`. */
export type TierDefinition = {
  readonly upTo: number | string
  /** Minor units per unit, at most twelve decimal places; default 0. */
  readonly unitAmountMinor?: number | string
  /** Minor units for reaching the step at all; default 0. */
  readonly flatAmountMinor?: number
}

/**
 * What use costs.
 * - `per_unit`: every unit, and every part of one, at the same price: 85 at `'0.2'` cents are 17 cents (OC-4).
 * - `package`: by packages of `size`; a package that was begun counts whole.
 * - `graduated`: each unit at the price of the step in which it lies.
 * - `volume`: all units at the price of the step that the whole quantity reaches.
 */
export type UsagePriceDefinition =
  | { readonly model: 'per_unit'; readonly unitAmountMinor: number | string }
  | { readonly model: 'package'; readonly size: number | string; readonly amountMinor: number }
  | { readonly model: 'graduated' | 'volume'; readonly tiers: readonly TierDefinition[] }

export type RolloverDefinition = {
  /** At most this much moves on; default all that is left. */
  readonly max?: number | string
  /** For how many further periods it stands; default 1. */
  readonly periods?: number
}

export type AllowanceDefinition = {
  /** Included per period; `0` is nothing, `'unlimited'` is without end. */
  readonly amount: number | string
  /** Default `billing_cycle`. */
  readonly period?: AllowancePeriod
  /** `hard` (the default) refuses beyond the amount; `soft` lets use go on as overage. */
  readonly limit?: 'hard' | 'soft'
  /** What overage costs; only with a soft limit. Without it overage is counted and costs nothing. */
  readonly overage?: UsagePriceDefinition
  /** The most that overage may cost in one period, in minor units; use beyond it is refused. Only with `overage`. */
  readonly spendLimitMinor?: number
  /** What is left at the end of a period moves on. Not for `lifetime` or unlimited allowances. */
  readonly rollover?: RolloverDefinition
  /** Percent of the amount at which the organization is told, once each per period; default 50, 80 and 100. */
  readonly thresholds?: readonly number[]
}

/**
 * Something that a plan has or has not, and that is not used up.
 * - `boolean` (the default): it is there or not.
 * - `number`: how many or how much, `'unlimited'` included: projects, days of retention.
 * - `choice`: one of `values`, which ascend: what several give together is the highest of them.
 */
export type FeatureDefinition =
  | { readonly name?: string; readonly type?: 'boolean' }
  | { readonly name?: string; readonly type: 'number'; readonly unit?: string }
  | { readonly name?: string; readonly type: 'choice'; readonly values: readonly string[] }

/** What a plan or an add-on has of a feature: `true`, a number of at most six places or `'unlimited'`, one of the values of a choice. */
export type FeatureValueDefinition = boolean | number | string

/** At most `limit` units in any such span. */
export type RateLimitDefinition = {
  readonly limit: number | string
  readonly per: 'second' | 'minute' | 'hour' | 'day'
}

export type PriceInterval = 'monthly' | 'yearly'

export type PriceDefinition = {
  /** Minor units per interval; an integer ≥ 0. */
  readonly amountMinor: number
  /** The variable whose value, when set, is the id of an existing Stripe price to use instead of creating one. */
  readonly priceVariable?: string
}

export type PlanDefinition<Meter extends string, Balance extends string, Feature extends string> = {
  readonly name: string
  /** How answers call it in `tier` and `subscription_tier`, e.g. `PRO`; default its key. */
  readonly tier?: string
  readonly description?: string
  readonly prices?: { readonly [I in PriceInterval]?: PriceDefinition }
  /** Whether checkout, subscribe and upgrade offer it; default true when it has a price. */
  readonly purchasable?: boolean
  readonly allowances: { readonly [B in Balance]?: AllowanceDefinition }
  /** How fast a meter may be used, beside how much. */
  readonly rateLimits?: { readonly [M in Meter]?: RateLimitDefinition }
  /** What it has beside what is used up; a feature that is left out is not included. */
  readonly features?: { readonly [F in Feature]?: FeatureValueDefinition }
}

/** An amount that is bought once, beside the plan. */
export type TopUpDefinition<Balance extends string> = {
  readonly name: string
  readonly balance: Balance
  /** What one purchase adds. */
  readonly amount: number | string
  /** Minor units, an integer > 0. */
  readonly priceMinor: number
  /** The variable whose value, when set, is the id of an existing one-time Stripe price to use. */
  readonly priceVariable?: string
  /** Days from the payment; default never. */
  readonly expiresAfterDays?: number
}

/** Something subscribed to beside the plan, in a quantity: seats, a support contract, more of an allowance. */
export type AddOnDefinition<Balance extends string, Feature extends string> = {
  readonly name: string
  readonly prices: { readonly [I in PriceInterval]?: PriceDefinition }
  /** What one of it adds to the plan's allowance of each period. */
  readonly allowances?: { readonly [B in Balance]?: number | string }
  /** What one of it adds to the plan's features: numbers add up, of choices the highest counts. */
  readonly features?: { readonly [F in Feature]?: FeatureValueDefinition }
  /** Default 1,000. */
  readonly maxQuantity?: number
}

export type BillingDefinition<Meter extends string, Credit extends string, Plan extends string, Feature extends string> = {
  /** Lower-case ISO 4217 code of every price; default `usd`. */
  readonly currency?: string
  /** IANA name of the zone in which days, calendar months and years begin; default `UTC`. */
  readonly timeZone?: string
  readonly meters: { readonly [M in Meter]: MeterDefinition }
  readonly credits?: { readonly [C in Credit]: CreditDefinition<NoInfer<Meter>> }
  readonly features?: { readonly [F in Feature]: FeatureDefinition }
  readonly plans: { readonly [P in Plan]: PlanDefinition<NoInfer<Meter>, NoInfer<Meter | Credit>, NoInfer<Feature>> }
  readonly topUps?: { readonly [key: string]: TopUpDefinition<NoInfer<Meter | Credit>> }
  readonly addOns?: { readonly [key: string]: AddOnDefinition<NoInfer<Meter | Credit>, NoInfer<Feature>> }
  /** The plan of an organization that pays for none. */
  readonly defaultPlan: NoInfer<Plan>
}

/**
 * Declares meters, credits, features and plans. A name that is not declared is a type error; what types cannot say is checked
 * when the catalog is loaded (`normalizeCatalog`).
 * @example
 * export default defineBilling({
 *   meters: { search: {} },
 *   credits: { credits: { costs: { search: '0.1' } } },
 *   plans: { free: { name: 'Free', allowances: { credits: { amount: 100, period: 'calendar_month' } } } },
 *   defaultPlan: 'free',
 * })
 */
export function defineBilling<
  const Meter extends string,
  const Plan extends string,
  const Credit extends string = never,
  const Feature extends string = never,
>(definition: BillingDefinition<Meter, Credit, Plan, Feature>): BillingDefinition<Meter, Credit, Plan, Feature> {
  return definition
}

/** The environment as a catalog sees it. */
export type CatalogVariables = Readonly<Record<string, string | undefined>>

/**
 * What a billing.config.ts may export besides a definition: a function of the environment's variables, for rates that are
 * set there (KF-1).
 * @example
 * export default fromVariables((variables) => defineBilling({ currency: variables['BILLING_CURRENCY'] ?? 'usd', … }))
 */
export function fromVariables<Definition>(
  make: (variables: CatalogVariables) => Definition,
): (variables: CatalogVariables) => Definition {
  return make
}
