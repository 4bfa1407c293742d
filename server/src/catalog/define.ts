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
}

/** A pool that several meters draw from, each at its own cost. */
export type CreditDefinition<Meter extends string> = {
  readonly name?: string
  readonly unit?: string
  /** Credits per unit of the meter; a decimal string where a fraction is meant: `'0.1'` (EM-2). */
  readonly costs: { readonly [M in Meter]?: number | string }
}

/** When an allowance starts again. `calendar_month` and the others are UTC; `billing_cycle` follows the subscription. */
export type AllowancePeriod = 'billing_cycle' | 'calendar_month' | 'day' | 'year' | 'lifetime'

export type AllowanceDefinition = {
  /** Included per period; `0` is nothing, `'unlimited'` is without end. */
  readonly amount: number | string
  /** Default `billing_cycle`. */
  readonly period?: AllowancePeriod
  /** `hard` (the default) refuses beyond the amount; `soft` lets use go on as overage. */
  readonly limit?: 'hard' | 'soft'
}

export type PriceInterval = 'monthly' | 'yearly'

export type PriceDefinition = {
  /** Minor units per interval; an integer ≥ 0. */
  readonly amountMinor: number
  /** The variable whose value, when set, is the id of an existing Stripe price to use instead of creating one. */
  readonly priceVariable?: string
}

export type PlanDefinition<Balance extends string> = {
  readonly name: string
  readonly description?: string
  readonly prices?: { readonly [I in PriceInterval]?: PriceDefinition }
  /** Whether checkout, subscribe and upgrade offer it; default true when it has a price. */
  readonly purchasable?: boolean
  readonly allowances: { readonly [B in Balance]?: AllowanceDefinition }
}

export type BillingDefinition<Meter extends string, Credit extends string, Plan extends string> = {
  /** Lower-case ISO 4217 code of every price; default `usd`. */
  readonly currency?: string
  readonly meters: { readonly [M in Meter]: MeterDefinition }
  readonly credits?: { readonly [C in Credit]: CreditDefinition<NoInfer<Meter>> }
  readonly plans: { readonly [P in Plan]: PlanDefinition<NoInfer<Meter | Credit>> }
  /** The plan of an organization that pays for none. */
  readonly defaultPlan: NoInfer<Plan>
}

/**
 * Declares meters, credits and plans. A name that is not declared is a type error; what types cannot say is checked
 * when the catalog is loaded (`normalizeCatalog`).
 * @example
 * export default defineBilling({
 *   meters: { search: {} },
 *   credits: { credits: { costs: { search: '0.1' } } },
 *   plans: { free: { name: 'Free', allowances: { credits: { amount: 100, period: 'calendar_month' } } } },
 *   defaultPlan: 'free',
 * })
 */
export function defineBilling<const Meter extends string, const Plan extends string, const Credit extends string = never>(
  definition: BillingDefinition<Meter, Credit, Plan>,
): BillingDefinition<Meter, Credit, Plan> {
  return definition
}
