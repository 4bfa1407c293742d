/** Money: an integer of minor units (cents for usd, yen for jpy) with its lower-case ISO 4217 currency. */
export type Money = { readonly amountMinor: number; readonly currency: string }

// https://docs.stripe.com/currencies: currencies without, and with three, decimal places. UGX and ISK are sent × 100.
const ZERO_DECIMAL = new Set([
  'bif',
  'clp',
  'djf',
  'gnf',
  'jpy',
  'kmf',
  'krw',
  'mga',
  'pyg',
  'rwf',
  'vnd',
  'vuv',
  'xaf',
  'xof',
  'xpf',
])
const THREE_DECIMAL = new Set(['bhd', 'jod', 'kwd', 'omr', 'tnd'])

/** How many decimal places the currency's minor unit has: 2 for usd, 0 for jpy, 3 for kwd. */
export function minorDigits(currency: string): number {
  const code = currency.toLowerCase()
  if (ZERO_DECIMAL.has(code)) return 0
  return THREE_DECIMAL.has(code) ? 3 : 2
}

/** Whether Stripe takes a single payment of this amount: with three places, the last is 0 (docs.stripe.com/currencies#three-decimal). */
export function isChargeable({ amountMinor, currency }: Money): boolean {
  return minorDigits(currency) !== 3 || amountMinor % 10 === 0
}

/** Minor units as the decimal text of major units: 2900 usd is `29.00`. */
export function formatMajor({ amountMinor, currency }: Money): string {
  const digits = minorDigits(currency)
  const sign = amountMinor < 0 ? '-' : ''
  const text = Math.abs(amountMinor)
    .toString()
    .padStart(digits + 1, '0')
  return digits === 0 ? `${sign}${text}` : `${sign}${text.slice(0, -digits)}.${text.slice(-digits)}`
}

/** Major units as a JSON number, for the answers that name them so (OC-1: 49.00). */
export function toMajorNumber(money: Money): number {
  return Number(formatMajor(money))
}
