import { DomainError } from '../lib/errors.ts'
import { parseQuantity } from '../lib/quantity.ts'
import type { RateTable } from './series.ts'

/** What a major unit of each currency is worth in the currency of reports, as decimals: `{usd: '1.08'}` beside `eur`. */
export type ReportingOptions = { readonly currency: string; readonly rates: Readonly<Record<string, string | number>> }

/** @throws DomainError `invalid_quantity` for a rate that is no decimal of six places, `invalid_request` for one that is not above 0 */
export function rateTableOf({ currency, rates }: ReportingOptions): RateTable {
  const parsed = Object.entries(rates).map(([code, rate]): [string, bigint] => {
    const value = parseQuantity(rate, `the rate of ${code}`)
    if (value <= 0n) throw new DomainError('invalid_request', `The rate of ${code} must be above 0.`)
    return [code.toLowerCase(), value]
  })
  return { currency: currency.toLowerCase(), rates: new Map(parsed) }
}
