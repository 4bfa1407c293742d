import type { Allowance, Catalog, Plan, PlanPrice } from '../catalog/catalog.ts'
import type { PriceInterval } from '../catalog/define.ts'
import { DEFAULT_PRIORITY } from '../grants/rules.ts'
import { roundHalfUp } from '../lib/apportion.ts'
import { multiplyQuantities, type Quantity } from '../lib/quantity.ts'
import { priceOf } from '../pricing/rules.ts'
import { addDays, beyondByPeriod, type Drawn, type Pool, type Terms } from './replay.ts'

/** What was used of a meter on one day, `YYYY-MM-DD`. */
export type DayOfUse = Drawn

export type Subscriber = {
  readonly planKey: string
  /** null where nothing is paid. */
  readonly interval: PriceInterval | null
  readonly seats: number
  /** How many of each add-on. */
  readonly addOns: Readonly<Record<string, number>>
}

/** What was given to a customer by hand, or bought before the months that are replayed: what was left of it then. */
export type GivenGrant = Pool & { readonly balanceKey: string }

/** A package that was bought within the months, less what was refunded and taken back. */
export type BoughtTopUp = {
  readonly topUpKey: string
  readonly balanceKey: string
  readonly quantity: number
  readonly amount: Quantity
  readonly paidMinor: number
  /** Amount and price as it was sold, before anything was refunded and taken back. */
  readonly soldAmount: Quantity
  readonly soldMinor: number
  /** Days, the last exclusive; null never ends. */
  readonly from: string
  readonly until: string | null
}

/** What a customer did and has, whatever the catalog. */
export type Recorded = {
  readonly days: readonly DayOfUse[]
  readonly grants: readonly GivenGrant[]
  readonly topUps: readonly BoughtTopUp[]
}

/** What a customer brings under one catalog. */
export type Revenue = {
  readonly baseMinor: number
  readonly addOnsMinor: number
  readonly usageMinor: number
  readonly topUpsMinor: number
  /** What could not have been used, by balance: it goes beyond a hard limit or a spend limit. */
  readonly refused: ReadonlyMap<string, Quantity>
}

/**
 * What a customer would bring over whole months: plan, add-ons, what goes beyond, and the packages bought. What pays for use is the
 * plan's allowance with that of the add-ons, what rolled over within the months, and what was given or bought. Pure.
 * @param months every month counted, `YYYY-MM`
 * @returns null when the catalog has no such plan
 */
export function simulate(
  catalog: Catalog,
  subscriber: Subscriber,
  months: readonly string[],
  { days, grants, topUps }: Recorded,
): Revenue | null {
  const plan = catalog.plans.get(subscriber.planKey)
  if (plan === undefined) return null
  const refused = new Map<string, Quantity>()
  let usageMinor = 0
  for (const [balanceKey, drawn] of drawnByBalance(catalog, days)) {
    const allowance = plan.allowances.get(balanceKey)
    const pools = [...grants, ...topUps.map(poolOf)].filter((pool) => pool.balanceKey === balanceKey)
    let beyond = 0n
    for (const more of beyondByPeriod(termsOf(catalog, subscriber, allowance, balanceKey), months, drawn, pools)) {
      const part = priceBeyond(allowance, more)
      usageMinor += part.amountMinor
      beyond += part.refused
    }
    if (beyond > 0n) refused.set(balanceKey, beyond)
  }
  const topUpsMinor = topUps.reduce((sum, { paidMinor }) => sum + paidMinor, 0)
  const addOnsMinor = addOnsPrice(catalog, subscriber, months.length)
  return { baseMinor: basePrice(plan, subscriber, months.length), addOnsMinor, usageMinor, topUpsMinor, refused }
}

/**
 * The same packages as another catalog would have sold them: at its price and amount, with the same share of the price refunded and
 * of the amount taken back (less, where some was used). One that it does not sell for the balance was not bought.
 */
export function sellAgain(catalog: Catalog, topUps: readonly BoughtTopUp[]): BoughtTopUp[] {
  return topUps.flatMap((bought) => {
    const topUp = catalog.topUps.get(bought.topUpKey)
    if (topUp?.balanceKey !== bought.balanceKey) return []
    const { quantity, amount, soldAmount, paidMinor, soldMinor, from } = bought
    const count = BigInt(quantity)
    return {
      ...bought,
      amount: shareOf(topUp.amount * count, amount, soldAmount),
      paidMinor: Number(shareOf(BigInt(topUp.priceMinor) * count, BigInt(paidMinor), BigInt(soldMinor))),
      until: topUp.expiresAfterDays === null ? null : addDays(from, topUp.expiresAfterDays),
    }
  })
}

/** As much of the whole as a part is of another whole, exactly so where both are the same; all of it where that is nothing. */
function shareOf(whole: bigint, part: bigint, of: bigint): bigint {
  return of === 0n ? whole : roundHalfUp(whole * part, of)
}

function poolOf({ balanceKey, amount, from, until }: BoughtTopUp): GivenGrant {
  return { balanceKey, amount, from, until, priority: DEFAULT_PRIORITY.top_up, meters: null }
}

function termsOf(catalog: Catalog, { addOns }: Subscriber, allowance: Allowance | undefined, balanceKey: string): Terms {
  let added = 0n
  for (const [key, quantity] of Object.entries(addOns)) {
    added += (catalog.addOns.get(key)?.allowances.get(balanceKey) ?? 0n) * BigInt(quantity)
  }
  if (allowance === undefined) return { amount: added, period: 'billing_cycle', rollover: null }
  const { amount, period, rollover } = allowance
  return { amount: amount === null ? null : amount + added, period, rollover }
}

/** By balance, what the meters draw at this catalog's costs; a meter that the catalog does not have draws nothing. */
function drawnByBalance(catalog: Catalog, days: readonly DayOfUse[]): Map<string, Drawn[]> {
  const drawn = new Map<string, Drawn[]>()
  for (const { meter: meterKey, day, quantity } of days) {
    const meter = catalog.meters.get(meterKey)
    if (meter === undefined) continue
    const own = drawn.get(meter.balanceKey) ?? []
    own.push({ meter: meterKey, day, quantity: multiplyQuantities(quantity, meter.cost) })
    drawn.set(meter.balanceKey, own)
  }
  return drawn
}

function priceBeyond(allowance: Allowance | undefined, beyond: Quantity): { amountMinor: number; refused: Quantity } {
  if (beyond === 0n) return { amountMinor: 0, refused: 0n }
  if (allowance?.limit !== 'soft') return { amountMinor: 0, refused: beyond }
  if (allowance.overage === null) return { amountMinor: 0, refused: 0n }
  const { overage, spendLimitMinor } = allowance
  if (spendLimitMinor === null || priceOf(overage, beyond) <= spendLimitMinor) {
    return { amountMinor: priceOf(overage, beyond), refused: 0n }
  }
  const allowed = mostWithin(spendLimitMinor, beyond, (quantity) => priceOf(overage, quantity))
  return { amountMinor: priceOf(overage, allowed), refused: beyond - allowed }
}

/** The largest quantity up to `most` whose price stays within a limit. Prices of more are never lower, but for volume tiers. */
function mostWithin(limitMinor: number, most: Quantity, price: (quantity: Quantity) => number): Quantity {
  let low = 0n
  let high = most
  while (low < high) {
    const middle = (low + high + 1n) / 2n
    if (price(middle) <= limitMinor) low = middle
    else high = middle - 1n
  }
  return low
}

function basePrice(plan: Plan, { interval, seats }: Subscriber, months: number): number {
  return interval === null ? 0 : priceOver(plan.prices, interval, seats, months)
}

function addOnsPrice(catalog: Catalog, { interval, addOns }: Subscriber, months: number): number {
  if (interval === null) return 0
  return Object.entries(addOns).reduce((sum, [key, quantity]) => {
    const prices = catalog.addOns.get(key)?.prices
    return prices === undefined ? sum : sum + priceOver(prices, interval, quantity, months)
  }, 0)
}

/** Of so many over so many months; of a year's price a twelfth a month. What is not sold at the interval counts at its other one. */
function priceOver(
  prices: ReadonlyMap<PriceInterval, PlanPrice>,
  interval: PriceInterval,
  count: number,
  months: number,
): number {
  const price = prices.get(interval) ?? [...prices.values()][0]
  if (price === undefined) return 0
  const amountMinor = price.amountMinor * count * months
  return price.interval === 'monthly' ? amountMinor : Math.round(amountMinor / 12)
}

/** The months from one to another, both inclusive, as `YYYY-MM`. */
export function monthsBetween(from: string, to: string): string[] {
  const months: string[] = []
  let [year, month] = from.split('-').map(Number) as [number, number]
  for (;;) {
    const name = `${String(year).padStart(4, '0')}-${String(month).padStart(2, '0')}`
    if (name > to) return months
    months.push(name)
    month += 1
    if (month > 12) [year, month] = [year + 1, 1]
  }
}
