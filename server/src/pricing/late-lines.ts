import type { UsagePrice } from '../catalog/catalog.ts'
import type { Queryable } from '../db/database.ts'
import type { Quantity } from '../lib/quantity.ts'
import { findUsagePrices } from '../stripe/push/push-usage-prices.ts'
import { sumCredits, type Credited } from './credit-store.ts'
import { creditedMinorOf, priceOf } from './rules.ts'
import { listLateLines, listSpansById } from './span-store.ts'
import type { BillingSpan } from './spans.ts'

/** The line whose use it is: of late use that of its time, of every other itself. */
export function wholeIdOf({ id, lateOf }: Pick<BillingSpan, 'id' | 'lateOf'>): string {
  return lateOf ?? id
}

/**
 * A line and what was told late of it, as far as that is fixed: together they cost what the line would have cost had all been told in time.
 * What was credited of either is credited of both.
 */
export type Whole = {
  readonly price: UsagePrice
  readonly quantity: Quantity
  readonly minor: number
  readonly credited: Credited
}

export const NO_CREDIT: Credited = { quantity: 0n, amountMinor: 0 }

/** By the ids of the lines whose use it is. `quantityOf` a line that still takes reports, with what waits for it. */
export async function readWholes(
  db: Queryable,
  organizationId: string,
  {
    spans,
    quantityOf = ({ quantity }) => quantity,
  }: { spans: readonly BillingSpan[]; quantityOf?: (span: BillingSpan) => Quantity },
): Promise<Map<string, Whole>> {
  const ids = [...new Set(spans.map(wholeIdOf))]
  const late = await listLateLines(db, { organizationId, lateOf: ids })
  const own = spans.filter(({ kind }) => kind === 'usage')
  const missing = ids.filter((id) => own.every((span) => span.id !== id))
  const lines = missing.length === 0 ? own : [...own, ...(await listSpansById(db, { organizationId, ids: missing }))]
  const fixed = late.filter(({ amountMinor }) => amountMinor !== null)
  const credits = await sumCredits(
    db,
    organizationId,
    [...lines, ...fixed].map(({ id }) => id),
  )
  const prices = await findUsagePrices(
    db,
    lines.map(({ priceId }) => priceId),
  )
  return new Map(
    lines.map((line) => {
      const { price } = prices.get(line.priceId)!
      const beside = fixed.filter(({ lateOf }) => lateOf === line.id)
      const quantity = quantityOf(line)
      const credited = [line, ...beside].map(({ id }) => credits.get(id) ?? NO_CREDIT)
      const whole = {
        price,
        quantity: beside.reduce((sum, each) => sum + each.quantity, quantity),
        minor: beside.reduce((sum, { amountMinor }) => sum + Number(amountMinor), priceOf(price, quantity)),
        credited: {
          quantity: credited.reduce((sum, each) => sum + each.quantity, 0n),
          amountMinor: credited.reduce((sum, each) => sum + each.amountMinor, 0),
        },
      }
      return [line.id, whole]
    }),
  )
}

/**
 * What so much more of a line costs that is told late: what the line costs with it, less what it comes to without. Under a price by volume that may be
 * less than nothing.
 */
export function lateMinorOf({ price, quantity, minor, credited }: Whole, more: Quantity): number {
  if (more === 0n) return 0
  return priceOf(price, quantity - credited.quantity + more) - (minor - credited.amountMinor)
}

/** What is credited of a line when still more of it is taken back: never less than before. */
export function creditedWith(
  before: Credited,
  line: { readonly price: UsagePrice; readonly quantity: Quantity; readonly minor?: number },
  more: Quantity,
): Credited {
  const credited = before.quantity + more
  const { price, quantity, minor = priceOf(price, quantity) } = line
  return {
    quantity: credited,
    amountMinor: Math.max(before.amountMinor, creditedMinorOf(price, { quantity, credited, minor })),
  }
}
