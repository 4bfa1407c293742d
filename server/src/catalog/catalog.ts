import type { Quantity } from '../lib/quantity.ts'
import type { Aggregation, AllowancePeriod, PriceInterval } from './define.ts'

/** A billing.config.ts after validation: every default filled in, every quantity exact. Plain data, JSON apart from bigints. */
export type Catalog = {
  readonly currency: string
  readonly meters: ReadonlyMap<string, Meter>
  readonly balances: ReadonlyMap<string, Balance>
  readonly plans: ReadonlyMap<string, Plan>
  readonly defaultPlanKey: string
}

export type Meter = {
  readonly key: string
  readonly name: string
  readonly unit: string
  readonly aggregation: Aggregation
  readonly uniqueBy: string | null
  /** The balance its use is drawn from: a credit pool that lists the meter, else the meter's own key. */
  readonly balanceKey: string
  /** What one unit of the meter draws from that balance. */
  readonly cost: Quantity
}

/** What can be used up: a credit pool, or a meter's own allowance. */
export type Balance = { readonly key: string; readonly name: string; readonly unit: string }

export type Plan = {
  readonly key: string
  readonly name: string
  readonly description: string
  readonly purchasable: boolean
  readonly prices: ReadonlyMap<PriceInterval, PlanPrice>
  readonly allowances: ReadonlyMap<string, Allowance>
}

export type PlanPrice = { readonly interval: PriceInterval; readonly amountMinor: number; readonly priceVariable: string | null }

export type Allowance = {
  readonly balanceKey: string
  /** null is unlimited. */
  readonly amount: Quantity | null
  readonly period: AllowancePeriod
  readonly limit: 'hard' | 'soft'
}
