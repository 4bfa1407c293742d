import type { Allowance, Catalog, Plan } from '../catalog/catalog.ts'
import type { PriceInterval } from '../catalog/define.ts'
import { multiplyQuantities, type Quantity } from '../lib/quantity.ts'
import { priceOf } from '../pricing/rules.ts'

/** What was used of a meter on one day, `YYYY-MM-DD`. */
export type DayOfUse = { readonly meter: string; readonly day: string; readonly quantity: Quantity }

export type Subscriber = {
  readonly planKey: string
  /** null where nothing is paid. */
  readonly interval: PriceInterval | null
  readonly seats: number
}

/** What a customer brings under one catalog. */
export type Revenue = {
  readonly baseMinor: number
  readonly usageMinor: number
  /** What could not have been used, by balance: it goes beyond a hard limit or a spend limit. */
  readonly refused: ReadonlyMap<string, Quantity>
}

/**
 * What a customer would bring over whole months. Pure. Allowances are those of the plan: top-ups, promotions, rollover and
 * add-ons are left out on both sides.
 * @param months every month counted, `YYYY-MM`
 * @returns null when the catalog has no such plan
 */
export function simulate(
  catalog: Catalog,
  subscriber: Subscriber,
  months: readonly string[],
  days: readonly DayOfUse[],
): Revenue | null {
  const plan = catalog.plans.get(subscriber.planKey)
  if (plan === undefined) return null
  const refused = new Map<string, Quantity>()
  let usageMinor = 0
  for (const [balanceKey, use] of drawnByBalance(catalog, days)) {
    const allowance = plan.allowances.get(balanceKey)
    let beyond = 0n
    for (const used of sumsByPeriod(allowance?.period ?? 'billing_cycle', use).values()) {
      const part = priceOfPeriod(allowance, used)
      usageMinor += part.amountMinor
      beyond += part.refused
    }
    if (beyond > 0n) refused.set(balanceKey, beyond)
  }
  return { baseMinor: basePrice(plan, subscriber, months.length), usageMinor, refused }
}

/** By balance and day, what the meters draw at this catalog's costs; a meter that the catalog does not have draws nothing. */
function drawnByBalance(catalog: Catalog, days: readonly DayOfUse[]): Map<string, Map<string, Quantity>> {
  const drawn = new Map<string, Map<string, Quantity>>()
  for (const { meter: meterKey, day, quantity } of days) {
    const meter = catalog.meters.get(meterKey)
    if (meter === undefined) continue
    const byDay = drawn.get(meter.balanceKey) ?? new Map<string, Quantity>()
    byDay.set(day, (byDay.get(day) ?? 0n) + multiplyQuantities(quantity, meter.cost))
    drawn.set(meter.balanceKey, byDay)
  }
  return drawn
}

const PERIOD_LENGTH: Readonly<Record<Allowance['period'], number>> = {
  day: 'YYYY-MM-DD'.length,
  calendar_month: 'YYYY-MM'.length,
  // A cycle is taken for the calendar's month: when each customer's begins does not change what a month's use costs on average.
  billing_cycle: 'YYYY-MM'.length,
  year: 'YYYY'.length,
  lifetime: 0,
}

function sumsByPeriod(period: Allowance['period'], byDay: ReadonlyMap<string, Quantity>): Map<string, Quantity> {
  const sums = new Map<string, Quantity>()
  for (const [day, quantity] of byDay) {
    const key = day.slice(0, PERIOD_LENGTH[period])
    sums.set(key, (sums.get(key) ?? 0n) + quantity)
  }
  return sums
}

function priceOfPeriod(allowance: Allowance | undefined, used: Quantity): { amountMinor: number; refused: Quantity } {
  const included = allowance === undefined ? 0n : allowance.amount
  if (included === null || used <= included) return { amountMinor: 0, refused: 0n }
  const beyond = used - included
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
  if (interval === null) return 0
  const price = plan.prices.get(interval) ?? [...plan.prices.values()][0]
  if (price === undefined) return 0
  const amountMinor = price.amountMinor * seats * months
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
